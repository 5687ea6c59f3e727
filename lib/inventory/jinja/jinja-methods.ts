// Methods of Python's texts, lists and maps that templates call: `name.split('.')`, `map.get('key', 1)`, `list.append(1)`.
import { formatBraces } from '../python/python-format.ts'
import {
  asKey,
  compare,
  equal,
  isFloat,
  isNumber,
  iterate,
  TemplateError,
  text,
  truthy,
} from '../python/python-values.ts'
import { Dict, isKey, isMapping } from '../values.ts'
import { absent, bind, type CallArguments, type Limits, list, string, whole } from './jinja-call.ts'

type Method<Target> = (target: Target, args: CallArguments, limits: Limits) => unknown
type Methods<Target> = Readonly<Record<string, Method<Target>>>

/** The methods that change what they are called on: a template that has one of them works on values of its own. */
export const changingMethods = /\.\s*(append|extend|insert|pop|popitem|remove|clear|sort|reverse|update|setdefault)\b/

/** A method of a value; undefined where Python has none of that name. One that rekey doesn't have throws when it is called. */
export function methodOf(target: unknown, name: string): Method<unknown> | undefined {
  const [known, others] =
    typeof target === 'string'
      ? [textMethods as Methods<never>, otherTextMethods]
      : Array.isArray(target)
        ? [listMethods as Methods<never>, []]
        : isMapping(target)
          ? [mapMethods as Methods<never>, ['fromkeys']]
          : isNumber(target)
            ? [{}, numberMethods]
            : [{}, []]
  if (Object.hasOwn(known, name)) return known[name] as Method<unknown>
  if (!others.includes(name)) return undefined
  return () => {
    throw new TemplateError(`".${name}()" is not one that rekey has`)
  }
}

const otherTextMethods = ['encode', 'expandtabs', 'format_map', 'isidentifier', 'isprintable', 'maketrans', 'translate']
const numberMethods = [
  'as_integer_ratio',
  'bit_count',
  'bit_length',
  'conjugate',
  'fromhex',
  'hex',
  'is_integer',
  'to_bytes',
]

/** White space to Python: JavaScript's, and four separators. */
const isSpace = (character: string): boolean => /[\s\x1c-\x1f\x85]/.test(character) && character !== '\ufeff'

/** A text without the characters of a set, white space where none is given, at its ends. */
export function strip(written: string, characters: unknown, start: boolean, end: boolean): string {
  const set = absent(characters) ? undefined : new Set(string(characters))
  const units = [...written]
  const goes = (unit: string): boolean => (set ? set.has(unit) : isSpace(unit))
  let [from, to] = [0, units.length]
  if (start) while (from < to && goes(units[from]!)) from++
  if (end) while (to > from && goes(units[to - 1]!)) to--
  return units.slice(from, to).join('')
}

/** Python's `split`: at white space in any amount, or at a text, at most so many times. */
export function split(written: string, separator: unknown, most: unknown = -1): string[] {
  const limit = whole(most)
  if (absent(separator)) {
    const words: string[] = []
    const spaces = /[\s\x1c-\x1f\x85]+/g
    let rest = strip(written, null, true, false)
    if (limit < 0)
      return strip(rest, null, false, true)
        .split(spaces)
        .filter(word => word !== '')
    while (rest !== '') {
      const cut = words.length >= limit ? -1 : rest.search(/[\s\x1c-\x1f\x85]/)
      if (cut === -1) {
        words.push(words.length >= limit ? rest : strip(rest, null, false, true))
        break
      }
      words.push(rest.slice(0, cut))
      rest = strip(rest.slice(cut), null, true, false)
    }
    return words
  }
  if (separator === '') throw new TemplateError('the separator is empty')
  const parts = written.split(string(separator))
  return limit < 0 || parts.length <= limit + 1
    ? parts
    : [...parts.slice(0, limit), parts.slice(limit).join(string(separator))]
}

function splitFromEnd(written: string, separator: unknown, most: unknown): string[] {
  if (absent(separator)) {
    const reversed = split([...written].reverse().join(''), null, most)
    return reversed.map(part => [...part].reverse().join('')).reverse()
  }
  const parts = split(written, separator)
  const cut = whole(most) < 0 ? 0 : parts.length - whole(most) - 1
  return cut <= 0 ? parts : [parts.slice(0, cut + 1).join(string(separator)), ...parts.slice(cut + 1)]
}

/** Python's `splitlines`. */
function splitLines(written: string, keep = false): string[] {
  const lines = written.split(
    keep ? /(?<=\r\n|[\n\v\f\x1c-\x1e\x85\u2028\u2029]|\r(?!\n))/ : /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/,
  )
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines
}

const affixes = (value: unknown): string[] => (Array.isArray(value) ? value.map(string) : [string(value)])
/** Whether all characters of a text are of a kind, and there is one. */
const every =
  (kind: RegExp): Method<string> =>
  written =>
    written !== '' && [...written].every(one => kind.test(one))
/** A text in a field of so many characters. */
export function padded(
  written: string,
  width: number,
  fill: string,
  side: 'left' | 'right' | 'both',
  limits: Limits,
): string {
  const missing = width - [...written].length
  if (missing <= 0) return written
  limits.text(written.length + missing)
  if ([...fill].length !== 1) throw new TemplateError('what fills a field is one character')
  if (side === 'both') {
    const before = Math.floor(missing / 2) + (missing & width & 1)
    return fill.repeat(before) + written + fill.repeat(missing - before)
  }
  return side === 'left' ? fill.repeat(missing) + written : written + fill.repeat(missing)
}

/** Python's `title`: each word begins with a capital. */
const title = (written: string): string =>
  written.toLowerCase().replace(/(?<!\p{L})\p{L}/gu, letter => letter.toUpperCase())
export const capitalized = (written: string): string => {
  const [first = ''] = written
  return first.toUpperCase() + written.slice(first.length).toLowerCase()
}
/** Where a text begins and ends for `find` and its kin. */
function part(written: string, start: unknown, end: unknown): { from: number; to: number } {
  const place = (given: unknown, otherwise: number): number => {
    if (absent(given)) return otherwise
    const index = whole(given)
    return Math.min(Math.max(index < 0 ? index + written.length : index, 0), written.length)
  }
  return { from: place(start, 0), to: place(end, written.length) }
}

function find(written: string, args: CallArguments, last: boolean): number {
  const { sub, start, end } = bind(args, 'sub', 'start', 'end')
  const { from, to } = part(written, start, end)
  const found = last ? written.slice(from, to).lastIndexOf(string(sub)) : written.slice(from, to).indexOf(string(sub))
  return found === -1 ? -1 : found + from
}

function findOrThrow(written: string, args: CallArguments, last: boolean): number {
  const found = find(written, args, last)
  if (found === -1) throw new TemplateError('the text has no such part')
  return found
}

function partition(written: string, args: CallArguments, last: boolean): string[] {
  const separator = string(bind(args, 'sep').sep)
  if (separator === '') throw new TemplateError('the separator is empty')
  const at = last ? written.lastIndexOf(separator) : written.indexOf(separator)
  if (at === -1) return last ? ['', '', written] : [written, '', '']
  return [written.slice(0, at), separator, written.slice(at + separator.length)]
}

/** Python's `replace`: every place, or at most so many. */
export function replaceText(written: string, from: string, to: string, count: number, limits: Limits): string {
  const most = count < 0 ? Number.POSITIVE_INFINITY : count
  if (from === '') {
    const parts = [...written]
    const places = Math.min(most, parts.length + 1)
    limits.step(places)
    limits.text(written.length + places * to.length)
    const all = parts.map((part, index) => (index < places ? to + part : part)).join('')
    return places > parts.length ? all + to : all
  }
  let places = 0
  let end = 0
  for (let at = written.indexOf(from); at !== -1 && places < most; at = written.indexOf(from, end)) {
    end = at + from.length
    places++
  }
  limits.step(places * 4)
  limits.text(written.length + places * (to.length - from.length))
  // "$" means something to JavaScript there.
  return written.slice(0, end).replaceAll(from, to.replaceAll('$', '$$$$')) + written.slice(end)
}

const textMethods: Methods<string> = {
  upper: written => written.toUpperCase(),
  lower: written => written.toLowerCase(),
  casefold: written => written.toLowerCase().replaceAll('ß', 'ss'),
  swapcase: written =>
    [...written].map(one => (one === one.toUpperCase() ? one.toLowerCase() : one.toUpperCase())).join(''),
  capitalize: capitalized,
  title,
  strip: (written, args) => strip(written, bind(args, 'chars').chars, true, true),
  lstrip: (written, args) => strip(written, bind(args, 'chars').chars, true, false),
  rstrip: (written, args) => strip(written, bind(args, 'chars').chars, false, true),
  removeprefix: (written, args) => {
    const prefix = string(bind(args, 'prefix').prefix)
    return written.startsWith(prefix) ? written.slice(prefix.length) : written
  },
  removesuffix: (written, args) => {
    const suffix = string(bind(args, 'suffix').suffix)
    return suffix !== '' && written.endsWith(suffix) ? written.slice(0, -suffix.length) : written
  },
  split: (written, args) => {
    const { sep, maxsplit } = bind(args, 'sep', 'maxsplit')
    return split(written, sep, maxsplit ?? -1)
  },
  rsplit: (written, args) => {
    const { sep, maxsplit } = bind(args, 'sep', 'maxsplit')
    return splitFromEnd(written, sep, maxsplit ?? -1)
  },
  splitlines: (written, args) => splitLines(written, truthy(bind(args, 'keepends').keepends ?? false)),
  partition: (written, args) => partition(written, args, false),
  rpartition: (written, args) => partition(written, args, true),
  replace: (written, args, limits) => {
    const { from, to, count = -1 } = bind(args, 'from', 'to', 'count')
    return replaceText(written, string(from), string(to), whole(count), limits)
  },
  startswith: (written, args) => {
    const { prefix, start, end } = bind(args, 'prefix', 'start', 'end')
    const { from, to } = part(written, start, end)
    return affixes(prefix).some(one => written.slice(from, to).startsWith(one))
  },
  endswith: (written, args) => {
    const { suffix, start, end } = bind(args, 'suffix', 'start', 'end')
    const { from, to } = part(written, start, end)
    return affixes(suffix).some(one => written.slice(from, to).endsWith(one))
  },
  join: (written, args, limits) => {
    const parts = iterate(bind(args, 'parts').parts).map(string)
    limits.text(parts.reduce((sum, one) => sum + one.length + written.length, 0))
    return parts.join(written)
  },
  format: (written, { positional, named }, limits) => {
    const formatted = formatBraces(written, positional, named)
    limits.text(formatted.length)
    return formatted
  },
  find: (written, args) => find(written, args, false),
  rfind: (written, args) => find(written, args, true),
  index: (written, args) => findOrThrow(written, args, false),
  rindex: (written, args) => findOrThrow(written, args, true),
  count: (written, args) => written.split(string(bind(args, 'sub').sub)).length - 1,
  isdigit: every(/^[\p{Nd}\u00b2\u00b3\u00b9\u2070-\u2089]$/u),
  isdecimal: every(/^\p{Nd}$/u),
  isnumeric: every(/^\p{N}$/u),
  isalpha: every(/^\p{L}$/u),
  isalnum: every(/^[\p{L}\p{N}]$/u),
  isspace: every(/^[\s\x1c-\x1f\x85]$/u),
  isascii: written => !/[^\x00-\x7f]/.test(written),
  islower: written => written === written.toLowerCase() && written !== written.toUpperCase(),
  isupper: written => written === written.toUpperCase() && written !== written.toLowerCase(),
  istitle: written => /\p{L}/u.test(written) && written === title(written),
  zfill: (written, args, limits) => {
    const width = whole(bind(args, 'width').width)
    const sign = /^[-+]/.exec(written)?.[0] ?? ''
    return sign + padded(written.slice(sign.length), width - sign.length, '0', 'left', limits)
  },
  ljust: (written, args, limits) => {
    const { width, fill = ' ' } = bind(args, 'width', 'fill')
    return padded(written, whole(width), string(fill), 'right', limits)
  },
  rjust: (written, args, limits) => {
    const { width, fill = ' ' } = bind(args, 'width', 'fill')
    return padded(written, whole(width), string(fill), 'left', limits)
  },
  center: (written, args, limits) => {
    const { width, fill = ' ' } = bind(args, 'width', 'fill')
    return padded(written, whole(width), string(fill), 'both', limits)
  },
}

/** Where a member stands. Throws `TemplateError` where there is none. */
function indexOf(members: readonly unknown[], index: unknown): number {
  if (isFloat(index)) throw new TemplateError('an index is a whole number')
  const at = whole(index)
  const place = at < 0 ? at + members.length : at
  if (place < 0 || place >= members.length) throw new TemplateError('the list has no such member')
  return place
}

function position(members: readonly unknown[], member: unknown, from = 0): number {
  const found = members.findIndex((item, index) => index >= from && equal(item, member))
  if (found === -1) throw new TemplateError('the list has no such member')
  return found
}

const listMethods: Methods<unknown[]> = {
  index: (members, args) => {
    const { member, start = 0 } = bind(args, 'member', 'start')
    return position(members, member, whole(start))
  },
  count: (members, args) => members.filter(item => equal(item, bind(args, 'member').member)).length,
  copy: members => members.slice(),
  append: (members, args, limits) => {
    limits.members(members.length + 1)
    members.push(bind(args, 'member').member)
    return null
  },
  extend: (members, args, limits) => {
    const others = iterate(bind(args, 'members').members)
    limits.members(members.length + others.length)
    for (const one of [...others]) members.push(one)
    return null
  },
  insert: (members, args) => {
    const { index, member } = bind(args, 'index', 'member')
    members.splice(whole(index), 0, member)
    return null
  },
  pop: (members, args) => {
    if (members.length === 0) throw new TemplateError('the list is empty')
    return members.splice(indexOf(members, bind(args, 'index').index ?? -1), 1)[0]
  },
  remove: (members, args) => {
    members.splice(position(members, bind(args, 'member').member), 1)
    return null
  },
  clear: members => {
    members.length = 0
    return null
  },
  reverse: members => {
    members.splice(0, members.length, ...members.toReversed())
    return null
  },
  sort: (members, args) => {
    const { reverse = false } = bind({ positional: [], named: args.named }, 'reverse')
    const sign = truthy(reverse) ? -1 : 1
    members.splice(0, members.length, ...members.toSorted((one, other) => sign * compare(one, other)))
    return null
  },
}

function update(target: Dict, { positional, named }: CallArguments): null {
  for (const given of positional) {
    const entries = isMapping(given) ? given.entries() : list(given).map(pair => list(pair) as [unknown, unknown])
    for (const [key, item] of entries) target.set(asKey(key), item)
  }
  for (const [name, item] of named) target.set(name, item)
  return null
}

const mapMethods: Methods<Dict> = {
  items: map => map.entries(),
  keys: map => map.keys(),
  values: map => map.values(),
  copy: map => Dict.of(map.entries()),
  get: (map, args) => {
    const { key, otherwise = null } = bind(args, 'key', 'otherwise')
    return isKey(key) && map.has(key) ? map.get(key) : otherwise
  },
  update,
  setdefault: (map, args) => {
    const { key, otherwise = null } = bind(args, 'key', 'otherwise')
    if (!map.has(asKey(key))) map.set(asKey(key), otherwise)
    return map.get(asKey(key))
  },
  pop: (map, args) => {
    const { key, otherwise } = bind(args, 'key', 'otherwise')
    if (!map.has(asKey(key))) {
      if (otherwise === undefined) throw new TemplateError(`the map has no key "${text(key)}"`)
      return otherwise
    }
    const found = map.get(asKey(key))
    map.delete(asKey(key))
    return found
  },
  popitem: map => {
    const last = map.entries().at(-1)
    if (!last) throw new TemplateError('the map is empty')
    map.delete(last[0])
    return last
  },
  clear: map => {
    for (const key of map.keys()) map.delete(key)
    return null
  },
}
