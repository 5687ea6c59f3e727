// The functions that text/template itself has: comparing, indexing, printing, escaping. `and` and `or` are the engine's.
import {
  floatText,
  type GoFunction,
  type GoValue,
  isList,
  isMap,
  isNil,
  isTrue,
  JsonNumber,
  kindOf,
  print,
  toBytes,
  toText,
} from './values.ts'

/** By name. They throw Errors that tell kinds of values, never values. */
export const builtins: ReadonlyMap<string, GoFunction> = new Map<string, GoFunction>([
  ['not', (...args) => !isTrue(only(args))],
  ['eq', (first, ...rest) => equal(first, rest)],
  ['ne', (...args) => !equal(args[0], pair(args).slice(1))],
  ['lt', (...args) => compare(pair(args)) < 0],
  ['le', (...args) => compare(pair(args)) <= 0],
  ['gt', (...args) => compare(pair(args)) > 0],
  ['ge', (...args) => compare(pair(args)) >= 0],
  ['len', (...args) => length(only(args))],
  ['index', (item, ...keys) => keys.reduce(indexOne, needed(item))],
  ['slice', (item, ...indexes) => slice(needed(item), indexes)],
  ['print', (...args) => sprint(args)],
  ['println', (...args) => `${refuseNothing(args).map(print).join(' ')}\n`],
  ['printf', (format, ...args) => printf(format, args)],
  ['html', (...args) => sprint(args).replace(/[\0"'&<>]/g, character => htmlEscapes[character]!)],
  ['js', (...args) => toBytes(jsEscape(toText(sprint(args))))],
  ['urlquery', (...args) => queryEscape(sprint(args))],
  [
    'call',
    () => {
      throw new Error('there is nothing in a template that it could call')
    },
  ],
])

/** fmt.Sprint: a space between two operands when neither is a string. Throws for nothing, which Go writes as `<nil>`. */
export function sprint(args: readonly GoValue[]): string {
  refuseNothing(args)
  return args
    .map((value, index) => {
      const text = print(value)
      const before = args[index - 1]
      return index > 0 && typeof before !== 'string' && typeof value !== 'string' ? ` ${text}` : text
    })
    .join('')
}

function refuseNothing(args: readonly GoValue[]): readonly GoValue[] {
  const nothing = args.find(isNil)
  if (nothing !== undefined) throw new Error(`got ${kindOf(nothing)}, and consul-template would write "<nil>"`)
  return args
}

function only(args: readonly GoValue[]): GoValue {
  if (args.length !== 1) throw new Error(`needs one argument, and got ${args.length}`)
  return args[0]!
}

function pair(args: readonly GoValue[]): [GoValue, GoValue] {
  if (args.length !== 2) throw new Error(`needs two arguments, and got ${args.length}`)
  return [args[0]!, args[1]!]
}

function needed(value: GoValue | undefined): GoValue {
  if (value === undefined || isNil(value)) throw new Error('is asked of what has no value')
  return value
}

type Basic = 'bool' | 'int' | 'float' | 'string' | 'other'

function basicKind(value: GoValue): Basic {
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'bigint') return 'int'
  if (typeof value === 'number') return 'float'
  return typeof value === 'string' || value instanceof JsonNumber ? 'string' : 'other'
}

const plain = (value: GoValue) => (value instanceof JsonNumber ? value.text : value)

function equal(first: GoValue | undefined, rest: readonly GoValue[]): boolean {
  if (first === undefined || rest.length === 0) throw new Error('needs two arguments to compare')
  return rest.some(other => {
    if (isNil(first) || isNil(other)) return isNil(first) && isNil(other)
    const [one, two] = [basicKind(first), basicKind(other)]
    if (one !== two) throw new Error(`${kindOf(first)} can't be compared with ${kindOf(other)}`)
    if (one === 'other') throw new Error(`${kindOf(first)} can't be compared`)
    return plain(first) === plain(other)
  })
}

function compare([first, second]: [GoValue, GoValue]): number {
  const [one, two] = [basicKind(first), basicKind(second)]
  if (one === 'bool' || one === 'other' || two === 'other') throw new Error(`${kindOf(first)} has no order`)
  if (one !== two) throw new Error(`${kindOf(first)} can't be compared with ${kindOf(second)}`)
  const [a, b] = [plain(first) as string, plain(second) as string]
  return a < b ? -1 : a > b ? 1 : 0
}

function length(value: GoValue): bigint {
  if (typeof value === 'string' || isList(value)) return BigInt(value.length)
  if (isMap(value)) return BigInt(value.size)
  if (value instanceof JsonNumber) return BigInt(value.text.length)
  throw new Error(`${kindOf(value)} has no length`)
}

function indexOne(item: GoValue, key: GoValue): GoValue {
  if (isMap(item)) {
    if (typeof key !== 'string' && typeof key !== 'bigint') throw new Error(`${kindOf(key)} can't be the key of a map`)
    return item.get(key) ?? null
  }
  if (isList(item) || typeof item === 'string') {
    const position = positionIn(key, item.length - 1)
    return typeof item === 'string' ? BigInt(item.charCodeAt(position)) : item[position]!
  }
  throw new Error(`${kindOf(item)} can't be indexed`)
}

function slice(item: GoValue, indexes: readonly GoValue[]): GoValue {
  if (!isList(item) && typeof item !== 'string') throw new Error(`${kindOf(item)} can't be sliced`)
  if (indexes.length > (typeof item === 'string' ? 2 : 3)) throw new Error('got too many indexes')
  const [from = 0, to = item.length, cap = item.length] = indexes.map(index => positionIn(index, item.length))
  if (from > to || to > cap) throw new Error(`indexes are not in order: ${from}, ${to}`)
  return item.slice(from, to)
}

function positionIn(index: GoValue, most: number): number {
  if (typeof index !== 'bigint') throw new Error(`an index must be an integer, and is ${kindOf(index)}`)
  if (index < 0n || index > BigInt(most)) throw new Error(`the index ${index} is out of range`)
  return Number(index)
}

const htmlEscapes: Record<string, string> = {
  '\0': toBytes('\ufffd'),
  '"': '&#34;',
  "'": '&#39;',
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
}

function jsEscape(text: string): string {
  const named: Record<string, string> = { '\\': '\\\\', "'": "\\'", '"': '\\"' }
  return text.replace(/[\\'"<>&=\x00-\x1f]|[^\x00-\x7f\p{L}\p{M}\p{N}\p{P}\p{S}]/gu, character => {
    if (named[character]) return named[character]
    return `\\u${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`
  })
}

function queryEscape(bytes: string): string {
  return bytes.replace(/[^A-Za-z0-9\-._~]/g, character => {
    if (character === ' ') return '+'
    return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  })
}

interface Verb {
  readonly flags: string
  readonly width: number
  readonly precision?: number
  readonly verb: string
}

/** Go's fmt.Sprintf, as far as templates use it. Where Go would print `%!d(string=…)`, it is an error. */
function printf(format: GoValue | undefined, args: readonly GoValue[]): string {
  if (typeof format !== 'string') throw new Error('the format must be a string')
  let next = 0
  const output = format.replace(
    /%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?([\s\S]|$)/g,
    (_, flags, width, precision, verb) => {
      if (verb === '%') return '%'
      if (verb === '') throw new Error('the format ends within a verb')
      const number = (text: string | undefined) => {
        if (text !== '*') return text === undefined ? undefined : Number(text)
        const value = args[next++]
        if (typeof value !== 'bigint') throw new Error('a width given by * must be an integer')
        return Number(value)
      }
      const wide = number(width) ?? 0
      const exact = number(precision)
      // Go takes no more either.
      if (Math.max(Math.abs(wide), exact ?? 0) > widest) throw new Error(`a width or precision is more than ${widest}`)
      if (next >= args.length) throw new Error(`%${verb} has no argument left`)
      const left = wide < 0 ? `${flags}-` : flags
      return formatOne(args[next++]!, { flags: left, width: Math.abs(wide), precision: exact, verb })
    },
  )
  if (next < args.length) throw new Error(`got ${args.length} arguments for ${next} verbs`)
  return output
}

/** Characters that a verb may ask for. */
const widest = 1_000_000

function formatOne(value: GoValue, how: Verb): string {
  const { verb } = how
  if (verb === 'T') throw new Error('%T is not offered: types are not those of Go')
  if (isList(value) && verb !== 'v') {
    // Each element by itself, as Go does.
    return `[${value.map(one => formatOne(one, how)).join(' ')}]`
  }
  if (verb === 'v') {
    if (isNil(value)) throw new Error('%v got nothing')
    if (how.flags.includes('#') || how.flags.includes('+')) {
      if (typeof value !== 'bigint' && typeof value !== 'number') throw new Error('%+v and %#v are not offered')
    }
    if (typeof value === 'bigint') return formatInteger(value, { ...how, verb: 'd' })
    if (typeof value === 'number') return formatFloat(value, { ...how, verb: 'g' })
    return pad(print(value), how)
  }
  if (verb === 't' && typeof value === 'boolean') return pad(String(value), how)
  if ('bcdoOxXU'.includes(verb) && typeof value === 'bigint') return formatInteger(value, how)
  if ('eEfFgG'.includes(verb) && typeof value === 'number') return formatFloat(value, how)
  if (verb === 'q' && typeof value === 'bigint') return pad(quoteRune(value), how)
  if ('sqxX'.includes(verb) && (typeof value === 'string' || value instanceof JsonNumber)) {
    return formatString(value instanceof JsonNumber ? value.text : value, how)
  }
  if (!'vTtbcdoOqxXUeEfFgGs'.includes(verb)) throw new Error(`%${verb} is not a verb`)
  throw new Error(`%${verb} got ${kindOf(value)}`)
}

function formatString(bytes: string, how: Verb): string {
  const { verb, precision, flags } = how
  const cut = precision === undefined ? bytes : toBytes([...toText(bytes)].slice(0, precision).join(''))
  if (verb === 's') return pad(cut, how)
  if (verb === 'q') {
    if (flags.includes('#') && !/[`\x00-\x08\x0a-\x1f\x7f]/.test(cut)) return pad(`\`${cut}\``, how)
    return pad(quote(cut), how)
  }
  const pairs = [...(precision === undefined ? bytes : bytes.slice(0, precision))].map(one =>
    one.charCodeAt(0).toString(16).padStart(2, '0'),
  )
  const prefix = flags.includes('#') && pairs.length > 0 ? '0x' : ''
  const hex = flags.includes(' ') ? pairs.map(one => prefix + one).join(' ') : prefix + pairs.join('')
  return pad(verb === 'X' ? hex.toUpperCase() : hex, how)
}

function formatInteger(value: bigint, how: Verb): string {
  const { verb, flags, precision } = how
  if (verb === 'c') return pad(toBytes(String.fromCodePoint(Number(value))), how)
  if (verb === 'U') return pad(`U+${value.toString(16).toUpperCase().padStart(4, '0')}`, how)
  const radix = { b: 2, o: 8, O: 8, x: 16, X: 16 }[verb] ?? 10
  const negative = value < 0n
  let digits = (negative ? -value : value).toString(radix)
  if (verb === 'X') digits = digits.toUpperCase()
  if (precision !== undefined) digits = precision === 0 && value === 0n ? '' : digits.padStart(precision, '0')
  const prefixes: Record<string, string> = { b: '0b', o: '0', x: '0x', X: '0X' }
  const prefix = verb === 'O' ? '0o' : flags.includes('#') ? (prefixes[verb] ?? '') : ''
  const sign = negative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
  return padNumber(sign + prefix, digits, how, precision === undefined)
}

function formatFloat(value: number, how: Verb): string {
  const { verb, flags, precision } = how
  const negative = value < 0 || Object.is(value, -0)
  const sign = negative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
  if (!Number.isFinite(value)) return pad(Number.isNaN(value) ? 'NaN' : `${sign || '+'}Inf`, how)
  const size = Math.abs(value)
  let digits: string
  if (verb === 'f' || verb === 'F') digits = fixed(size, precision ?? 6)
  else if (verb === 'e' || verb === 'E') digits = exponent(size.toExponential(precision ?? 6))
  else if (precision === undefined) digits = floatText(size)
  else digits = generalDigits(size, precision || 1)
  if (verb === 'E' || verb === 'G') digits = digits.toUpperCase()
  return padNumber(sign, digits, how, true)
}

/** Decimals of the number's exact value, a half rounded to even: toFixed rounds it up. */
function fixed(size: number, precision: number): string {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, size)
  const bits = view.getBigUint64(0)
  const stored = Number((bits >> 52n) & 0x7ffn)
  const mantissa = (bits & 0xfffffffffffffn) | (stored === 0 ? 0n : 1n << 52n)
  const power = Math.max(stored, 1) - 1075
  const scaled = mantissa * 10n ** BigInt(precision) * (power > 0 ? 1n << BigInt(power) : 1n)
  const divisor = power < 0 ? 1n << BigInt(-power) : 1n
  const twice = (scaled % divisor) * 2n
  const up = twice > divisor || (twice === divisor && (scaled / divisor) % 2n === 1n)
  const digits = String(scaled / divisor + (up ? 1n : 0n)).padStart(precision + 1, '0')
  return precision === 0 ? digits : `${digits.slice(0, -precision)}.${digits.slice(-precision)}`
}

function generalDigits(size: number, precision: number): string {
  if (size === 0) return '0'
  const power = Number(size.toExponential(precision - 1).split('e')[1])
  if (power < -4 || power >= precision) return exponent(size.toExponential(precision - 1).replace(/\.?0+e/, 'e'))
  const digits = fixed(size, Math.max(0, precision - 1 - power))
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits
}

const exponent = (text: string) => text.replace(/e([+-])(\d)$/, 'e$10$2')

function padNumber(sign: string, digits: string, how: Verb, zeros: boolean): string {
  if (zeros && how.flags.includes('0') && !how.flags.includes('-')) {
    return sign + digits.padStart(how.width - sign.length, '0')
  }
  return pad(sign + digits, { ...how, flags: how.flags.replaceAll('0', '') })
}

/** Widths count characters, not bytes. */
function pad(bytes: string, { flags, width }: Verb): string {
  const short = width - [...toText(bytes)].length
  if (short <= 0) return bytes
  if (flags.includes('-')) return bytes + ' '.repeat(short)
  return (flags.includes('0') ? '0' : ' ').repeat(short) + bytes
}

const simpleEscapes: Record<string, string> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
}

/** Go's strconv.Quote. */
export function quote(bytes: string): string {
  return `"${[...toText(bytes)].map(character => escaped(character, '"')).join('')}"`
}

function quoteRune(value: bigint): string {
  return `'${escaped(String.fromCodePoint(Number(value)), "'")}'`
}

function escaped(character: string, delimiter: string): string {
  if (character === delimiter) return `\\${delimiter}`
  const simple = simpleEscapes[character]
  if (simple) return simple
  if (/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u.test(character)) return toBytes(character)
  const code = character.codePointAt(0)!
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, '0')}`
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
}
