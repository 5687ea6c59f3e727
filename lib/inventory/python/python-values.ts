// Python's rules for values, as templates see them: what is true, equal, smaller, and how things print.
import { floatText, isKey, isMapping, type Key, type Mapping, Timestamp, WholeFloat } from '../values.ts'

/** A template asks for what Python or Jinja would refuse, or what rekey does. */
export class TemplateError extends Error {}
/** A name or element that is not there. `default` and `is defined` may still make good of it. */
export class UndefinedError extends TemplateError {}
/** A filter's own result is not there, e.g. the first of no members. */
export class AbsentError extends UndefinedError {}

/** Something that is no data: a function, a namespace. */
export class PythonObject {
  /** What Python calls its type. */
  readonly type: string
  constructor(type: string) {
    this.type = type
  }
}

/** What comparing and printing values may take; more is an error. Lists may stand in themselves many times over. */
class Room {
  #left: number
  readonly #what: string
  constructor(left: number, what: string) {
    this.#left = left
    this.#what = what
  }
  take(count: number): void {
    this.#left -= count
    if (this.#left < 0) throw new TemplateError(this.#what)
  }
}

export const isNumber = (value: unknown): value is number | bigint | WholeFloat =>
  typeof value === 'number' || typeof value === 'bigint' || value instanceof WholeFloat

export const isFloat = (value: unknown): value is number | WholeFloat =>
  value instanceof WholeFloat || (typeof value === 'number' && !Number.isInteger(value))

/** A number or boolean as a JavaScript number, for arithmetic. */
export function toNumber(value: unknown): number | undefined {
  if (typeof value === 'number') return value
  if (typeof value === 'boolean' || typeof value === 'bigint') return Number(value)
  return value instanceof WholeFloat ? value.value : undefined
}

/** What Python calls the type of a value. */
export function pythonType(value: unknown): string {
  if (value === null) return 'NoneType'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'string') return 'str'
  if (isNumber(value)) return isFloat(value) ? 'float' : 'int'
  if (Array.isArray(value)) return 'list'
  if (value instanceof Timestamp) return value.iso.includes('T') ? 'datetime' : 'date'
  return value instanceof PythonObject ? value.type : 'dict'
}

export function truthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (value instanceof WholeFloat) return value.value !== 0
  if (isMapping(value)) return value.size > 0
  // NaN is true to Python.
  return typeof value === 'number' ? value !== 0 : Boolean(value)
}

export function equal(one: unknown, other: unknown, room?: Room): boolean {
  if (one === other) return typeof one !== 'number' || !Number.isNaN(one)
  const [left, right] = [toNumber(one), toNumber(other)]
  if (left !== undefined && right !== undefined) {
    return typeof one === 'bigint' && typeof other === 'bigint' ? one === other : left === right
  }
  if (one instanceof Timestamp || other instanceof Timestamp) {
    return one instanceof Timestamp && other instanceof Timestamp && one.iso === other.iso
  }
  const lists = Array.isArray(one) && Array.isArray(other)
  if (!lists && !(isMapping(one) && isMapping(other))) return false
  const bound = room ?? new Room(10_000_000, 'comparing takes more than ten million steps')
  if (lists) {
    bound.take(one.length)
    return one.length === other.length && one.every((item, index) => equal(item, other[index], bound))
  }
  const [first, second] = [one as Mapping, other as Mapping]
  bound.take(first.size)
  return (
    first.size === second.size &&
    first.keys().every(key => second.has(key) && equal(first.get(key), second.get(key), bound))
  )
}

/** Negative, zero or positive, as Python orders; throws where Python has no order. */
export function compare(one: unknown, other: unknown, operator = '<'): number {
  const [left, right] = [toNumber(one), toNumber(other)]
  if (left !== undefined && right !== undefined) return left - right
  if (typeof one === 'string' && typeof other === 'string') return one === other ? 0 : codePoints(one, other)
  if (Array.isArray(one) && Array.isArray(other)) {
    for (let index = 0; index < Math.min(one.length, other.length); index++) {
      if (!equal(one[index], other[index])) return compare(one[index], other[index], operator)
    }
    return one.length - other.length
  }
  throw new TemplateError(`"${operator}" is not possible between ${pythonType(one)} and ${pythonType(other)}`)
}

function codePoints(one: string, other: string): number {
  return /[\ud800-\uffff]/.test(one + other)
    ? Buffer.compare(Buffer.from(one), Buffer.from(other))
    : one < other
      ? -1
      : 1
}

/** Python's `str()`. Throws `TemplateError` for what can't be printed. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : value instanceof Timestamp ? String(value) : repr(value)
}

/** Python's `repr()`. Throws `TemplateError` for what can't be printed. */
export function repr(
  value: unknown,
  room = new Room(8 * 1024 * 1024, 'it prints more than eight million characters'),
): string {
  const printed = reprOf(value, room)
  room.take(printed.length)
  return printed
}

function reprOf(value: unknown, room: Room): string {
  if (value === null) return 'None'
  if (value === true) return 'True'
  if (value === false) return 'False'
  if (typeof value === 'string') return reprString(value)
  if (typeof value === 'bigint') {
    if (bitsOf(value) > 14_285) throw new TemplateError('a number of more than 4,300 digits can not be printed')
    return String(value)
  }
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : floatText(value)
  if (value instanceof WholeFloat) return String(value)
  if (Array.isArray(value)) return `[${Array.from(value, item => repr(item, room)).join(', ')}]`
  if (isMapping(value))
    return `{${value
      .entries()
      .map(([key, item]) => `${repr(key, room)}: ${repr(item, room)}`)
      .join(', ')}}`
  throw new TemplateError(`a ${pythonType(value)} can't be printed`)
}

/** How many bits a whole number has, about. */
export const bitsOf = (value: bigint): number => value.toString(16).length * 4

function reprString(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'"
  let printed = ''
  for (const character of value) {
    const code = character.codePointAt(0)!
    if (character === quote || character === '\\') printed += `\\${character}`
    else if (character === '\n') printed += '\\n'
    else if (character === '\r') printed += '\\r'
    else if (character === '\t') printed += '\\t'
    else if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code === 0xad)
      printed += `\\x${code.toString(16).padStart(2, '0')}`
    else if (/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Zs}]/u.test(character) && character !== ' ') {
      printed += code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
    } else printed += character
  }
  return quote + printed + quote
}

/** The members of what can be iterated: a list, the keys of a map, the characters of a text. */
export function iterate(value: unknown): unknown[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  if (isMapping(value)) return value.keys()
  throw new TemplateError(`a ${pythonType(value)} has no members`)
}

export function contains(container: unknown, member: unknown): boolean {
  if (typeof container === 'string') {
    if (typeof member === 'string') return container.includes(member)
    throw new TemplateError(`"in" a text looks for a text, not for a ${pythonType(member)}`)
  }
  if (isMapping(container)) return isKey(member) && container.has(member)
  return iterate(container).some(item => equal(item, member))
}

/** A value as the key of a map. Throws `TemplateError` for what can't be one. */
export function asKey(value: unknown): Key {
  if (isKey(value) && !(value instanceof PythonObject)) return value
  throw new TemplateError(`a ${pythonType(value)} can't be a key`)
}
