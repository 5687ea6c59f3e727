// Turns chunks of bytes as they come into whole lines of text.
import { StringDecoder } from 'node:string_decoder'

/** Collects chunks and hands on each line when it is whole. UTF-8 that is split between chunks is put together again. */
export interface LineCollector {
  write(chunk: Buffer): void
  /** Hands on what is left without a newline. */
  end(): void
}

/** A line longer than this is handed on in pieces, so that a command without newlines can't fill the memory. */
const longestLine = 16_384

export function collectLines(take: (line: string) => void): LineCollector {
  const decoder = new StringDecoder('utf8')
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
    write: chunk => add(decoder.write(chunk)),
    end: () => {
      add(decoder.end())
      if (rest !== '') take(rest)
      rest = ''
    },
  }
}
