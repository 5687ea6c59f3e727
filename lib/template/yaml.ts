// YAML as yaml.v2 reads it for `parseYAML`: YAML 1.1's words for true and false, merge keys, and numbers in Go's bases.
import {
  EVENT_ID,
  type Event,
  getScalarValue,
  parseEvents,
  SCALAR_STYLE,
  type ScalarEvent,
  YAMLException,
} from 'js-yaml'
import { type GoMap, type GoValue, isList, isMap, toBytes, toText } from './values.ts'

/** Aliases may make a text stand for more values than this: nobody's template means that. */
const mostValues = 100_000

/** Parse the first document of a text. Throws an Error with its line that does not quote it. */
export function parseYaml(bytes: string): GoValue {
  const source = toText(bytes)
  let events: Event[]
  try {
    events = parseEvents(source, { maxDepth: 200 })
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error
    throw new Error(`the text is not YAML: line ${(error.mark?.line ?? 0) + 1}: ${error.reason}`)
  }
  return events.length < 3 ? null : reader(source, events).value()
}

/** A plain `<<`, where it stands for a key. */
const merge = Symbol('merge')
type Key = string | bigint | typeof merge

function reader(source: string, events: readonly Event[]) {
  // The first event opens the document.
  let position = 1
  let values = 0
  const anchors = new Map<string, GoValue>()

  const count = (more: number) => {
    values += more
    if (values > mostValues) throw new Error(`the aliases of the text multiply to more than ${mostValues} values`)
  }
  const value = (): GoValue => {
    const event = events[position++]!
    if (event.type === EVENT_ID.ALIAS) {
      const target = anchors.get(source.slice(event.anchorStart, event.anchorEnd))
      if (target === undefined) throw new Error('the text has an alias without an anchor before it')
      count(sizeOf(target))
      return target
    }
    if (event.type === EVENT_ID.DOCUMENT || event.type === EVENT_ID.POP) throw new TypeError('unbalanced YAML events')
    count(1)
    const read =
      event.type === EVENT_ID.SCALAR ? scalar(event) : event.type === EVENT_ID.SEQUENCE ? sequence() : mapping()
    if (event.anchorStart >= 0) anchors.set(source.slice(event.anchorStart, event.anchorEnd), read)
    return read
  }
  const atEnd = () => events[position]!.type === EVENT_ID.POP

  const sequence = (): GoValue[] => {
    const items: GoValue[] = []
    while (!atEnd()) items.push(value())
    position++
    return items
  }
  const mapping = (): GoMap => {
    const own: GoMap = new Map()
    const merged: GoMap = new Map()
    while (!atEnd()) {
      const key = keyAt()
      const read = value()
      if (key !== merge) own.set(key, read)
      else
        for (const [name, one] of mergeSources(read).flatMap(map => [...map]))
          if (!merged.has(name)) merged.set(name, one)
    }
    position++
    for (const [name, one] of merged) if (!own.has(name)) own.set(name, one)
    return own
  }
  const keyAt = (): Key => {
    const event = events[position]!
    if (event.type === EVENT_ID.SCALAR && isPlain(event) && getScalarValue(source, event) === '<<') {
      position++
      return merge
    }
    const key = value()
    if (typeof key === 'string' || typeof key === 'bigint') return key
    throw new Error('a key of the text is neither a string nor an integer: quote it')
  }
  const scalar = (event: ScalarEvent): GoValue => {
    const text = getScalarValue(source, event)
    if (isPlain(event)) return resolve(text)
    return event.tagStart < 0 ? toBytes(text) : tagged(source.slice(event.tagStart, event.tagEnd), text)
  }
  return { value }
}

const isPlain = (event: ScalarEvent) => event.style === SCALAR_STYLE.PLAIN && event.tagStart < 0

function mergeSources(value: GoValue): GoMap[] {
  const sources = isList(value) ? value : [value]
  return sources.map(one => {
    if (isMap(one)) return one
    throw new Error('<< in the text takes a map or a list of maps')
  })
}

function sizeOf(value: GoValue): number {
  const parts = isList(value) ? value : isMap(value) ? [...value.values()] : []
  return 1 + parts.reduce((sum: number, one) => sum + sizeOf(one), 0)
}

const words = new Map<string, GoValue>([
  ...['y', 'yes', 'true', 'on'].flatMap(word => forms(word).map((form): [string, GoValue] => [form, true])),
  ...['n', 'no', 'false', 'off'].flatMap(word => forms(word).map((form): [string, GoValue] => [form, false])),
  ...['', '~', 'null', 'Null', 'NULL'].map((form): [string, GoValue] => [form, null]),
  ...['.nan', '.NaN', '.NAN'].map((form): [string, GoValue] => [form, Number.NaN]),
  ...['.inf', '.Inf', '.INF'].flatMap((form): [string, GoValue][] => [
    [form, Number.POSITIVE_INFINITY],
    [`+${form}`, Number.POSITIVE_INFINITY],
    [`-${form}`, Number.NEGATIVE_INFINITY],
  ]),
])

/** `yes`, `Yes` and `YES`, but not `yEs`. */
function forms(word: string): string[] {
  return [word, word[0]!.toUpperCase() + word.slice(1), word.toUpperCase()]
}

/** What a scalar without quotes means. Dates stay text, as in yaml.v2. */
function resolve(text: string): GoValue {
  const word = words.get(text)
  if (word !== undefined) return word
  return numberIn(text) ?? toBytes(text)
}

function numberIn(text: string): bigint | number | undefined {
  if (/^\.[0-9]+([eE][-+]?[0-9]+)?$/.test(text)) return Number(text)
  if (!/^[-+]?[0-9]/.test(text)) return undefined
  const plain = text.replaceAll('_', '')
  const integer = integerIn(plain)
  if (integer !== undefined) return integer
  return /^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$/.test(plain) ? Number(plain) : undefined
}

/** In the base that its first letters tell, where it has 64 bits at most. */
function integerIn(text: string): bigint | undefined {
  const [, sign, digits] = /^([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$/.exec(text) ?? []
  if (digits === undefined) return undefined
  const size = BigInt(digits.replace(/^0[oO]?(?=[0-7])/, '0o'))
  const value = sign === '-' ? -size : size
  const most = sign === '' ? 2n ** 64n - 1n : 2n ** 63n - 1n
  return value >= -(2n ** 63n) && value <= most ? value : undefined
}

function tagged(tag: string, text: string): GoValue {
  const name = tag.replace(/^!<(.*)>$/, '$1').replace('tag:yaml.org,2002:', '!!')
  if (name === '!!str' || name === '!') return toBytes(text)
  if (name === '!!binary') return Buffer.from(text, 'base64').toString('latin1')
  const value = resolve(text)
  const kind = { '!!int': 'bigint', '!!float': 'number', '!!bool': 'boolean' }[name]
  if (name === '!!float' && typeof value === 'bigint') return Number(value)
  if (name === '!!null' && value === null) return null
  if (kind !== undefined && typeof value === kind) return value
  if (kind !== undefined || name === '!!null') throw new Error(`a value of the text is no ${name}`)
  // Tags of one's own are left aside, as yaml.v2 does.
  return toBytes(text)
}
