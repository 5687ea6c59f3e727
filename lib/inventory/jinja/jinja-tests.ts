// The tests that templates may use behind `is`.

import { pythonRegex } from '../python/python-regex.ts'
import {
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
import { isMapping, Timestamp } from '../values.ts'
import type { CallArguments, CallContext } from './jinja-call.ts'

type Test = (value: unknown, args: CallArguments, context: CallContext) => boolean

function first({ positional }: CallArguments): unknown {
  if (positional.length === 0) throw new TemplateError('the test needs a value to compare with')
  return positional[0]
}

function whole(value: unknown): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value)
  throw new TemplateError(`expected a whole number, not a ${pythonType(value)}`)
}

function regex(subject: unknown, args: CallArguments, anchored: 'start' | 'anywhere'): boolean {
  const pattern = first(args)
  if (typeof pattern !== 'string') throw new TemplateError('a regular expression is a text')
  const flag = (name: string): boolean => truthy(args.named.get(name) ?? false)
  const flags = `${anchored === 'start' ? 'y' : ''}${flag('ignorecase') ? 'i' : ''}${flag('multiline') ? 'm' : ''}`
  return pythonRegex(pattern, flags).test(text(subject))
}

const all = (value: unknown, other: unknown): boolean => iterate(value).every(item => contains(other, item))

const equals: Test = (value, args) => equal(value, first(args))
const compares =
  (accept: (order: number) => boolean): Test =>
  (value, args) =>
    accept(compare(value, first(args)))
const greater = compares(order => order > 0)
const atLeast = compares(order => order >= 0)
const less = compares(order => order < 0)
const atMost = compares(order => order <= 0)

export const tests: Record<string, Test> = {
  none: value => value === null,
  string: value => typeof value === 'string',
  number: value => isNumber(value) || typeof value === 'boolean',
  integer: value => isNumber(value) && !isFloat(value),
  float: value => isFloat(value),
  boolean: value => typeof value === 'boolean',
  true: value => value === true,
  false: value => value === false,
  mapping: value => isMapping(value),
  iterable: value => typeof value === 'string' || Array.isArray(value) || isMapping(value),
  sequence: value => typeof value === 'string' || Array.isArray(value) || isMapping(value),
  odd: value => whole(value) % 2n !== 0n,
  even: value => whole(value) % 2n === 0n,
  divisibleby: (value, args) => whole(value) % whole(first(args)) === 0n,
  lower: value => text(value) === text(value).toLowerCase() && text(value) !== text(value).toUpperCase(),
  upper: value => text(value) === text(value).toUpperCase() && text(value) !== text(value).toLowerCase(),
  in: (value, args) => contains(first(args), value),
  contains: (value, args) => contains(value, first(args)),
  '==': equals,
  eq: equals,
  equalto: equals,
  ne: (value, args) => !equal(value, first(args)),
  '!=': (value, args) => !equal(value, first(args)),
  gt: greater,
  '>': greater,
  greaterthan: greater,
  ge: atLeast,
  '>=': atLeast,
  lt: less,
  '<': less,
  lessthan: less,
  le: atMost,
  '<=': atMost,
  sameas: (value, args) => {
    const other = first(args)
    if (value === null || typeof value === 'boolean') return value === other
    throw new TemplateError('"is sameas" is for none, true and false here; use ==')
  },
  match: (value, args) => regex(value, args, 'start'),
  search: (value, args) => regex(value, args, 'anywhere'),
  regex: (value, args) => regex(value, args, 'anywhere'),
  subset: (value, args) => all(value, first(args)),
  issubset: (value, args) => all(value, first(args)),
  superset: (value, args) => all(first(args), value),
  issuperset: (value, args) => all(first(args), value),
  truthy: value => truthy(value),
  falsy: value => !truthy(value),
  any: value => iterate(value).some(truthy),
  all: value => iterate(value).every(truthy),
  version: version,
  version_compare: version,
}

/** Compares versions of numbers and dots, as Ansible's `version` does for these. */
function version(value: unknown, { positional, named }: CallArguments): boolean {
  const [other, operator = '=='] = positional
  if (named.size > 0 || positional.length > 2)
    throw new TemplateError('"is version" takes a version and an operator here')
  const order = compare(versionParts(value), versionParts(other))
  switch (operator) {
    case '==':
    case '=':
    case 'eq':
      return order === 0
    case '!=':
    case '<>':
    case 'ne':
      return order !== 0
    case '<':
    case 'lt':
      return order < 0
    case '<=':
    case 'le':
      return order <= 0
    case '>':
    case 'gt':
      return order > 0
    case '>=':
    case 'ge':
      return order >= 0
  }
  throw new TemplateError(`"is version" has no operator ${text(operator)}`)
}

function versionParts(value: unknown): number[] {
  const number = toNumber(value)
  const written =
    typeof value === 'string' ? value : number === undefined || value instanceof Timestamp ? '' : text(value)
  if (!/^\d+(\.\d+)*$/.test(written))
    throw new TemplateError(`"is version" compares numbers with dots, not "${text(value)}"`)
  return written.split('.').map(Number)
}
