// The values that a template works on, as Go has them. Strings are bytes, one in each character (latin1), so that lengths,
// slices, hashes and binary files are what they are in Go; a bigint is an integer, a number a float64.

/** A number in a secret: Go's json.Number, which keeps the digits as Vault wrote them. */
export class JsonNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** Nothing, where a map lacks the key that was asked for. Acts as nil; printing it is an error that names the key. */
export class Missing {
  readonly name: string
  /** The keys that are there. */
  readonly others: readonly string[]
  /** The key is there and holds nil. */
  readonly isNull: boolean
  /** What consul-template makes of it where it is printed. */
  readonly written: string
  constructor(name: string, others: readonly string[] = [], { isNull = false, written = '<no value>' } = {}) {
    this.name = name
    this.others = others
    this.isNull = isNull
    this.written = written
  }
}

/** A struct with fields and methods, e.g. the answer of `secret`. */
export class Struct {
  readonly type: string
  readonly fields: ReadonlyMap<string, GoValue>
  readonly methods: ReadonlyMap<string, GoFunction>
  /** How it is printed as a whole, where it is. */
  readonly text?: string
  constructor(
    type: string,
    fields: Record<string, GoValue>,
    methods: Record<string, GoFunction> = {},
    text: string | undefined = undefined,
  ) {
    this.type = type
    this.fields = new Map(Object.entries(fields))
    this.methods = new Map(Object.entries(methods))
    this.text = text
  }
}

/** What `loop` gives: integers from one up to another, without it. */
export class Channel {
  readonly from: bigint
  readonly to: bigint
  constructor(from: bigint, to: bigint) {
    this.from = from
    this.to = to
  }
}

/** What `.` is where consul-template has nothing: its fields are there, and as a whole it is as empty. */
export class EmptyDot extends Map<string | bigint, GoValue> {}

export type GoMap = Map<string | bigint, GoValue>
export type GoValue =
  | string
  | bigint
  | number
  | boolean
  | null
  | JsonNumber
  | Missing
  | Struct
  | Channel
  | readonly GoValue[]
  | GoMap

/** A function that a template may call. Throws an Error with a message without values: they may be secrets. */
export type GoFunction = (...args: GoValue[]) => GoValue

/** A text of JavaScript as Go's bytes. */
export const toBytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1')

/** Go's bytes as a text of JavaScript; what is not UTF-8 becomes U+FFFD. */
export const toText = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8')

export const isNil = (value: GoValue): value is null | Missing => value === null || value instanceof Missing

/** Nothing, of which nobody said that it is nothing: writing it down would hide a mistake. */
export const isUndefined = (value: GoValue): value is Missing => value instanceof Missing && !value.isNull

/** Throws for a value within what is written down that is not defined. */
export function needDefined(value: GoValue): void {
  if (isUndefined(value)) throw new Error(`.${value.name} in it has no value`)
}

/** Values of JavaScript as Go's: whole numbers become integers, objects maps. Throws for what has no equal. */
export function toGo(value: unknown): GoValue {
  if (value === null || value === undefined) return null
  if (typeof value === 'string') return toBytes(value)
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value
  if (typeof value === 'boolean' || typeof value === 'bigint') return value
  if (Array.isArray(value)) return value.map(toGo)
  if (typeof value === 'object') return new Map(Object.entries(value).map(([key, one]) => [toBytes(key), toGo(one)]))
  throw new TypeError(`a ${typeof value} can't be given to a template`)
}

/** The data of a secret: as `toGo`, and numbers as Vault wrote them. */
export function secretToGo(value: unknown): GoValue {
  if (typeof value === 'number') return new JsonNumber(String(value))
  if (Array.isArray(value)) return value.map(secretToGo)
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([key, one]) => [toBytes(key), secretToGo(one)]))
  }
  return toGo(value)
}

/** What Go would call the type, in an operator's words. */
export function kindOf(value: GoValue): string {
  if (value instanceof Missing) return `nothing (.${value.name} has no value)`
  if (value === null) return 'nothing'
  if (typeof value === 'string') return 'a string'
  if (typeof value === 'bigint') return 'an integer'
  if (typeof value === 'number') return 'a float'
  if (typeof value === 'boolean') return 'a bool'
  if (value instanceof JsonNumber) return "a secret's number"
  if (value instanceof Struct) return `a ${value.type}`
  if (value instanceof Channel) return 'a loop'
  return Array.isArray(value) ? 'a list' : 'a map'
}

export const isMap = (value: GoValue): value is GoMap => value instanceof Map
export const isList = (value: GoValue): value is readonly GoValue[] => Array.isArray(value)

/** Whether `if`, `with` and `and` take it for true. */
export function isTrue(value: GoValue): boolean {
  if (isNil(value) || value instanceof EmptyDot) return false
  if (value instanceof JsonNumber) return value.text !== ''
  if (value instanceof Struct || value instanceof Channel) return true
  if (isMap(value)) return value.size > 0
  if (isList(value) || typeof value === 'string') return value.length > 0
  if (typeof value === 'number') return value !== 0
  return Boolean(value)
}

/** Keys in the order in which Go ranges over and prints a map. */
export function sortedKeys(map: GoMap): (string | bigint)[] {
  return [...map.keys()].sort((a, b) => {
    if (typeof a !== typeof b) return typeof a === 'bigint' ? -1 : 1
    return a < b ? -1 : a > b ? 1 : 0
  })
}

/** Go's shortest form of a float64 (`%v`, `%g`): with an exponent of two digits below 1e-4 and from 1e6 on. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  if (Object.is(value, -0)) return '-0'
  if (value === 0) return '0'
  const [digits, power] = value.toExponential().split('e') as [string, string]
  // In this range JavaScript writes plain decimals too.
  if (Number(power) >= -4 && Number(power) < 6) return String(value)
  return `${digits}e${power[0]}${power.slice(1).padStart(2, '0')}`
}

/** Go's `%v`: how a value is printed. Throws for what has no printed form. */
export function print(value: GoValue): string {
  needDefined(value)
  if (isNil(value)) return '<nil>'
  if (typeof value === 'string') return value
  if (typeof value === 'number') return floatText(value)
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value)
  if (value instanceof JsonNumber || (value instanceof Struct && value.text !== undefined)) return value.text!
  if (isList(value)) return `[${value.map(print).join(' ')}]`
  if (isMap(value))
    return `map[${sortedKeys(value)
      .map(key => `${String(key)}:${print(value.get(key)!)}`)
      .join(' ')}]`
  throw new Error(`${kindOf(value)} can't be printed as a whole: name one of its fields`)
}
