// Filters to and over numbers and truth values.
import { pythonType, TemplateError, text, toNumber, truthy } from '../../python/python-values.ts'
import { float, integer, WholeFloat } from '../../values.ts'
import { absent, bind, type CallArguments, numeric, string, whole } from '../jinja-call.ts'
import type { Filter, Filters } from './filter.ts'

function toInteger(value: unknown, args: CallArguments): unknown {
  const { default: otherwise = 0, base = 10 } = bind(args, 'default', 'base')
  if (typeof value === 'boolean') return Number(value)
  const given = toNumber(value)
  if (given !== undefined) {
    if (!Number.isFinite(given) && typeof value !== 'bigint') return otherwise
    return typeof value === 'bigint' ? value : integer(BigInt(Math.trunc(given)))
  }
  if (typeof value !== 'string') return otherwise
  const written = value
    .trim()
    .replace(/(?<=[\da-zA-Z])_(?=[\da-zA-Z])/g, '')
    .toLowerCase()
  // Python reads no longer numbers.
  if (written.length > 4300) return otherwise
  const radix = whole(base)
  const prefix = { 2: '0b', 8: '0o', 16: '0x' }[radix]
  const sign = written.startsWith('-') ? -1n : 1n
  let digits = written.replace(/^[-+]/, '')
  if (prefix && digits.startsWith(prefix)) digits = digits.slice(2)
  const valid = digits !== '' && [...digits].every(digit => Number.parseInt(digit, 36) < radix)
  if (valid)
    return integer(
      sign * [...digits].reduce((sum, digit) => sum * BigInt(radix) + BigInt(Number.parseInt(digit, 36)), 0n),
    )
  const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/.test(written) ? Number(written) : Number.NaN
  return Number.isFinite(number) ? integer(BigInt(Math.trunc(number))) : otherwise
}

function toFloat(value: unknown, args: CallArguments): unknown {
  const { default: otherwise = new WholeFloat(0) } = bind(args, 'default')
  const number = toNumber(value)
  if (number !== undefined) return float(number)
  if (typeof value !== 'string') return otherwise
  const written = value.trim().replace(/(?<=\d)_(?=\d)/g, '')
  return /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(written) ? float(Number(written)) : otherwise
}

function toBoolean(value: unknown): boolean {
  const number = toNumber(value)
  if (number !== undefined) return number === 1
  // Anything else is false to Ansible, with a word of warning.
  return typeof value === 'string' && ['yes', 'on', '1', 'true'].includes(value.toLowerCase())
}

function round(value: unknown, args: CallArguments): unknown {
  const { precision = 0, method = 'common' } = bind(args, 'precision', 'method')
  const number = numeric(value)
  const digits = whole(precision)
  if (!['common', 'ceil', 'floor'].includes(string(method)))
    throw new TemplateError('"round" goes by "common", "ceil" or "floor"')
  if (digits > 100) throw new TemplateError('"round" to more than 100 digits')
  const scale = 10 ** digits
  if (method === 'ceil') return float(Math.ceil(number * scale) / scale)
  if (method === 'floor') return float(Math.floor(number * scale) / scale)
  if (digits < 0) throw new TemplateError('"round" to tens and hundreds is not one that rekey has')
  if (!(value instanceof WholeFloat) && Number.isInteger(number)) return value
  // Python rounds an exact half to the even neighbour; toFixed() rounds it up.
  const exact = number.toFixed(Math.min(100, digits + 60))
  const half = /^50*$/.test(exact.slice(exact.indexOf('.') + 1 + digits))
  const down = Math.trunc(number * scale)
  return float(half ? (down % 2 === 0 ? down : down + Math.sign(number)) / scale : Number(number.toFixed(digits)))
}

const sizes = ['Y', 'Z', 'E', 'P', 'T', 'G', 'M', 'K', 'B']
const names = ['yotta', 'zetta', 'exa', 'peta', 'tera', 'giga', 'mega', 'kilo', '']
const sizeOf = (letter: string): number => 2 ** (10 * (sizes.length - 1 - sizes.indexOf(letter)))

const humanReadable: Filter = (value, args) => {
  const { isbits = false, unit } = bind(args, 'isbits', 'unit')
  const size = numeric(value)
  const wanted = absent(unit) ? undefined : string(unit).toUpperCase()
  const letter = sizes.find(one => (wanted === undefined ? size >= sizeOf(one) : wanted === one)) ?? 'B'
  const kind = truthy(isbits) ? 'bits' : 'Bytes'
  return `${(size / sizeOf(letter)).toFixed(2)} ${letter === 'B' ? kind : `${letter}${kind[0]}`}`
}

const humanToBytes: Filter = (value, args) => {
  const { default_unit, isbits = false } = bind(args, 'default_unit', 'isbits')
  const written = text(value)
  const [, digits, given] = /^(\d*\.?\d+)(?:\s*([A-Za-z]+))?\s*$/.exec(written) ?? []
  if (digits === undefined) throw new TemplateError(`"${written}" is no amount of bytes`)
  const unit = given ?? (absent(default_unit) ? undefined : string(default_unit))
  if (unit === undefined) return Math.round(Number(digits))
  const letter = unit.slice(0, 1).toUpperCase()
  const index = sizes.indexOf(letter)
  const bits = truthy(isbits)
  const short = letter === 'B' ? (bits ? 'b' : 'B') : `${letter}${bits ? 'b' : 'B'}`
  const long = `${names[index] ?? ''}${bits ? 'bit' : 'byte'}`
  if (index === -1 || (unit.length > 1 && unit !== short && unit.toLowerCase() !== long))
    throw new TemplateError(`"${written}" has no unit that is known`)
  return integer(BigInt(Math.round(Number(digits) * sizeOf(letter))))
}

const filesizeformat: Filter = (value, args) => {
  const { binary = false } = bind(args, 'binary')
  const size = toNumber(value) ?? Number(text(value))
  if (Number.isNaN(size)) throw new TemplateError(`expected a number, not a ${pythonType(value)}`)
  const base = truthy(binary) ? 1024 : 1000
  if (size === 1) return '1 Byte'
  if (size < base) return `${Math.trunc(size)} Bytes`
  for (const [index, letter] of [...'kMGTPEZY'].entries()) {
    const prefix = truthy(binary) ? `${letter.toUpperCase()}iB` : `${letter}B`
    if (size < base ** (index + 2) || letter === 'Y')
      return `${((base * size) / base ** (index + 2)).toFixed(1)} ${prefix}`
  }
  return ''
}

/** A number of Python's `math`: an error where that has one. */
function real(result: number, given: readonly number[]): unknown {
  if (Number.isNaN(result) && !given.some(Number.isNaN)) throw new TemplateError('there is no such number')
  if (!Number.isFinite(result) && given.every(Number.isFinite)) throw new TemplateError('the number is too large')
  return float(result)
}

export const numbers: Filters = {
  bool: toBoolean,
  filesizeformat,
  float: toFloat,
  human_readable: humanReadable,
  human_to_bytes: humanToBytes,
  int: toInteger,
  log: (value, args) => {
    const base = bind(args, 'base').base
    const [number, by] = [numeric(value), absent(base) ? Math.E : numeric(base)]
    if (number <= 0 || by <= 0) throw new TemplateError('there is no logarithm of that')
    return real(by === 10 ? Math.log10(number) : absent(base) ? Math.log(number) : Math.log(number) / Math.log(by), [
      number,
      by,
    ])
  },
  pow: (value, args) => {
    const [number, by] = [numeric(value), numeric(bind(args, 'y').y)]
    return real(number ** by, [number, by])
  },
  root: (value, args) => {
    const [number, by] = [numeric(value), numeric(bind(args, 'base').base ?? 2)]
    return real(by === 2 ? Math.sqrt(number) : number ** (1 / by), [number, by])
  },
  round,
}
