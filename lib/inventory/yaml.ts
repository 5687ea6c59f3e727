// YAML (and JSON) files as Ansible reads them: PyYAML's YAML 1.1 types, `!vault`, `!unsafe`, and the line of everything.
// Over 500 lines: what a scalar means depends on its tag, its style and its place at once, and all three are decided in one pass.
//
// js-yaml parses to events; what a scalar means is decided here, because none of its schemas reads what PyYAML does
// (`yes` and `y`, `1:30`, `010`, `1e3`, `<<`), and because its loader throws the positions away.
import {
  EVENT_ID,
  type Event,
  getScalarValue,
  parseEvents,
  SCALAR_STYLE,
  type ScalarEvent,
  YAMLException,
} from 'js-yaml'
import { at, RekeyError } from '../errors.ts'
import {
  Dict,
  EncryptedText,
  float,
  identity,
  integer,
  isKey,
  isMapping,
  type Key,
  keyText,
  type Mapping,
  Timestamp,
  UnsafeText,
  type Value,
  type WholeFloat,
} from './values.ts'
import type { Vault } from './vault.ts'

/** A node of a YAML document, with the line on which it starts. An alias is the very node that it stands for. */
export type YamlNode = ScalarNode | MappingNode | SequenceNode
interface NodeBase {
  readonly line: number
  /** How many values it would be if every alias in it were written out. */
  weight: number
}
export interface ScalarNode extends NodeBase {
  readonly kind: 'scalar'
  readonly value: Value
}
export interface MappingNode extends NodeBase {
  readonly kind: 'mapping'
  /** By the identity of their keys, in order, merges (`<<`) resolved, a key that occurs twice at its first place with its last value. */
  readonly entries: Map<unknown, MappingEntry>
  converted?: Mapping
}
export interface MappingEntry {
  readonly key: ScalarNode
  readonly value: YamlNode
}
export interface SequenceNode extends NodeBase {
  readonly kind: 'sequence'
  readonly items: YamlNode[]
  converted?: Value[]
}

/** What reading a YAML file needs beside its text. */
export interface YamlOptions {
  /** The name of the file, for messages. */
  readonly file: string
  /** Opens `!vault` strings when they are read. */
  readonly vault: Vault
  /** Is told of what Ansible would warn of, e.g. a key that occurs twice. */
  readonly notice: (line: string) => void
}

/** The most values that aliases may multiply to: real inventories stay far below, a "billion laughs" far above. */
const aliasLimit = 1_000_000
const maxDepth = 200

/**
 * Parses one YAML or JSON document. Takes its text; returns its node, or undefined for an empty document. Throws
 * `RekeyError` with the file and line of what can't be read.
 */
export function parseYaml(text: string, options: YamlOptions): YamlNode | undefined {
  const json = looksLikeJson(text)
  let events: Event[]
  try {
    events = parseEvents(text, { filename: options.file, maxDepth })
  } catch (error) {
    if (error instanceof YAMLException) throw syntaxError(text, options.file, error)
    throw error
  }
  if (events.length === 0) return undefined
  return new Builder(text, events, options, json).document()
}

/** The value of a node. Aliased nodes give the same object each time, so that sharing costs nothing. */
export function toValue(node: YamlNode): Value {
  if (node.kind === 'scalar') return node.value
  if (node.kind === 'sequence') {
    node.converted ??= node.items.map(toValue)
    return node.converted
  }
  if (!node.converted) {
    node.converted = Dict.of([...node.entries.values()].map(({ key, value }) => [keyOf(key), toValue(value)]))
  }
  return node.converted
}

/** The key of an entry of a map. */
export function keyOf({ value }: ScalarNode): Key {
  if (isKey(value)) return value
  throw new TypeError('a list or map as a key is refused when it is read')
}

/** Ansible reads whatever is valid JSON as JSON first, where `1e3` is a number and `"yes"` never a boolean. */
function looksLikeJson(text: string): boolean {
  const first = /\S/.exec(text)?.[0]
  if (first !== '{' && first !== '[') return false
  try {
    JSON.parse(withoutPythonFloats(text))
    return true
  } catch {
    return false
  }
}

// Python writes these three into JSON and reads them back; JSON itself doesn't have them.
const pythonFloats = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
])
const floatMarker = '\0float'

function withoutPythonFloats(text: string): string {
  if (!text.includes('NaN') && !text.includes('Infinity')) return text
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/gs, token =>
    token.startsWith('"') ? token : JSON.stringify({ [floatMarker]: token }),
  )
}

/** The value of a JSON text as Ansible reads it, vault and unsafe strings included. Throws `SyntaxError`. */
export function parseJson(text: string, where: string, vault: Vault): Value {
  return JSON.parse(withoutPythonFloats(text), (_key, value: Value, context?: { source?: string }) => {
    if (typeof value === 'number') return jsonScalar(context?.source ?? String(value))
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    if (isMapping(value)) return value
    const mapping = Dict.of<Value>(Object.entries(value))
    const marked = mapping.get(floatMarker)
    if (typeof marked === 'string') return pythonFloats.get(marked)
    return markedString(mapping.get('__ansible_unsafe'), mapping.get('__ansible_vault'), where, vault) ?? mapping
  })
}

/** How JSON writes a string that is unsafe or encrypted: as a map with one key of Ansible's. */
function markedString(
  unsafe: Value | undefined,
  ciphertext: Value | undefined,
  where: string,
  vault: Vault,
): Value | undefined {
  if (typeof unsafe === 'string') return new UnsafeText(unsafe)
  return typeof ciphertext === 'string' ? new EncryptedText(ciphertext, where, vault) : undefined
}

function syntaxError(text: string, file: string, error: YAMLException): RekeyError {
  const line = (error.mark?.line ?? 0) + 1
  const column = (error.mark?.column ?? 0) + 1
  const lines = text.split('\n')
  const source = lines[line - 1] ?? ''
  const before = lines[line - 2] ?? ''
  let hint = 'Check the indentation and the quotes of that line and of the one before it.'
  if (/^\s*\t/.test(source) || /^\s*\t/.test(before)) hint = 'Indent with spaces: YAML allows no tabs there.'
  else if (/:\s*\{\{/.test(source) || /:\s*\{\{/.test(before))
    hint = 'Quote a value that starts with a template: "{{ … }}".'
  else if (/^[^:'"#]*:\s+[^'"[{#]*:(\s|$)/.test(source))
    hint = 'Quote a value that contains a colon followed by a space.'
  else if (error.reason.includes('tab')) hint = 'Indent with spaces: YAML allows no tabs there.'
  return new RekeyError(`${at(file, line, column)}: not valid YAML: ${error.reason}`, {
    code: 'inventory.yaml-syntax',
    hint,
    cause: error,
  })
}

/** Builds nodes out of js-yaml's events. A class because position, anchors and event cursor move together. */
class Builder {
  readonly #source: string
  readonly #events: Event[]
  readonly #options: YamlOptions
  readonly #json: boolean
  readonly #anchors = new Map<string, YamlNode>()
  readonly #open = new Set<string>()
  #cursor = 0
  #line = 1
  #offset = 0
  #written = 0

  constructor(text: string, events: Event[], options: YamlOptions, json: boolean) {
    this.#source = text
    this.#events = events
    this.#options = options
    this.#json = json
  }

  document(): YamlNode | undefined {
    const opening = this.#events[this.#cursor++]!
    if (opening.type !== EVENT_ID.DOCUMENT) throw new TypeError('a YAML stream starts with a document')
    if (this.#events[this.#cursor]!.type === EVENT_ID.POP) return undefined
    const node = this.#node(false)
    this.#cursor++
    if (this.#cursor < this.#events.length) {
      throw this.#error(
        'inventory.yaml-documents',
        this.#line + 1,
        'a second document starts',
        'Keep one document a file: remove the extra `---`.',
      )
    }
    return node
  }

  #error(code: string, line: number, what: string, hint: string): RekeyError {
    return new RekeyError(`${at(this.#options.file, line)}: ${what}`, { code, hint })
  }

  /** The line of an offset. Offsets come nearly in order, so counting goes on from the last one. */
  #lineOf(offset: number): number {
    if (offset < this.#offset) return this.#line
    for (;;) {
      const next = this.#source.indexOf('\n', this.#offset)
      if (next === -1 || next >= offset) return this.#line
      this.#offset = next + 1
      this.#line++
    }
  }

  #node(unsafe: boolean): YamlNode {
    const event = this.#events[this.#cursor++]!
    if (event.type === EVENT_ID.ALIAS) {
      const name = this.#source.slice(event.anchorStart, event.anchorEnd)
      const target = this.#anchors.get(name)
      const line = this.#lineOf(event.anchorStart)
      if (this.#open.has(name)) {
        throw this.#error(
          'inventory.yaml-recursion',
          line,
          `*${name} contains itself`,
          'Write out what it should hold.',
        )
      }
      if (!target) {
        throw this.#error(
          'inventory.yaml-alias',
          line,
          `there is no anchor &${name} before *${name}`,
          'Define the anchor earlier in the file.',
        )
      }
      return target
    }
    if (event.type === EVENT_ID.DOCUMENT || event.type === EVENT_ID.POP) throw new TypeError('unbalanced YAML events')
    this.#written++
    const anchor = event.anchorStart >= 0 ? this.#source.slice(event.anchorStart, event.anchorEnd) : undefined
    const tag = event.tagStart >= 0 ? tagName(this.#source.slice(event.tagStart, event.tagEnd)) : undefined
    if (anchor !== undefined) this.#open.add(anchor)
    let node: YamlNode
    if (event.type === EVENT_ID.SCALAR) node = this.#scalar(event, tag, unsafe)
    else if (event.type === EVENT_ID.SEQUENCE) node = this.#sequence(event.start, tag, unsafe)
    else node = this.#mapping(event.start, tag, unsafe)
    if (anchor !== undefined) {
      this.#open.delete(anchor)
      this.#anchors.set(anchor, node)
    }
    return node
  }

  #scalar(event: ScalarEvent, tag: string | undefined, unsafe: boolean): ScalarNode {
    // A block of text starts behind its tag, on the next line: the tag's line is the one to name.
    const start = event.tagStart >= 0 ? event.tagStart : event.valueStart
    const line = start >= 0 ? this.#lineOf(start) : this.#line
    const text = getScalarValue(this.#source, event)
    const plain = event.style === SCALAR_STYLE.PLAIN
    return {
      kind: 'scalar',
      line,
      weight: 1 + (text.length >> 6),
      value: this.#scalarValue(text, plain, tag, line, unsafe),
    }
  }

  #scalarValue(text: string, plain: boolean, tag: string | undefined, line: number, unsafe: boolean): Value {
    const string = (value: string): Value => (unsafe ? new UnsafeText(value) : value)
    const where = at(this.#options.file, line)
    const bad = (what: string): RekeyError =>
      this.#error('inventory.yaml-value', line, what, 'Correct the value, or quote it to keep it as text.')
    if (tag === undefined || tag === '!unsafe') {
      if (!plain) return tag === '!unsafe' ? new UnsafeText(text) : string(text)
      const value = this.#json ? jsonScalar(text) : resolveScalar(text)
      if (value === undefined) throw bad(`${text} can't be read as a value`)
      return typeof value === 'string' && (unsafe || tag === '!unsafe') ? new UnsafeText(value) : value
    }
    switch (tag) {
      case '!':
      case 'tag:yaml.org,2002:str':
        return string(text)
      case '!vault':
      case '!vault-encrypted':
        return new EncryptedText(text, where, this.#options.vault)
      case 'tag:yaml.org,2002:int': {
        const value = yamlInteger(text)
        if (value === undefined) throw bad(`${JSON.stringify(text)} is not an integer`)
        return value
      }
      case 'tag:yaml.org,2002:float': {
        const value = yamlFloat(text)
        if (value === undefined) throw bad(`${JSON.stringify(text)} is not a number`)
        return value
      }
      case 'tag:yaml.org,2002:bool': {
        const value = booleans.get(text.toLowerCase())
        if (value === undefined) throw bad(`${JSON.stringify(text)} is not a boolean`)
        return value
      }
      case 'tag:yaml.org,2002:null':
        return null
      case 'tag:yaml.org,2002:timestamp': {
        const value = yamlTimestamp(text)
        if (value === undefined) throw bad(`${JSON.stringify(text)} is not a date or time`)
        return value
      }
      default:
        throw this.#unknownTag(tag, line)
    }
  }

  #unknownTag(tag: string, line: number): RekeyError {
    const name = tag.replace('tag:yaml.org,2002:', '!!')
    return this.#error(
      'inventory.yaml-tag',
      line,
      `the tag ${name} can't be read`,
      'Ansible files have !vault and !unsafe, and of YAML the tags for text, numbers, booleans, dates, lists and maps.',
    )
  }

  #sequence(start: number, tag: string | undefined, unsafe: boolean): SequenceNode {
    const line = this.#lineOf(start)
    if (tag !== undefined && !['!', '!unsafe', 'tag:yaml.org,2002:seq'].includes(tag)) throw this.#unknownTag(tag, line)
    const items: YamlNode[] = []
    let weight = 1
    while (this.#events[this.#cursor]!.type !== EVENT_ID.POP) {
      const item = this.#node(unsafe || tag === '!unsafe')
      items.push(item)
      weight += item.weight
      this.#checkWeight(weight, line)
    }
    this.#cursor++
    return { kind: 'sequence', line, weight, items }
  }

  #mapping(start: number, tag: string | undefined, unsafe: boolean): MappingNode | ScalarNode {
    const line = this.#lineOf(start)
    if (tag !== undefined && !['!', '!unsafe', 'tag:yaml.org,2002:map'].includes(tag)) throw this.#unknownTag(tag, line)
    const own = new Map<unknown, MappingEntry>()
    const merged: MappingNode[] = []
    while (this.#events[this.#cursor]!.type !== EVENT_ID.POP) {
      if (!this.#json && this.#atPlain('<<')) {
        const line = this.#lineOf((this.#events[this.#cursor++] as ScalarEvent).valueStart)
        merged.push(...this.#mergeSources(this.#node(unsafe || tag === '!unsafe'), line))
        continue
      }
      const key = this.#atPlain('=') ? this.#text('=') : this.#node(false)
      const value = this.#node(unsafe || tag === '!unsafe')
      if (key.kind !== 'scalar') {
        throw this.#error(
          'inventory.yaml-key',
          key.line,
          `a key must be text, not a ${key.kind === 'mapping' ? 'map' : 'list'}`,
          'A value that starts with {{ needs quotes around it.',
        )
      }
      const name = identity(keyOf(key))
      const earlier = own.get(name)
      if (earlier) {
        const where = at(this.#options.file, key.line)
        this.#options.notice(
          `${where}: the key "${keyText(keyOf(key))}" was already given in line ${earlier.key.line}; this one counts`,
        )
      }
      own.set(name, { key, value })
    }
    this.#cursor++
    let entries = own
    if (merged.length > 0) {
      entries = new Map()
      // The map's own keys win over those of its sources, and so does a later << over an earlier one.
      for (const source of merged) for (const [name, entry] of source.entries) entries.set(name, entry)
      for (const [name, entry] of own) entries.set(name, entry)
    }
    let weight = 1
    for (const entry of entries.values()) weight += 1 + entry.value.weight
    this.#checkWeight(weight, line)
    if (this.#json) {
      const [plain, ciphertext] = ['__ansible_unsafe', '__ansible_vault'].map(name => own.get(name)?.value)
      const where = at(this.#options.file, line)
      const value = markedString(plain && toValue(plain), ciphertext && toValue(ciphertext), where, this.#options.vault)
      if (value !== undefined) return { kind: 'scalar', line, weight, value }
    }
    return { kind: 'mapping', line, weight, entries }
  }

  /** True when the next node is this word, without quotes or a tag. */
  #atPlain(word: string): boolean {
    const event = this.#events[this.#cursor]!
    if (event.type !== EVENT_ID.SCALAR || event.style !== SCALAR_STYLE.PLAIN || event.tagStart >= 0) return false
    return event.valueEnd - event.valueStart === word.length && this.#source.startsWith(word, event.valueStart)
  }

  /** The next node as text, whatever it would mean as a value. */
  #text(value: string): ScalarNode {
    const line = this.#lineOf((this.#events[this.#cursor++] as ScalarEvent).valueStart)
    return { kind: 'scalar', line, weight: 1, value }
  }

  /** The maps that a `<<` names, the one that wins last: of a list, that is the first. */
  #mergeSources(value: YamlNode, line: number): MappingNode[] {
    const sources = value.kind === 'sequence' ? value.items.toReversed() : [value]
    return sources.map(source => {
      if (source.kind === 'mapping') return source
      throw this.#error('inventory.yaml-merge', line, '<< takes a map or a list of maps', 'Refer to a map: <<: *name.')
    })
  }

  #checkWeight(weight: number, line: number): void {
    if (weight - this.#written <= aliasLimit) return
    throw this.#error(
      'inventory.yaml-aliases',
      line,
      `the aliases here multiply to more than ${aliasLimit.toLocaleString('en')} values`,
      'Nothing that large is an inventory; write out what is meant.',
    )
  }
}

function tagName(source: string): string {
  if (source.startsWith('!<') && source.endsWith('>')) return source.slice(2, -1)
  return source.startsWith('!!') ? `tag:yaml.org,2002:${source.slice(2)}` : source
}

function jsonScalar(text: string): Value | undefined {
  if (text === 'true') return true
  if (text === 'false') return false
  if (text === 'null') return null
  const special = pythonFloats.get(text)
  if (special !== undefined) return special
  if (/^-?\d+$/.test(text)) return integer(BigInt(text))
  const number = Number(text)
  return Number.isNaN(number) ? undefined : float(number)
}

const booleans = new Map([
  ['yes', true],
  ['no', false],
  ['true', true],
  ['false', false],
  ['on', true],
  ['off', false],
])
const integerPattern =
  /^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$/
const floatPattern =
  /^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/
const timestampPattern =
  /^(\d{4})-(\d\d?)-(\d\d?)(?:(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d*))?(?:[ \t]*(Z|[-+]\d\d?(?::\d\d)?))?)?$/
const datePattern = /^\d{4}-\d\d-\d\d$/

/** What a plain scalar means to PyYAML; undefined for what it can't construct: `=`, `<<`, `2001-13-45`. */
function resolveScalar(text: string): Value | undefined {
  if (text === '') return null
  const first = text.charCodeAt(0)
  // Most scalars are words: look at the first character before trying any pattern.
  if (first === 0x2b || first === 0x2d || first === 0x2e || (first >= 0x30 && first <= 0x39)) {
    if (floatPattern.test(text)) return yamlFloat(text)
    if (integerPattern.test(text)) return yamlInteger(text)
    const timestamp = timestampPattern.test(text) && (text.length > 10 || datePattern.test(text))
    return timestamp ? yamlTimestamp(text) : text
  }
  if (first === 0x7e) return text === '~' ? null : text
  if (first === 0x3d) return text === '=' ? undefined : text
  if (first === 0x3c) return text === '<<' ? undefined : text
  if (text.length > 5) return text
  switch (text) {
    case 'null':
    case 'Null':
    case 'NULL':
      return null
  }
  const boolean = booleans.get(text.toLowerCase())
  if (boolean === undefined) return text
  // yes, Yes and YES, but not yEs.
  const rest = text.slice(1)
  return rest === rest.toLowerCase() || text === text.toUpperCase() ? boolean : text
}

function yamlInteger(source: string): number | bigint | undefined {
  let text = source.replaceAll('_', '')
  const sign = text.startsWith('-') ? -1n : 1n
  if (/^[-+]/.test(text)) text = text.slice(1)
  try {
    if (text === '0') return 0
    if (text.startsWith('0b') || text.startsWith('0x')) return integer(sign * BigInt(text))
    if (text.startsWith('0')) return integer(sign * BigInt(`0o${text}`))
    if (text.includes(':')) return integer(sign * text.split(':').reduce((sum, part) => sum * 60n + BigInt(part), 0n))
    return text === '' ? undefined : integer(sign * BigInt(text))
  } catch {
    return undefined
  }
}

function yamlFloat(source: string): number | WholeFloat | undefined {
  let text = source.replaceAll('_', '').toLowerCase()
  const sign = text.startsWith('-') ? -1 : 1
  if (/^[-+]/.test(text)) text = text.slice(1)
  if (text === '.inf') return sign * Number.POSITIVE_INFINITY
  if (text === '.nan') return Number.NaN
  const parts = text.split(':').map(Number)
  if (text === '' || parts.some(Number.isNaN)) return undefined
  // Smallest part first, as PyYAML adds them up: floats notice the order.
  let value = 0
  let base = 1
  for (const part of parts.toReversed()) {
    value += part * base
    base *= 60
  }
  return float(sign * value)
}

function yamlTimestamp(text: string): Timestamp | undefined {
  const match = timestampPattern.exec(text)
  if (!match) return undefined
  const [, year = '', month = '', day = '', hour, minute = '', second = '', fraction, zone] = match
  const two = (digits: string): string => digits.padStart(2, '0')
  const date = `${year}-${two(month)}-${two(day)}`
  const valid = new Date(`${date}T00:00:00Z`)
  if (Number.isNaN(valid.getTime()) || valid.getUTCDate() !== Number(day) || Number(year) === 0) return undefined
  if (hour === undefined) return new Timestamp(date)
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined
  const micro = (fraction ?? '').slice(0, 6).padEnd(6, '0')
  let offset = ''
  if (zone === 'Z') offset = '+00:00'
  else if (zone) {
    const [zoneHour = '', zoneMinute = '00'] = zone.slice(1).split(':')
    offset = `${zone[0]}${two(zoneHour)}:${zoneMinute}`
  }
  return new Timestamp(`${date}T${two(hour)}:${minute}:${second}${Number(micro) === 0 ? '' : `.${micro}`}${offset}`)
}
