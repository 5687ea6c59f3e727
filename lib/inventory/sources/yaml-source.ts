// Inventories written in YAML or JSON: groups with `hosts`, `vars` and `children`.
import { at, RekeyError } from '../../errors.ts'
import { expandHosts } from '../addresses.ts'
import {
  addChild,
  addHost,
  assignToGroup,
  assignToHost,
  type Collector,
  ensureGroup,
  type Group,
  type Origin,
} from '../groups.ts'
import { keyText, typeName } from '../values.ts'
import { keyOf, type MappingEntry, type MappingNode, type ScalarNode, toValue, type YamlNode } from '../yaml/node.ts'

/** Adds what a parsed inventory file says. Throws `RekeyError` with the line of what is wrong. */
export function addYamlInventory(
  collector: Collector,
  file: string,
  root: MappingNode,
  { notice, found }: { readonly notice: (line: string) => void; readonly found: boolean },
): void {
  for (const entry of root.entries.values()) {
    const { key, value } = entry
    if (found && value.kind !== 'mapping' && !isNothing(value)) {
      // In a folder lie files of other programs, too. Ansible passes over what is no group, with the same words.
      const what = typeName(toValue(value))
      notice(`${at(file, key.line)}: "${keyText(keyOf(key))}" is ignored: a group is a map, not ${what}`)
    } else addGroup(collector, file, entry, notice)
  }
}

const isNothing = (value: YamlNode): boolean => value.kind === 'scalar' && value.value === null

function addGroup(
  collector: Collector,
  file: string,
  { key, value }: MappingEntry,
  notice: (line: string) => void,
  parent?: Group,
): void {
  const name = nameOf(file, key, 'group')
  const origin: Origin = { file, line: key.line }
  if (value.kind !== 'mapping' && !isNothing(value)) {
    const what = typeName(toValue(value))
    throw new RekeyError(
      `${at(file, key.line)}: the group "${name}" must be a map with hosts, vars and children, not ${what}`,
      {
        code: 'inventory.group-shape',
        hint: 'A host goes under the `hosts:` of a group, a variable under its `vars:`.',
      },
    )
  }
  const group = ensureGroup(collector.data, name, origin)
  // Before its own children, so that a loop is found in the line that closes it.
  if (parent) addChild(parent, group, origin)
  if (value.kind !== 'mapping') return
  for (const entry of value.entries.values()) {
    const section = keyText(keyOf(entry.key))
    if (section !== 'vars' && section !== 'children' && section !== 'hosts') {
      notice(
        `${at(file, entry.key.line)}: "${section}" in the group "${name}" is ignored: only vars, children and hosts are read`,
      )
      continue
    }
    for (const member of members(file, group, section, entry)) {
      if (section === 'vars')
        assignToGroup(group, keyText(keyOf(member.key)), toValue(member.value), { file, line: member.key.line })
      else if (section === 'children') addGroup(collector, file, member, notice, group)
      else addHosts(collector, file, group, member)
    }
  }
}

function members(file: string, group: Group, section: string, { key, value }: MappingEntry): Iterable<MappingEntry> {
  if (value.kind === 'mapping') return value.entries.values()
  if (value.kind === 'scalar') {
    if (value.value === null) return []
    // `hosts: one` is short for a map with that one key.
    if (typeof value.value === 'string') return [{ key: value, value: nothing(value) }]
  }
  throw new RekeyError(
    `${at(file, key.line)}: "${section}" of the group "${group.name}" must be a map, not ${typeName(toValue(value))}`,
    {
      code: 'inventory.group-shape',
      hint: 'Write `name:` with a colon for each entry, not `- name`.',
    },
  )
}

function nothing({ line }: YamlNode): ScalarNode {
  return { kind: 'scalar', line, weight: 1, value: null }
}

function addHosts(collector: Collector, file: string, group: Group, { key, value }: MappingEntry): void {
  const pattern = nameOf(file, key, 'host')
  const origin: Origin = { file, line: key.line }
  const { hosts, port } = expandAt(pattern, origin)
  const empty = value.kind !== 'mapping' && !isTrue(value)
  if (value.kind !== 'mapping' && !empty) {
    throw new RekeyError(
      `${at(file, key.line)}: the variables of the host "${pattern}" must be a map, not ${typeName(toValue(value))}`,
      {
        code: 'inventory.host-shape',
        hint: 'Put the variables on lines of their own below the host, each as `name: value`.',
      },
    )
  }
  for (const name of hosts) {
    const host = addHost(collector, name, group, port, origin)
    if (value.kind !== 'mapping') continue
    for (const entry of value.entries.values())
      assignToHost(collector.data, host, keyText(keyOf(entry.key)), toValue(entry.value), {
        file,
        line: entry.key.line,
      })
  }
}

/** What Python takes for true. */
export function isTrue(node: YamlNode): boolean {
  return node.kind === 'sequence' ? node.items.length > 0 : node.kind === 'mapping' || Boolean(node.value)
}

/** Expands a host pattern; a bad range is reported with its place. */
export function expandAt(pattern: string, { file, line }: Origin): { hosts: string[]; port?: number } {
  try {
    return expandHosts(pattern)
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    throw new RekeyError(`${at(file, line)}: ${error.message}`, { code: error.code, hint: error.hint })
  }
}

function nameOf(file: string, key: ScalarNode, what: 'group' | 'host'): string {
  if (typeof key.value === 'string' && key.value !== '') return key.value
  throw new RekeyError(`${at(file, key.line)}: the name of a ${what} must be text, not ${typeName(key.value)}`, {
    code: 'inventory.name',
    hint: `Put quotes around it: "${keyText(keyOf(key))}".`,
  })
}
