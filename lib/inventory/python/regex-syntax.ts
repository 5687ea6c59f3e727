// The syntax of Python's regular expressions, written as RE2 has it.
import { RE2JS } from 're2js'

/** What becomes of a pattern. */
export interface Translated {
  readonly pattern: string
  readonly flags: number
  /** Whether it has a `$` that stands at the end of the text only. */
  readonly dollar: boolean
  /** Whether it has a `\b` or `\B`, which RE2 knows for ASCII only. */
  readonly boundary: boolean
}

const point = (code: number): string => `\\x{${code.toString(16)}}`
const innerBreak = 0xfdd0
const lineFeed = 0x0a

/** Classes of characters, as what stands within brackets: Python's are those of Unicode, RE2's those of ASCII. */
const words = { unicode: '\\p{L}\\p{N}_', ascii: '0-9A-Za-z_' }
const digits = { unicode: '\\p{Nd}', ascii: '0-9' }
const spaces = {
  unicode: '\\t-\\r\\x1c-\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}',
  ascii: '\\t-\\r\\x20',
}
const classes: Readonly<Record<string, { readonly unicode: string; readonly ascii: string }>> = {
  w: words,
  d: digits,
  s: spaces,
}
const members: Readonly<Record<string, RegExp>> = {
  w: /[\p{L}\p{N}_]/u,
  d: /\p{Nd}/u,
  s: /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u,
}
const others = new Map<string, string>()

/** What is in no class of Unicode's, as ranges: within brackets RE2 has no other way to say so. */
function outside(letter: string): string {
  let ranges = others.get(letter)
  if (ranges === undefined) {
    ranges = ''
    let start = -1
    for (let code = 0; code <= 0x110000; code++) {
      const surrogate = code >= 0xd800 && code <= 0xdfff
      const is = code < 0x110000 && !surrogate && !members[letter]!.test(String.fromCodePoint(code))
      if (is && start === -1) start = code
      if (!is && start !== -1) {
        ranges += `${point(start)}-${point(code - 1)}`
        start = -1
      }
    }
    others.set(letter, ranges)
  }
  return ranges
}

/**
 * A pattern of Python's as RE2's. `hidden` where the line breaks within the text are U+FDD0, so that `$` may stand before the last one.
 * Throws `SyntaxError` for what has no equal.
 */
export function translate(
  source: string,
  given: { ignoreCase?: boolean; multiline?: boolean },
  hidden: boolean,
): Translated {
  return new Translator(source, given, hidden).whole()
}

const simpleEscapes: Readonly<Record<string, number>> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 }

/** A class because the place in the pattern is shared by every rule. */
class Translator {
  readonly #source: readonly string[]
  readonly #hidden: boolean
  readonly #flags: Set<string>
  #at = 0
  #dollar = false
  #boundary = false

  constructor(source: string, given: { ignoreCase?: boolean; multiline?: boolean }, hidden: boolean) {
    this.#source = [...source]
    this.#hidden = hidden
    this.#flags = new Set(`${given.ignoreCase ? 'i' : ''}${given.multiline ? 'm' : ''}`)
    const inline = /^\(\?([aiLmsux]+)\)/.exec(source)
    if (inline) {
      for (const flag of inline[1]!) this.#flags.add(flag)
      this.#at = inline[0].length
    }
    if (this.#flags.has('L')) throw new SyntaxError('the flag L is for bytes')
  }

  whole(): Translated {
    const pieces: string[] = []
    while (this.#at < this.#source.length) pieces.push(this.#piece())
    let flags = 0
    if (this.#flags.has('i')) flags |= RE2JS.CASE_INSENSITIVE
    if (this.#flags.has('m')) flags |= RE2JS.MULTILINE
    if (this.#flags.has('s')) flags |= RE2JS.DOTALL
    return { pattern: pieces.join(''), flags, dollar: this.#dollar, boundary: this.#boundary }
  }

  #rest(length: number): string {
    return this.#source.slice(this.#at, this.#at + length).join('')
  }

  #piece(): string {
    const character = this.#source[this.#at++]!
    switch (character) {
      case '\\':
        return this.#escape()
      case '[':
        return this.#brackets()
      case '(':
        return this.#group()
      case '.':
        return this.#hidden && !this.#flags.has('s') ? `[^\\n${point(innerBreak)}]` : '.'
      case '$':
        if (this.#flags.has('m')) return '$'
        this.#dollar = true
        return this.#hidden ? '(?m:$)' : '\\z'
      case '{': {
        const [, from, comma, to] = /^(\d*)(,?)(\d*)\}/.exec(this.#rest(20)) ?? []
        if (from === undefined || (from === '' && comma === '')) return '\\{'
        if (from === '' && to === '') return '\\{'
        this.#at += this.#rest(20).indexOf('}') + 1
        return `{${from === '' ? '0' : from}${comma}${to}}`
      }
      case '}':
      case ']':
        return `\\${character}`
      case '#':
        if (!this.#flags.has('x')) return character
        while (this.#at < this.#source.length && this.#source[this.#at] !== '\n') this.#at++
        return ''
    }
    if (this.#flags.has('x') && /^[ \t\n\r\f\v]$/.test(character)) return ''
    return /^[*+?|)^]$/.test(character) ? character : this.#literal(character.codePointAt(0)!)
  }

  #literal(code: number): string {
    if (code === lineFeed) return this.#hidden ? `[\\n${point(innerBreak)}]` : '\\n'
    const character = String.fromCodePoint(code)
    return /^[\p{L}\p{N} _]$/u.test(character) ? character : point(code)
  }

  #group(): string {
    if (this.#source[this.#at] !== '?') return '('
    const begin = this.#rest(40)
    if (begin.startsWith('?:')) {
      this.#at += 2
      return '(?:'
    }
    if (begin.startsWith('?#')) {
      while (this.#at < this.#source.length && this.#source[this.#at] !== ')') this.#at++
      this.#at++
      return ''
    }
    const name = /^\?P<([\p{L}_][\p{L}\p{N}_]*)>/u.exec(begin)?.[1]
    if (name !== undefined) {
      this.#at += [...name].length + 4
      return `(?P<${name}>`
    }
    const flags = /^\?([is]*)(?:-([is]+))?:/.exec(begin)
    if (flags && !(this.#hidden && /s/.test(begin.slice(0, flags[0].length)))) {
      this.#at += flags[0].length
      return `(${flags[0]}`
    }
    if (/^\?<?[=!]/.test(begin))
      throw new SyntaxError('it looks ahead or behind ("(?=", "(?!", "(?<=", "(?<!"), which RE2 can not')
    if (/^\?P=/.test(begin)) throw new SyntaxError('it refers back to a group, which RE2 can not')
    if (/^\?[(>]/.test(begin)) throw new SyntaxError(`"(${begin.slice(0, 2)}" is not possible with RE2`)
    throw new SyntaxError(`"(${begin.slice(0, 3)}" is not understood`)
  }

  #escape(): string {
    const character = this.#source[this.#at++]
    if (character === undefined) throw new SyntaxError('a backslash ends it')
    if (/^[1-9]$/.test(character) && !/^[0-3][0-7]{2}/.test(character + this.#rest(2)))
      throw new SyntaxError('it refers back to a group, which RE2 can not')
    if (character === 'A') return '\\A'
    if (character === 'Z') return '\\z'
    if (character === 'b' || character === 'B') {
      this.#boundary ||= !this.#flags.has('a')
      return `\\${character}`
    }
    const inside = this.#classEscape(character)
    if (inside !== undefined) return /^[A-Z]$/.test(character) ? `[^${inside}]` : `[${inside}]`
    return this.#literal(this.#code(character))
  }

  /** What `\w` and its kin hold; for `\W`, what it does not. */
  #classEscape(character: string): string | undefined {
    const found = classes[character.toLowerCase()]
    if (!found || !/^[wdsWDS]$/.test(character)) return undefined
    const held = this.#flags.has('a') ? found.ascii : found.unicode
    return this.#hidden && /s/i.test(character) ? held + point(innerBreak) : held
  }

  /** The character that an escape stands for. */
  #code(character: string): number {
    const [length, base] = { x: [2, 16], u: [4, 16], U: [8, 16] }[character] ?? [0, 8]
    if (length! > 0) {
      const written = this.#rest(length!)
      if (!/^[\da-fA-F]+$/.test(written) || written.length !== length)
        throw new SyntaxError(`"\\${character}" wants ${length} digits`)
      this.#at += length!
      const code = Number.parseInt(written, base)
      if (code > 0x10ffff) throw new SyntaxError('there is no such character')
      return code
    }
    if (/^[0-7]$/.test(character)) {
      const written = /^[0-7]{0,2}/.exec(this.#rest(2))![0]
      this.#at += written.length
      return Number.parseInt(character + written, 8)
    }
    if (Object.hasOwn(simpleEscapes, character)) return simpleEscapes[character]!
    if (/^[a-zA-Z0-9]$/.test(character)) throw new SyntaxError(`the escape "\\${character}" is none`)
    return character.codePointAt(0)!
  }

  /** `[^a-z\d]` */
  #brackets(): string {
    const negated = this.#source[this.#at] === '^'
    if (negated) this.#at++
    let held = ''
    let breaks = false
    for (let first = true; ; first = false) {
      const character = this.#source[this.#at++]
      if (character === undefined) throw new SyntaxError('a "[" is not closed')
      if (character === ']' && !first) break
      const start = this.#member(character)
      if (typeof start === 'string') {
        held += start
        continue
      }
      let end = start
      if (this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']' && this.#at + 1 < this.#source.length) {
        this.#at++
        const to = this.#member(this.#source[this.#at++]!)
        if (typeof to === 'string' || to < start) throw new SyntaxError('a range between brackets is none')
        end = to
      }
      breaks ||= start <= lineFeed && lineFeed <= end
      held += end === start ? point(start) : `${point(start)}-${point(end)}`
    }
    if (this.#hidden && breaks) held += point(innerBreak)
    return `[${negated ? '^' : ''}${held}]`
  }

  /** A member of brackets: a character, or a class. */
  #member(character: string): number | string {
    if (character !== '\\') return character.codePointAt(0)!
    const escaped = this.#source[this.#at++]
    if (escaped === undefined) throw new SyntaxError('a "[" is not closed')
    const inside = this.#classEscape(escaped)
    if (inside === undefined) {
      if (/^[1-9]$/.test(escaped) && !/^[0-3][0-7]{2}/.test(escaped + this.#rest(2)))
        throw new SyntaxError(`the escape "\\${escaped}" is none`)
      return this.#code(escaped)
    }
    if (/^[wds]$/.test(escaped)) return inside
    if (escaped === 'D') return this.#flags.has('a') ? '\\x00-/:-\\x{10ffff}' : '\\P{Nd}'
    if (this.#flags.has('a'))
      return escaped === 'W' ? '\\x00-/:-@\\[-\\^`{-\\x{10ffff}' : `\\x00-\\x08\\x0e-\\x1f!-\\x{10ffff}`
    return outside(escaped.toLowerCase())
  }
}
