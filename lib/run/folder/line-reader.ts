// Reads the files of lines in a run's folder, in a memory that does not grow with them: whatever somebody wrote there, and however much.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/** A line, or what is left of one. */
export interface Line {
  /** Counted from 1. */
  readonly number: number
  /** Where it begins in the file. */
  readonly at: number
  /** Not there where it is longer than may be read. */
  readonly text?: string
  /** No newline follows it: its writer was killed in the middle, or found the disk full. */
  readonly broken?: true
}

/** How lines are read. */
export interface ReadOptions {
  /** Lines that begin so are passed over: quicker than to look what is in them. */
  readonly without?: string
  /** Bytes of a line that may be read. */
  readonly longest?: number
  /** Shortens what stands in quotes, so that lines can be read that are longer: of JSON whose texts are not needed to the last letter. */
  readonly shorten?: boolean
  /** Bytes of the file after which nothing is read, also where more has come meanwhile. */
  readonly to?: number
}

const chunkSize = 256 * 1024
const longestLine = 16 * 1024 * 1024
/** Of a line longer than this, texts are shortened to `longestText`. */
const longLine = 1024 * 1024
const longestText = 16 * 1024
const [newline, quotation, backslash] = [0x0a, 0x22, 0x5c]

/**
 * The lines of a file, without those that are empty; none where it is not there.
 * @throws Error where it can't be read, or is no file
 */
export function* readLines(
  path: string,
  { without = '', longest = longestLine, shorten = false, to = Number.POSITIVE_INFINITY }: ReadOptions = {},
): Generator<Line, void> {
  const file = openFile(path)
  if (file === undefined) return
  const passedOver = Buffer.from(without)
  try {
    const chunk = Buffer.allocUnsafe(chunkSize)
    const line = openLine(longest, shorten)
    let [number, position] = [1, 0]
    for (;;) {
      const size = readSync(file, chunk, 0, Math.min(chunk.length, to - position), null)
      if (size === 0) break
      const read = chunk.subarray(0, size)
      for (let start = 0; ; ) {
        const end = read.indexOf(newline, start)
        const piece = read.subarray(start, end < 0 ? size : end)
        const isWhole = end >= 0 && line.length === 0
        if (isWhole && passedOver.length > 0 && startsWith(piece, passedOver)) {
          // Not even copied.
        } else if (end < 0) {
          line.add(piece)
          break
        } else {
          const at = position + start - line.length
          line.add(piece)
          const { length, text } = line.take()
          if (length > 0 && !(without !== '' && text?.startsWith(without))) yield { number, at, text }
        }
        number++
        start = end + 1
      }
      position += size
    }
    const { length, text } = line.take()
    if (length > 0) yield { number, at: position - length, text, broken: true }
  } finally {
    closeSync(file)
  }
}

/** A pipe that somebody put there would be waited for, a device never ends, and a link leads to files that are not the folder's. */
function openFile(path: string): number | undefined {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'ELOOP') throw new Error('it is a link, and rekey makes none')
    throw error
  }
  if (fstatSync(file).isFile()) return file
  closeSync(file)
  throw new Error(`${path} is no file`)
}

function startsWith(text: Buffer, start: Buffer): boolean {
  return text.length >= start.length && text.compare(start, 0, start.length, 0, start.length) === 0
}

/** Collects the pieces of a line, as much of it as may be read. */
function openLine(longest: number, shorten: boolean) {
  let pieces: Buffer[] = []
  let [length, kept] = [0, 0]
  let cut: ((piece: Buffer) => Buffer) | undefined
  return {
    /** Of the line in the file. */
    get length() {
      return length
    },
    add: (piece: Buffer) => {
      length += piece.length
      if (shorten && !cut && length > longLine) {
        cut = textCutter(longestText)
        pieces = pieces.map(cut)
        kept = pieces.reduce((sum, one) => sum + one.length, 0)
      }
      const own = cut ? cut(piece) : Buffer.from(piece)
      kept += own.length
      if (kept > longest) pieces = []
      else pieces.push(own)
    },
    take: (): { length: number; text?: string } => {
      const taken = { length, text: kept > longest ? undefined : Buffer.concat(pieces).toString('utf8') }
      pieces = []
      length = kept = 0
      cut = undefined
      return taken
    },
  }
}

/** Cuts what stands in quotes to a length, in JSON that comes in pieces: it stays JSON. */
function textCutter(most: number): (piece: Buffer) => Buffer {
  let [inText, escaped, isDropped] = [false, false, false]
  /** Bytes of this text so far, and digits of an escape that are still to come. */
  let [size, digits] = [0, 0]
  return piece => {
    const kept = Buffer.allocUnsafe(piece.length)
    let to = 0
    for (const byte of piece) {
      if (!inText) {
        inText = byte === quotation
        size = 0
      } else if (digits > 0) digits--
      else if (escaped) {
        escaped = false
        if (byte === 0x75) digits = 4
      } else if (byte === quotation) inText = isDropped = false
      else {
        // Between two characters: neither in the middle of an escape nor of one that takes several bytes.
        if (size > most && (byte & 0xc0) !== 0x80) isDropped = true
        escaped = byte === backslash
      }
      size++
      if (!isDropped) kept[to++] = byte
    }
    return kept.subarray(0, to)
  }
}
