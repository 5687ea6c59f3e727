// YAML of Kubernetes' own files with the places of what is in it, and lists in it edited so that every other byte stays.
import { isDeepStrictEqual } from 'node:util'
import { COLLECTION_STYLE, dump, EVENT_ID, getScalarValue, load, parseEvents } from 'js-yaml'
import { at, RekeyError } from '../errors.ts'

/** The way to a value: names of members, numbers of items. */
export type YamlPath = readonly (string | number)[]

/** A file, read. */
export interface LocatedYaml {
  readonly value: unknown
  /** The line of what is at a path, 1-based; of the nearest that is there, where nothing is. */
  lineOf(path: YamlPath): number
}

/** One change of a list in a file. */
export type ListEdit =
  | { readonly kind: 'insert'; readonly list: YamlPath; readonly at: number; readonly item: unknown }
  | { readonly kind: 'remove'; readonly list: YamlPath; readonly at: number }
  /** Makes an item the first one. */
  | { readonly kind: 'raise'; readonly list: YamlPath; readonly at: number }

interface Place {
  readonly start: number
  readonly flow: boolean
}

/**
 * Reads a file.
 * @param where the file, for messages: which quote nothing of it, as it may hold keys
 * @throws RekeyError where it is not one document of YAML
 */
export function locatedYaml(text: string, where: string): LocatedYaml {
  const value = loaded(text, where)
  let places: ReadonlyMap<string, Place> | undefined
  return {
    value,
    lineOf: path => {
      // Most files are as they should be, and nobody asks for a line.
      places ??= placesIn(text, where).places
      return text.slice(0, nearest(places, path)?.start ?? 0).split('\n').length
    },
  }
}

/**
 * Edits lists, one change after the other. What is written in blocks keeps comments, order and spacing of all the rest, and comments right above
 * an item go with it; a file that is JSON is written as it was, with its indentation.
 * @throws RekeyError where a list is written in a way that can't be edited so: inline within YAML, or by an alias
 */
export function editLists(text: string, where: string, edits: readonly ListEdit[]): string {
  return edits.reduce((before, edit) => editList(before, where, edit), text)
}

function editList(text: string, where: string, edit: ListEdit): string {
  const { value, places, aliased } = parsed(text, where)
  const wanted = structuredClone(value)
  const list = edit.list.reduce<unknown>((one, step) => (one as Record<string | number, unknown>)?.[step], wanted)
  const place = places.get(keyOf(edit.list))
  if (!Array.isArray(list) || !place)
    throw new RekeyError(`${where} has no list to edit at ${edit.list.join('.')}`, {
      code: 'yaml.no-list',
    })
  apply(list, edit)
  if (/^\s*\{/.test(text)) return asJson(text, wanted)
  const line = text.slice(0, place.start).split('\n').length
  if (place.flow || aliased)
    throw notEditable(at(where, line), place.flow ? 'is written inline' : 'is in a file with aliases')
  const edited = inBlocks(text, place.start, edit, list.length)
  // Whatever way of writing was not thought of is refused, and not written wrong.
  if (!isDeepStrictEqual(parsed(edited, where).value, wanted))
    throw notEditable(at(where, line), 'is written in an unusual way')
  return edited
}

const notEditable = (where: string, how: string) =>
  new RekeyError(`${where}: the list ${how}, and can't be edited without touching the rest`, {
    code: 'yaml.not-editable',
    hint: 'Write it as a block, an item a line that begins with "- ".',
  })

function apply(list: unknown[], edit: ListEdit): void {
  if (edit.kind === 'insert') list.splice(edit.at, 0, edit.item)
  else {
    const [item] = list.splice(edit.at, 1)
    if (edit.kind === 'raise') list.unshift(item)
  }
}

function asJson(text: string, value: unknown): string {
  const indent = /^\s*\{\r?\n([ \t]+)/.exec(text)?.[1]
  return `${JSON.stringify(value, null, indent)}${text.slice(text.trimEnd().length)}`
}

/** The lines of a block list, an item each, with what stands between them. */
function inBlocks(text: string, start: number, edit: ListEdit, length: number): string {
  const lineStart = text.lastIndexOf('\n', start - 1) + 1
  const column = start - lineStart
  const lines = text.split('\n')
  const first = text.slice(0, start).split('\n').length - 1
  const items = blocksOf(lines, first, column)
  if (edit.kind === 'insert') {
    const ending = lines[first]!.endsWith('\r') ? '\r' : ''
    const written = dump([edit.item], { lineWidth: -1 }).trimEnd().split('\n')
    const block = written.map(line => `${' '.repeat(column)}${line}${ending}`)
    const after = items[edit.at - 1]
    const place = after ? after.end : items[0]!.begin
    // Where the text ends without an end of its last line, it gets one before anything follows.
    return [...lines.slice(0, place), ...block, ...lines.slice(place)].join('\n')
  }
  const { begin, end } = items[edit.at] ?? { begin: 0, end: 0 }
  const block = lines.slice(begin, end)
  const without = [...lines.slice(0, begin), ...lines.slice(end)]
  if (edit.kind === 'remove') return length === 0 ? text : without.join('\n')
  const top = items[0]!.begin
  return [...without.slice(0, top), ...block, ...without.slice(top)].join('\n')
}

/** Which lines each item of a list has: from the comments right above its dash to its last line, those that are indented deeper than the dash. */
function blocksOf(lines: readonly string[], first: number, column: number): { begin: number; end: number }[] {
  const blocks: { begin: number; end: number }[] = []
  const indentOf = (line: string) => /^ */.exec(line)![0].length
  const isBlank = (line: string) => line.trim() === ''
  const isComment = (line: string) => line.trimStart().startsWith('#')
  for (let at = first; at < lines.length; at++) {
    const line = lines[at]!
    if (isBlank(line) || isComment(line)) continue
    const indent = indentOf(line)
    const begins = indent === column && line[column] === '-'
    if (indent < column || (indent === column && !begins)) break
    if (begins) blocks.push({ begin: at, end: at + 1 })
    else blocks.at(-1)!.end = at + 1
  }
  for (const [index, block] of blocks.entries()) {
    const floor = blocks[index - 1]?.end ?? 0
    while (block.begin > floor && isComment(lines[block.begin - 1]!) && indentOf(lines[block.begin - 1]!) === column)
      block.begin--
  }
  return blocks
}

const keyOf = (path: YamlPath) => JSON.stringify(path)

function nearest(places: ReadonlyMap<string, Place>, path: YamlPath): Place | undefined {
  for (let length = path.length; length >= 0; length--) {
    const place = places.get(keyOf(path.slice(0, length)))
    if (place) return place
  }
  return undefined
}

interface Open {
  readonly path: YamlPath
  readonly map: boolean
  /** In a map, the name that the next value is for. */
  name?: string
  count: number
}

function loaded(text: string, where: string): unknown {
  try {
    return load(text)
  } catch (error) {
    throw notYaml(where, error)
  }
}

/** The parser's own message would quote the file. */
function notYaml(where: string, error: unknown): RekeyError {
  const line = (error as { mark?: { line?: number } }).mark?.line
  return new RekeyError(`${at(where, line === undefined ? undefined : line + 1)}: this is not YAML`, {
    code: 'yaml.not-yaml',
  })
}

const parsed = (text: string, where: string) => ({ value: loaded(text, where), ...placesIn(text, where) })

function placesIn(text: string, where: string): { places: Map<string, Place>; aliased: boolean } {
  const places = new Map<string, Place>()
  let aliased = false
  const open: Open[] = []
  try {
    for (const event of parseEvents(text, {})) {
      if (event.type === EVENT_ID.DOCUMENT) open.push({ path: [], map: false, count: -1 })
      else if (event.type === EVENT_ID.POP) open.pop()
      else {
        const own = open.at(-1)!
        const start = 'start' in event ? event.start : 'valueStart' in event ? event.valueStart : event.anchorStart
        aliased ||= event.type === EVENT_ID.ALIAS
        if (own.map && own.name === undefined) {
          own.name = event.type === EVENT_ID.SCALAR ? getScalarValue(text, event) : ''
          // Until its value comes, which may be empty and have no place.
          places.set(keyOf([...own.path, own.name]), { start, flow: false })
          if (event.type === EVENT_ID.SCALAR) continue
        }
        const path = own.count === -1 ? [] : [...own.path, own.map ? own.name! : own.count++]
        own.name = undefined
        const flow = 'style' in event && event.type !== EVENT_ID.SCALAR && event.style === COLLECTION_STYLE.FLOW
        if (start >= 0) places.set(keyOf(path), { start, flow })
        if (event.type === EVENT_ID.MAPPING || event.type === EVENT_ID.SEQUENCE)
          open.push({ path, map: event.type === EVENT_ID.MAPPING, count: 0 })
      }
    }
  } catch (error) {
    throw notYaml(where, error)
  }
  return { places, aliased }
}
