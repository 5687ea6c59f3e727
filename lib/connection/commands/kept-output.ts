// What zx keeps of a command's output: all of it while that is little; of much, its beginning and its end, for messages.
import { RekeyError } from '../../errors.ts'

/** Characters of one stream that are kept whole. */
export const mostKept = 32 * 1024 * 1024
/** Of what is more than that: so many of its first, and of its last. */
const excerpt = 64 * 1024
/** What a piece takes beside its characters. */
const perPiece = 64

/** For whoever reads a result, and must have all of it or none. */
export function tooMuchToKeep(name: string): RekeyError {
  return new RekeyError(`${name}: the command printed more than the ${mostKept / 1024 ** 2} MiB that are kept of it`, {
    code: 'command.output-too-long',
    host: name,
    hint: 'Read it as it comes, from its beginning: for await (const line of $`…`), or $`…`.pipe(…). Or have it write a file, and download that.',
  })
}

/** The pieces of a stream as zx collects, iterates and joins them. */
export class KeptOutput extends Array<string> {
  #size = 0
  #omitted = 0
  #cut = false
  readonly #overflow: () => Error
  #why: Error | undefined

  /** @param overflow called once, when it is too much. Returns what those are told who are about to read all of it. */
  constructor(overflow: () => Error) {
    super()
    this.#overflow = overflow
  }

  override push(piece: string): number {
    if (this.#cut) return this.#shorten(piece)
    this.#size += piece.length + perPiece
    if (this.#size > mostKept && !this.#why) {
      this.#why = this.#overflow()
      // Whoever is handed this very piece may read those before it yet.
      setImmediate(() => this.#cutNow())
    }
    return super.push(piece)
  }

  /** @throws Error where they were cut meanwhile: what comes next would be missing */
  override *[Symbol.iterator](): ArrayIterator<string> {
    const was = this.#cut
    for (let at = 0; at < this.length; at++) {
      if (this.#cut !== was) throw this.#why
      yield this[at]!
    }
    if (this.#cut !== was) throw this.#why
    return undefined
  }

  #cutNow(): void {
    let first = ''
    let from = 0
    while (first.length < excerpt) first += this[from++]
    let last = first.slice(excerpt)
    let to = this.length
    while (last.length < excerpt && to > from) last = this[--to] + last
    for (let at = from; at < to; at++) this.#omitted += this[at]!.length
    this.#cut = true
    this.length = 0
    super.push(copyOf(first.slice(0, excerpt)), '', '')
    this.#shorten(last)
  }

  #shorten(piece: string): number {
    const last = this[2] + piece
    // Not at each piece: most are shorter by far.
    const over = last.length > 2 * excerpt ? last.length - excerpt : 0
    this.#omitted += over
    this[1] = `\n… ${this.#omitted} characters of this were not kept …\n`
    this[2] = over > 0 ? copyOf(last.slice(over)) : last
    return this.length
  }
}

/** A part of a string holds on to all of it, in V8. */
function copyOf(part: string): string {
  return Buffer.from(part, 'utf16le').toString('utf16le')
}
