// Python's rules for values, as templates see them: what is true, equal, smaller, and how things print.
import { floatText, isKey, isMapping, type Key, Timestamp, WholeFloat } from '../values.ts'

/** A template asks for what Python or Jinja would refuse, or what rekey does. */
export class TemplateError extends Error {}
/** A name or element that is not there. `default` and `is defined` may still make good of it. */
export class UndefinedError extends TemplateError {}
/** A filter's own result is not there, e.g. the first of no members. */
export class AbsentError extends UndefinedError {}

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
  return typeof value === 'function' ? 'function' : 'dict'
}

export function truthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (value instanceof WholeFloat) return value.value !== 0
  if (isMapping(value)) return value.size > 0
  // NaN is true to Python.
  return typeof value === 'number' ? value !== 0 : Boolean(value)
}

export function equal(one: unknown, other: unknown): boolean {
  const [left, right] = [toNumber(one), toNumber(other)]
  if (left !== undefined && right !== undefined) {
    return typeof one === 'bigint' && typeof other === 'bigint' ? one === other : left === right
  }
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, index) => equal(item, other[index]))
  }
  if (one instanceof Timestamp || other instanceof Timestamp) {
    return one instanceof Timestamp && other instanceof Timestamp && one.iso === other.iso
  }
  if (isMapping(one) && isMapping(other)) {
    return one.size === other.size && one.keys().every(key => other.has(key) && equal(one.get(key), other.get(key)))
  }
  return one === other
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

/** Python's `str()`. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : value instanceof Timestamp ? String(value) : repr(value)
}

/** Python's `repr()`. */
export function repr(value: unknown): string {
  if (value === null) return 'None'
  if (value === true) return 'True'
  if (value === false) return 'False'
  if (typeof value === 'string') return reprString(value)
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : floatText(value)
  if (value instanceof WholeFloat) return String(value)
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`
  if (isMapping(value))
    return `{${value
      .entries()
      .map(([key, item]) => `${repr(key)}: ${repr(item)}`)
      .join(', ')}}`
  throw new TemplateError(`a ${pythonType(value)} can't be printed`)
}

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
  if (isKey(value)) return value
  throw new TemplateError(`a ${pythonType(value)} can't be a key`)
}
