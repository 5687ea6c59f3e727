// Sprig's arithmetic and conversions, on 64 bits as Go has them.
import { type GoFunction, type GoValue, isNil, JsonNumber, kindOf, print } from './values.ts'

const wrap = (value: bigint) => BigInt.asIntN(64, value)

/** An integer out of whatever it is, as cast.ToInt64 makes it: what is no number is 0. */
function integerOf(value: GoValue | undefined): bigint {
  if (typeof value === 'bigint') return wrap(value)
  if (typeof value === 'boolean') return value ? 1n : 0n
  if (typeof value === 'number') return Number.isFinite(value) ? wrap(BigInt(Math.trunc(value))) : 0n
  if (typeof value === 'string') return integerIn(value)
  return value instanceof JsonNumber ? integerIn(value.text) : 0n
}

/** In the base that its first letters tell; zeros after a point do not count. */
function integerIn(text: string): bigint {
  const whole = text.replace(/\.0*$/, '')
  const [, sign, digits] = /^([-+]?)(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9][0-9_]*)$/.exec(whole) ?? []
  if (digits === undefined || /^0[89]/.test(digits)) return 0n
  const size = BigInt(digits.replaceAll('_', '').replace(/^0[oO]?(?=[0-7])/, '0o'))
  const value = sign === '-' ? -size : size
  return value === wrap(value) ? value : 0n
}

function floatOf(value: GoValue | undefined): number {
  if (typeof value === 'number') return value
  if (typeof value === 'bigint') return Number(value)
  if (typeof value === 'boolean') return value ? 1 : 0
  const text = value instanceof JsonNumber ? value.text : value
  if (typeof text !== 'string' || !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return 0
  return Number(text)
}

function exactInteger(value: GoValue | undefined): bigint {
  if (typeof value === 'bigint') return value
  throw new Error(`needs an integer, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

const notZero = (value: bigint) => {
  if (value === 0n) throw new Error('division by zero')
  return value
}

/** A decimal with as many digits after the point as it takes: digits × 10^-places. */
interface Decimal {
  readonly digits: bigint
  readonly places: number
}

function decimalOf(value: GoValue): Decimal {
  const number = floatOf(value)
  if (!Number.isFinite(number)) throw new Error('works on finite numbers')
  const [mantissa = '', power = '0'] = number.toExponential().split('e')
  const [whole = '', part = ''] = mantissa.split('.')
  const places = part.length - Number(power)
  const digits = BigInt(whole + part)
  return places >= 0 ? { digits, places } : { digits: digits * 10n ** BigInt(-places), places: 0 }
}

const numberOf = ({ digits, places }: Decimal) => Number(`${digits}e-${places}`)
const scaled = ({ digits, places }: Decimal, to: number) => digits * 10n ** BigInt(to - places)

function plus(one: Decimal, other: Decimal, direction = 1n): Decimal {
  const places = Math.max(one.places, other.places)
  return { digits: scaled(one, places) + direction * scaled(other, places), places }
}

/** 16 digits after the point, the last one rounded away from zero: the precision of Go's decimal library. */
function quotient(one: Decimal, other: Decimal): Decimal {
  if (other.digits === 0n) throw new Error('division by zero')
  const places = 16
  const [top, bottom] = [one.digits * 10n ** BigInt(places + other.places), other.digits * 10n ** BigInt(one.places)]
  const negative = top < 0n !== bottom < 0n
  const [size, by] = [top < 0n ? -top : top, bottom < 0n ? -bottom : bottom]
  const rounded = (2n * size + by) / (2n * by)
  return { digits: negative ? -rounded : rounded, places }
}

const folded =
  (run: (one: Decimal, other: Decimal) => Decimal): GoFunction =>
  (first = null, ...others) =>
    numberOf(others.map(decimalOf).reduce((one, other) => run(one, other), decimalOf(first)))

function round(value: GoValue, places: bigint, from = 0.5): number {
  const power = 10 ** Number(places)
  const digit = power * floatOf(value)
  const whole = digit - Math.trunc(digit) >= from ? Math.ceil(digit) : Math.floor(digit)
  return whole / power
}

const mostSteps = 1_000_000

function steps(start: bigint, stop: bigint, step: bigint): bigint[] {
  const down = stop < start
  if (down ? step >= 0n : step <= 0n) return []
  if ((stop - start) / step > mostSteps) throw new Error(`would make more than ${mostSteps} numbers`)
  const found: bigint[] = []
  for (let value = start; down ? value > stop : value < stop; value += step) found.push(value)
  return found
}

/** `seq END`, `seq START END`, `seq START STEP END`: up to the end, and with it. */
function sequence(values: readonly bigint[]): string {
  if (values.length === 0 || values.length > 3) return ''
  const end = values.at(-1)!
  const start = values.length === 1 ? 1n : values[0]!
  const direction = end < start ? -1n : 1n
  const step = values.length === 3 ? values[1]! : direction
  if (direction < 0n && step > 0n) return ''
  return steps(start, end + direction, step).join(' ')
}

/** By their names without `sprig_`. */
export const numberFunctions: Readonly<Record<string, GoFunction>> = {
  int: value => integerOf(value),
  int64: value => integerOf(value),
  float64: value => floatOf(value),
  atoi: text => {
    if (typeof text !== 'string') throw new Error('needs a string')
    return /^[-+]?\d+$/.test(text) && wrap(BigInt(text.replace('+', ''))) === BigInt(text.replace('+', ''))
      ? BigInt(text.replace('+', ''))
      : 0n
  },
  toDecimal: (value = null) => {
    const text = print(value)
    return /^[-+]?[0-7]+$/.test(text)
      ? wrap(BigInt(`0o${text.replace(/^[-+]/, '')}`) * (text[0] === '-' ? -1n : 1n))
      : 0n
  },
  add: (...values) => wrap(values.reduce((sum: bigint, value) => sum + integerOf(value), 0n)),
  add1: value => wrap(integerOf(value) + 1n),
  sub: (a, b) => wrap(integerOf(a) - integerOf(b)),
  mul: (...values) => wrap(values.reduce((product: bigint, value) => wrap(product * integerOf(value)), 1n)),
  div: (a, b) => wrap(integerOf(a) / notZero(integerOf(b))),
  mod: (a, b) => integerOf(a) % notZero(integerOf(b)),
  max: (...values) => values.map(integerOf).reduce((a, b) => (b > a ? b : a)),
  biggest: (...values) => values.map(integerOf).reduce((a, b) => (b > a ? b : a)),
  min: (...values) => values.map(integerOf).reduce((a, b) => (b < a ? b : a)),
  addf: (...values) => folded(plus)(0n, ...values),
  add1f: value => folded(plus)(value ?? null, 1n),
  subf: folded((one, other) => plus(one, other, -1n)),
  mulf: folded((one, other) => ({ digits: one.digits * other.digits, places: one.places + other.places })),
  divf: folded(quotient),
  maxf: (...values) => Math.max(...values.map(floatOf)),
  minf: (...values) => Math.min(...values.map(floatOf)),
  ceil: value => Math.ceil(floatOf(value)),
  floor: value => Math.floor(floatOf(value)),
  round: (value = null, places, from) => {
    if (!isNil(from ?? null) && typeof from !== 'number') throw new Error('needs a float to round up from')
    return round(value, exactInteger(places), from as number | undefined)
  },
  until: count => steps(0n, exactInteger(count), exactInteger(count) < 0n ? -1n : 1n),
  untilStep: (start, stop, step) => steps(exactInteger(start), exactInteger(stop), exactInteger(step)),
  seq: (...values) => sequence(values.map(exactInteger)),
}
