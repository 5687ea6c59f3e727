// Methods of Python's texts, lists and maps that templates call: `name.split('.')`, `map.get('key', 1)`.

import { equal, pythonType, TemplateError, toNumber } from '../python/python-values.ts'
import { type Dict, isKey, isMapping } from '../values.ts'
import type { CallArguments } from './jinja-call.ts'

/** Calls a method of a value. Throws `TemplateError` naming one that rekey doesn't have. */
export function callMethod(target: unknown, name: string, { positional, named }: CallArguments): unknown {
  if (named.size > 0) throw new TemplateError(`".${name}()" takes no named arguments here`)
  let method: ((...args: unknown[]) => unknown) | undefined
  if (typeof target === 'string') method = textMethods(target)[name]
  else if (Array.isArray(target)) method = listMethods(target)[name]
  else if (isMapping(target)) method = mapMethods(target)[name]
  if (method) return method(...positional)
  throw new TemplateError(`".${name}()" of a ${pythonType(target)} is not one that rekey has`)
}

type Methods = Record<string, ((...args: unknown[]) => unknown) | undefined>

function string(value: unknown): string {
  if (typeof value === 'string') return value
  throw new TemplateError(`expected a text, not a ${pythonType(value)}`)
}

function whole(value: unknown): number {
  const number = toNumber(value)
  if (number !== undefined && Number.isInteger(number)) return number
  throw new TemplateError(`expected a whole number, not a ${pythonType(value)}`)
}

const space = '\\s'
const classOf = (characters: unknown): string =>
  characters === undefined || characters === null ? space : string(characters).replace(/[\\\]^-]/g, '\\$&')
const strip = (text: string, characters: unknown, start: boolean, end: boolean): string => {
  const set = classOf(characters)
  if (set === '') return text
  let result = text
  if (start) result = result.replace(new RegExp(`^[${set}]+`, 'u'), '')
  if (end) result = result.replace(new RegExp(`[${set}]+$`, 'u'), '')
  return result
}

/** Python's `split`: at white space in any amount, or at a text, at most so many times. */
export function split(text: string, separator: unknown, most: unknown = -1): string[] {
  const limit = whole(most)
  if (separator === undefined || separator === null) {
    const words: string[] = []
    let rest = text.trimStart()
    while (rest !== '') {
      const cut = limit >= 0 && words.length >= limit ? -1 : rest.search(/\s/)
      if (cut === -1) {
        words.push(limit >= 0 && words.length >= limit ? rest : rest.trimEnd())
        break
      }
      words.push(rest.slice(0, cut))
      rest = rest.slice(cut).trimStart()
    }
    return words
  }
  if (separator === '') throw new TemplateError('the separator is empty')
  const parts = text.split(string(separator))
  return limit < 0 || parts.length <= limit + 1
    ? parts
    : [...parts.slice(0, limit), parts.slice(limit).join(string(separator))]
}

const affixes = (value: unknown): string[] => (Array.isArray(value) ? value.map(string) : [string(value)])

const textMethods = (text: string): Methods => ({
  upper: () => text.toUpperCase(),
  lower: () => text.toLowerCase(),
  capitalize: () => text.slice(0, 1).toUpperCase() + text.slice(1).toLowerCase(),
  title: () => text.toLowerCase().replace(/(?<!\p{L})\p{L}/gu, letter => letter.toUpperCase()),
  strip: characters => strip(text, characters, true, true),
  lstrip: characters => strip(text, characters, true, false),
  rstrip: characters => strip(text, characters, false, true),
  split: (separator, most) => split(text, separator, most),
  rsplit: (separator, most = -1) => {
    const parts = split(text, separator)
    const cut = whole(most) < 0 ? 0 : parts.length - whole(most) - 1
    if (cut <= 0) return parts
    if (separator === undefined || separator === null)
      throw new TemplateError('".rsplit()" with a limit needs a separator here')
    return [parts.slice(0, cut + 1).join(string(separator)), ...parts.slice(cut + 1)]
  },
  splitlines: () => {
    const lines = text.split(/\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/)
    return lines.at(-1) === '' ? lines.slice(0, -1) : lines
  },
  replace: (from, to, count = -1) => replaceText(text, string(from), string(to), whole(count)),
  startswith: prefix => affixes(prefix).some(one => text.startsWith(one)),
  endswith: suffix => affixes(suffix).some(one => text.endsWith(one)),
  join: parts => (Array.isArray(parts) ? parts.map(string).join(text) : [...string(parts)].join(text)),
  find: part => text.indexOf(string(part)),
  count: part => text.split(string(part)).length - 1,
  isdigit: () => /^\p{Nd}+$/u.test(text),
  zfill: width =>
    /^[-+]/.test(text) ? text[0] + text.slice(1).padStart(whole(width) - 1, '0') : text.padStart(whole(width), '0'),
  ljust: (width, fill = ' ') => text.padEnd(whole(width), string(fill)),
  rjust: (width, fill = ' ') => text.padStart(whole(width), string(fill)),
})

/** Python's `replace`: every place, or at most so many. */
export function replaceText(text: string, from: string, to: string, count: number): string {
  if (count < 0) return text.replaceAll(from, () => to)
  const parts = text.split(from)
  const replaced = Math.min(count, parts.length - 1)
  return [parts.slice(0, replaced + 1).join(to), ...parts.slice(replaced + 1)].join(from)
}

const listMethods = (list: readonly unknown[]): Methods => ({
  index: member => {
    const found = list.findIndex(item => equal(item, member))
    if (found === -1) throw new TemplateError('the list has no such member')
    return found
  },
  count: member => list.filter(item => equal(item, member)).length,
})

const mapMethods = (map: Dict): Methods => ({
  items: () => map.entries(),
  keys: () => map.keys(),
  values: () => map.values(),
  get: (key, otherwise = null) => (isKey(key) && map.has(key) ? map.get(key) : otherwise),
})
