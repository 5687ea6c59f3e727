// Turns pieces of text as they come into whole lines.

/** Collects pieces and hands on each line when it is whole. */
export interface LineCollector {
  write(text: string): void
  /** Hands on what is left without a newline. */
  end(): void
}

/** A line longer than this is handed on in pieces, so that a command without newlines can't fill the memory. */
const longestLine = 16_384
/** Lines after which what began like a private key is handed on without its end. */
const longestKey = 200

export function collectLines(take: (line: string) => void): LineCollector {
  let rest = ''
  // A private key is handed on as one, so that whoever replaces secrets sees where it begins and ends.
  let key: string[] | undefined
  const hand = (line: string) => {
    if (key) key.push(line)
    else if (line.includes('PRIVATE KEY') && /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(line)) key = [line]
    else return take(line)
    if (!/-----END [A-Z ]*PRIVATE KEY-----/.test(line) && key.length < longestKey) return
    take(key.join('\n'))
    key = undefined
  }
  const add = (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) hand(line.endsWith('\r') ? line.slice(0, -1) : line)
    while (rest.length > longestLine) {
      hand(rest.slice(0, longestLine))
      rest = rest.slice(longestLine)
    }
  }
  return {
    write: add,
    end: () => {
      if (rest !== '') hand(rest)
      if (key) take(key.join('\n'))
      rest = ''
      key = undefined
    },
  }
}
