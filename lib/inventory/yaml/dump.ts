// Writes YAML as libyaml does for PyYAML's `yaml.dump`: what `to_yaml` and `to_nice_yaml` give in Ansible.
import { bitsOf, compare, TemplateError } from '../python/python-values.ts'
import { EncryptedText, floatText, isMapping, Timestamp, UnsafeText, WholeFloat } from '../values.ts'
import { resolveScalar } from './scalars.ts'

/** What `yaml.dump` may be told. */
export interface DumpOptions {
  /** Whether lists and maps stand on one line each; undefined for those in which there is nothing but scalars. */
  readonly flow?: boolean
  readonly indent: number
  readonly width: number
  readonly sortKeys: boolean
  readonly explicitStart: boolean
  readonly explicitEnd: boolean
  /** Is told how much is written, and throws when it is too much. */
  readonly count: (characters: number) => void
}

/** A value as a YAML document. Throws `TemplateError` for what is no data. */
export function dumpYaml(value: unknown, options: DumpOptions): string {
  return new Emitter(options).document(value)
}

interface Scalar {
  readonly text: string
  /** Whether it means what it is without quotes. */
  readonly plain: boolean
}

interface Place {
  /** Whether it is the value or key of a map. */
  readonly mapping: boolean
  readonly simpleKey: boolean
}

const inSequence: Place = { mapping: false, simpleKey: false }
const inMapping: Place = { mapping: true, simpleKey: false }
const asKeyOfMap: Place = { mapping: true, simpleKey: true }

/** A class because the column, and what stands before it, are shared by every rule. */
class Emitter {
  readonly #options: DumpOptions
  readonly #pieces: string[] = []
  readonly #anchors = new Map<unknown, number>()
  readonly #written = new Set<unknown>()
  #column = 0
  #indent = -1
  #flowLevel = 0
  #whitespace = true
  #indention = true

  constructor(options: DumpOptions) {
    this.#options = options
  }

  document(value: unknown): string {
    this.#findShared(value, new Set())
    if (this.#options.explicitStart) this.#indicator('---', true, false, false)
    this.#node(value, { mapping: false, simpleKey: false })
    this.#newLine()
    if (this.#options.explicitEnd) {
      this.#indicator('...', true, false, false)
      this.#newLine()
    }
    return this.#pieces.join('')
  }

  /** What is there several times is written once, and referred to then. */
  #findShared(value: unknown, seen: Set<unknown>): void {
    if (!Array.isArray(value) && !isMapping(value)) return
    if (seen.has(value)) {
      if (!this.#anchors.has(value)) this.#anchors.set(value, 0)
      return
    }
    seen.add(value)
    for (const item of Array.isArray(value) ? value : value.values()) this.#findShared(item, seen)
  }

  #put(text: string): void {
    this.#options.count(text.length)
    this.#pieces.push(text)
    this.#column += [...text].length
  }

  #break(): void {
    this.#pieces.push('\n')
    this.#column = 0
  }

  #newLine(): void {
    const indent = Math.max(this.#indent, 0)
    if (!this.#indention || this.#column > indent || (this.#column === indent && !this.#whitespace)) this.#break()
    if (this.#column < indent) this.#put(' '.repeat(indent - this.#column))
    this.#whitespace = true
    this.#indention = true
  }

  #indicator(text: string, needsSpace: boolean, whitespace: boolean, indention: boolean): void {
    if (needsSpace && !this.#whitespace) this.#put(' ')
    this.#put(text)
    this.#whitespace = whitespace
    this.#indention &&= indention
  }

  #node(value: unknown, place: Place): void {
    if (Array.isArray(value) || isMapping(value)) {
      if (this.#alias(value)) return
      if (Array.isArray(value)) this.#sequence(value, place)
      else this.#mapping(value.entries())
    } else this.#scalar(scalarOf(value), place)
  }

  /** True when a reference stands for the value; otherwise it gets its name where it is to have one. */
  #alias(value: unknown): boolean {
    let number = this.#anchors.get(value)
    if (number === undefined) return false
    const again = this.#written.has(value)
    if (!again) {
      number = this.#written.size + 1
      this.#anchors.set(value, number)
      this.#written.add(value)
    }
    this.#indicator(`${again ? '*' : '&'}id${String(number).padStart(3, '0')}`, true, false, false)
    return again
  }

  #within(flow: boolean, indentless: boolean, write: () => void): void {
    if (flow) this.#flowLevel++
    this.#indented(flow, indentless, write)
    if (flow) this.#flowLevel--
  }

  #indented(flow: boolean, indentless: boolean, write: () => void): void {
    const outer = this.#indent
    if (outer < 0) this.#indent = flow ? this.#options.indent : 0
    else if (!indentless) this.#indent += this.#options.indent
    write()
    this.#indent = outer
  }

  #isFlow(items: readonly unknown[]): boolean {
    if (this.#flowLevel > 0 || items.length === 0) return true
    return this.#options.flow ?? items.every(item => !Array.isArray(item) && !isMapping(item))
  }

  #sequence(items: readonly unknown[], { mapping }: Place): void {
    if (this.#isFlow(items)) {
      this.#indicator('[', true, true, false)
      this.#within(true, false, () => {
        for (const [index, item] of items.entries()) {
          if (index > 0) this.#indicator(',', false, false, false)
          if (this.#column > this.#options.width) this.#newLine()
          this.#node(item, inSequence)
        }
      })
      this.#indicator(']', false, false, false)
      return
    }
    this.#within(false, mapping && !this.#indention, () => {
      for (const item of items) {
        this.#newLine()
        this.#indicator('-', true, false, true)
        this.#node(item, inSequence)
      }
    })
  }

  #mapping(given: readonly (readonly [unknown, unknown])[]): void {
    const entries = this.#options.sortKeys ? sortedEntries(given) : given
    const flow = this.#isFlow(entries.map(([, item]) => item))
    if (flow) this.#indicator('{', true, true, false)
    this.#within(flow, false, () => {
      for (const [index, [key, item]] of entries.entries()) {
        const scalar = scalarOf(key)
        const simple = scalar.text.length <= 128 && !/[\n\x85\u2028\u2029]/.test(scalar.text)
        if (flow && index > 0) this.#indicator(',', false, false, false)
        if (!flow || this.#column > this.#options.width) this.#newLine()
        if (!simple) this.#indicator('?', true, false, !flow)
        this.#scalar(scalar, simple ? asKeyOfMap : inMapping)
        if (!simple && !flow) this.#newLine()
        this.#indicator(':', !simple, false, !simple && !flow)
        this.#node(item, inMapping)
      }
    })
    if (flow) this.#indicator('}', false, false, false)
  }

  #scalar(scalar: Scalar, { simpleKey }: Place): void {
    const allowed = analyze(scalar.text)
    const plain = this.#flowLevel > 0 ? allowed.flowPlain : allowed.blockPlain
    this.#indented(true, false, () => {
      if (simpleKey && allowed.multiline) this.#doubleQuoted(scalar.text, false)
      else if (plain && scalar.plain) this.#plain(scalar.text, !simpleKey)
      else if (allowed.single) this.#singleQuoted(scalar.text, !simpleKey)
      else this.#doubleQuoted(scalar.text, !simpleKey)
    })
  }

  /** Writes a space, or breaks the line in its place where that is long enough. */
  #space(breaks: boolean): void {
    if (breaks && this.#column > this.#options.width) this.#newLine()
    else this.#put(' ')
  }

  #plain(text: string, breaks: boolean): void {
    if (!this.#whitespace && (text !== '' || this.#flowLevel > 0)) this.#put(' ')
    for (const [part] of text.matchAll(/ +|[^ ]+/g)) {
      if (part === ' ') this.#space(breaks)
      else this.#put(part)
      if (part[0] !== ' ') this.#indention = false
    }
    this.#whitespace = false
    this.#indention = false
  }

  #singleQuoted(text: string, breaks: boolean): void {
    this.#indicator("'", true, false, false)
    let broken = false
    let at = 0
    for (const [part] of text.matchAll(/ +|\n|[^ \n]+/g)) {
      const inner = at > 0 && at + part.length < text.length
      if (part === '\n') {
        if (!broken) this.#break()
        this.#break()
        this.#indention = true
        broken = true
      } else {
        if (part === ' ') this.#space(breaks && inner)
        else if (part[0] === ' ') this.#put(part)
        else {
          if (broken) this.#newLine()
          this.#put(part.replaceAll("'", "''"))
          this.#indention = false
          broken = false
        }
      }
      at += part.length
    }
    if (broken) this.#newLine()
    this.#indicator("'", false, false, false)
    this.#whitespace = false
    this.#indention = false
  }

  #doubleQuoted(text: string, breaks: boolean): void {
    this.#indicator('"', true, false, false)
    const characters = [...text]
    let spaces = false
    for (const [index, character] of characters.entries()) {
      const inner = index > 0 && index < characters.length - 1
      if (character === ' ' && breaks && !spaces && inner && this.#column > this.#options.width) {
        this.#newLine()
        if (characters[index + 1] === ' ') this.#put('\\')
      } else this.#put(character === ' ' ? ' ' : escaped(character))
      spaces = character === ' '
    }
    this.#indicator('"', false, false, false)
    this.#whitespace = false
    this.#indention = false
  }
}

/** In Python's order of keys, or as they are where it has none. */
function sortedEntries(entries: readonly (readonly [unknown, unknown])[]): readonly (readonly [unknown, unknown])[] {
  try {
    return entries.toSorted(([one], [other]) => compare(one, other))
  } catch (error) {
    if (error instanceof TemplateError) return entries
    throw error
  }
}

function scalarOf(value: unknown): Scalar {
  if (value instanceof UnsafeText) return scalarOf(value.text)
  if (value instanceof EncryptedText) return scalarOf(value.decrypt())
  if (typeof value === 'string') return { text: value, plain: resolveScalar(value) === value }
  if (value === null) return { text: 'null', plain: true }
  if (typeof value === 'boolean') return { text: String(value), plain: true }
  if (value instanceof Timestamp) return { text: String(value), plain: true }
  if (typeof value === 'bigint' && bitsOf(value) > 14_285)
    throw new TemplateError('a number of more than 4,300 digits can not be printed')
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value)))
    return { text: String(value), plain: true }
  if (typeof value === 'number' || value instanceof WholeFloat)
    return { text: floatOf(Number(String(value))), plain: true }
  throw new TemplateError('it holds something that is no data')
}

function floatOf(value: number): string {
  if (Number.isNaN(value)) return '.nan'
  if (!Number.isFinite(value)) return value > 0 ? '.inf' : '-.inf'
  // YAML 1.1 wants a point in the mantissa.
  const written = floatText(value)
  return /^-?\d+e/.test(written) ? written.replace('e', '.0e') : written
}

const isPrintable = (character: string): boolean =>
  /^[\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]$/.test(character)

/** How a text may be written. */
function analyze(text: string): { multiline: boolean; flowPlain: boolean; blockPlain: boolean; single: boolean } {
  if (text === '') return { multiline: false, flowPlain: false, blockPlain: true, single: true }
  const special = ![...text].every(isPrintable)
  const multiline = text.includes('\n')
  const block = /^(---|\.\.\.)|^[#,[\]{}&*!|>'"%@`]|^[?:-](\s|$)|:(\s|$)|\s#/.test(text)
  const flow = block || /^[?:]|[,?[\]{}:]/.test(text)
  const ends = /^[ \n]|[ \n]$/.test(text)
  const unquoted = !special && !multiline && !ends
  return {
    multiline: multiline || /[\x85\u2028\u2029]/.test(text),
    flowPlain: unquoted && !flow,
    blockPlain: unquoted && !block,
    single: !special && !/\n | \n/.test(text),
  }
}

const names: Readonly<Record<string, string>> = {
  '\0': '0',
  '\x07': 'a',
  '\b': 'b',
  '\t': 't',
  '\n': 'n',
  '\v': 'v',
  '\f': 'f',
  '\r': 'r',
  '\x1b': 'e',
  '"': '"',
  '\\': '\\',
  '\x85': 'N',
  '\xa0': '_',
  '\u2028': 'L',
  '\u2029': 'P',
}

function escaped(character: string): string {
  const name = character === '\xa0' ? undefined : names[character]
  if (name !== undefined) return `\\${name}`
  if (isPrintable(character)) return character
  const code = character.codePointAt(0)!
  const [letter, width] = code <= 0xff ? ['x', 2] : code <= 0xffff ? ['u', 4] : ['U', 8]
  return `\\${letter}${code
    .toString(16)
    .toUpperCase()
    .padStart(width as number, '0')}`
}
