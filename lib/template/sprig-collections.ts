// Sprig's functions on lists, dicts and any value: on Go's own values, so that a float stays one within a list.
import { sprint } from './builtins.ts'
import { parseJson, writeJson } from './encodings.ts'
import {
  type GoFunction,
  type GoMap,
  type GoValue,
  isList,
  isMap,
  isNil,
  isTrue,
  JsonNumber,
  kindOf,
  needDefined,
  print,
  Struct,
  sortedKeys,
} from './values.ts'

/** Fills what is empty in `into`, or overwrites it with what is not empty in `from`; maps are merged within. */
export function mergeMaps(into: GoMap, from: GoMap, override: boolean): GoMap {
  for (const [key, value] of from) {
    const old = into.get(key)
    if (old !== undefined && isMap(old) && isMap(value)) mergeMaps(old, value, override)
    else if (old === undefined || isEmpty(old) || (override && !isEmpty(value))) into.set(key, value)
  }
  return into
}

/** As `if` would decide, but that a struct is never empty. */
const isEmpty = (value: GoValue | undefined) => value === undefined || !isTrue(value)

function listOf(value: GoValue | undefined): readonly GoValue[] {
  if (value !== undefined && isList(value)) return value
  throw new Error(`works on a list, not on ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function mapOf(value: GoValue | undefined): GoMap {
  if (value !== undefined && isMap(value)) return value
  throw new Error(`works on a dict, not on ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function stringOf(value: GoValue | undefined): string {
  if (typeof value === 'string') return value
  throw new Error(`needs a string, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

/** reflect.DeepEqual: an integer and a float are never the same. */
function sameValue(one: GoValue, other: GoValue): boolean {
  if (isNil(one) || isNil(other)) return isNil(one) && isNil(other)
  if (isList(one) && isList(other)) {
    return one.length === other.length && one.every((item, index) => sameValue(item, other[index]!))
  }
  if (isMap(one) && isMap(other)) {
    return (
      one.size === other.size && [...one].every(([key, value]) => other.has(key) && sameValue(value, other.get(key)!))
    )
  }
  if (one instanceof JsonNumber) return other instanceof JsonNumber && one.text === other.text
  return one === other
}

/** The texts of a list, without those that are nothing. A single value counts as a list of one. */
export function textsOf(value: GoValue): string[] {
  needDefined(value)
  if (isNil(value)) return []
  if (isList(value)) value.forEach(needDefined)
  return isList(value) ? value.filter(one => !isNil(one)).map(print) : [print(value)]
}

function copyOf(value: GoValue): GoValue {
  if (isList(value)) return value.map(copyOf)
  if (isMap(value)) return new Map([...value].map(([key, one]) => [key, copyOf(one)]))
  return value
}

function bounds(list: readonly GoValue[], indexes: readonly GoValue[]): [number, number] {
  const [from = 0n, to = BigInt(list.length)] = indexes
  if (typeof from !== 'bigint' || typeof to !== 'bigint') throw new Error('needs integers for indexes')
  if (from < 0n || to < from || to > BigInt(list.length)) throw new Error(`has no elements from ${from} to ${to}`)
  return [Number(from), Number(to)]
}

function chunks(size: GoValue | undefined, list: readonly GoValue[]): GoValue[][] {
  if (typeof size !== 'bigint' || size < 1n) throw new Error('needs a size, 1 or more')
  const count = Math.ceil(list.length / Number(size))
  return Array.from({ length: count }, (_, index) => list.slice(index * Number(size), (index + 1) * Number(size)))
}

/** `dig "a" "b" DEFAULT DICT`. */
function dig(args: readonly GoValue[]): GoValue {
  if (args.length < 3) throw new Error(`needs three arguments or more, and got ${args.length}`)
  const names = args.slice(0, -2).map(stringOf)
  let found: GoValue = args.at(-1)!
  for (const name of names) {
    const map: GoMap = mapOf(found)
    if (!map.has(name)) return args.at(-2)!
    found = map.get(name)!
  }
  return found
}

const lists: Record<string, GoFunction> = {
  list: (...values) => values,
  tuple: (...values) => values,
  append: (list, value = null) => [...listOf(list), value],
  push: (list, value = null) => [...listOf(list), value],
  prepend: (list, value = null) => [value, ...listOf(list)],
  first: list => listOf(list)[0] ?? null,
  last: list => listOf(list).at(-1) ?? null,
  rest: list => listOf(list).slice(1),
  initial: list => listOf(list).slice(0, -1),
  reverse: list => listOf(list).toReversed(),
  uniq: list => listOf(list).filter((one, index, all) => all.findIndex(other => sameValue(one, other)) === index),
  without: (list, ...others) => listOf(list).filter(one => !others.some(other => sameValue(one, other))),
  has: (value = null, list = null) => !isNil(list) && listOf(list).some(one => sameValue(value, one)),
  compact: list => listOf(list).filter(one => !isEmpty(one)),
  concat: (...all) => all.flatMap(listOf),
  slice: (list, ...indexes) => {
    const all = listOf(list)
    return all.length === 0 ? null : all.slice(...bounds(all, indexes))
  },
  chunk: (size, list) => chunks(size, listOf(list)),
  sortAlpha: (list = null) => textsOf(list).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
  toStrings: (list = null) => textsOf(list),
  join: (separator, list = null) => textsOf(list).join(stringOf(separator)),
}

const dicts: Record<string, GoFunction> = {
  dict: (...values) => {
    const map: GoMap = new Map()
    for (let index = 0; index < values.length; index += 2) map.set(print(values[index]!), values[index + 1] ?? '')
    return map
  },
  get: (map, key) => mapOf(map).get(stringOf(key)) ?? '',
  set: (map, key, value = null) => mapOf(map).set(stringOf(key), value),
  unset: (map, key) => {
    mapOf(map).delete(stringOf(key))
    return map!
  },
  hasKey: (map, key) => mapOf(map).has(stringOf(key)),
  pluck: (key, ...maps) => maps.map(mapOf).flatMap(map => (map.has(stringOf(key)) ? [map.get(stringOf(key))!] : [])),
  // Go goes through them in no order: here it is that of the keys.
  keys: (...maps) => maps.map(mapOf).flatMap(map => sortedKeys(map).map(String)),
  values: map => sortedKeys(mapOf(map)).map(key => mapOf(map).get(key)!),
  pick: (map, ...keys) => new Map([...mapOf(map)].filter(([key]) => keys.includes(key))),
  omit: (map, ...keys) => new Map([...mapOf(map)].filter(([key]) => !keys.includes(key))),
  merge: (into, ...others) => others.reduce((map: GoMap, one) => mergeMaps(map, mapOf(one), false), mapOf(into)),
  mergeOverwrite: (into, ...others) =>
    others.reduce((map: GoMap, one) => mergeMaps(map, mapOf(one), true), mapOf(into)),
  dig: (...args) => dig(args),
  deepCopy: (value = null) => copyOf(value),
}

const anyValue: Record<string, GoFunction> = {
  default: (otherwise = null, ...given) => (isEmpty(given[0]) ? otherwise : given[0]!),
  empty: value => isEmpty(value),
  coalesce: (...values) => values.find(value => !isEmpty(value)) ?? null,
  all: (...values) => values.every(value => !isEmpty(value)),
  any: (...values) => values.some(value => !isEmpty(value)),
  ternary: (yes = null, no = null, condition) => {
    if (typeof condition !== 'boolean') throw new Error('needs a bool to choose by')
    return condition ? yes : no
  },
  fromJson: text => parseJson(stringOf(text)),
  toJson: (value = null) => writeJson(value, { escapeHtml: true }),
  toPrettyJson: (value = null) => writeJson(value, { escapeHtml: true, pretty: true }),
  toRawJson: (value = null) => writeJson(value, {}),
  toString: (value: GoValue = null) => sprint([value]),
  deepEqual: (one = null, other = null) => sameValue(one, other),
  typeOf: (value = null) => goType(value),
  typeIs: (type, value = null) => isOfType(stringOf(type), value),
  typeIsLike: (type, value = null) => isOfType(stringOf(type), value) || isOfType(`*${stringOf(type)}`, value),
  kindOf: (value = null) => goKind(value),
  kindIs: (kind, value = null) => isOfKind(stringOf(kind), value),
}

/** Where a `must…` fails, its plain form does so too: here everything fails loudly. */
const withMust =
  'append push prepend first last rest initial reverse uniq without has compact slice chunk merge mergeOverwrite deepCopy ' +
  'fromJson toJson toPrettyJson toRawJson'

/** By their names without `sprig_`. */
export const collectionFunctions: Readonly<Record<string, GoFunction>> = withMustForms(
  { ...lists, ...dicts, ...anyValue },
  withMust.split(' '),
)

/** The functions, and some of them by the name `must…` too. */
export function withMustForms(
  functions: Record<string, GoFunction>,
  names: readonly string[],
): Record<string, GoFunction> {
  const more = names.map(name => [`must${name[0]!.toUpperCase()}${name.slice(1)}`, functions[name]!])
  return { ...functions, ...Object.fromEntries(more) }
}

const integerTypes = ['int', 'int8', 'int16', 'int32', 'int64', 'uint', 'uint8', 'uint16', 'uint32', 'uint64']
const unknownType = (what: string) =>
  new Error(`which of Go's types ${what} has is not known here: ask for what the value is instead`)

function goKind(value: GoValue): string {
  if (isNil(value)) return 'invalid'
  if (typeof value === 'bigint') throw unknownType('an integer')
  if (typeof value === 'number') return 'float64'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'string' || value instanceof JsonNumber) return 'string'
  if (isList(value)) return 'slice'
  if (isMap(value)) return 'map'
  return value instanceof Struct ? 'ptr' : 'chan'
}

function isOfKind(kind: string, value: GoValue): boolean {
  if (typeof value !== 'bigint') return goKind(value) === kind
  if (integerTypes.includes(kind)) throw unknownType('an integer')
  return false
}

function goType(value: GoValue): string {
  if (isNil(value)) return '<nil>'
  if (value instanceof JsonNumber) return 'json.Number'
  const kind = goKind(value)
  if (['float64', 'bool', 'string'].includes(kind)) return kind
  throw unknownType(kindOf(value))
}

function isOfType(type: string, value: GoValue): boolean {
  if (typeof value === 'bigint') return isOfKind(type, value)
  if (!isList(value) && !isMap(value) && !(value instanceof Struct)) return goType(value) === type
  if (/[[\]*.]/.test(type)) throw unknownType(kindOf(value))
  return false
}
