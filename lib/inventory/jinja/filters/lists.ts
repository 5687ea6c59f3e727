// Filters over lists: order, parts, sets, combinations.
import {
  AbsentError,
  compare,
  isFloat,
  isNumber,
  iterate,
  pythonType,
  TemplateError,
  text,
  toNumber,
  truthy,
} from '../../python/python-values.ts'
import { float, isMapping, WholeFloat } from '../../values.ts'
import {
  absent,
  bind,
  type CallArguments,
  type CallContext,
  type Limits,
  list,
  map,
  string,
  whole,
} from '../jinja-call.ts'
import { binary } from '../jinja-operators.ts'
import { attribute, distinct, type Filter, type Filters, fold, Seen, sortedBy } from './filter.ts'

const sort: Filter = (value, args, context) => {
  const { reverse, case_sensitive, attribute: path } = bind(args, 'reverse', 'case_sensitive', 'attribute')
  const paths = typeof path === 'string' ? path.split(',') : absent(path) ? [] : [path]
  const keys = (member: unknown): unknown =>
    paths.length === 0
      ? fold(member, case_sensitive)
      : paths.map(one => fold(attribute(member, one, context), case_sensitive))
  return sortedBy(iterate(value), keys, reverse)
}

const unique: Filter = (value, args, context) => {
  const { case_sensitive, attribute: path } = bind(args, 'case_sensitive', 'attribute')
  const seen = new Seen(context.limits)
  return iterate(value).filter(member =>
    seen.add(fold(absent(path) ? member : attribute(member, path, context), case_sensitive)),
  )
}

const groupby: Filter = (value, args, context) => {
  const given = bind(args, 'attribute', 'default', 'case_sensitive')
  if (given.attribute === undefined) throw new TemplateError('"groupby" needs an attribute')
  const exact = given.case_sensitive ?? false
  const key = (member: unknown): unknown => attribute(member, given.attribute, context, given.default)
  const groups: { key: unknown; grouper: unknown; members: unknown[] }[] = []
  for (const member of sortedBy(iterate(value), one => fold(key(one), exact), false)) {
    const found = fold(key(member), exact)
    const last = groups.at(-1)
    if (last && compareKeys(last.key, found)) last.members.push(member)
    else groups.push({ key: found, grouper: key(member), members: [member] })
  }
  return groups.map(({ grouper, members }) => {
    const group = [grouper, members]
    groupsOfLists.add(group)
    return group
  })
}

const groupsOfLists = new WeakSet<readonly unknown[]>()

/** Whether a list is a group of `groupby`: its members have names, `grouper` and `list`. */
export const isGroup = (value: readonly unknown[]): boolean => groupsOfLists.has(value)

const compareKeys = (one: unknown, other: unknown): boolean => compare([one], [other]) === 0

function extreme(sign: 1 | -1): Filter {
  return (value, args, context) => {
    const { case_sensitive, attribute: path } = bind(args, 'case_sensitive', 'attribute')
    const key = (member: unknown): unknown =>
      fold(absent(path) ? member : attribute(member, path, context), case_sensitive)
    const members = iterate(value)
    if (members.length === 0) throw new AbsentError('an empty list has no smallest or largest member')
    return members.reduce((best, member) => (sign * compare(key(member), key(best)) > 0 ? member : best))
  }
}

const sum: Filter = (value, args, context) => {
  const { attribute: path, start = 0 } = bind(args, 'attribute', 'start')
  return iterate(value).reduce((total, member) => {
    const one = absent(path) ? member : attribute(member, path, context)
    if (typeof total === 'string') throw new TemplateError('"sum" adds no texts; use "join"')
    return binary('+', total, one, context.limits)
  }, start)
}

/** A list without what lists in it are wrapped in. */
export function flatten(value: unknown, levels: number, skipNulls: boolean, limits: Limits): unknown[] {
  const members = list(value)
  limits.step(2 * members.length + 2)
  return members.flatMap(member => {
    if (skipNulls && (member === null || member === 'None' || member === 'null')) return []
    return Array.isArray(member) && levels !== 0 ? flatten(member, levels - 1, skipNulls, limits) : [member]
  })
}

/** How many characters a text has: as Python counts them, not in halves. */
function characters(written: string): number {
  let count = written.length
  if (/[\ud800-\udbff]/.test(written)) for (const _pair of written.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)) count--
  return count
}

const length: Filter = value => {
  if (typeof value === 'string') return characters(value)
  if (Array.isArray(value)) return value.length
  if (isMapping(value)) return value.size
  throw new TemplateError(`a ${pythonType(value)} has no length`)
}

function end(members: readonly unknown[], index: 0 | -1): unknown {
  if (members.length === 0) throw new AbsentError('an empty list has no first or last member')
  return members.at(index)
}

/** `batch(3)`: lists of three, the last filled up where something is given for that. */
const batch: Filter = (value, args, { limits }) => {
  const { linecount, fill_with } = bind(args, 'linecount', 'fill_with')
  const count = whole(linecount)
  if (count < 1) throw new TemplateError('"batch" makes lists of one member at least')
  const members = iterate(value)
  const batches: unknown[][] = []
  for (let from = 0; from < members.length; from += count) batches.push(members.slice(from, from + count))
  const last = batches.at(-1)
  if (last && !absent(fill_with)) {
    limits.members(count)
    while (last.length < count) last.push(fill_with)
  }
  return batches
}

/** `slice(3)`: three lists, the first ones longer by one where it does not come out even. */
const sliceFilter: Filter = (value, args, { limits }) => {
  const { slices, fill_with } = bind(args, 'slices', 'fill_with')
  const [members, count] = [iterate(value), whole(slices)]
  if (count < 1) throw new TemplateError('"slice" makes one list at least')
  limits.members(count)
  const [each, more] = [Math.floor(members.length / count), members.length % count]
  return Array.from({ length: count }, (_, index) => {
    const from = index * each + Math.min(index, more)
    const part = members.slice(from, from + each + (index < more ? 1 : 0))
    return !absent(fill_with) && index >= more ? [...part, fill_with] : part
  })
}

function product(lists: readonly unknown[][], { limits }: CallContext): unknown[][] {
  limits.members(lists.reduce((count, one) => count * one.length, lists.length))
  return lists.reduce<unknown[][]>((rows, one) => rows.flatMap(row => one.map(member => [...row, member])), [[]])
}

/** So many of the members, in every order or in theirs. */
function chosen(members: readonly unknown[], size: number, ordered: boolean, { limits }: CallContext): unknown[][] {
  const rows: unknown[][] = []
  const take = (row: readonly number[]): void => {
    limits.step(size + 1)
    if (row.length === size) {
      limits.members(rows.length)
      rows.push(row.map(index => members[index]))
      return
    }
    for (let index = ordered ? 0 : (row.at(-1) ?? -1) + 1; index < members.length; index++)
      if (!ordered || !row.includes(index)) take([...row, index])
  }
  if (size <= members.length) take([])
  return rows
}

function zip(lists: readonly unknown[][], length: number, fill: unknown, { limits }: CallContext): unknown[] {
  limits.members(length)
  return Array.from({ length }, (_, index) => lists.map(one => (index < one.length ? one[index] : fill)))
}

function subelements(value: unknown, args: CallArguments): unknown[] {
  const { subelements: path, skip_missing = false } = bind(args, 'subelements', 'skip_missing')
  const steps = Array.isArray(path) ? path : string(path).split('.')
  const elements = isMapping(value) ? value.values() : list(value)
  return elements.flatMap(element => {
    let found: unknown = element
    for (const step of steps) {
      const inner = map(found)
      if (!inner.has(string(step))) {
        if (truthy(skip_missing)) return []
        throw new TemplateError(`there is no key "${string(step)}" in an element`)
      }
      found = inner.get(string(step))
    }
    return list(found).map(one => [element, one])
  })
}

const without = (members: readonly unknown[], other: unknown, context: CallContext): unknown[] => {
  const seen = new Seen(context.limits, list(other))
  return members.filter(member => !seen.has(member))
}

function abs(value: unknown): unknown {
  const number = toNumber(value)
  if (number === undefined) throw new TemplateError(`expected a number, not a ${pythonType(value)}`)
  if (typeof value === 'bigint') return value < 0n ? -value : value
  return value instanceof WholeFloat ? new WholeFloat(Math.abs(number)) : Math.abs(number)
}

/** `join`: the texts of members with another one between them. */
const join: Filter = (value, args, context) => {
  const { d = '', attribute: path } = bind(args, 'd', 'attribute')
  const between = text(d)
  const parts = iterate(value).map(member => {
    const part = text(absent(path) ? member : attribute(member, path, context))
    context.limits.text(part.length + between.length)
    return part
  })
  context.limits.text(parts.reduce((sum, part) => sum + part.length + between.length, 0))
  return parts.join(between)
}

const number = (value: unknown): unknown => (isNumber(value) && isFloat(value) ? float(toNumber(value)!) : value)

export const lists: Filters = {
  abs: value => number(abs(value)),
  batch,
  combinations: (value, args, context) => chosen(iterate(value), whole(bind(args, 'r').r), false, context),
  count: length,
  difference: (value, args, context) =>
    distinct(without(list(value), bind(args, 'other').other, context), context.limits),
  first: value => end(iterate(value), 0),
  flatten: (value, args, { limits }) => {
    const { levels = null, skip_nulls = true } = bind(args, 'levels', 'skip_nulls')
    return flatten(value, levels === null ? -1 : whole(levels), truthy(skip_nulls), limits)
  },
  groupby,
  intersect: (value, args, context) => {
    const seen = new Seen(context.limits, list(bind(args, 'other').other))
    return distinct(
      list(value).filter(member => seen.has(member)),
      context.limits,
    )
  },
  join,
  last: value => end(iterate(value), -1),
  length,
  list: value => [...iterate(value)],
  max: extreme(1),
  min: extreme(-1),
  permutations: (value, args, context) => {
    const members = iterate(value)
    return chosen(members, whole(bind(args, 'r').r ?? members.length), true, context)
  },
  product: (value, { positional, named }, context) => {
    const { repeat = 1 } = bind({ positional: [], named }, 'repeat')
    const given = [value, ...positional].map(one => iterate(one))
    if (whole(repeat) < 0 || whole(repeat) > 100) throw new TemplateError('"product" repeats its lists up to 100 times')
    return product(Array.from({ length: whole(repeat) }, () => given).flat(), context)
  },
  reverse: value => (typeof value === 'string' ? [...value].reverse().join('') : iterate(value).toReversed()),
  slice: sliceFilter,
  sort,
  subelements,
  sum,
  symmetric_difference: (value, args, context) => {
    const { other } = bind(args, 'other')
    return distinct([...without(list(value), other, context), ...without(list(other), value, context)], context.limits)
  },
  union: (value, args, context) => distinct([...list(value), ...list(bind(args, 'other').other)], context.limits),
  unique,
  zip: (value, { positional, named }, context) => {
    if (named.size > 0) throw new TemplateError('"zip" takes no named arguments')
    const given = [value, ...positional].map(one => iterate(one))
    return zip(given, Math.min(...given.map(one => one.length)), null, context)
  },
  zip_longest: (value, { positional, named }, context) => {
    const { fillvalue = null } = bind({ positional: [], named }, 'fillvalue')
    const given = [value, ...positional].map(one => iterate(one))
    return zip(given, Math.max(...given.map(one => one.length)), fillvalue, context)
  },
}
