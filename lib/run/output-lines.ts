// Turns pieces of text as they come into whole lines.

/** Collects pieces and hands on each line when it is whole. */
export interface LineCollector {
  write(text: string): void
  /** Hands on what is left without a newline. */
  end(): void
}

/** A line longer than this is handed on in pieces, so that a command without newlines can't fill the memory. */
const longestLine = 16_384

export function collectLines(take: (line: string) => void): LineCollector {
  let rest = ''
  const add = (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) take(line.endsWith('\r') ? line.slice(0, -1) : line)
    while (rest.length > longestLine) {
      take(rest.slice(0, longestLine))
      rest = rest.slice(longestLine)
    }
  }
  return {
    write: add,
    end: () => {
      if (rest !== '') take(rest)
      rest = ''
    },
  }
}
