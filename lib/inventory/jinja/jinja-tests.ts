// The tests that templates may use behind `is`.

import { lstatSync, type Stats, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import {
  compare,
  contains,
  equal,
  isFloat,
  isNumber,
  iterate,
  PythonObject,
  pythonType,
  TemplateError,
  text,
  toNumber,
  truthy,
} from '../python/python-values.ts'
import { versionHolds } from '../python/python-versions.ts'
import { type Dict, isMapping } from '../values.ts'
import { Seen } from './filters/filter.ts'
import { byRegex } from './filters/regex.ts'
import { absent, bind, type CallArguments, type CallContext, map, string } from './jinja-call.ts'

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

function regex(subject: unknown, args: CallArguments, anchored: boolean, context: CallContext): boolean {
  const given = bind(args, 'pattern', 'ignorecase', 'multiline', 'match_type')
  const fromStart = anchored || given.match_type === 'match'
  if (given.match_type === 'fullmatch') throw new TemplateError('"fullmatch" is not one that rekey has')
  const written = text(subject)
  return byRegex(given.pattern ?? '', given, written, context, pattern =>
    fromStart ? pattern.match(written) : pattern.search(written) !== undefined,
  )
}

/** Whether all members of a value are in another one. */
function all(value: unknown, other: unknown, { limits }: CallContext): boolean {
  const seen = new Seen(limits, iterate(other))
  return iterate(value).every(item => seen.has(item))
}

function isTruthy(value: unknown, args: CallArguments): boolean {
  const { convert_bool = false } = bind(args, 'convert_bool')
  if (!truthy(convert_bool)) return truthy(value)
  const written = typeof value === 'string' ? value.toLowerCase().trim() : text(value).toLowerCase()
  if (['y', 'yes', 'on', '1', 'true', 't', '1.0'].includes(written)) return true
  if (['n', 'no', 'off', '0', 'false', 'f', '0.0'].includes(written)) return false
  return truthy(value)
}

function isVersion(value: unknown, args: CallArguments): boolean {
  const { version, operator = 'eq', strict, version_type } = bind(args, 'version', 'operator', 'strict', 'version_type')
  if (!absent(strict) && !absent(version_type))
    throw new TemplateError('"strict" and "version_type" exclude each other')
  if (!truthy(value) || absent(version) || !truthy(version)) throw new TemplateError('a version is empty')
  const kind = truthy(strict ?? false) ? 'strict' : absent(version_type) ? 'loose' : string(version_type)
  return versionHolds(text(value), string(operator), text(version), kind)
}

/** A result that a task of Ansible's would have. */
const result =
  (holds: (result: Dict) => boolean): Test =>
  value =>
    holds(map(value))
const has = (given: Dict, key: string): boolean => truthy(given.get(key) ?? false)
const failed = result(given => has(given, 'failed'))
const succeeded = result(given => !has(given, 'failed'))
const changed = result(given => {
  if (given.has('changed')) return has(given, 'changed')
  const results = given.get('results')
  return Array.isArray(results) && results.some(one => isMapping(one) && has(one, 'changed'))
})
const skipped = result(given => has(given, 'skipped'))

/** A path of this machine. */
const path =
  (holds: (path: string) => boolean): Test =>
  (value, _args, { machine }) =>
    holds(isAbsolute(string(value)) ? string(value) : join(machine.cwd, string(value)))
const stat = (file: string): Stats | undefined => statSync(file, { throwIfNoEntry: false })
const directory = path(file => stat(file)?.isDirectory() ?? false)
const regularFile = path(file => stat(file)?.isFile() ?? false)
const link = path(file => lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() ?? false)
const absolute: Test = value => string(value).startsWith('/')
const sameFile: Test = (value, args, context) => {
  const inode = (one: unknown): string => {
    let found = ''
    path(file => {
      const known = stat(file)
      if (!known) throw new TemplateError(`there is no file ${file}`)
      found = `${known.dev}:${known.ino}`
      return true
    })(one, args, context)
    return found
  }
  return inode(value) === inode(first(args))
}
const isNumberNan: Test = value => Number.isNaN(toNumber(value) ?? 0)
const elsewhere: Test = () => {
  throw new TemplateError('the test is not one that rekey has')
}
/** To Ansible any text is a URI, and one with a host is a URL. */
const uri =
  (host: boolean): Test =>
  (value, args) => {
    const { schemes } = bind(args, 'schemes')
    const [, scheme = '', netloc = ''] = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/([^/?#]*))?/.exec(text(value)) ?? []
    const known = !Array.isArray(schemes) || schemes.length === 0 || schemes.includes(scheme.toLowerCase())
    return known && (!host || netloc !== '' || scheme.toLowerCase() === 'file')
  }

const equals: Test = (value, args) => equal(value, first(args))
const compares =
  (accept: (order: number) => boolean): Test =>
  (value, args) =>
    accept(compare(value, first(args)))
const greater = compares(order => order > 0)
const atLeast = compares(order => order >= 0)
const less = compares(order => order < 0)
const atMost = compares(order => order <= 0)

/** By name, but for `defined` and `undefined`. */
export const tests: Readonly<Record<string, Test | undefined>> = {
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
  match: (value, args, context) => regex(value, args, true, context),
  search: (value, args, context) => regex(value, args, false, context),
  regex: (value, args, context) => regex(value, args, false, context),
  subset: (value, args, context) => all(value, first(args), context),
  issubset: (value, args, context) => all(value, first(args), context),
  superset: (value, args, context) => all(first(args), value, context),
  issuperset: (value, args, context) => all(first(args), value, context),
  truthy: (value, args) => isTruthy(value, args),
  falsy: (value, args) => !isTruthy(value, args),
  any: value => iterate(value).some(truthy),
  all: value => iterate(value).every(truthy),
  version: isVersion,
  version_compare: isVersion,
  abs: absolute,
  is_abs: absolute,
  callable: value => value instanceof PythonObject,
  change: changed,
  changed,
  directory,
  is_dir: directory,
  escaped: () => false,
  exists: path(file => stat(file) !== undefined),
  failed,
  failure: failed,
  file: regularFile,
  is_file: regularFile,
  filter: (value, _args, context) => context.has('filter', string(value)),
  test: (value, _args, context) => context.has('test', string(value)),
  finished: result(given => !given.has('finished') || has(given, 'finished')),
  started: result(given => !given.has('started') || has(given, 'started')),
  link,
  is_link: link,
  link_exists: path(file => lstatSync(file, { throwIfNoEntry: false }) !== undefined),
  mount: elsewhere,
  is_mount: elsewhere,
  isnan: isNumberNan,
  nan: isNumberNan,
  reachable: result(given => !has(given, 'unreachable')),
  unreachable: result(given => has(given, 'unreachable')),
  same_file: sameFile,
  is_same_file: sameFile,
  skip: skipped,
  skipped,
  succeeded,
  success: succeeded,
  successful: succeeded,
  timedout: result(given => {
    const timedout = given.get('timedout')
    return isMapping(timedout) && has(timedout, 'period')
  }),
  uri: uri(false),
  url: uri(true),
  urn: value => /^urn:/i.test(text(value)),
  vault_encrypted: elsewhere,
  vaulted_file: elsewhere,
}
