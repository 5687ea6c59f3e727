// Python's formatting of values: `%`, and `str.format`.
import { isMapping } from '../values.ts'
import { bitsOf, isFloat, pythonType, repr, TemplateError, text, toNumber } from './python-values.ts'

/** The widest field, and the most digits. */
const mostWidth = 1_000_000

function widthOf(written: string | undefined, otherwise = 0): number {
  const width = written === undefined || written === '' ? otherwise : Number(written)
  if (width > mostWidth) throw new TemplateError('a field of more than a million characters')
  return width
}

function fixed(value: number, digits: number): string {
  if (digits > 100) throw new TemplateError('a number with more than 100 digits behind its point')
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
  if (Math.abs(value) < 1e21) return roundedHalfEven(value, digits)
  const exact = BigInt(value)
  return digits === 0 ? String(exact) : `${exact}.${'0'.repeat(digits)}`
}

/** JavaScript rounds an exact half away from zero; Python to the even neighbour. */
function roundedHalfEven(value: number, digits: number): string {
  const rounded = value.toFixed(digits)
  const exact = value.toFixed(Math.min(100, digits + 60))
  const point = exact.indexOf('.')
  if (!/^50*$/.test(exact.slice(point + 1 + digits))) return rounded
  const down = exact.slice(0, digits === 0 ? point : point + 1 + digits)
  return Number(down.at(-1)) % 2 === 0 ? down : rounded
}

/** A whole number, exact. Floats lose their fraction. */
function wholeOf(value: unknown, format: string): bigint {
  if (typeof value === 'bigint') return value
  const number = toNumber(value)
  if (number === undefined || !Number.isFinite(number))
    throw new TemplateError(`the format "${format}" takes a number, not a ${pythonType(value)}`)
  return BigInt(Math.trunc(number))
}

function exponential(value: number, digits: number): string {
  const [mantissa, exponent = '+0'] = value.toExponential(Math.min(digits, 100)).split('e')
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
}

function general(value: number, precision: number): string {
  const digits = Math.max(1, Math.min(precision, 100))
  if (!Number.isFinite(value)) return fixed(value, 0)
  const exponent = value === 0 ? 0 : Number(value.toExponential(digits - 1).split('e')[1])
  const written =
    exponent < -4 || exponent >= digits
      ? exponential(value, digits - 1)
      : value.toFixed(Math.max(0, digits - 1 - exponent))
  const [mantissa = '', power] = written.split('e')
  const short = mantissa.includes('.') ? mantissa.replace(/0+$/, '').replace(/\.$/, '') : mantissa
  return power === undefined ? short : `${short}e${power}`
}

/** A number by one of the letters that both languages of formats have, without its sign. */
function numeral(value: unknown, kind: string, precision: number | undefined, format: string): string {
  if (kind === 'd' || kind === 'i' || kind === 'u') return digitsOf(wholeOf(value, format), 10)
  if (kind === 'x') return digitsOf(wholeOf(value, format), 16)
  if (kind === 'X') return digitsOf(wholeOf(value, format), 16).toUpperCase()
  if (kind === 'o') return digitsOf(wholeOf(value, format), 8)
  if (kind === 'b') return digitsOf(wholeOf(value, format), 2)
  const number = toNumber(value)
  if (number === undefined) throw new TemplateError(`the format "${format}" takes a number, not a ${pythonType(value)}`)
  const size = Math.abs(number)
  const written =
    kind === 'f' || kind === 'F' || kind === '%'
      ? fixed(kind === '%' ? size * 100 : size, precision ?? 6)
      : kind === 'e' || kind === 'E'
        ? exponential(size, precision ?? 6)
        : general(size, precision ?? 6)
  const cased = 'EGF'.includes(kind) ? written.toUpperCase() : written
  return kind === '%' ? `${cased}%` : cased
}

function digitsOf(value: bigint, base: number): string {
  if (bitsOf(value) > 14_285) throw new TemplateError('a number of more than 4,300 digits can not be printed')
  return (value < 0n ? -value : value).toString(base)
}
const isNegative = (value: unknown): boolean => {
  const number = toNumber(value)
  return number !== undefined && (number < 0 || Object.is(number, -0))
}

/** Python's `'…%s…' % values`, for the conversions that inventories use. Throws `TemplateError` for others. */
export function formatPercent(format: string, values: readonly unknown[]): string {
  let next = 0
  let named = false
  const only = values.length === 1 && isMapping(values[0]) ? values[0] : undefined
  const result = format.replace(
    /%(?:\(([^)]*)\))?(?:%|([-+ 0#]*)(\d*)(?:\.(\d*))?[hlL]?([a-zA-Z])|(.?))/gs,
    (conversion, key: string | undefined, flags = '', width = '', precision, kind: string | undefined) => {
      if (conversion === '%%') return '%'
      if (kind === undefined || !'sradiufFeEgGxXoc'.includes(kind) || flags.includes('#'))
        throw new TemplateError(`the format "${conversion}" is not understood`)
      let subject: unknown
      if (key !== undefined) {
        named = true
        if (!only) throw new TemplateError('the format takes a map')
        if (!only.has(key)) throw new TemplateError(`the map of the format has no key "${key}"`)
        subject = only.get(key)
      } else {
        if (next >= values.length) throw new TemplateError('there are fewer values than the format takes')
        subject = values[next++]
      }
      const room = widthOf(width)
      const digits = precision === undefined ? undefined : widthOf(precision, 0)
      let printed: string
      if ('src'.includes(kind) || kind === 'a') {
        printed = kind === 's' ? text(subject) : kind === 'c' ? character(subject) : repr(subject)
        if (digits !== undefined) printed = [...printed].slice(0, digits).join('')
      } else {
        printed = numeral(subject, kind, digits, conversion)
        if (digits !== undefined && 'diuxXo'.includes(kind)) printed = printed.padStart(digits, '0')
        const sign =
          isNegative(subject) && !/^0+$/.test(printed)
            ? '-'
            : (/[+ ]/.exec(flags.includes('+') ? '+' : flags)?.[0] ?? '')
        printed =
          flags.includes('0') && !flags.includes('-')
            ? sign + printed.padStart(room - sign.length, '0')
            : sign + printed
      }
      return flags.includes('-') ? printed.padEnd(room) : printed.padStart(room)
    },
  )
  if (next < values.length && !named && !(only && next === 0))
    throw new TemplateError('there are more values than the format takes')
  return result
}

function character(value: unknown): string {
  if (typeof value === 'string' && [...value].length === 1) return value
  const code = toNumber(value)
  if (code === undefined || !Number.isInteger(code) || code < 0 || code > 0x10ffff)
    throw new TemplateError('the format "%c" takes a character or its number')
  return String.fromCodePoint(code)
}

/** Python's `'{0} {name:>5}'.format(…)`. Throws `TemplateError` for fields that are not there, and for attributes. */
export function formatBraces(
  format: string,
  positional: readonly unknown[],
  named: ReadonlyMap<string, unknown>,
): string {
  let next = 0
  const field = (name: string): unknown => {
    const [, first = '', rest = ''] = /^([^.[]*)(.*)$/s.exec(name)!
    let found: unknown
    if (first === '' || /^\d+$/.test(first)) {
      const index = first === '' ? next++ : Number(first)
      if (index >= positional.length) throw new TemplateError('there are fewer values than the format takes')
      found = positional[index]
    } else {
      if (!named.has(first)) throw new TemplateError(`the format has no value "${first}"`)
      found = named.get(first)
    }
    for (const [step, key] of rest.matchAll(/\[([^\]]*)\]|[^[]+/g)) {
      if (key === undefined)
        throw new TemplateError(`the format's "${step}" is an attribute, which rekey does not read there`)
      found = Array.isArray(found) ? found.at(Number(key)) : isMapping(found) ? found.get(key) : undefined
      if (found === undefined) throw new TemplateError(`the format has no value "${name}"`)
    }
    return found
  }
  const fill = (source: string, depth: number): string =>
    source.replace(/\{\{|\}\}|\{((?:[^{}]|\{[^{}]*\})*)\}|[{}]/g, (whole, inner: string | undefined) => {
      if (whole === '{{' || whole === '}}') return whole[0]!
      if (inner === undefined || depth > 1) throw new TemplateError('a brace of the format has no other')
      const [, name = '', conversion, spec = ''] = /^([^!:]*)(?:!([rsa]))?(?::(.*))?$/s.exec(inner) ?? []
      if (name === '' && !/^(![rsa])?(:|$)/.test(inner))
        throw new TemplateError(`the field "${inner}" is not understood`)
      const value = field(name)
      const subject = conversion === undefined ? value : conversion === 's' ? text(value) : repr(value)
      return formatValue(subject, fill(spec, depth + 1))
    })
  return fill(format, 0)
}

/** Python's `format(value, spec)`. */
function formatValue(value: unknown, spec: string): string {
  if (spec === '') return text(value)
  const parts = /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\d*)([,_])?(?:\.(\d+))?([a-zA-Z%])?$/su.exec(spec)
  if (!parts) throw new TemplateError(`the format ":${spec}" is not understood`)
  const [, fill, align, sign = '-', alternate, zero, width, group, precision, kind] = parts
  const digits = precision === undefined ? undefined : widthOf(precision)
  const number = typeof value !== 'boolean' || kind !== undefined ? toNumber(value) : undefined
  let [prefix, printed] = ['', '']
  if (number === undefined || kind === 's') {
    if (kind !== undefined && kind !== 's')
      throw new TemplateError(`the format ":${spec}" takes a number, not a ${pythonType(value)}`)
    if (typeof value !== 'string' && typeof value !== 'boolean')
      throw new TemplateError(`the format ":${spec}" is not one for a ${pythonType(value)}`)
    printed = text(value)
    if (digits !== undefined) printed = [...printed].slice(0, digits).join('')
  } else {
    prefix = isNegative(value) ? '-' : sign === '-' ? '' : sign
    const letter = kind ?? (isFloat(value) ? undefined : 'd')
    if (letter === undefined)
      printed = digits === undefined ? text(value).replace(/^-/, '') : general(Math.abs(number), digits)
    else if (letter === 'c') printed = character(value)
    else printed = numeral(value, letter === 'n' ? 'd' : letter, digits, `:${spec}`)
    if (alternate && 'xXob'.includes(letter ?? ' ')) prefix += `0${letter}`
    if (group) printed = printed.replace(/^\d+/, whole => whole.replace(/\B(?=(\d{3})+$)/g, group))
  }
  const room = widthOf(width)
  const side = align ?? (zero ? '=' : number === undefined || kind === 's' ? '<' : '>')
  const blank = fill ?? (zero ? '0' : ' ')
  const missing = Math.max(0, room - [...prefix, ...printed].length)
  if (side === '=') return prefix + blank.repeat(missing) + printed
  if (side === '<') return prefix + printed + blank.repeat(missing)
  if (side === '>') return blank.repeat(missing) + prefix + printed
  const before = Math.floor(missing / 2)
  return blank.repeat(before) + prefix + printed + blank.repeat(missing - before)
}
