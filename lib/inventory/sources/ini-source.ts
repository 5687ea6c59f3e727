// Inventories written in INI: `[group]`, `[group:vars]`, `[group:children]`, hosts with `key=value`.
import { at, excerpt, RekeyError } from '../../errors.ts'
import { splitShell } from '../../shell-words.ts'
import { addChild, addHost, assignToGroup, assignToHost, type Collector, ensureGroup, type Origin } from '../groups.ts'
import { pythonLiteral } from '../python/python-literal.ts'
import type { Value } from '../values.ts'
import { expandAt } from './yaml-source.ts'

const section = /^\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?$/u
const groupName = /^([^:\]\s]+)\s*(?:#.*)?$/u
// Where Python's splitlines() ends a line.
const lineBreak = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/

/** A group that a line named before any section declared it. */
type Pending =
  | { readonly kind: 'vars'; readonly line: number }
  | { readonly kind: 'children'; readonly parents: Parent[] }
interface Parent {
  readonly name: string
  readonly line: number
}

/** Adds what an INI inventory says. Throws `RekeyError` with the line of what is wrong. */
export function addIniInventory(collector: Collector, file: string, text: string): void {
  const { data } = collector
  if (text.startsWith('\ufeff')) {
    throw bad(
      { file, line: 1 },
      'the file starts with a byte order mark, which Ansible takes for part of the first word',
      'Save it as UTF-8 without one.',
    )
  }
  const pending = new Map<string, Pending>()
  let group = ensureGroup(data, 'ungrouped', { file })
  let kind = 'hosts'

  const declare = (name: string): void => {
    const waiting = pending.get(name)
    if (!waiting) return
    pending.delete(name)
    if (waiting.kind === 'vars') return
    for (const parent of waiting.parents) {
      addChild(ensureGroup(data, parent.name, { file }), ensureGroup(data, name, { file }), { file, line: parent.line })
      if (pending.get(parent.name)?.kind === 'children') declare(parent.name)
    }
  }

  for (const [index, raw] of text.split(lineBreak).entries()) {
    const origin = { file, line: index + 1 }
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const header = section.exec(line)
    if (header) {
      const name = header[1]!
      kind = header[2] ?? 'hosts'
      if (kind !== 'hosts' && kind !== 'children' && kind !== 'vars') {
        throw bad(
          origin,
          `the section [${excerpt(`${name}:${kind}`)}] is of an unknown kind`,
          'Sections are [group], [group:vars] and [group:children].',
        )
      }
      if (!data.groups.has(name) && kind === 'vars' && !pending.has(name))
        pending.set(name, { kind, line: origin.line })
      group = ensureGroup(data, name, origin)
      if (kind !== 'vars') declare(name)
    } else if (line.startsWith('[') && line.endsWith(']')) {
      throw bad(
        origin,
        `${excerpt(line)} is no section`,
        'Sections are [group], [group:vars] and [group:children], without spaces.',
      )
    } else if (kind === 'hosts') {
      addHostLine(collector, group.name, line, origin)
    } else if (kind === 'vars') {
      const equals = line.indexOf('=')
      if (equals === -1)
        throw bad(
          origin,
          `expected key=value in [${group.name}:vars], not "${excerpt(line)}"`,
          'Write one key=value a line.',
        )
      assignToGroup(group, line.slice(0, equals).trim(), pythonLiteral(line.slice(equals + 1).trim()), origin)
    } else {
      const child = groupName.exec(line)?.[1]
      if (child === undefined)
        throw bad(
          origin,
          `expected the name of a group in [${group.name}:children], not "${excerpt(line)}"`,
          'Write one group a line.',
        )
      const known = data.groups.get(child)
      const waiting = pending.get(child)
      if (known) addChild(group, known, origin)
      else if (waiting?.kind === 'children') waiting.parents.push({ name: group.name, line: origin.line })
      else pending.set(child, { kind: 'children', parents: [{ name: group.name, line: origin.line }] })
    }
  }
  for (const [name, waiting] of pending) {
    const hint = `Add a section [${name}], empty if need be, or correct the name.`
    if (waiting.kind === 'vars')
      throw bad({ file, line: waiting.line }, `[${excerpt(name)}:vars] is for a group that nothing declares`, hint)
    const parent = waiting.parents.at(-1)!
    throw bad(
      { file, line: parent.line },
      `[${excerpt(parent.name)}:children] names "${excerpt(name)}", a group that nothing declares`,
      hint,
    )
  }
}

function addHostLine(collector: Collector, group: string, line: string, origin: Origin): void {
  let words: string[]
  try {
    words = splitShell(line, { comments: true })
  } catch {
    throw bad(origin, 'a quote is not closed', 'Close it, or escape it with a backslash.')
  }
  const [pattern = '', ...rest] = words
  if (pattern === '' || pattern === '---') {
    throw bad(origin, `"${pattern}" is no host name`, 'A file that starts with --- is YAML: call it .yml.')
  }
  const { hosts, port } = expandAt(pattern, origin)
  if (pattern.endsWith(':') && port === undefined) {
    throw bad(
      origin,
      `the host "${excerpt(pattern)}" ends in a colon`,
      'Put a port behind it, or leave it out; in YAML inventories, call the file .yml.',
    )
  }
  const variables = new Map<string, Value>()
  for (const word of rest) {
    const equals = word.indexOf('=')
    if (equals === -1) {
      throw bad(
        origin,
        `expected key=value behind the host, not "${excerpt(word)}"`,
        'Write one host a line; quote values that contain spaces.',
      )
    }
    variables.set(word.slice(0, equals), pythonLiteral(word.slice(equals + 1)))
  }
  for (const name of hosts) {
    const host = addHost(collector, name, collector.data.groups.get(group)!, port, origin)
    for (const [variable, value] of variables) assignToHost(collector.data, host, variable, value, origin)
  }
}

function bad({ file, line }: Origin, what: string, hint: string): RekeyError {
  return new RekeyError(`${at(file, line)}: ${what}`, { code: 'inventory.ini', hint })
}
