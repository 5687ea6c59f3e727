// Filters over maps: merging, their items, what lies in them.
import { asKey, compare, pythonType, TemplateError, text, truthy, UndefinedError } from '../../python/python-values.ts'
import { Dict, isMapping } from '../../values.ts'
import { absent, bind, list, map, string } from '../jinja-call.ts'
import { type Filter, type Filters, fold, Seen } from './filter.ts'
import { flatten } from './lists.ts'

const combine: Filter = (value, { positional, named }, { limits }) => {
  const { recursive = false, list_merge = 'replace' } = bind({ positional: [], named }, 'recursive', 'list_merge')
  const without = (members: unknown[], other: unknown[]): unknown[] => {
    const seen = new Seen(limits, other)
    return members.filter(member => !seen.has(member))
  }
  const listMerges: Record<string, (low: unknown[], high: unknown[]) => unknown[]> = {
    replace: (_low, high) => high,
    keep: low => low,
    append: (low, high) => [...low, ...high],
    prepend: (low, high) => [...high, ...low],
    append_rp: (low, high) => [...without(low, high), ...high],
    prepend_rp: (low, high) => [...high, ...without(low, high)],
  }
  const mergeLists = Object.hasOwn(listMerges, string(list_merge)) ? listMerges[string(list_merge)] : undefined
  if (!mergeLists) throw new TemplateError(`"combine" can't merge lists by "${text(list_merge)}"`)
  const merge = (low: Dict, high: Dict): Dict => {
    limits.step(low.size + high.size)
    const merged = Dict.of(low.entries())
    for (const [key, item] of high.entries()) {
      const old = merged.get(key)
      if (truthy(recursive) && isMapping(old) && isMapping(item)) merged.set(key, merge(old, item))
      else merged.set(key, Array.isArray(old) && Array.isArray(item) ? mergeLists(old, item) : item)
    }
    return merged
  }
  const maps = [value, ...positional].flatMap(one => (Array.isArray(one) ? flatten(one, -1, false, limits) : [one]))
  return maps.reduce<Dict>((low, high) => merge(low, map(high)), new Dict())
}

/** `hosts | map('extract', hostvars, 'ansible_host')` */
const extract: Filter = (value, args, context) => {
  const { container, morekeys } = bind(args, 'container', 'morekeys')
  const keys = absent(morekeys) ? [] : Array.isArray(morekeys) ? morekeys : [morekeys]
  let found: unknown = container
  for (const key of [value, ...keys]) {
    const next = context.item(found, key)
    if (next === undefined) throw new UndefinedError(`a ${pythonType(found)} has no element "${text(key)}"`)
    found = next
  }
  return found
}

const dict2items: Filter = (value, args) => {
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

const items2dict: Filter = (value, args) => {
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

const dictsort: Filter = (value, args) => {
  const { case_sensitive, by = 'key', reverse = false } = bind(args, 'case_sensitive', 'by', 'reverse')
  if (by !== 'key' && by !== 'value') throw new TemplateError('"dictsort" sorts by "key" or "value"')
  const index = by === 'value' ? 1 : 0
  const sign = truthy(reverse) ? -1 : 1
  return map(value)
    .entries()
    .sort((one, other) => sign * compare(fold(one[index], case_sensitive), fold(other[index], case_sensitive)))
}

const rekeyOnMember: Filter = (value, args) => {
  const { key, duplicates = 'error' } = bind(args, 'key', 'duplicates')
  if (duplicates !== 'error' && duplicates !== 'overwrite')
    throw new TemplateError('"duplicates" is "error" or "overwrite"')
  const result = new Dict()
  for (const item of isMapping(value) ? value.values() : list(value)) {
    const member = map(item)
    if (!member.has(asKey(key))) throw new TemplateError(`an item has no "${text(key)}"`)
    const name = asKey(member.get(asKey(key)))
    if (duplicates === 'error' && result.has(name))
      throw new TemplateError(`several items have the key "${text(name)}"`)
    result.set(name, item)
  }
  return result
}

export const maps: Filters = {
  attr: (value, args, context) => {
    const name = string(bind(args, 'name').name)
    const found = isMapping(value) ? undefined : context.item(value, name)
    if (found === undefined) throw new UndefinedError(`a ${pythonType(value)} has no attribute "${name}"`)
    return found
  },
  combine,
  dict2items,
  dictsort,
  extract,
  items: value => map(value).entries(),
  items2dict,
  rekey_on_member: rekeyOnMember,
}
