// HCL as consul-template's configuration is written in (version 1), and the JSON that it takes instead: values with the
// line and column of each.
import { at, RekeyError } from '../errors.ts'

export interface Place {
  readonly line: number
  readonly column: number
}

export type HclValue = Place &
  (
    | { readonly kind: 'string'; readonly value: string }
    | { readonly kind: 'number'; readonly value: number }
    | { readonly kind: 'bool'; readonly value: boolean }
    | { readonly kind: 'null' }
    | { readonly kind: 'list'; readonly items: readonly HclValue[] }
    | HclObject
  )

/** `key = value` and `key { … }` alike, in order; a key may come several times. */
export interface HclObject extends Place {
  readonly kind: 'object'
  readonly entries: readonly HclEntry[]
}

export interface HclEntry extends Place {
  readonly key: string
  readonly value: HclValue
}

const simpleEscapes: Record<string, string> = {
  ...{ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v', '\\': '\\', '"': '"', '/': '/' },
}

/** No configuration nests deeper than six; the reader goes one call deeper with each level. */
const deepest = 100

/** Parse a file's text. Throws `RekeyError` with `file:line:column` for what is no HCL and no JSON. */
export function parseHcl(text: string, file: string): HclObject {
  // HCL takes a line end of Windows for one of Unix, also within a heredoc.
  const reader = createReader(text.replace(/^\ufeff/, '').replaceAll('\r\n', '\n'), file)
  reader.skip()
  if (reader.peek() !== '{') return readEntries(reader, '')
  // A file that starts with a brace is JSON.
  const root = readValue(reader)
  reader.skip()
  if (reader.peek() !== '') reader.fail('something stands after the end')
  return root as HclObject
}

type Reader = ReturnType<typeof createReader>

function createReader(text: string, file: string) {
  let offset = 0
  let line = 1
  let lineStart = 0
  let depth = 0

  const take = (count: number): string => {
    const taken = text.slice(offset, offset + count)
    for (const [index, character] of [...taken].entries()) {
      if (character === '\n') {
        line++
        lineStart = offset + index + 1
      }
    }
    offset += count
    return taken
  }
  const place = (): Place => ({ line, column: offset - lineStart + 1 })
  return {
    place,
    take,
    peek: (count = 1) => text.slice(offset, offset + count),
    /** What a sticky pattern matches here, taken; undefined where it doesn't. */
    match: (pattern: RegExp): string | undefined => {
      pattern.lastIndex = offset
      const found = pattern.exec(text)?.[0]
      return found === undefined ? undefined : take(found.length)
    },
    /** Spaces, line ends and comments. */
    skip: (): void => {
      const blank = /[ \t\r\n]+|#[^\n]*|\/\/[^\n]*|\/\*[\s\S]*?\*\//y
      for (;;) {
        blank.lastIndex = offset
        const found = blank.exec(text)?.[0]
        if (!found) break
        take(found.length)
      }
      if (text.startsWith('/*', offset)) fail('the comment does not end')
    },
    /** Read what stands one level deeper. */
    within: <T>(read: () => T, start: Place): T => {
      if (++depth > deepest) fail(`is nested deeper than ${deepest} levels`, start)
      const found = read()
      depth--
      return found
    },
    fail: (message: string, where = place()): never => fail(message, where),
  }

  function fail(message: string, where = place()): never {
    throw new RekeyError(`${at(file, where.line, where.column)}: ${message}`, { code: 'configuration.syntax' })
  }
}

/** Entries up to `end`: a brace, or the end of the text. */
function readEntries(reader: Reader, end: '' | '}', start = reader.place()): HclObject {
  const entries: HclEntry[] = []
  for (;;) {
    reader.skip()
    const next = reader.peek()
    if (next === end) {
      if (end) reader.take(1)
      return { kind: 'object', entries, ...start }
    }
    if (next === '') reader.fail(`a "{" is never closed`, start)
    if (next === '}') reader.fail('a "}" that nothing opened')
    entries.push(readEntry(reader))
    reader.skip()
    if (reader.peek() === ',') reader.take(1)
  }
}

function readEntry(reader: Reader): HclEntry {
  const where = reader.place()
  const keys = [readKey(reader)]
  for (;;) {
    reader.skip()
    const next = reader.peek()
    if (next === '=' || next === ':') {
      if (keys.length > 1) reader.fail('a setting has one name, and this has several', where)
      reader.take(1)
      reader.skip()
      return { key: keys[0]!, value: readValue(reader), ...where }
    }
    if (next === '{') {
      const brace = reader.place()
      reader.take(1)
      // `exec "x" { … }` is an object within an object.
      let value: HclValue = reader.within(() => readEntries(reader, '}', brace), brace)
      for (const key of keys.slice(1).reverse())
        value = { kind: 'object', entries: [{ key, value, ...where }], ...where }
      return { key: keys[0]!, value, ...where }
    }
    if (next === '') reader.fail(`"${keys[0]}" has no value`, where)
    if (!/["\p{L}_]/u.test(next)) reader.fail(`after "${keys[0]}" there must be "=" or "{"`)
    keys.push(readKey(reader))
  }
}

function readKey(reader: Reader): string {
  if (reader.peek() === '"') return readString(reader)
  const key = reader.match(/[\p{L}_][\p{L}\p{N}_.-]*/uy)
  return key ?? reader.fail(`a setting's name can't start with ${JSON.stringify(reader.peek())}`)
}

function readValue(reader: Reader): HclValue {
  const where = reader.place()
  const next = reader.peek()
  if (next === '"') return { kind: 'string', value: readString(reader), ...where }
  if (reader.peek(2) === '<<') return { kind: 'string', value: readHeredoc(reader), ...where }
  if (next === '[') return { kind: 'list', items: reader.within(() => readList(reader), where), ...where }
  if (next === '{') {
    reader.take(1)
    return reader.within(() => readEntries(reader, '}', where), where)
  }
  const number = reader.match(/[-+]?(0x[0-9a-fA-F]+|\d+(\.\d+)?([eE][-+]?\d+)?)/y)
  if (number !== undefined) return { kind: 'number', value: numberOf(number), ...where }
  const word = reader.match(/[A-Za-z_]+/y)
  if (word === 'true' || word === 'false') return { kind: 'bool', value: word === 'true', ...where }
  if (word === 'null') return { kind: 'null', ...where }
  return reader.fail(word ? `"${word}" is no value: strings stand in quotes` : 'a value is missing', where)
}

/** A leading zero makes it octal: `perms = 0600`. */
function numberOf(text: string): number {
  return /^[-+]?0\d+$/.test(text) ? Number.parseInt(text, 8) : Number(text)
}

function readList(reader: Reader): HclValue[] {
  const start = reader.place()
  reader.take(1)
  const items: HclValue[] = []
  for (;;) {
    reader.skip()
    if (reader.peek() === ']') {
      reader.take(1)
      return items
    }
    if (reader.peek() === '') reader.fail('a "[" is never closed', start)
    items.push(readValue(reader))
    reader.skip()
    if (reader.peek() === ',') reader.take(1)
    else if (reader.peek() !== ']') reader.fail('between the values of a list there must be a comma')
  }
}

/** A string in quotes. Within `${…}` nothing is escaped and quotes do not end it. */
function readString(reader: Reader): string {
  const start = reader.place()
  reader.take(1)
  let value = ''
  let braces = 0
  for (;;) {
    const next = reader.peek()
    if (next === '' || (next === '\n' && braces === 0)) reader.fail('the string does not end', start)
    if (next === '"' && braces === 0) {
      reader.take(1)
      return value
    }
    if (braces === 0 && reader.peek(2) === '${') {
      braces = 1
      value += reader.take(2)
    } else if (next === '\\' && braces === 0) {
      value += readEscape(reader)
    } else {
      if (braces > 0 && next === '{') braces++
      if (braces > 0 && next === '}') braces--
      value += reader.take(1)
    }
  }
}

function readEscape(reader: Reader): string {
  const where = reader.place()
  const code = reader.match(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3})/y)
  if (code !== undefined) {
    return String.fromCodePoint(
      /^\\\d/.test(code) ? Number.parseInt(code.slice(1), 8) : Number.parseInt(code.slice(2), 16),
    )
  }
  const simple = simpleEscapes[reader.peek(2)[1] ?? '']
  if (simple === undefined) reader.fail(`the escape ${JSON.stringify(reader.peek(2))} is not known`, where)
  reader.take(2)
  return simple!
}

/** `<<EOF`, and `<<-EOF`, which takes the indentation of its end away from every line. */
function readHeredoc(reader: Reader): string {
  const start = reader.place()
  const [, dash, marker] = /^<<(-?)(\w+)/.exec(reader.match(/<<-?\w+\n/y) ?? '') ?? []
  if (!marker) reader.fail('after "<<" there must be a word, and then the end of the line', start)
  const lines: string[] = []
  for (;;) {
    const line = reader.match(/[^\n]*\n?/y)!
    if (line.trim() === marker) {
      const indent = /^[ \t]*/.exec(line)![0]
      // The end of its line belongs to the file, not to the text.
      if (!dash) return lines.join('') + indent
      const together = lines.every(one => one.startsWith(indent))
      return lines.map(one => (together ? one.slice(indent.length) : one)).join('')
    }
    if (!line.endsWith('\n')) reader.fail(`the text does not end: there is no line "${marker}"`, start)
    lines.push(line)
  }
}
