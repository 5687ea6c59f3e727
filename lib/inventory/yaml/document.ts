// YAML (and JSON) files as Ansible reads them: PyYAML's types, `!vault`, `!unsafe`, and the line of everything.
import { at, excerpt, RekeyError } from '../../errors.ts'
import { EncryptedText, identity, keyText, UnsafeText, type Value } from '../values.ts'
import type { Vault } from '../vault/vault.ts'
import { YamlSyntaxError } from './cursor.ts'
import { parseEvents, type YamlEvent } from './events.ts'
import { readJson } from './json.ts'
import {
  keyOf,
  type MappingEntry,
  type MappingNode,
  type ScalarNode,
  type SequenceNode,
  type YamlNode,
} from './node.ts'
import { booleans, resolveScalar, yamlFloat, yamlInteger, yamlTimestamp } from './scalars.ts'

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

/**
 * Parses one YAML or JSON document. Takes its text; returns its node, or undefined for an empty document. Throws
 * `RekeyError` with the file and line of what can't be read.
 */
export function parseYaml(text: string, options: YamlOptions): YamlNode | undefined {
  // Ansible reads whatever is valid JSON as JSON first, where `1e3` is a number and `"yes"` never a boolean.
  const json = readJson(text, options)
  if (json) return json
  let events: YamlEvent[]
  try {
    events = parseEvents(text)
  } catch (error) {
    if (error instanceof YamlSyntaxError) throw syntaxError(text, options.file, error)
    throw error
  }
  return events.length === 0 ? undefined : new Builder(events, options).document()
}

/** All YAML documents of a text. Throws as `parseYaml` does. */
export function parseDocuments(text: string, options: YamlOptions): YamlNode[] {
  try {
    const events = parseEvents(text)
    return events.length === 0 ? [] : new Builder(events, options).documents()
  } catch (error) {
    if (error instanceof YamlSyntaxError) throw syntaxError(text, options.file, error)
    throw error
  }
}

function syntaxError(text: string, file: string, error: YamlSyntaxError): RekeyError {
  const lines = text.split('\n')
  let [line, start] = [1, 0]
  while (start + lines[line - 1]!.length < error.offset) start += lines[line++ - 1]!.length + 1
  const column = error.offset - start + 1
  const source = lines[line - 1] ?? ''
  const before = lines[line - 2] ?? ''
  let hint = 'Check the indentation and the quotes of that line and of the one before it.'
  if (/^\s*\t/.test(source) || /^\s*\t/.test(before)) hint = 'Indent with spaces: YAML allows no tabs there.'
  else if (/:\s*\{\{/.test(source) || /:\s*\{\{/.test(before))
    hint = 'Quote a value that starts with a template: "{{ … }}".'
  else if (/^[^:'"#]*:\s[^'"[{#]*:(\s|$)/.test(source))
    hint = 'Quote a value that contains a colon followed by a space.'
  else if (error.message.includes('tab')) hint = 'Indent with spaces: YAML allows no tabs there.'
  return new RekeyError(`${at(file, line, column)}: not valid YAML: ${error.message}`, {
    code: 'inventory.yaml-syntax',
    hint,
    cause: error,
  })
}

/** True for nodes that are the same text or number, or the very same list or map. */
function isSame(one: YamlNode, other: YamlNode): boolean {
  if (one === other) return true
  return one.kind === 'scalar' && other.kind === 'scalar' && one.value === other.value
}

type CollectionEvent = Extract<YamlEvent, { kind: 'sequence' } | { kind: 'mapping' }>

/** Builds nodes out of events. A class because anchors and the place among the events move together. */
class Builder {
  readonly #events: readonly YamlEvent[]
  readonly #options: YamlOptions
  readonly #anchors = new Map<string, YamlNode>()
  readonly #open = new Set<string>()
  #cursor = 1
  #written = 0

  constructor(events: readonly YamlEvent[], options: YamlOptions) {
    this.#events = events
    this.#options = options
  }

  document(): YamlNode {
    const node = this.#node(false)
    const second = this.#events[++this.#cursor]
    if (!second) return node
    throw this.#error(
      'inventory.yaml-documents',
      second.line,
      'a second document starts',
      'Keep one document a file: remove the extra `---`.',
    )
  }

  documents(): YamlNode[] {
    const nodes: YamlNode[] = []
    for (this.#cursor = 0; this.#events[this.#cursor]; this.#cursor++) {
      this.#anchors.clear()
      this.#cursor++
      nodes.push(this.#node(false))
    }
    return nodes
  }

  #error(code: string, line: number, what: string, hint: string): RekeyError {
    return new RekeyError(`${at(this.#options.file, line)}: ${what}`, { code, hint })
  }

  #node(unsafe: boolean): YamlNode {
    const event = this.#events[this.#cursor++]!
    if (event.kind === 'alias') return this.#alias(event)
    if (event.kind === 'document' || event.kind === 'end') throw new TypeError('unbalanced YAML events')
    const { anchor } = event
    this.#written++
    if (anchor !== undefined) {
      if (this.#anchors.has(anchor) || this.#open.has(anchor))
        throw this.#error(
          'inventory.yaml-anchor',
          event.line,
          `a second anchor &${anchor}`,
          'Give each anchor of a file a name of its own.',
        )
      this.#open.add(anchor)
    }
    let node: YamlNode
    if (event.kind === 'scalar') node = this.#scalar(event, unsafe)
    else if (event.kind === 'sequence') node = this.#sequence(event, unsafe)
    else node = this.#mapping(event, unsafe)
    if (anchor !== undefined) {
      this.#open.delete(anchor)
      this.#anchors.set(anchor, node)
    }
    return node
  }

  #alias({ name, line }: Extract<YamlEvent, { kind: 'alias' }>): YamlNode {
    if (this.#open.has(name))
      throw this.#error('inventory.yaml-recursion', line, `*${name} contains itself`, 'Write out what it should hold.')
    const target = this.#anchors.get(name)
    if (target) return target
    throw this.#error(
      'inventory.yaml-alias',
      line,
      `there is no anchor &${name} before *${name}`,
      'Define the anchor earlier in the file.',
    )
  }

  #scalar({ text, plain, tag, line }: Extract<YamlEvent, { kind: 'scalar' }>, unsafe: boolean): ScalarNode {
    const value = this.#scalarValue(text, plain, tag, line, unsafe)
    return { kind: 'scalar', line, weight: 1 + (text.length >> 6), value }
  }

  #scalarValue(text: string, plain: boolean, tag: string | undefined, line: number, unsafe: boolean): Value {
    const string = (value: string): Value => (unsafe ? new UnsafeText(value) : value)
    const where = at(this.#options.file, line)
    const bad = (what: string): RekeyError =>
      this.#error('inventory.yaml-value', line, what, 'Correct the value, or quote it to keep it as text.')
    const resolved = (): Value => {
      const value = resolveScalar(text)
      if (value === undefined) throw bad(`${excerpt(text)} can't be read as a value`)
      return value
    }
    switch (tag) {
      case undefined: {
        const value = plain ? resolved() : text
        return typeof value === 'string' ? string(value) : value
      }
      // To Ansible's own tags quotes make no difference.
      case '!unsafe': {
        const value = resolved()
        return typeof value === 'string' ? new UnsafeText(value) : value
      }
      case 'tag:yaml.org,2002:str':
        return string(text)
      case '!vault':
      case '!vault-encrypted':
        if (typeof resolved() !== 'string') throw bad(`what is marked ${tag} must be text`)
        return new EncryptedText(text, where, this.#options.vault)
      case 'tag:yaml.org,2002:int': {
        const value = yamlInteger(text)
        if (value === undefined) throw bad(`${JSON.stringify(excerpt(text))} is not an integer`)
        return value
      }
      case 'tag:yaml.org,2002:float': {
        const value = yamlFloat(text)
        if (value === undefined) throw bad(`${JSON.stringify(excerpt(text))} is not a number`)
        return value
      }
      case 'tag:yaml.org,2002:bool': {
        const value = booleans.get(text.toLowerCase())
        if (value === undefined) throw bad(`${JSON.stringify(excerpt(text))} is not a boolean`)
        return value
      }
      case 'tag:yaml.org,2002:null':
        return null
      case 'tag:yaml.org,2002:timestamp': {
        const value = yamlTimestamp(text)
        if (value === undefined) throw bad(`${JSON.stringify(excerpt(text))} is not a date or time`)
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

  #sequence({ line, tag }: CollectionEvent, unsafe: boolean): SequenceNode {
    if (tag !== undefined && !['!unsafe', 'tag:yaml.org,2002:seq'].includes(tag)) throw this.#unknownTag(tag, line)
    const items: YamlNode[] = []
    let weight = 1
    while (this.#events[this.#cursor]!.kind !== 'end') {
      const item = this.#node(unsafe || tag === '!unsafe')
      items.push(item)
      weight += item.weight
      this.#checkWeight(weight, line)
    }
    this.#cursor++
    return { kind: 'sequence', line, weight, items }
  }

  #mapping({ line, tag }: CollectionEvent, unsafe: boolean): MappingNode {
    if (tag !== undefined && !['!unsafe', 'tag:yaml.org,2002:map'].includes(tag)) throw this.#unknownTag(tag, line)
    const own = new Map<unknown, MappingEntry>()
    const merged: MappingNode[] = []
    while (this.#events[this.#cursor]!.kind !== 'end') {
      if (this.#atPlain('<<')) {
        const { line } = this.#events[this.#cursor++]!
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
      if (key.value instanceof EncryptedText)
        throw this.#error('inventory.yaml-key', key.line, 'a key is encrypted', 'Encrypt values only.')
      const name = identity(keyOf(key))
      const earlier = own.get(name)
      if (earlier) {
        const where = at(this.#options.file, key.line)
        this.#options.notice(
          `${where}: the key "${excerpt(keyText(keyOf(key)))}" was already given in line ${earlier.key.line}; this one counts`,
        )
      }
      // The key stays the one that was first: 1 when True follows. Its place is the later one's.
      own.set(name, { key: earlier ? { ...key, value: earlier.key.value } : key, value })
    }
    this.#cursor++
    const entries = merged.length > 0 ? this.#merged(own, merged, line) : own
    let weight = 1
    for (const entry of entries.values()) weight += 1 + entry.value.weight
    this.#checkWeight(weight, line)
    return { kind: 'mapping', line, weight, entries }
  }

  /** The map's own keys win over those of its sources, and so does a later << over an earlier one. */
  #merged(own: MappingNode['entries'], sources: readonly MappingNode[], line: number): MappingNode['entries'] {
    const entries = new Map<unknown, MappingEntry>()
    for (const source of sources) {
      for (const [name, entry] of source.entries) {
        const other = entries.get(name)?.value
        if (other && !own.has(name) && !isSame(other, entry.value)) {
          this.#options.notice(
            `${at(this.#options.file, line)}: several maps of << have the key "${keyText(keyOf(entry.key))}"; that of line ${entry.key.line} counts, with PyYAML 6.0.4 it may be another one`,
          )
        }
        entries.set(name, entry)
      }
    }
    for (const [name, entry] of own) entries.set(name, entry)
    return entries
  }

  /** True when the next node is this word, without quotes or a tag. */
  #atPlain(word: string): boolean {
    const event = this.#events[this.#cursor]!
    return event.kind === 'scalar' && event.plain && event.tag === undefined && event.text === word
  }

  /** The next node as text, whatever it would mean as a value. */
  #text(value: string): ScalarNode {
    const { line } = this.#events[this.#cursor++]!
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
