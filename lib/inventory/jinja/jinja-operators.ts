// Operators of templates, as Python has them.
import {
  bitsOf,
  compare,
  contains,
  equal,
  isFloat,
  isNumber,
  iterate,
  pythonType,
  TemplateError,
  text,
  toNumber,
  truthy,
} from '../python/python-values.ts'
import { float, integer } from '../values.ts'
import type { Limits } from './jinja-call.ts'

/** The most bits that a whole number may have. */
const mostBits = 1_000_000

/** What `not`, `-` and `+` give. */
export function unary(operator: 'not' | '-' | '+', operand: unknown): unknown {
  if (operator === 'not') return !truthy(operand)
  const number = toNumber(operand)
  if (number === undefined) throw new TemplateError(`"${operator}" takes a number, not a ${pythonType(operand)}`)
  if (typeof operand === 'bigint') return integer(operator === '-' ? -operand : operand)
  const result = operator === '-' ? -number : number
  return isFloat(operand) ? float(result) : result + 0
}

/** Whether a comparison holds. Throws `TemplateError` where Python has no order. */
export function compares(operator: string, left: unknown, right: unknown): boolean {
  switch (operator) {
    case '==':
      return equal(left, right)
    case '!=':
      return !equal(left, right)
    case 'in':
      return contains(right, left)
    case 'not in':
      return !contains(right, left)
    case '<':
      return compare(left, right, operator) < 0
    case '<=':
      return compare(left, right, operator) <= 0
    case '>':
      return compare(left, right, operator) > 0
    default:
      return compare(left, right, operator) >= 0
  }
}

/** What an operator between two values gives. Throws `TemplateError` for what Python refuses, and for too much of it. */
export function binary(operator: string, left: unknown, right: unknown, limits: Limits): unknown {
  if (operator === '~') {
    const [first, second] = [text(left), text(right)]
    limits.text(first.length + second.length)
    return first + second
  }
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') {
      limits.text(left.length + right.length)
      return left + right
    }
    if (Array.isArray(left) && Array.isArray(right)) {
      limits.members(left.length + right.length)
      return left.concat(right)
    }
  }
  if (operator === '*') {
    const [many, times] = isNumber(left) || typeof left === 'boolean' ? [right, left] : [left, right]
    const count = isFloat(times) ? undefined : toNumber(times)
    if (count !== undefined && (typeof many === 'string' || Array.isArray(many))) return repeated(many, count, limits)
  }
  const [first, second] = [toNumber(left), toNumber(right)]
  if (first === undefined || second === undefined) {
    throw new TemplateError(`"${operator}" is not possible between ${pythonType(left)} and ${pythonType(right)}`)
  }
  return isFloat(left) || isFloat(right) || operator === '/'
    ? floats(operator, first, second)
    : integers(operator, left, right)
}

function repeated(many: string | unknown[], count: number, limits: Limits): unknown {
  const times = Math.max(0, count)
  if (typeof many === 'string') {
    limits.text(times * many.length)
    return many.repeat(times)
  }
  limits.members(times * many.length)
  return Array.from({ length: many.length === 0 ? 0 : times }).flatMap(() => many)
}

/** A part of a text or list. Throws `TemplateError` for what has none. */
export function slice(target: unknown, [start, end, step]: readonly unknown[]): unknown {
  if (!Array.isArray(target) && typeof target !== 'string')
    throw new TemplateError(`a ${pythonType(target)} can't be cut`)
  const members = iterate(target)
  const by = step === undefined || step === null ? 1 : toNumber(step)
  if (!by || !Number.isInteger(by)) throw new TemplateError('the step of a slice must be a whole number other than 0')
  const bound = (given: unknown, otherwise: number): number => {
    const index = toNumber(given)
    if (given === undefined || given === null) return otherwise
    if (index === undefined || !Number.isInteger(index))
      throw new TemplateError('the bounds of a slice must be whole numbers')
    const from = index < 0 ? index + members.length : index
    return Math.min(Math.max(from, by > 0 ? 0 : -1), by > 0 ? members.length : members.length - 1)
  }
  const taken: unknown[] = []
  const last = bound(end, by > 0 ? members.length : -1)
  for (let index = bound(start, by > 0 ? 0 : members.length - 1); by > 0 ? index < last : index > last; index += by)
    taken.push(members[index])
  return typeof target === 'string' ? taken.join('') : taken
}

function floats(operator: string, left: number, right: number): unknown {
  if (right === 0 && ['/', '//', '%'].includes(operator)) throw new TemplateError('division by zero')
  switch (operator) {
    case '+':
      return float(left + right)
    case '-':
      return float(left - right)
    case '*':
      return float(left * right)
    case '/':
      return float(left / right)
    case '//':
      return float(Math.floor(left / right))
    case '%':
      return float(left - right * Math.floor(left / right))
    default:
      return float(left ** right)
  }
}

function integers(operator: string, one: unknown, other: unknown): unknown {
  const [left, right] = [BigInt(one as bigint), BigInt(other as bigint)]
  if (right === 0n && ['//', '%'].includes(operator)) throw new TemplateError('division by zero')
  switch (operator) {
    case '+':
      return integer(left + right)
    case '-':
      return integer(left - right)
    case '*':
      checkBits(bitsOf(left) + bitsOf(right))
      return integer(left * right)
    case '//':
      return integer(floorDivide(left, right))
    case '%':
      return integer(left - right * floorDivide(left, right))
    default:
      if (right < 0n) return float(Number(left) ** Number(right))
      if (left !== 0n && left !== 1n && left !== -1n) checkBits(bitsOf(left) * Number(right))
      return integer(left ** right)
  }
}

function checkBits(bits: number): void {
  if (bits > mostBits) throw new TemplateError('it makes a number of more than a million bits')
}

function floorDivide(left: bigint, right: bigint): bigint {
  const quotient = left / right
  return left % right !== 0n && left < 0n !== right < 0n ? quotient - 1n : quotient
}
