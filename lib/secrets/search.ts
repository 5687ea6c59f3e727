// Looks for any number of needles at once. Every place of a text costs the same, whatever the text, and however many needles there are:
// windows of a fixed width are hashed from one character to the next, and compared by hashes (Karp and Rabin).
import { randomInt } from 'node:crypto'
import { type Alphabet, anywhere, type Needle, shortestNeedle } from './needles.ts'

/** Where a secret stands in a text. */
export interface Found {
  readonly from: number
  readonly to: number
}

/** What began in a line and may go on in the next. */
export interface Open {
  readonly needle: Needle
  /** How much of it was there. */
  readonly at: number
}

export interface Search {
  add(needle: Needle): void
  /**
   * Finds the needles in a line. At its end the beginning of one counts, too.
   * @param before what the line before left
   */
  find(line: string, before?: Left): { readonly found: Found[] } & Left
}

/** What a line leaves for the next. */
export interface Left {
  /** What may go on at its beginning. */
  readonly open: readonly Open[]
  /** Its last characters: too few to tell that a needle begins there, until the next ones are known. */
  readonly tail?: string
}

/** How many beginnings at the end of a line are remembered. */
const mostOpen = 16
/** How many characters around what is known of a base64 text are taken for more of it: a user's name before a password, a newline behind. */
const mostAround = 64
const nothing: Left = { open: [] }

const base = randomInt(0x1000_0000, 0x7fff_ffff) | 1

/** Powers of the base, as many as were needed so far. */
let powers = new Int32Array([1])
function powersUpTo(length: number): Int32Array {
  if (powers.length > length) return powers
  const more = new Int32Array(2 * length + 1)
  more.set(powers)
  for (let index = powers.length; index < more.length; index++) more[index] = Math.imul(more[index - 1]!, base)
  powers = more
  return more
}

/** The hashes of a text's beginnings, from none of it to all. */
function hashes(text: string, into = new Int32Array(text.length + 1)): Int32Array {
  let hash = 0
  for (let index = 0; index < text.length; ) {
    hash = (Math.imul(hash, base) + text.charCodeAt(index)) | 0
    into[++index] = hash
  }
  return into
}

/** Makes a search without needles. */
export function openSearch(): Search {
  const long = openIndex(anywhere)
  const short = openIndex(shortestNeedle)
  let room = new Int32Array(1024)

  return {
    add: needle => (needle.text.length < anywhere ? short : long).add(needle),
    find: (line, left = nothing) => {
      const end = endOf(line)
      // A blank line is none: what was left is left still.
      if (end === 0) return { ...left, found: [] }
      const indexes = [long, short].filter(({ size }) => size > 0)
      const tail = long.size > 0 ? tailOf(line, end, left.tail) : undefined
      const before = left.tail ? [...left.open, ...long.over(left.tail, line.trimStart())] : left.open
      const found: Found[] = []
      let open: Open[] = []
      if (before.length > 0) {
        const went = goOn(line, end, before)
        if (went.found) found.push(went.found)
        open = went.open
      }
      if (end < shortestNeedle || indexes.length === 0) return { found, open, tail }
      if (room.length <= line.length) room = new Int32Array(2 * line.length)
      const known = hashes(line, room)
      for (const index of indexes) index.find(line, end, known, found, open)
      return { found, open: open.length > 0 ? open : nothing.open, tail }
    },
  }
}

/** Without blanks, and the sign of what was cut off. */
function endOf(line: string): number {
  const { length } = line.trimEnd()
  return line[length - 1] === '…' ? line.slice(0, length - 1).trimEnd().length : length
}

/** The last characters of what was there so far: where lines are shorter than that, of several. */
function tailOf(line: string, end: number, before = ''): string {
  const own = line.slice(Math.max(0, end - anywhere + 1), end).trimStart()
  return own.length < anywhere - 1 && own.length === line.trim().length ? (before + own).slice(1 - anywhere) : own
}

/** The beginning of a line that goes on with what the line before began. */
function goOn(line: string, end: number, before: readonly Open[]): { found?: Found; open: Open[] } {
  const from = line.length - line.trimStart().length
  let to = from
  const open: Open[] = []
  for (const { needle, at } of before) {
    const { text, alphabet, length, next } = needle
    const rest = text.slice(at, at + end - from)
    if (!line.startsWith(rest, from)) continue
    let reached = from + rest.length
    if (alphabet) reached = endOfAlphabet(line, reached, Math.min(end, from + length - at), alphabet)
    const whole = reached - from + at >= length
    // What is known by its alphabet alone fills the line or ends there: words have the same letters.
    if (!whole && reached < end) continue
    if (whole && reached < end && text.length < anywhere && isLetter(line, reached)) continue
    if (whole && alphabet === 'base64') reached = endOfBase64(line, reached, end)
    to = Math.max(to, reached)
    if (!whole) open.push({ needle, at: at + reached - from })
    else if (next && reached === end) open.push({ needle: next, at: 0 })
  }
  return { found: to > from ? { from, to } : undefined, open: open.slice(0, mostOpen) }
}

interface Index {
  readonly size: number
  add(needle: Needle): void
  find(line: string, end: number, known: Int32Array, found: Found[], open: Open[]): void
  /** The needles that began in the last characters of a line, as the next line shows. */
  over(tail: string, next: string): Open[]
}

/** Needles that begin alike. */
interface Bucket {
  readonly needles: Needle[]
  /** The lengths that they have, each once. */
  readonly lengths: number[]
}

/** Needles that have at least so many characters, by how they begin. */
function openIndex(width: number): Index {
  const byStart = new Map<number, Bucket>()
  /** By the hash of the whole: the same line may stand in many texts, with another one behind it in each. */
  const byWhole = new Map<number, Needle[]>()
  const beginnings = new WeakMap<Needle, Int32Array>()
  /** Whether there is a needle that begins so, by the last bits of the hash: most places of a text need no more. */
  let sieve = new Uint8Array(1 << 12)

  const add = (needle: Needle) => {
    const { text, next } = needle
    const known = hashes(text)
    const [start, whole] = [known[width]!, known[text.length]!]
    const same = byWhole.get(whole) ?? []
    if (same.length > 0 && (!next || same.length === mostOpen)) return
    byWhole.set(whole, same)
    same.push(needle)
    const bucket = byStart.get(start) ?? { needles: [], lengths: [] }
    byStart.set(start, bucket)
    bucket.needles.push(needle)
    if (!bucket.lengths.includes(text.length)) bucket.lengths.push(text.length)
    if (byStart.size * 16 > sieve.length) {
      sieve = new Uint8Array(sieve.length * 4)
      for (const one of byStart.keys()) sieve[one & (sieve.length - 1)] = 1
    } else sieve[start & (sieve.length - 1)] = 1
  }
  /** The hash of the beginning of a needle. */
  const beginningOf = (needle: Needle, length: number): number => {
    const known = beginnings.get(needle) ?? hashes(needle.text)
    beginnings.set(needle, known)
    return known[length]!
  }

  const find = (line: string, end: number, known: Int32Array, found: Found[], open: Open[]) => {
    const power = powersUpTo(width)[width]!
    const bits = sieve.length - 1
    const hashOf = (from: number, length: number) =>
      (known[from + length]! - Math.imul(known[from]!, powersUpTo(length)[length]!)) | 0
    /** How far the last one that was found reaches: what lies within it counts only where it goes on further. */
    let covered = 0
    const take = (from: number, to: number) => {
      if (to <= covered) return
      found.push({ from, to })
      covered = to
    }
    const goesOn = (needle: Needle, at: number) => open.length < mostOpen && open.push({ needle, at })

    const takeWhole = (needles: readonly Needle[], from: number) => {
      const { text, word, alphabet, length } = needles[0]!
      let to = from + text.length
      if (word && (isLetter(line, from - 1) || isLetter(line, to))) return
      if (!alphabet) {
        if (to === end) for (const { next } of needles) if (next) goesOn(next, 0)
        return take(from, to)
      }
      to = endOfAlphabet(line, Math.max(to, Math.min(covered, from + length)), Math.min(end, from + length), alphabet)
      if (to === end && to - from < length) goesOn(needles[0]!, to - from)
      if (alphabet === 'hex') return take(from, to)
      take(startOfBase64(line, from), endOfBase64(line, to, end))
    }
    const takeBeginnings = (needles: readonly Needle[], from: number) => {
      const rest = end - from
      const hash = hashOf(from, rest)
      for (const needle of needles) {
        if (needle.text.length <= rest || beginningOf(needle, rest) !== hash) continue
        take(from, end)
        goesOn(needle, rest)
      }
    }

    for (let to = width; to <= end; to++) {
      const from = to - width
      const start = (known[to]! - Math.imul(known[from]!, power)) | 0
      if (sieve[start & bits] === 0) continue
      const bucket = byStart.get(start)
      if (!bucket) continue
      let longest = 0
      for (const length of bucket.lengths) {
        longest = Math.max(longest, length)
        const needles = from + length <= end ? byWhole.get(hashOf(from, length)) : undefined
        if (needles?.[0]?.text.length === length) takeWhole(needles, from)
      }
      if (from + longest > end && width === anywhere) takeBeginnings(bucket.needles, from)
    }
  }
  const over = (tail: string, next: string): Open[] => {
    const both = tail + next.slice(0, width - 1)
    const began: Open[] = []
    for (let from = 0; from < tail.length && from + width <= both.length; from++) {
      const bucket = byStart.get(hashes(both.slice(from, from + width))[width]!)
      for (const needle of bucket?.needles ?? [])
        if (both.startsWith(needle.text.slice(0, width), from)) began.push({ needle, at: tail.length - from })
    }
    return began
  }
  return {
    get size() {
      return byWhole.size
    },
    add,
    find,
    over,
  }
}

function startOfBase64(line: string, from: number): number {
  let began = from
  while (began > 0 && from - began < mostAround && isOf('base64', line.charCodeAt(began - 1))) began--
  return began
}

function endOfBase64(line: string, from: number, end: number): number {
  let to = endOfAlphabet(line, from, Math.min(end, from + mostAround), 'base64')
  while (to < end && line[to] === '=') to++
  return to
}

function endOfAlphabet(line: string, from: number, most: number, alphabet: Alphabet): number {
  let to = from
  while (to < most && isOf(alphabet, line.charCodeAt(to))) to++
  return to
}

function isOf(alphabet: Alphabet, code: number): boolean {
  if (code >= 48 && code <= 57) return true
  if (alphabet === 'hex') return (code >= 97 && code <= 102) || (code >= 65 && code <= 70)
  // Both of base64's last two characters: of RFC 4648, and those for addresses.
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    code === 43 ||
    code === 47 ||
    code === 45 ||
    code === 95
  )
}

/** A letter or a digit, of any script. */
function isLetter(line: string, at: number): boolean {
  if (at < 0 || at >= line.length) return false
  const code = line.charCodeAt(at)
  if (code < 128) return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122)
  return /[\p{L}\p{N}]/u.test(line[at]!)
}
