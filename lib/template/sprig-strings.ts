// Sprig's functions on strings. Go's count bytes, and so do these, but where a function looks at letters.
import { sprigStrings } from '@promptctl/go-template-js'
import { quote } from './builtins.ts'
import { type GoFunction, type GoValue, isNil, kindOf, print, toBytes, toText } from './values.ts'

type Kind = 'string' | 'int'
type Of<K> = K extends 'string' ? string : number

function given(value: GoValue | undefined, kind: Kind): string | number {
  if (kind === 'string' && typeof value === 'string') return value
  if (kind === 'int' && typeof value === 'bigint') return Number(value)
  const wanted = kind === 'string' ? 'a string' : 'an integer'
  throw new Error(`needs ${wanted}, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function takes<const K extends readonly Kind[]>(
  kinds: K,
  run: (...args: { [I in keyof K]: Of<K[I]> }) => GoValue,
): GoFunction {
  return (...args) => {
    if (args.length !== kinds.length) throw new Error(`needs ${kinds.length} arguments, and got ${args.length}`)
    return run(...(kinds.map((kind, index) => given(args[index], kind)) as { [I in keyof K]: Of<K[I]> }))
  }
}

/** A function of the library on text that takes one string. */
function onText(name: 'camelcase' | 'kebabcase' | 'snakecase'): GoFunction {
  const { fn } = (sprigStrings() as unknown as Record<string, { fn(text: string): string }>)[name]!
  return takes(['string'], bytes => toBytes(fn(toText(bytes))))
}

/** Go maps each letter to one letter; JavaScript turns some into two. */
function mapLetter(letter: string, map: (letter: string) => string): string {
  const other = map(letter)
  return [...other].length === 1 ? other : letter
}

const upper = (letter: string) => mapLetter(letter, one => one.toUpperCase())
const lower = (letter: string) => mapLetter(letter, one => one.toLowerCase())

function mapLetters(bytes: string, map: (letter: string, before: string | undefined) => string): string {
  const letters = [...toText(bytes)]
  return toBytes(letters.map((letter, index) => map(letter, letters[index - 1])).join(''))
}

const isSpace = (letter: string | undefined) => letter === undefined || /^[\s\u0085]$/.test(letter)

/** Between words for strings.Title: what is neither letter, digit nor underscore; beyond ASCII only spaces. */
function endsWord(letter: string | undefined): boolean {
  if (letter === undefined) return true
  return letter <= '\x7f' ? !/[A-Za-z0-9_]/.test(letter) : isSpace(letter)
}

function swapCase(bytes: string): string {
  return mapLetters(bytes, letter => (/\p{Lu}|\p{Lt}/u.test(letter) ? lower(letter) : upper(letter)))
}

function abbreviate(text: string, offset: number, width: number): string {
  if (text.length <= width) return text
  const marker = '...'
  const rest = width - marker.length
  const from = text.length - Math.min(offset, text.length) < rest ? text.length - rest : Math.min(offset, text.length)
  if (from <= 4) return text.slice(0, rest) + marker
  if (from + rest < text.length) return marker + abbreviate(text.slice(from), 0, rest)
  return marker + text.slice(text.length - rest)
}

/** Lines of `width` bytes at most. A word that is longer stands alone, or is broken where `breakWords` says so. */
function wrapped(text: string, asked: number, lineEnd: string, breakWords: boolean): string {
  const width = Math.max(asked, 1)
  const lines: string[] = []
  let from = 0
  while (text.length - from > width) {
    if (text[from] === ' ') {
      from++
      continue
    }
    const space = text.lastIndexOf(' ', from + width)
    const next = space >= from ? space : breakWords ? -1 : text.indexOf(' ', from + width)
    if (next < 0 && !breakWords) break
    lines.push(text.slice(from, next < 0 ? from + width : next))
    from = next < 0 ? from + width : next + 1
  }
  return [...lines, text.slice(from)].join(lineEnd === '' ? '\n' : lineEnd)
}

function truncated(count: number, text: string): string {
  if (count < 0) return text.length + count > 0 ? text.slice(text.length + count) : text
  return text.slice(0, count)
}

function substring(start: number, end: number, text: string): string {
  if (start > text.length || (start < 0 && (end < 0 || end > text.length)) || (end >= 0 && start > end)) {
    throw new Error(`the text has no bytes from ${start} to ${end}`)
  }
  if (start < 0) return text.slice(0, end)
  return end < 0 ? text.slice(start) : text.slice(start, end)
}

/** strings.Split: letter by letter where there is no separator. */
function splitText(separator: string, text: string): string[] {
  return separator === '' ? [...toText(text)].map(toBytes) : text.split(separator)
}

function splitSome(separator: string, most: number, text: string): string[] {
  if (most === 0) return []
  const parts = splitText(separator, text)
  if (most < 0 || parts.length <= most) return parts
  return [...parts.slice(0, most - 1), parts.slice(most - 1).join(separator)]
}

const numbered = (parts: readonly string[]) => new Map(parts.map((part, index) => [`_${index}`, part]))

function trimmed(cutset: string, bytes: string): string {
  const [cut, letters] = [new Set(toText(cutset)), [...toText(bytes)]]
  const first = letters.findIndex(letter => !cut.has(letter))
  const last = letters.findLastIndex(letter => !cut.has(letter))
  return first < 0 ? '' : toBytes(letters.slice(first, last + 1).join(''))
}

function indented(spaces: number, text: string): string {
  if (spaces < 0) throw new Error('the number of spaces must not be negative')
  const pad = ' '.repeat(spaces)
  return pad + text.replaceAll('\n', `\n${pad}`)
}

const present = (values: readonly GoValue[]) => values.filter(value => !isNil(value))

/** By their names without `sprig_`. */
export const stringFunctions: Readonly<Record<string, GoFunction>> = {
  hello: () => 'Hello!',
  abbrev: takes(['int', 'string'], (width, text) => (width < 4 ? text : abbreviate(text, 0, width))),
  abbrevboth: takes(['int', 'int', 'string'], (left, right, text) =>
    right < 4 || (left > 0 && right < 7) ? text : abbreviate(text, left, right),
  ),
  camelcase: onText('camelcase'),
  kebabcase: onText('kebabcase'),
  snakecase: onText('snakecase'),
  upper: takes(['string'], text => mapLetters(text, upper)),
  lower: takes(['string'], text => mapLetters(text, lower)),
  title: takes(['string'], text => mapLetters(text, (letter, before) => (endsWord(before) ? upper(letter) : letter))),
  untitle: takes(['string'], text => mapLetters(text, (letter, before) => (isSpace(before) ? lower(letter) : letter))),
  swapcase: takes(['string'], swapCase),
  // The first byte of each word, written as a letter: what Sprig makes of `é`.
  initials: takes(['string'], text => toBytes((text.match(/(?<![^\t-\r ])[^\t-\r ]/g) ?? []).join(''))),
  trim: takes(['string'], text => toBytes(toText(text).replaceAll(/^[\s\u0085]+|[\s\u0085]+$/g, ''))),
  trimAll: takes(['string', 'string'], trimmed),
  trimall: takes(['string', 'string'], trimmed),
  trimPrefix: takes(['string', 'string'], (prefix, text) =>
    text.startsWith(prefix) ? text.slice(prefix.length) : text,
  ),
  trimSuffix: takes(['string', 'string'], (suffix, text) =>
    text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text,
  ),
  nospace: takes(['string'], text => toBytes(toText(text).replaceAll(/[\s\u0085]+/g, ''))),
  contains: takes(['string', 'string'], (part, text) => text.includes(part)),
  hasPrefix: takes(['string', 'string'], (prefix, text) => text.startsWith(prefix)),
  hasSuffix: takes(['string', 'string'], (suffix, text) => text.endsWith(suffix)),
  replace: takes(['string', 'string', 'string'], (from, to, text) =>
    from === '' ? to + [...toText(text)].map(letter => toBytes(letter) + to).join('') : text.split(from).join(to),
  ),
  repeat: takes(['int', 'string'], (count, text) => {
    if (count < 0) throw new Error('the count must not be negative')
    return text.repeat(count)
  }),
  substr: takes(['int', 'int', 'string'], substring),
  trunc: takes(['int', 'string'], truncated),
  indent: takes(['int', 'string'], indented),
  nindent: takes(['int', 'string'], (spaces, text) => `\n${indented(spaces, text)}`),
  wrap: takes(['int', 'string'], (width, text) => wrapped(text, width, '', false)),
  wrapWith: takes(['int', 'string', 'string'], (width, lineEnd, text) => wrapped(text, width, lineEnd, true)),
  plural: takes(['string', 'string', 'int'], (one, many, count) => (count === 1 ? one : many)),
  quote: (...values) =>
    present(values)
      .map(value => quote(print(value)))
      .join(' '),
  squote: (...values) =>
    present(values)
      .map(value => `'${print(value)}'`)
      .join(' '),
  cat: (...values) => present(values).map(print).join(' '),
  split: takes(['string', 'string'], (separator, text) => numbered(splitText(separator, text))),
  splitList: takes(['string', 'string'], splitText),
  splitn: takes(['string', 'int', 'string'], (separator, most, text) => numbered(splitSome(separator, most, text))),
  regexQuoteMeta: takes(['string'], text => text.replaceAll(/[\\.+*?()|[\]{}^$]/g, '\\$&')),
}
