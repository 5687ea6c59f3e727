// The filters that templates in inventories may use; those that need Python, or the machine they run on, are refused.
// Over 500 lines: a list of filters, each of them a few lines beside what Ansible says of it.
import { createHash } from 'node:crypto'
import { formatPercent } from '../python/python-format.ts'
import { jsonText } from '../python/python-json.ts'
import { expandReplacement, pythonRegex } from '../python/python-regex.ts'
import {
  AbsentError,
  asKey,
  compare,
  contains,
  equal,
  isNumber,
  iterate,
  pythonType,
  TemplateError,
  text,
  toNumber,
  truthy,
  UndefinedError,
} from '../python/python-values.ts'
import { Dict, float, integer, isMapping, type Value, WholeFloat } from '../values.ts'
import { createVault } from '../vault/vault.ts'
import { parseJson } from '../yaml/json.ts'
import type { CallArguments, CallContext } from './jinja-call.ts'
import { replaceText, split } from './jinja-methods.ts'

type Filter = (value: unknown, args: CallArguments, context: CallContext) => unknown

/** Arguments by the names of their parameters, in order. Throws for more of them, or for others. */
function bind<Name extends string>(
  { positional, named }: CallArguments,
  ...names: Name[]
): Partial<Record<Name, unknown>> {
  const bound: Partial<Record<string, unknown>> = {}
  if (positional.length > names.length)
    throw new TemplateError(`takes at most ${names.length} arguments here, not ${positional.length}`)
  for (const [index, argument] of positional.entries()) bound[names[index]!] = argument
  for (const [name, argument] of named) {
    if (!names.includes(name as Name)) throw new TemplateError(`the argument "${name}" is not one that rekey has`)
    bound[name] = argument
  }
  return bound as Partial<Record<Name, unknown>>
}

function string(value: unknown): string {
  if (typeof value === 'string') return value
  throw new TemplateError(`expected a text, not a ${pythonType(value)}`)
}

function list(value: unknown): unknown[] {
  if (Array.isArray(value)) return value
  throw new TemplateError(`expected a list, not a ${pythonType(value)}`)
}

function map(value: unknown): Dict {
  if (isMapping(value)) return value
  throw new TemplateError(`expected a map, not a ${pythonType(value)}`)
}

function whole(value: unknown): number {
  const number = toNumber(value)
  if (number !== undefined && Number.isInteger(number)) return number
  throw new TemplateError(`expected a whole number, not a ${pythonType(value)}`)
}

/** `attribute='a.b'`: what lies below a member. */
function attribute(member: unknown, path: unknown, context: CallContext, otherwise?: unknown): unknown {
  let found = member
  for (const step of typeof path === 'string' ? path.split('.') : [path]) {
    const next = context.item(found, typeof step === 'string' && /^\d+$/.test(step) ? Number(step) : step)
    if (next === undefined) {
      if (otherwise !== undefined) return otherwise
      throw new UndefinedError(`a ${pythonType(found)} has no attribute "${text(step)}"`)
    }
    found = next
  }
  return found
}

const fold = (value: unknown, caseSensitive: unknown): unknown =>
  typeof value === 'string' && !truthy(caseSensitive ?? false) ? value.toLowerCase() : value

function sort(value: unknown, args: CallArguments, context: CallContext): unknown[] {
  const { reverse = false, case_sensitive, attribute: path } = bind(args, 'reverse', 'case_sensitive', 'attribute')
  const paths = typeof path === 'string' ? path.split(',') : path === undefined || path === null ? [] : [path]
  const keyed = iterate(value).map(member => ({
    member,
    keys:
      paths.length === 0
        ? [fold(member, case_sensitive)]
        : paths.map(one => fold(attribute(member, one, context), case_sensitive)),
  }))
  // Reversed as Python does it: members of the same rank keep their order.
  const sign = truthy(reverse) ? -1 : 1
  return keyed.sort((one, other) => sign * compare(one.keys, other.keys)).map(({ member }) => member)
}

function unique(value: unknown, args: CallArguments, context: CallContext): unknown[] {
  const { case_sensitive, attribute: path } = bind(args, 'case_sensitive', 'attribute')
  const seen: unknown[] = []
  return iterate(value).filter(member => {
    const key = fold(path === undefined ? member : attribute(member, path, context), case_sensitive)
    if (seen.some(other => equal(other, key))) return false
    seen.push(key)
    return true
  })
}

function extreme(sign: 1 | -1): Filter {
  return (value, args, context) => {
    const { case_sensitive, attribute: path } = bind(args, 'case_sensitive', 'attribute')
    const key = (member: unknown): unknown =>
      fold(path === undefined ? member : attribute(member, path, context), case_sensitive)
    const members = iterate(value)
    if (members.length === 0) throw new AbsentError('an empty list has no smallest or largest member')
    return members.reduce((best, member) => (sign * compare(key(member), key(best)) > 0 ? member : best))
  }
}

/** `map`: an attribute of each member, or a filter over each. */
function mapFilter(value: unknown, args: CallArguments, context: CallContext): unknown[] {
  const [name, ...positional] = args.positional
  if (name === undefined) {
    const { attribute: path, default: otherwise } = bind(args, 'attribute', 'default')
    if (path === undefined) throw new TemplateError('"map" needs a filter or an attribute')
    return iterate(value).map(member => attribute(member, path, context, otherwise))
  }
  return iterate(value).map(member => context.filter(string(name), member, { positional, named: args.named }))
}

/** `select` and its kin: keeps the members for which a test holds, or doesn't. */
function choose(keep: boolean, byAttribute: boolean): Filter {
  return (value, { positional, named }, context) => {
    const [path, ...rest] = byAttribute ? positional : [undefined, ...positional]
    const [name, ...parameters] = rest
    if (byAttribute && path === undefined) throw new TemplateError('the name of an attribute is missing')
    return iterate(value).filter(member => {
      let subject = member
      if (byAttribute) {
        try {
          subject = attribute(member, path, context)
        } catch (error) {
          if (!(error instanceof UndefinedError) || (name !== 'defined' && name !== 'undefined')) throw error
          return (name === 'undefined') === keep
        }
      }
      if (name === 'defined' || name === 'undefined') return (name === 'defined') === keep
      const holds =
        name === undefined ? truthy(subject) : context.test(string(name), subject, { positional: parameters, named })
      return holds === keep
    })
  }
}

function toInteger(value: unknown, args: CallArguments): unknown {
  const { default: otherwise = 0, base = 10 } = bind(args, 'default', 'base')
  if (typeof value === 'boolean') return Number(value)
  if (isNumber(value)) {
    const number = toNumber(value)!
    if (!Number.isFinite(number)) return otherwise
    return typeof value === 'bigint' ? value : integer(BigInt(Math.trunc(number)))
  }
  if (typeof value !== 'string') return otherwise
  const written = value
    .trim()
    .replace(/(?<=[\da-zA-Z])_(?=[\da-zA-Z])/g, '')
    .toLowerCase()
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

const listMerges: Record<string, (low: unknown[], high: unknown[]) => unknown[]> = {
  replace: (_low, high) => high,
  keep: low => low,
  append: (low, high) => [...low, ...high],
  prepend: (low, high) => [...high, ...low],
  append_rp: (low, high) => [...without(low, high), ...high],
  prepend_rp: (low, high) => [...high, ...without(low, high)],
}

function combine(value: unknown, { positional, named }: CallArguments): unknown {
  const { recursive = false, list_merge = 'replace' } = bind({ positional: [], named }, 'recursive', 'list_merge')
  const mergeLists = listMerges[string(list_merge)]
  if (!mergeLists) throw new TemplateError(`"combine" can't merge lists by "${text(list_merge)}"`)
  const merge = (low: Dict, high: Dict): Dict => {
    const merged = Dict.of(low.entries())
    for (const [key, item] of high.entries()) {
      const old = merged.get(key)
      if (truthy(recursive) && isMapping(old) && isMapping(item)) merged.set(key, merge(old, item))
      else merged.set(key, Array.isArray(old) && Array.isArray(item) ? mergeLists(old, item) : item)
    }
    return merged
  }
  const maps = [value, ...positional].flatMap(one => (Array.isArray(one) ? flatten(one, -1, false) : [one]))
  return maps.reduce<Dict>((low, high) => merge(low, map(high)), new Dict())
}

function flatten(value: unknown, levels: number, skipNulls: boolean): unknown[] {
  return list(value).flatMap(member => {
    if (skipNulls && (member === null || member === 'None' || member === 'null')) return []
    return Array.isArray(member) && levels !== 0 ? flatten(member, levels - 1, skipNulls) : [member]
  })
}

const without = (members: readonly unknown[], other: unknown): unknown[] =>
  members.filter(member => !contains(other, member))
const distinct = (members: readonly unknown[]): unknown[] =>
  members.filter((member, index) => members.findIndex(other => equal(other, member)) === index)

function round(value: unknown, args: CallArguments): unknown {
  const { precision = 0, method = 'common' } = bind(args, 'precision', 'method')
  const number = toNumber(value)
  if (number === undefined) throw new TemplateError(`expected a number, not a ${pythonType(value)}`)
  const digits = whole(precision)
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

function regexFlags(args: { ignorecase?: unknown; multiline?: unknown }): string {
  return `${truthy(args.ignorecase ?? false) ? 'i' : ''}${truthy(args.multiline ?? false) ? 'm' : ''}`
}

function regexReplace(value: unknown, args: CallArguments): string {
  const given = bind(args, 'pattern', 'replacement', 'ignorecase', 'multiline', 'count')
  const pattern = pythonRegex(string(given.pattern ?? ''), `g${regexFlags(given)}`)
  const most = whole(given.count ?? 0)
  let done = 0
  return text(value).replace(pattern, (...match) => {
    if (most > 0 && done++ >= most) return match[0]
    const groups = typeof match.at(-1) === 'object' ? match.pop() : undefined
    const found = Object.assign(match.slice(0, -2), { groups }) as unknown as RegExpExecArray
    return expandReplacement(string(given.replacement ?? ''), found)
  })
}

function regexSearch(value: unknown, { positional, named }: CallArguments): unknown {
  const [pattern, ...groups] = positional
  const match = pythonRegex(
    string(pattern),
    regexFlags({ ignorecase: named.get('ignorecase'), multiline: named.get('multiline') }),
  ).exec(string(value))
  if (!match) return null
  if (groups.length === 0) return match[0]
  return groups.map(group => {
    const name = /^\\g<(\w+)>$/.exec(string(group))?.[1] ?? /^\\(\d+)$/.exec(string(group))?.[1]
    if (name === undefined) throw new TemplateError(`"${text(group)}" names no group of a pattern`)
    return (/^\d+$/.test(name) ? match[Number(name)] : match.groups?.[name]) ?? null
  })
}

function regexFindAll(value: unknown, args: CallArguments): unknown[] {
  const given = bind(args, 'regex', 'multiline', 'ignorecase')
  return [...string(value).matchAll(pythonRegex(string(given.regex), `g${regexFlags(given)}`))].map(match => {
    if (match.length === 1) return match[0]
    return match.length === 2 ? (match[1] ?? '') : match.slice(1).map(group => group ?? '')
  })
}

/** `hosts | map('extract', hostvars, 'ansible_host')` */
function extract(value: unknown, args: CallArguments, context: CallContext): unknown {
  const { container, morekeys } = bind(args, 'container', 'morekeys')
  const keys = morekeys === undefined || morekeys === null ? [] : Array.isArray(morekeys) ? morekeys : [morekeys]
  let found: unknown = container
  for (const key of [value, ...keys]) {
    const next = context.item(found, key)
    if (next === undefined) throw new AbsentError(`a ${pythonType(found)} has no element "${text(key)}"`)
    found = next
  }
  return found
}

function dictionaryToItems(value: unknown, args: CallArguments): unknown {
  const { key_name = 'key', value_name = 'value' } = bind(args, 'key_name', 'value_name')
  return map(value)
    .entries()
    .map(([key, item]) =>
      Dict.of<unknown>([
        [string(key_name), key],
        [string(value_name), item],
      ]),
    )
}

function itemsToDictionary(value: unknown, args: CallArguments): unknown {
  const { key_name = 'key', value_name = 'value' } = bind(args, 'key_name', 'value_name')
  const result = new Dict()
  for (const item of list(value)) {
    const entry = map(item)
    for (const name of [key_name, value_name])
      if (!entry.has(string(name))) throw new TemplateError(`an item has no "${text(name)}"`)
    result.set(asKey(entry.get(string(key_name))), entry.get(string(value_name)))
  }
  return result
}

function dictionarySort(value: unknown, args: CallArguments): unknown {
  const { case_sensitive, by = 'key', reverse = false } = bind(args, 'case_sensitive', 'by', 'reverse')
  const index = by === 'value' ? 1 : 0
  const sign = truthy(reverse) ? -1 : 1
  return map(value)
    .entries()
    .sort((one, other) => sign * compare(fold(one[index], case_sensitive), fold(other[index], case_sensitive)))
}

function sum(value: unknown, args: CallArguments, context: CallContext): unknown {
  const { attribute: path, start = 0 } = bind(args, 'attribute', 'start')
  let total = toNumber(start)
  if (total === undefined) throw new TemplateError('"sum" starts with a number here')
  let fraction = start instanceof WholeFloat
  for (const member of iterate(value)) {
    const one = path === undefined ? member : attribute(member, path, context)
    const number = toNumber(one)
    if (number === undefined) throw new TemplateError(`"sum" adds numbers, not a ${pythonType(one)}`)
    fraction ||= one instanceof WholeFloat
    total += number
  }
  return fraction ? float(total) : total
}

function indent(value: unknown, args: CallArguments): string {
  const { width = 4, first = false, blank = false } = bind(args, 'width', 'first', 'blank')
  const space = typeof width === 'string' ? width : ' '.repeat(whole(width))
  const lines = string(value)
    .split('\n')
    .map((line, index) => ((index === 0 ? truthy(first) : line !== '' || truthy(blank)) ? space + line : line))
  return lines.join('\n')
}

function titleCase(value: unknown): string {
  // Jinja's own rule: words start behind white space, dashes and opening brackets.
  return text(value)
    .split(/([-\s({[<]+)/u)
    .map(word => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase())
    .join('')
}

function length(value: unknown): number {
  if (typeof value === 'string' || Array.isArray(value) || isMapping(value)) return iterate(value).length
  throw new TemplateError(`a ${pythonType(value)} has no length`)
}

function end(members: readonly unknown[], index: 0 | -1): unknown {
  if (members.length === 0) throw new AbsentError('an empty list has no first or last member')
  return members.at(index)
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function directoryName(path: string): string {
  const head = path.slice(0, path.lastIndexOf('/') + 1)
  return /^\/*$/.test(head) ? head : head.replace(/\/+$/, '')
}

function splitExtension(path: string): string[] {
  const name = baseName(path)
  const dot = name.replace(/^\.+/, dots => ' '.repeat(dots.length)).lastIndexOf('.')
  return dot === -1 ? [path, ''] : [path.slice(0, path.length - name.length + dot), name.slice(dot)]
}

function quoteForShell(value: unknown): string {
  const written = value === null ? '' : text(value)
  if (written === '') return "''"
  return /^[\w@%+=:,./-]+$/.test(written) && !/[^\x00-\x7f]/.test(written)
    ? written
    : `'${written.replaceAll("'", `'"'"'`)}'`
}

const digest = (value: unknown, algorithm: unknown): string => {
  const name = string(algorithm)
  if (!['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'].includes(name))
    throw new TemplateError(`the hash "${name}" is not one that rekey has`)
  return createHash(name).update(string(value)).digest('hex')
}

function refuse(why: string): Filter {
  return () => {
    throw new TemplateError(why)
  }
}

const changing = refuse('gives another result at every run, and so is refused')
const controlMachine = refuse('depends on the machine it runs on, and so is refused')

export const filters: Record<string, Filter> = {
  abs: value => {
    const number = toNumber(value)
    if (number === undefined) throw new TemplateError(`expected a number, not a ${pythonType(value)}`)
    return value instanceof WholeFloat ? new WholeFloat(Math.abs(number)) : Math.abs(number)
  },
  b64decode: value => Buffer.from(string(value), 'base64').toString('utf8'),
  b64encode: value => Buffer.from(string(value)).toString('base64'),
  basename: value => baseName(string(value)),
  bool: toBoolean,
  capitalize: value => text(value).slice(0, 1).toUpperCase() + text(value).slice(1).toLowerCase(),
  combine,
  count: length,
  dict2items: dictionaryToItems,
  dictsort: dictionarySort,
  difference: (value, args) => distinct(without(list(value), list(bind(args, 'other').other))),
  dirname: value => directoryName(string(value)),
  expanduser: controlMachine,
  expandvars: controlMachine,
  extract,
  first: value => end(iterate(value), 0),
  flatten: (value, args) => {
    const { levels = null, skip_nulls = true } = bind(args, 'levels', 'skip_nulls')
    return flatten(value, levels === null ? -1 : whole(levels), truthy(skip_nulls))
  },
  float: toFloat,
  format: (value, { positional }) => formatPercent(string(value), positional),
  from_json: value => parseJson(string(value), 'from_json', createVault([])),
  hash: (value, args) => digest(value, bind(args, 'hashtype').hashtype ?? 'sha1'),
  indent,
  int: toInteger,
  intersect: (value, args) => {
    const { other } = bind(args, 'other')
    return distinct(list(value).filter(member => contains(list(other), member)))
  },
  items: value => map(value).entries(),
  items2dict: itemsToDictionary,
  join: (value, args, context) => {
    const { d = '', attribute: path } = bind(args, 'd', 'attribute')
    return iterate(value)
      .map(member => text(path === undefined ? member : attribute(member, path, context)))
      .join(text(d))
  },
  last: value => end(iterate(value), -1),
  length,
  list: value => [...iterate(value)],
  lower: value => text(value).toLowerCase(),
  map: mapFilter,
  max: extreme(1),
  md5: value => digest(value, 'md5'),
  min: extreme(-1),
  password_hash: refuse('makes a new salt at every run, and so is refused'),
  quote: quoteForShell,
  random: changing,
  realpath: controlMachine,
  regex_escape: value => string(value).replace(/[-[\]{}()*+?.\\^$|#&~\s]/g, '\\$&'),
  regex_findall: regexFindAll,
  regex_replace: regexReplace,
  regex_search: regexSearch,
  reject: choose(false, false),
  rejectattr: choose(false, true),
  replace: (value, args) => {
    const { old, new: to, count } = bind(args, 'old', 'new', 'count')
    return replaceText(text(value), text(old), text(to), count === undefined || count === null ? -1 : whole(count))
  },
  reverse: value => (typeof value === 'string' ? [...value].reverse().join('') : iterate(value).toReversed()),
  round,
  select: choose(true, false),
  selectattr: choose(true, true),
  sha1: value => digest(value, 'sha1'),
  shuffle: changing,
  sort,
  split: (value, { positional }) => split(string(value), positional[0], positional[1] ?? -1),
  splitext: value => splitExtension(string(value)),
  string: value => text(value),
  sum,
  symmetric_difference: (value, args) => {
    const { other } = bind(args, 'other')
    return distinct([...without(list(value), list(other)), ...without(list(other), list(value))])
  },
  ternary: (value, args) => {
    const given = bind(args, 'true_val', 'false_val', 'none_val')
    if (value === null && given.none_val !== undefined && given.none_val !== null) return given.none_val
    return truthy(value) ? given.true_val : given.false_val
  },
  title: titleCase,
  to_json: (value, args) => {
    const { indent: width, sort_keys = false } = bind(args, 'indent', 'sort_keys')
    return jsonText(value as Value, {
      indent: width === undefined || width === null ? undefined : whole(width),
      sortKeys: truthy(sort_keys),
      ascii: true,
    })
  },
  to_nice_json: (value, args) => {
    const { indent: width = 4, sort_keys = true } = bind(args, 'indent', 'sort_keys')
    return jsonText(value as Value, { indent: whole(width), sortKeys: truthy(sort_keys), ascii: true })
  },
  trim: (value, args) => {
    const { chars } = bind(args, 'chars')
    if (chars !== undefined && chars !== null)
      throw new TemplateError('"trim" takes away white space only here; use .strip()')
    return text(value).trim()
  },
  type_debug: value => pythonType(value),
  union: (value, args) => distinct([...list(value), ...list(bind(args, 'other').other)]),
  unique,
  upper: value => text(value).toUpperCase(),
  zip: (value, { positional, named }) => {
    if (named.size > 0) throw new TemplateError('"zip" takes no named arguments')
    const lists = [value, ...positional].map(iterate)
    return Array.from({ length: Math.min(...lists.map(one => one.length)) }, (_, index) => lists.map(one => one[index]))
  },
}
