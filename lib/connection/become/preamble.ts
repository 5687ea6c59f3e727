// What comes on a stream before a command's own output: read to its last line, in time that grows with what comes and in memory that does not.
import type { Readable, Writable } from 'node:stream'

/** What to look for. */
export interface PreambleWords {
  /** What it ends with. What follows is passed on. */
  readonly line: string
  /** Told once when it has ended. */
  begin(): void
  /** Words that somebody is told of each time that they come. */
  readonly question?: { readonly words: string; asked(): void }
  /** Told of the last of what was said, whenever more was. */
  heard?(said: string): void
}

/** What was read of it. */
export interface Preamble {
  /** The last characters of it, without questions that were answered. */
  readonly said: string
  /** Resolves once nothing comes any more. */
  readonly ended: Promise<void>
  /** Reads no more of it; what still comes is dropped. */
  drop(): void
}

/** Characters of it that are kept, for messages. */
const kept = 4 * 1024

/** Reads the beginning of a stream up to a line, and pipes what comes after that. `into` is not ended. */
export function preamble(stream: Readable, into: Writable, { line, begin, question, heard }: PreambleWords): Preamble {
  const end = Buffer.from(line)
  const ask = Buffer.from(question?.words ?? '')
  /** The beginning of one of them may be the end of what came. */
  const longest = Math.max(end.length, ask.length) - 1
  let pending: Buffer = Buffer.alloc(0)
  let said = ''
  let over = false
  const { promise: ended, resolve: finish } = Promise.withResolvers<void>()
  const stop = () => {
    over = true
    stream.off('data', hear).off('end', finish).off('close', finish)
  }
  const hear = (chunk: Buffer) => {
    const text = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    const at = text.indexOf(end)
    // What stands behind the end is not ours to read.
    const ours = at === -1 ? text : text.subarray(0, at)
    let from = 0
    for (let asked = next(ours, ask, 0); asked !== -1 && !over; asked = next(ours, ask, from)) {
      from = asked + ask.length
      said = ''
      question?.asked()
    }
    if (over) return
    if (at !== -1) {
      stop()
      const rest = text.subarray(at + end.length)
      if (rest.length > 0) into.write(rest)
      stream.pipe(into, { end: false })
      return begin()
    }
    pending = text.subarray(Math.max(from, text.length - longest))
    said = (said + text.toString('utf8', from, text.length - pending.length)).slice(-kept)
    heard?.(said + pending.toString('utf8'))
  }
  stream.on('data', hear).on('end', finish).on('close', finish).resume()
  return {
    get said() {
      return said + pending.toString('utf8')
    },
    ended,
    drop: () => {
      stop()
      stream.resume()
    },
  }
}

const next = (text: Buffer, words: Buffer, from: number) => (words.length === 0 ? -1 : text.indexOf(words, from))
