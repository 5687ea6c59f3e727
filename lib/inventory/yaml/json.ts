// JSON as Python reads it: integers of any size, NaN and Infinity, and the maps by which Ansible marks strings.
import { EncryptedText, float, integer, UnsafeText, type Value } from '../values.ts'
import type { Vault } from '../vault/vault.ts'
import { type MappingEntry, toValue, type YamlNode } from './node.ts'

/** What reading JSON needs beside its text. */
export interface JsonOptions {
  /** The name of the file, or what printed the text, for messages. */
  readonly file: string
  /** Opens encrypted strings when they are read. */
  readonly vault: Vault
}

const maxDepth = 200

/** The value of a JSON text as Ansible reads it, vault and unsafe strings included. Throws `SyntaxError` with the line. */
export function parseJson(text: string, file: string, vault: Vault): Value {
  return toValue(new Reader(text, { file, vault }).whole())
}

/** The node of a JSON text; undefined for what is none. */
export function readJson(text: string, options: JsonOptions): YamlNode | undefined {
  try {
    return new Reader(text, options).whole()
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

const number = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?/y
const plainText = /[^"\\\x00-\x1f]*/y
const words = new Map<string, Value>([
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
])
const escapes: Record<string, string> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\', '/': '/' }

/** A recursive-descent reader; a class because its position is shared by every rule. */
class Reader {
  readonly #text: string
  readonly #options: JsonOptions
  #at = 0
  #line = 1
  #depth = 0

  constructor(text: string, options: JsonOptions) {
    this.#text = text
    this.#options = options
  }

  whole(): YamlNode {
    const node = this.#node()
    this.#space()
    if (this.#at < this.#text.length) throw this.#error('the end of the text is expected')
    return node
  }

  #error(message: string): SyntaxError {
    return new SyntaxError(`line ${this.#line}: ${message}`)
  }

  #space(): void {
    for (;;) {
      const character = this.#text[this.#at]
      if (character === '\n') this.#line++
      else if (character !== ' ' && character !== '\t' && character !== '\r') return
      this.#at++
    }
  }

  #take(character: string): boolean {
    this.#space()
    if (this.#text[this.#at] !== character) return false
    this.#at++
    return true
  }

  #node(): YamlNode {
    this.#space()
    const line = this.#line
    const first = this.#text[this.#at]
    if (first === '"') {
      const value = this.#string()
      return { kind: 'scalar', line, weight: 1 + (value.length >> 6), value }
    }
    if (first !== '{' && first !== '[') return { kind: 'scalar', line, weight: 1, value: this.#word() }
    if (++this.#depth > maxDepth) throw this.#error(`more than ${maxDepth} levels within each other`)
    const node = first === '{' ? this.#mapping(line) : this.#sequence(line)
    this.#depth--
    return node
  }

  #word(): Value {
    for (const [word, value] of words) {
      if (!this.#text.startsWith(word, this.#at)) continue
      this.#at += word.length
      return value
    }
    number.lastIndex = this.#at
    const match = number.exec(this.#text)
    if (!match) throw this.#error('a value is expected')
    this.#at += match[0].length
    if (match[1] !== undefined || match[2] !== undefined) return float(Number(match[0]))
    // Python reads no more digits.
    if (match[0].length > 4300) throw this.#error('a number has more than 4,300 digits')
    return integer(BigInt(match[0]))
  }

  #string(): string {
    let text = ''
    for (this.#at++; ; ) {
      plainText.lastIndex = this.#at
      const [piece] = plainText.exec(this.#text)!
      text += piece
      this.#at += piece.length
      const character = this.#text[this.#at++]
      if (character === '"') return text
      if (character !== '\\') throw this.#error('a string is not closed, or has a control character in it')
      const letter = this.#text[this.#at++] ?? ''
      const digits = letter === 'u' ? this.#text.slice(this.#at, this.#at + 4) : ''
      if (/^[0-9a-fA-F]{4}$/.test(digits)) {
        text += String.fromCharCode(Number.parseInt(digits, 16))
        this.#at += 4
      } else if (Object.hasOwn(escapes, letter)) text += escapes[letter]
      else throw this.#error(`\\${letter} is no escape that JSON has`)
    }
  }

  #sequence(line: number): YamlNode {
    this.#at++
    const items: YamlNode[] = []
    let weight = 1
    if (this.#take(']')) return { kind: 'sequence', line, weight, items }
    do {
      const item = this.#node()
      items.push(item)
      weight += item.weight
    } while (this.#take(','))
    if (!this.#take(']')) throw this.#error("a ',' or ']' is expected")
    return { kind: 'sequence', line, weight, items }
  }

  #mapping(line: number): YamlNode {
    this.#at++
    const entries = new Map<unknown, MappingEntry>()
    let weight = 1
    if (this.#take('}')) return { kind: 'mapping', line, weight, entries }
    do {
      this.#space()
      if (this.#text[this.#at] !== '"') throw this.#error('a key in double quotes is expected')
      const [start, name] = [this.#line, this.#string()]
      if (!this.#take(':')) throw this.#error("a ':' is expected behind a key")
      const value = this.#node()
      entries.set(name, { key: { kind: 'scalar', line: start, weight: 1, value: name }, value })
      weight += 1 + value.weight
    } while (this.#take(','))
    if (!this.#take('}')) throw this.#error("a ',' or '}' is expected")
    const marked = this.#marked(entries, line)
    return marked ? { kind: 'scalar', line, weight, value: marked } : { kind: 'mapping', line, weight, entries }
  }

  /** A string that is unsafe or encrypted: a map with one key of Ansible's. */
  #marked(entries: ReadonlyMap<unknown, MappingEntry>, line: number): Value | undefined {
    const text = (key: string): string | undefined => {
      const node = entries.get(key)?.value
      return node?.kind === 'scalar' && typeof node.value === 'string' ? node.value : undefined
    }
    const unsafe = text('__ansible_unsafe')
    if (unsafe !== undefined) return new UnsafeText(unsafe)
    const ciphertext = text('__ansible_vault')
    const { file, vault } = this.#options
    return ciphertext === undefined ? undefined : new EncryptedText(ciphertext, `${file}:${line}`, vault)
  }
}
