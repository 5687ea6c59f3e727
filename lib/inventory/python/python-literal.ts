// Values in INI inventories: Python literals where they are such, text otherwise, as `ast.literal_eval` decides.
import { Dict, float, floatText, integer, isKey, type Key, type Mapping, type Value } from '../values.ts'

/** What a text means as a Python literal; the text itself when it is none. */
export function pythonLiteral(text: string): Value {
  // Most values are words or addresses, which need no closer look.
  if (certainlyText.test(text)) return text
  const reader = new Reader(text.replace(/^[ \t]+/, ''))
  try {
    return reader.whole()
  } catch (error) {
    if (error === notLiteral) return text
    throw error
  }
}

const certainlyText = /^(?!True|False|None|set\b|[bBrRuU]{1,2}["'])[A-Za-z_/~$]|^\d+\.\d+\./

const notLiteral = new Error('not a Python literal')

const number =
  /(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:(?:\d(?:_?\d)*)?\.\d(?:_?\d)*|\d(?:_?\d)*\.?)(?:[eE][-+]?\d(?:_?\d)*)?)(?![\w.])/y
const decimal = String.raw`((?:\d(?:_?\d)*(?:\.(?:\d(?:_?\d)*)?)?|\.\d(?:_?\d)*)(?:[eE][-+]?\d(?:_?\d)*)?)[jJ](?![\w.])`
const imaginary = new RegExp(decimal, 'y')
const imaginaryPart = new RegExp(String.raw`([-+])[ \t]*${decimal}`, 'y')
const stringStart = /([rRbBuU]|[bB][rR]|[rR][bB])?("""|'''|"|')/y
/** What follows a backslash in a string of Python, and what it stands for. */
export const stringEscapes: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}

/** A part of a complex number, which Ansible keeps as the text that Python prints. */
const part = (value: number): string => (Object.is(value, -0) ? '-0' : floatText(value).replace(/\.0$/, ''))

function asKey(value: Value): Key {
  if (isKey(value)) return value
  throw notLiteral
}

/** A recursive-descent reader; a class because its position is shared by every rule. */
class Reader {
  readonly #text: string
  #at = 0
  #depth = 0

  constructor(text: string) {
    this.#text = text
  }

  /** A whole expression, at the top of which commas make a list, and behind which a comment may stand. */
  whole(): Value {
    const first = this.#value()
    let value = first
    if (this.#take(',')) {
      const items = [first]
      while (!this.#atEnd()) {
        items.push(this.#value())
        if (!this.#take(',')) break
      }
      value = items
    }
    if (!this.#atEnd()) throw notLiteral
    return value
  }

  #atEnd(): boolean {
    this.#space()
    return this.#at === this.#text.length || this.#text[this.#at] === '#'
  }

  #space(): void {
    while (' \t\f'.includes(this.#text[this.#at] ?? '\0')) this.#at++
  }

  #take(token: string): boolean {
    this.#space()
    if (!this.#text.startsWith(token, this.#at)) return false
    this.#at += token.length
    return true
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    this.#space()
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match) this.#at += match[0].length
    return match
  }

  #value(): Value {
    return this.#strings() ?? this.#other()
  }

  #other(): Value {
    if (this.#take('[')) return this.#within(() => this.#items(']'))
    if (this.#take('(')) return this.#within(() => this.#parenthesis())
    if (this.#take('{')) return this.#within(() => this.#braces())
    if (this.#take('...')) return '...'
    const word = this.#match(/[A-Za-z_]\w*/y)?.[0]
    switch (word) {
      case 'True':
        return true
      case 'False':
        return false
      case 'None':
        return null
      case 'set':
        if (this.#take('(') && this.#take(')')) return []
    }
    if (word !== undefined) throw notLiteral
    return this.#number()
  }

  /** What stands in a bracket. Python reads no more than 200 within each other. */
  #within(read: () => Value): Value {
    if (++this.#depth > 200) throw notLiteral
    const value = read()
    this.#depth--
    return value
  }

  #number(): Value {
    const sign = this.#match(/[-+]/y)?.[0] === '-' ? -1 : 1
    const alone = this.#match(imaginary)?.[1]
    if (alone !== undefined) return `${part(sign * Number(alone.replaceAll('_', '')))}j`
    const real = this.#real(sign)
    const complex = this.#match(imaginaryPart)
    if (!complex) return real
    const [, plus = '', size = ''] = complex
    return `(${part(Number(real))}${plus}${part(Number(size.replaceAll('_', '')))}j)`
  }

  #real(sign: 1 | -1): Value {
    let digits = this.#match(number)?.[0]
    if (digits === undefined) throw notLiteral
    digits = digits.replaceAll('_', '')
    // Python reads no more decimal digits, and prints no more.
    if (digits.length > 4300) throw notLiteral
    if (/^0[xob]/i.test(digits)) return integer(BigInt(sign) * BigInt(digits.toLowerCase()))
    if (/[.eE]/.test(digits)) return float(sign * Number(digits))
    if (/^0+[1-9]/.test(digits)) throw notLiteral
    return integer(BigInt(sign) * BigInt(digits))
  }

  #items(close: string): Value[] {
    const items: Value[] = []
    while (!this.#take(close)) {
      items.push(this.#value())
      if (!this.#take(',')) {
        if (this.#take(close)) break
        throw notLiteral
      }
    }
    return items
  }

  #parenthesis(): Value {
    if (this.#take(')')) return []
    const first = this.#value()
    if (this.#take(')')) return first
    if (!this.#take(',')) throw notLiteral
    return [first, ...this.#items(')')]
  }

  /** A map, or a set: Ansible makes a list of it. */
  #braces(): Value {
    const mapping: Mapping = new Dict()
    if (this.#take('}')) return mapping
    const first = this.#value()
    if (!this.#take(':')) {
      const items = this.#take(',') ? [first, ...this.#items('}')] : [first]
      if (items.length === 1 && this.#text[this.#at - 1] !== '}' && !this.#take('}')) throw notLiteral
      return [...new Set(items)]
    }
    mapping.set(asKey(first), this.#value())
    while (!this.#take('}')) {
      if (!this.#take(',')) throw notLiteral
      if (this.#take('}')) break
      const key = asKey(this.#value())
      if (!this.#take(':')) throw notLiteral
      mapping.set(key, this.#value())
    }
    return mapping
  }

  /** Strings, one behind the other as Python joins them. */
  #strings(): string | undefined {
    let joined: string | undefined
    for (let start = this.#match(stringStart); start; start = this.#match(stringStart)) {
      const [, prefix = '', quote = ''] = start
      joined = (joined ?? '') + this.#string(quote, prefix.toLowerCase())
    }
    return joined
  }

  #string(quote: string, prefix: string): string {
    let text = ''
    while (!this.#text.startsWith(quote, this.#at)) {
      const character = this.#text[this.#at++]
      if (character === undefined || (character === '\n' && quote.length === 1)) throw notLiteral
      if (character !== '\\') text += character
      else if (prefix.includes('r')) text += character + (this.#text[this.#at++] ?? '')
      else text += this.#escape(prefix.includes('b'))
    }
    this.#at += quote.length
    return text
  }

  #escape(bytes: boolean): string {
    const octal = this.#textMatch(/[0-7]{1,3}/y)
    if (octal) return String.fromCodePoint(Number.parseInt(octal, 8))
    const hexadecimal = this.#textMatch(bytes ? /x[0-9a-fA-F]{2}/y : /x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}/y)
    if (hexadecimal) {
      const code = Number.parseInt(hexadecimal.slice(1), 16)
      if (code > 0x10ffff) throw notLiteral
      return String.fromCodePoint(code)
    }
    const character = this.#text[this.#at++]
    if (character === undefined || /[xuUN]/.test(character)) throw notLiteral
    return stringEscapes[character] ?? `\\${character}`
  }

  #textMatch(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)?.[0]
    this.#at += match?.length ?? 0
    return match
  }
}
