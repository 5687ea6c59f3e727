// YAML as libyaml scans it: from text to tokens.
//
// Ansible reads YAML with libyaml, whose language is neither YAML 1.1 nor 1.2 to the letter; docs/decisions/0016 says why it is read here.
// The rules are held to libyaml's own answers (test/inventory/yaml/document.test.ts).
import {
  ampersand,
  apostrophe,
  asterisk,
  bar,
  Cursor,
  closeBrace,
  closeBracket,
  colon,
  comma,
  dash,
  dot,
  end,
  exclamation,
  greater,
  hash,
  isBlank,
  isBreak,
  isGap,
  openBrace,
  openBracket,
  percent,
  question,
  quote,
  space,
  tab,
} from './cursor.ts'
import { type Directive, scanDirective, scanTag } from './tags.ts'
import { scanBlock, scanPlain, scanQuoted } from './texts.ts'

interface Place {
  /** Offset in the text. */
  readonly start: number
  /** Line, from 0. */
  readonly line: number
}
export type Token = Place &
  (
    | { readonly kind: Structure }
    | { readonly kind: 'anchor' | 'alias'; readonly name: string }
    | { readonly kind: 'tag'; readonly handle: string; readonly suffix: string }
    | { readonly kind: 'scalar'; readonly text: string; readonly plain: boolean }
    | Directive
  )

type Structure =
  | 'stream-end'
  | 'document-start'
  | 'document-end'
  | 'block-sequence'
  | 'block-mapping'
  | 'block-end'
  | 'flow-sequence'
  | 'flow-sequence-end'
  | 'flow-mapping'
  | 'flow-mapping-end'
  | 'flow-entry'
  | 'block-entry'
  | 'key'
  | 'value'

/** Something that turns out to be a key when a colon follows: on the same line, and within 1,024 characters. */
interface PossibleKey extends Place {
  /** The number of its first token. */
  readonly token: number
  readonly required: boolean
  readonly column: number
}

/** The most brackets within brackets: no file of people's has them. */
const maxFlowDepth = 200
const longestKey = 1024
const indicators: ReadonlySet<number> = new Set(Buffer.from('-?:,[]{}#&*!|>\'"%@`'))
const behindName: ReadonlySet<number> = new Set(Buffer.from('?:,]}%@`'))

/** Reads tokens one after the other. A class because position, indentation and possible keys move together. */
export class Scanner {
  readonly #cursor: Cursor
  /** Tokens that were read and not yet taken, from `#head` on. */
  readonly #queue: Token[] = []
  #head = 0
  #taken = 0
  #ended = false
  #indent = -1
  readonly #indents: number[] = []
  #flowDepth = 0
  #keyAllowed = true
  /** One for each depth of brackets, the block's first. */
  readonly #keys: (PossibleKey | undefined)[] = [undefined]

  /** Throws `YamlSyntaxError` for control characters. */
  constructor(text: string) {
    this.#cursor = new Cursor(text)
  }

  /** The next token, which stays the next one. Throws `YamlSyntaxError` where there is none. */
  peek(): Token {
    while (!this.#ended && (this.#head === this.#queue.length || this.#headMayBeKey())) this.#fetch()
    return this.#queue[this.#head]!
  }

  /** Takes the next token. Throws like `peek`. */
  next(): Token {
    const token = this.peek()
    this.#head++
    this.#taken++
    if (this.#head === this.#queue.length) {
      this.#queue.length = 0
      this.#head = 0
    }
    return token
  }

  #headMayBeKey(): boolean {
    for (let depth = 0; depth < this.#keys.length; depth++)
      if (this.#keys[depth]?.token === this.#taken && this.#valid(depth)) return true
    return false
  }

  #place(): Place {
    return { start: this.#cursor.at, line: this.#cursor.line }
  }

  #push(kind: Structure, length: number): void {
    const { at: start, line } = this.#cursor
    this.#queue.push({ kind, start, line })
    this.#cursor.at += length
  }

  #fetch(): void {
    const cursor = this.#cursor
    this.#toNextToken()
    // A key that had to be one, and isn't, ends it here.
    this.#valid(0)
    this.#unroll(cursor.column)
    const unit = cursor.unit()
    const flow = this.#flowDepth > 0
    const separate = isGap(cursor.unit(1))
    if (unit === end) this.#streamEnd()
    else if (cursor.column === 0 && unit === percent) this.#directive()
    else if (cursor.atMarker(dash)) this.#marker('document-start')
    else if (cursor.atMarker(dot)) this.#marker('document-end')
    else if (unit === openBracket) this.#open('flow-sequence')
    else if (unit === openBrace) this.#open('flow-mapping')
    else if (unit === closeBracket) this.#close('flow-sequence-end')
    else if (unit === closeBrace) this.#close('flow-mapping-end')
    else if (unit === comma) this.#flowEntry()
    else if (unit === dash && separate) this.#blockEntry()
    else if (unit === question && (flow || separate)) this.#key()
    else if (unit === colon && (flow || separate)) this.#value()
    else if (unit === asterisk) this.#name('alias')
    else if (unit === ampersand) this.#name('anchor')
    else if (unit === exclamation) this.#tag()
    else if (!flow && (unit === bar || unit === greater)) this.#block()
    else if (unit === apostrophe || unit === quote) this.#quoted()
    else if (this.#startsPlain(unit)) this.#plain()
    else
      throw cursor.error(
        unit === tab ? 'a tab stands where only spaces may indent' : `${cursor.text[cursor.at]} cannot start a value`,
      )
  }

  #startsPlain(unit: number): boolean {
    if (!indicators.has(unit)) return !isGap(unit)
    const behind = this.#cursor.unit(1)
    if (unit === dash) return !isBlank(behind)
    return this.#flowDepth === 0 && (unit === question || unit === colon) && !isGap(behind)
  }

  #toNextToken(): void {
    const cursor = this.#cursor
    for (;;) {
      cursor.skipByteOrderMark()
      let unit = cursor.unit()
      while (unit === space || (unit === tab && (this.#flowDepth > 0 || !this.#keyAllowed))) {
        cursor.at++
        unit = cursor.unit()
      }
      if (unit === hash) cursor.skipLine()
      if (!isBreak(cursor.unit())) return
      cursor.break()
      if (this.#flowDepth === 0) this.#keyAllowed = true
    }
  }

  /** Whether the possible key of a depth can still be one. Throws for one that had to be. */
  #valid(depth: number): boolean {
    const key = this.#keys[depth]
    if (!key) return false
    if (key.line === this.#cursor.line && this.#isNear(key.start)) return true
    this.#keys[depth] = undefined
    if (key.required) throw this.#noColon(key)
    return false
  }

  #isNear(start: number): boolean {
    const { at, text } = this.#cursor
    if (at - start <= longestKey) return true
    // Letters beyond U+FFFF are two units of JavaScript's and one character.
    return at - start <= 2 * longestKey && [...text.slice(start, at)].length <= longestKey
  }

  #noColon({ start }: PossibleKey): Error {
    return this.#cursor.error("a ':' is missing behind a key", start)
  }

  #saveKey(): void {
    if (!this.#keyAllowed) return
    this.#removeKey()
    const { at: start, line, column } = this.#cursor
    this.#keys[this.#flowDepth] = {
      start,
      line,
      token: this.#taken + this.#queue.length - this.#head,
      required: this.#flowDepth === 0 && this.#indent === column,
      column,
    }
  }

  #removeKey(): void {
    const key = this.#keys[this.#flowDepth]
    if (key?.required) throw this.#noColon(key)
    this.#keys[this.#flowDepth] = undefined
  }

  /** Opens a block where a column lies deeper than that of the one around it; before a token that was read already, if there is one. */
  #roll(kind: 'block-sequence' | 'block-mapping', key?: PossibleKey): void {
    const { column } = key ?? this.#cursor
    if (this.#flowDepth > 0 || this.#indent >= column) return
    this.#indents.push(this.#indent)
    this.#indent = column
    if (key) this.#queue.splice(this.#indexOf(key), 0, { kind, start: key.start, line: key.line })
    else this.#push(kind, 0)
  }

  #indexOf({ token }: PossibleKey): number {
    return this.#head + token - this.#taken
  }

  #unroll(column: number): void {
    if (this.#flowDepth > 0) return
    while (this.#indent > column) {
      this.#push('block-end', 0)
      this.#indent = this.#indents.pop()!
    }
  }

  #streamEnd(): void {
    this.#unroll(-1)
    this.#removeKey()
    this.#push('stream-end', 0)
    this.#ended = true
  }

  #directive(): void {
    this.#unroll(-1)
    this.#removeKey()
    this.#keyAllowed = false
    const place = this.#place()
    this.#queue.push({ ...place, ...scanDirective(this.#cursor) })
  }

  #marker(kind: 'document-start' | 'document-end'): void {
    this.#unroll(-1)
    this.#removeKey()
    this.#keyAllowed = false
    this.#push(kind, 3)
  }

  #open(kind: 'flow-sequence' | 'flow-mapping'): void {
    this.#saveKey()
    if (++this.#flowDepth > maxFlowDepth)
      throw this.#cursor.error(`more than ${maxFlowDepth} brackets within each other`)
    this.#keys.push(undefined)
    this.#keyAllowed = true
    this.#push(kind, 1)
  }

  #close(kind: 'flow-sequence-end' | 'flow-mapping-end'): void {
    this.#removeKey()
    if (this.#flowDepth > 0) {
      this.#flowDepth--
      this.#keys.pop()
    }
    this.#keyAllowed = false
    this.#push(kind, 1)
  }

  #flowEntry(): void {
    this.#removeKey()
    this.#keyAllowed = true
    this.#push('flow-entry', 1)
  }

  #blockEntry(): void {
    if (this.#flowDepth === 0) {
      if (!this.#keyAllowed) throw this.#cursor.error('a list is not allowed here')
      this.#roll('block-sequence')
    }
    this.#removeKey()
    this.#keyAllowed = true
    this.#push('block-entry', 1)
  }

  #key(): void {
    if (this.#flowDepth === 0) {
      if (!this.#keyAllowed) throw this.#cursor.error('a key is not allowed here')
      this.#roll('block-mapping')
    }
    this.#removeKey()
    this.#keyAllowed = this.#flowDepth === 0
    this.#push('key', 1)
  }

  #value(): void {
    const key = this.#valid(this.#flowDepth) ? this.#keys[this.#flowDepth] : undefined
    if (key) {
      this.#queue.splice(this.#indexOf(key), 0, { kind: 'key', start: key.start, line: key.line })
      this.#roll('block-mapping', key)
      this.#keys[this.#flowDepth] = undefined
      this.#keyAllowed = false
    } else {
      if (this.#flowDepth === 0) {
        if (!this.#keyAllowed) throw this.#cursor.error("a ':' with a space behind it is not allowed here")
        this.#roll('block-mapping')
      }
      this.#keyAllowed = this.#flowDepth === 0
    }
    this.#push('value', 1)
  }

  #name(kind: 'alias' | 'anchor'): void {
    const cursor = this.#cursor
    this.#saveKey()
    this.#keyAllowed = false
    const place = this.#place()
    cursor.at++
    cursor.skipWord()
    const name = cursor.text.slice(place.start + 1, cursor.at)
    if (name === '' || !(isGap(cursor.unit()) || behindName.has(cursor.unit())))
      throw cursor.error(`a name of letters, digits, - and _ is expected behind ${cursor.text[place.start]}`)
    this.#queue.push({ kind, ...place, name })
  }

  #tag(): void {
    this.#saveKey()
    this.#keyAllowed = false
    const place = this.#place()
    this.#queue.push({ kind: 'tag', ...place, ...scanTag(this.#cursor, this.#flowDepth > 0) })
  }

  #block(): void {
    this.#removeKey()
    this.#keyAllowed = true
    const place = this.#place()
    this.#queue.push({ kind: 'scalar', ...place, text: scanBlock(this.#cursor, this.#indent), plain: false })
  }

  #quoted(): void {
    this.#saveKey()
    this.#keyAllowed = false
    const { at: start, line } = this.#cursor
    this.#queue.push({ kind: 'scalar', start, line, text: scanQuoted(this.#cursor), plain: false })
  }

  #plain(): void {
    this.#saveKey()
    const { at: start, line } = this.#cursor
    const { text, broken } = scanPlain(this.#cursor, this.#indent, this.#flowDepth > 0)
    this.#keyAllowed = broken
    this.#queue.push({ kind: 'scalar', start, line, text, plain: true })
  }
}
