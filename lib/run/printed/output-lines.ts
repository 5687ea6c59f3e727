// Turns pieces of text as they come into whole lines.

/** Collects pieces and hands on each line when it is whole. */
export interface LineCollector {
  write(text: string): void
  /** Hands on what is left without a newline. */
  end(): void
}

/** A line longer than this is handed on in pieces, so that a command without newlines can't fill the memory. */
const longestLine = 16_384

/** @param take gets each line; with `goesOn` a piece of a longer one, of which more follows in any case */
export function collectLines(take: (line: string, goesOn: boolean) => void): LineCollector {
  let rest = ''
  return {
    write: text => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) take(line.endsWith('\r') ? line.slice(0, -1) : line, false)
      while (rest.length > longestLine) {
        take(rest.slice(0, longestLine), true)
        rest = rest.slice(longestLine)
      }
    },
    end: () => {
      if (rest !== '') take(rest, false)
      rest = ''
    },
  }
}
