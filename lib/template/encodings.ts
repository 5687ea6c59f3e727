// JSON, YAML, TOML and base64 as the Go libraries of consul-template have them (encoding/json, yaml.v2, BurntSushi/toml).
import {
  floatText,
  type GoMap,
  type GoValue,
  isList,
  isMap,
  isNil,
  JsonNumber,
  kindOf,
  needDefined,
  print,
  sortedKeys,
  toBytes,
  toText,
} from './values.ts'

/** The bytes of a base64 text, padded as Go asks for. Throws an Error that does not quote the text. */
export function decodeBase64(text: string, kind: 'standard' | 'url' = 'standard'): string {
  const joined = text.replaceAll(/[\r\n]/g, '')
  const alphabet = kind === 'url' ? /^[A-Za-z0-9_-]*={0,2}$/ : /^[A-Za-z0-9+/]*={0,2}$/
  if (joined.length % 4 !== 0 || !alphabet.test(joined)) throw new Error('the text is not base64 of this kind')
  return Buffer.from(joined, 'base64').toString('latin1')
}

/** Parse JSON: every number is a float64, as in Go. Throws an Error that does not quote the text. */
export function parseJson(bytes: string): GoValue {
  const convert = (value: unknown): GoValue => {
    if (typeof value === 'string') return toBytes(value)
    if (Array.isArray(value)) return value.map(convert)
    if (typeof value === 'object' && value !== null) {
      return new Map(Object.entries(value).map(([key, one]) => [toBytes(key), convert(one)]))
    }
    return value as number | boolean | null
  }
  try {
    return convert(JSON.parse(toText(bytes)))
  } catch {
    throw new Error('the text is not JSON')
  }
}

/** JSON with keys in order; `escapeHtml` writes `<`, `>` and `&` as Go does unless told otherwise. */
export function writeJson(value: GoValue, { escapeHtml = false, pretty = false }): string {
  const write = (one: GoValue, indent: string): string => {
    needDefined(one)
    if (isNil(one)) return 'null'
    if (typeof one === 'string') return jsonString(one, escapeHtml)
    if (typeof one === 'number') {
      if (!Number.isFinite(one)) throw new Error('JSON has no infinite numbers')
      return String(one)
    }
    if (one instanceof JsonNumber) return one.text
    const inner = `${indent}  `
    const [start, between, end] = pretty ? [`\n${inner}`, `,\n${inner}`, `\n${indent}`] : ['', ',', '']
    if (isList(one)) {
      return one.length === 0 ? '[]' : `[${start}${one.map(item => write(item, inner)).join(between)}${end}]`
    }
    if (isMap(one)) {
      if (one.size === 0) return '{}'
      const members = sortedKeys(one).map(key => {
        return `${jsonString(String(key), escapeHtml)}:${pretty ? ' ' : ''}${write(one.get(key)!, inner)}`
      })
      return `{${start}${members.join(between)}${end}}`
    }
    if (typeof one === 'object') throw new Error(`${kindOf(one)} can't be written as JSON`)
    return String(one)
  }
  return write(value, '')
}

function jsonString(bytes: string, escapeHtml: boolean): string {
  const plain = JSON.stringify(toText(bytes)).replaceAll(
    /[\u2028\u2029]/g,
    one => `\\u${one.charCodeAt(0).toString(16)}`,
  )
  const text = escapeHtml ? plain.replaceAll(/[<>&]/g, one => `\\u00${one.charCodeAt(0).toString(16)}`) : plain
  return toBytes(text)
}

/** A document as yaml.v2 writes it: maps indented by two, lists not, lines folded at 80. */
export function writeYaml(value: GoValue): string {
  return `${yamlNode(value, 0)}\n`
}

/** A value after `key:` or `-`, with the line break or space that belongs before it, or at the start of the document. */
function yamlNode(value: GoValue, indent: number): string {
  const pad = ' '.repeat(indent)
  if (isMap(value) && value.size > 0) {
    return yamlKeys(value)
      .map((key, index) => {
        const lead = index === 0 ? '' : `\n${pad}`
        const name = yamlScalar(key, { indent, column: indent, isKey: true })
        return `${lead}${name}:${yamlMember(value.get(key)!, indent, indent + toText(name).length + 2)}`
      })
      .join('')
  }
  if (isList(value) && value.length > 0) {
    return value
      .map((item, index) => {
        const lead = index === 0 ? '' : `\n${pad}`
        if (isBlock(item)) return `${lead}- ${yamlNode(item, indent + 2)}`
        return `${lead}- ${yamlScalar(item, { indent: indent + 2, column: indent + 2 })}`
      })
      .join('')
  }
  return yamlScalar(value, { indent, column: indent })
}

const isBlock = (value: GoValue) => (isMap(value) && value.size > 0) || (isList(value) && value.length > 0)

function yamlMember(value: GoValue, indent: number, column: number): string {
  if (!isBlock(value)) return ` ${yamlScalar(value, { indent: indent + 2, column })}`
  const inner = isMap(value) ? indent + 2 : indent
  return `\n${' '.repeat(inner)}${yamlNode(value, inner)}`
}

/** yaml.v2 sorts digits within keys as numbers, and letters after everything else. */
function yamlKeys(map: GoMap): (string | bigint)[] {
  return [...map.keys()].sort((a, b) => {
    if (typeof a === 'bigint' || typeof b === 'bigint') return Number(a) - Number(b)
    return compareKeys([...toText(a)], [...toText(b)])
  })
}

function compareKeys(a: readonly string[], b: readonly string[]): number {
  let digits = false
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const [one, two] = [a[index]!, b[index]!]
    if (one === two) {
      digits = /\d/.test(one)
      continue
    }
    const [letterOne, letterTwo] = [/\p{L}/u.test(one), /\p{L}/u.test(two)]
    if (letterOne && letterTwo) return one < two ? -1 : 1
    if (letterOne || letterTwo) return digits ? (letterOne ? -1 : 1) : letterTwo ? -1 : 1
    // Digits count as one number here, and nothing as 0; after a digit other than 0 leading zeros count.
    const [runOne, runTwo] = [a, b].map(key => /^\d*/.exec(key.slice(index).join(''))![0]) as [string, string]
    const ahead = (one === '0' || two === '0') && /[1-9]\d*$/.test(a.slice(0, index).join('')) ? '1' : '0'
    const [numberOne, numberTwo] = [BigInt(ahead + runOne), BigInt(ahead + runTwo)]
    if (numberOne !== numberTwo) return numberOne < numberTwo ? -1 : 1
    if (runOne.length !== runTwo.length) return runOne.length - runTwo.length
    return one < two ? -1 : 1
  }
  return a.length - b.length
}

/** Where a scalar is written: what its next lines are indented by, and the column at which it starts. */
interface Place {
  readonly indent: number
  readonly column: number
  readonly isKey?: boolean
}

function yamlScalar(value: GoValue, place: Place): string {
  needDefined(value)
  if (isNil(value)) return 'null'
  if (typeof value === 'string') return yamlString(value, place)
  if (value instanceof JsonNumber) return value.text
  if (isMap(value)) return '{}'
  if (isList(value)) return '[]'
  if (typeof value === 'number') {
    return Number.isFinite(value) ? floatText(value) : Number.isNaN(value) ? '.nan' : value > 0 ? '.inf' : '-.inf'
  }
  return print(value)
}

// What yaml.v2 would read back as something other than a string.
const resolves =
  /^(|~|null|Null|NULL|y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?[0-9][0-9_]*|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?)$/

function yamlString(bytes: string, place: Place): string {
  const { indent, isKey } = place
  const text = toText(bytes)
  if (
    /[^\t\n\r\x20-\x7e\u0085\u00a0-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]|\ufeff/u.test(text) ||
    /[\r\t\u0085\u2028\u2029]/.test(text)
  ) {
    return toBytes(doubleQuoted(text))
  }
  if (text.includes('\n')) {
    return literalAllowed(text) && !isKey ? toBytes(literal(text, indent)) : toBytes(doubleQuoted(text))
  }
  if (resolves.test(text)) return toBytes(doubleQuoted(text))
  return toBytes(plainAllowed(text) ? (isKey ? text : folded(text, place)) : singleQuoted(text, place))
}

/** Whether libyaml writes it without quotes. */
function plainAllowed(text: string): boolean {
  if (/^(---|\.\.\.)/.test(text) || /^ | $/.test(text)) return false
  if (/^[#,[\]{}&*!|>'"%@`]/.test(text)) return false
  if (/^[-?:]( |$)/.test(text) || /: |:$/.test(text) || / #/.test(text)) return false
  return true
}

const literalAllowed = (text: string) => !/ \n| $/.test(text) && !/^\n* /.test(text)

function literal(text: string, indent: number): string {
  const chomp = text.endsWith('\n\n') || text === '\n' ? '+' : text.endsWith('\n') ? '' : '-'
  const pad = ' '.repeat(Math.max(indent, 2))
  const body = text.replace(/\n$/, '').split('\n')
  const lines = body.map(line => (line === '' ? '' : pad + line))
  return `|${chomp}\n${lines.join('\n')}`
}

/** Break at the first single space beyond column 80, as libyaml does. */
function folded(text: string, { indent, column: start }: Place): string {
  let column = start
  const characters = [...text]
  return characters
    .map((character, index) => {
      const single = character === ' ' && characters[index - 1] !== ' ' && characters[index + 1] !== ' '
      if (single && column > 80 && index > 0 && index < characters.length - 1) {
        column = indent
        return `\n${' '.repeat(indent)}`
      }
      column++
      return character
    })
    .join('')
}

function singleQuoted(text: string, place: Place): string {
  const inner = text.replaceAll("'", "''")
  return `'${place.isKey ? inner : folded(inner, { ...place, column: place.column + 1 })}'`
}

function doubleQuoted(text: string): string {
  const named: Record<string, string> = {
    '\0': '\\0',
    '\x07': '\\a',
    '\b': '\\b',
    '\t': '\\t',
    '\n': '\\n',
    '\v': '\\v',
    '\f': '\\f',
    '\r': '\\r',
    '\x1b': '\\e',
    '"': '\\"',
    '\\': '\\\\',
    '\u0085': '\\N',
    '\u2028': '\\L',
    '\u2029': '\\P',
    '\ufeff': '\\uFEFF',
  }
  const escaped = [...text].map(character => {
    if (named[character]) return named[character]
    const code = character.codePointAt(0)!
    if (code >= 0x20 && code !== 0x7f && !(code > 0x7f && code < 0xa0)) return character
    return `\\x${code.toString(16).toUpperCase().padStart(2, '0')}`
  })
  return `"${escaped.join('')}"`
}

/** A document as BurntSushi/toml writes it: plain values first, then tables, two spaces deeper each. */
export function writeToml(value: GoValue): string {
  if (!isMap(value)) throw new Error(`TOML is made of a map, and this is ${kindOf(value)}`)
  return tomlTable(value, [])
}

const isTables = (value: GoValue) => isList(value) && value.length > 0 && value.every(isMap)

function tomlTable(map: GoMap, path: readonly string[]): string {
  const pad = '  '.repeat(Math.max(0, path.length))
  const keys = sortedKeys(map).map(String)
  map.forEach(needDefined)
  const isPlain = (key: string) => !isMap(map.get(key)!) && !isTables(map.get(key)!)
  const lines = keys
    .filter(isPlain)
    .filter(key => !isNil(map.get(key)!))
    .map(key => `${pad}${tomlKey(key)} = ${tomlValue(map.get(key)!)}\n`)
  const tables = keys.filter(key => !isPlain(key)).map(key => tomlSection(map.get(key)!, [...path, key]))
  return lines.join('') + tables.join('')
}

function tomlSection(value: GoValue, path: readonly string[]): string {
  const pad = '  '.repeat(path.length - 1)
  const name = path.map(tomlKey).join('.')
  if (isMap(value)) return `${path.length === 1 ? '\n' : ''}${pad}[${name}]\n${tomlTable(value, path)}`
  return (value as readonly GoMap[]).map(table => `\n${pad}[[${name}]]\n${tomlTable(table, path)}`).join('')
}

const tomlKey = (key: string) => (/^[A-Za-z0-9_-]+$/.test(key) ? key : tomlString(key))

function tomlValue(value: GoValue): string {
  needDefined(value)
  if (typeof value === 'string') return tomlString(value)
  if (value instanceof JsonNumber) return value.text
  if (typeof value === 'number') {
    const text = floatText(value).replace('+Inf', 'inf').replace('-Inf', '-inf').replace('NaN', 'nan')
    return /[.einf]/.test(text) ? text : `${text}.0`
  }
  if (isList(value)) return `[${value.map(tomlValue).join(', ')}]`
  if (isMap(value)) {
    return `{${sortedKeys(value)
      .map(key => `${tomlKey(String(key))} = ${tomlValue(value.get(key)!)}`)
      .join(', ')}}`
  }
  if (isNil(value)) throw new Error('TOML has no null')
  return print(value)
}

function tomlString(bytes: string): string {
  return `"${[...bytes]
    .map(one => {
      const named: Record<string, string> = {
        '"': '\\"',
        '\\': '\\\\',
        '\b': '\\b',
        '\t': '\\t',
        '\n': '\\n',
        '\f': '\\f',
        '\r': '\\r',
      }
      if (named[one]) return named[one]
      return one < ' ' || one === '\x7f' ? `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}` : one
    })
    .join('')}"`
}
