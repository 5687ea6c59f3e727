// What `ansible-inventory` prints: `--list` and `--host` as JSON or YAML, `--graph` as a tree.
import { DUMP_SCHEMA, defineScalarTag, dump, floatYaml11Tag, intYaml11Tag, realMapTag, timestampTag } from 'js-yaml'
import { type Assignments, compareText, type Group, type HostEntry, type InventoryData } from './groups.ts'
import { jsonText } from './python/python-json.ts'
import { text } from './python/python-values.ts'
import {
  Dict,
  EncryptedText,
  floatText,
  isMapping,
  type Key,
  keyText,
  type Mapping,
  Timestamp,
  UnsafeText,
  type Value,
  WholeFloat,
} from './values.ts'
import type { Layers } from './variables/layers.ts'

export interface ListingSources {
  readonly data: InventoryData
  readonly layers: Layers
}

// Ansible's own variables, which it leaves out of what it prints, even where an inventory sets them.
const internalVariables = new Set([
  'ansible_async_path',
  'ansible_collection_name',
  'ansible_config_file',
  'ansible_dependent_role_names',
  'ansible_diff_mode',
  'ansible_facts',
  'ansible_forks',
  'ansible_inventory_sources',
  'ansible_limit',
  'ansible_play_batch',
  'ansible_play_hosts',
  'ansible_play_hosts_all',
  'ansible_play_role_names',
  'ansible_playbook_python',
  'ansible_role_name',
  'ansible_role_names',
  'ansible_run_tags',
  'ansible_skip_tags',
  'ansible_verbosity',
  'ansible_version',
  'group_names',
  'groups',
  'hostvars',
  'inventory_dir',
  'inventory_file',
  'inventory_hostname',
  'inventory_hostname_short',
  'play_hosts',
  'playbook_dir',
  'role_name',
  'role_names',
  'role_path',
  'role_uuid',
])

/** Variables as they are written, templates and all, but for Ansible's own. */
function shown(assignments: Assignments): Mapping {
  const variables: Mapping = new Dict()
  for (const [name, { value }] of assignments) if (!internalVariables.has(name)) variables.set(name, value)
  return variables
}

/** The variables of a host; to be exported, those that it does not have from its groups and from `-e`. */
const hostVariables = (layers: Layers, host: HostEntry, exported = false): Mapping =>
  shown(exported ? layers.ofHost(host) : layers.merged(host))

/** `--list`: groups with their hosts and children, and all variables by host; exported, those of groups beside their groups. */
export function listJson(
  { data, layers }: ListingSources,
  selected: readonly HostEntry[],
  { exported = false } = {},
): string {
  const available = new Set(selected)
  const listed: Mapping = new Dict()
  const seen = new Set<Group>()
  const visit = (group: Group): void => {
    const entry: Mapping = new Dict()
    const hosts = group.name === 'all' ? [] : ownHosts(group, available)
    if (hosts.length > 0) entry.set('hosts', hosts)
    if (group.children.size > 0) entry.set('children', [...group.children.keys()])
    const own = exported ? groupVariables(layers, group) : undefined
    if (own && own.size > 0) entry.set('vars', own)
    for (const child of group.children.values()) {
      if (seen.has(child)) continue
      seen.add(child)
      visit(child)
    }
    if (entry.size > 0) listed.set(group.name, entry)
  }
  visit(data.groups.get('all')!)
  const entries = listed
    .entries()
    .map(([name, group]) => line(keyText(name), jsonText(group, { ...listFormat, margin: '    ' }), '    '))
    .concat({
      name: '_meta',
      text: `    "_meta": {\n${hostVariablesText(layers, selected, exported)},\n        "profile": "inventory_legacy"\n    }`,
    })
  return `{\n${joined(entries.sort(byName))}\n}`
}

const listFormat = { indent: 4, sortKeys: true, markUnsafe: true }

/** A line, or several, of a JSON map: sorted by the name in front. */
interface NamedText {
  readonly name: string
  readonly text: string
}

const line = (name: string, value: string, margin: string): NamedText => ({
  name,
  text: `${margin}${JSON.stringify(name)}: ${value}`,
})
const byName = (one: NamedText, other: NamedText): number => compareText(one.name, other.name)
const joined = (lines: readonly NamedText[]): string => lines.map(({ text: written }) => written).join(',\n')

const none: Assignments = new Map()

/** `"hostvars": {…}`. What hosts of the same groups share is written once and used for all of them. */
function hostVariablesText(layers: Layers, hosts: readonly HostEntry[], exported: boolean): string {
  const margin = ' '.repeat(16)
  const linesOf = (variables: Assignments): NamedText[] => {
    const lines: NamedText[] = []
    for (const [name, { value }] of variables) {
      if (!internalVariables.has(name)) lines.push(line(name, jsonText(value, { ...listFormat, margin }), margin))
    }
    return lines.sort(byName)
  }
  const known = new Map<Assignments, NamedText[]>()
  const described: NamedText[] = []
  for (const host of hosts) {
    const variables = exported ? none : layers.shared(host)
    let shared = known.get(variables)
    if (!shared) {
      shared = linesOf(variables)
      known.set(variables, shared)
    }
    const lines = overlaid(shared, linesOf(exported ? layers.ofHost(host) : layers.own(host)))
    if (lines.length > 0) described.push(line(host.name, `{\n${joined(lines)}\n            }`, ' '.repeat(12)))
  }
  return described.length === 0
    ? '        "hostvars": {}'
    : `        "hostvars": {\n${joined(described.sort(byName))}\n        }`
}

/** Two sorted lists as one; of two lines for the same name, the second list's stays. */
function overlaid(below: readonly NamedText[], above: readonly NamedText[]): readonly NamedText[] {
  if (above.length === 0) return below
  const lines: NamedText[] = []
  let next = 0
  for (const one of below) {
    while (next < above.length && byName(above[next]!, one) < 0) lines.push(above[next++]!)
    if (above[next]?.name !== one.name) lines.push(one)
  }
  return lines.concat(above.slice(next))
}

const ownHosts = (group: Group, available: ReadonlySet<HostEntry>): string[] =>
  [...group.hosts.values()].filter(host => available.has(host)).map(host => host.name)

/** `--list --yaml`: the tree of groups, each host's variables where it is named first. */
export function listYaml(
  { data, layers }: ListingSources,
  selected: readonly HostEntry[],
  { exported = false } = {},
): string {
  const available = new Set(selected)
  const seenGroups = new Set<Group>()
  const seenHosts = new Set<HostEntry>()
  const visit = (group: Group): Mapping => {
    const children: Mapping = new Dict()
    for (const child of group.children.values()) {
      if (seenGroups.has(child)) children.set(child.name, new Dict())
      else {
        const inner = visit(child)
        seenGroups.add(child)
        if (inner.size > 0) children.set(child.name, inner)
      }
    }
    const hosts: Mapping = new Dict()
    for (const host of group.name === 'all' ? [] : group.hosts.values()) {
      if (!available.has(host)) continue
      hosts.set(host.name, seenHosts.has(host) ? new Dict<Value>() : hostVariables(layers, host, exported))
      seenHosts.add(host)
    }
    const entry: Mapping = new Dict()
    if (children.size > 0) entry.set('children', children)
    if (hosts.size > 0) entry.set('hosts', hosts)
    const own = exported ? groupVariables(layers, group) : undefined
    if (own && own.size > 0) entry.set('vars', own)
    return entry
  }
  const all = visit(data.groups.get('all')!)
  return yamlText(Dict.of<Value>(all.size > 0 ? [['all', all]] : []))
}

/** `--host`. */
export function hostJson(layers: Layers, host: HostEntry, exported = false): string {
  return jsonText(hostVariables(layers, host, exported), { indent: 4, sortKeys: true })
}

/** `--host --yaml`. */
export function hostYaml(layers: Layers, host: HostEntry, exported = false): string {
  return yamlText(hostVariables(layers, host, exported))
}

/** `--graph`: the tree below a group, with variables where asked for. */
export function graph({ layers }: ListingSources, start: Group, showVariables = false): string {
  const lines: string[] = []
  const add = (label: string, depth: number): void => {
    lines.push(depth === 0 ? label : `${'  |'.repeat(depth)}--${label}`)
  }
  const variables = (found: Iterable<readonly [Key, Value]>, depth: number): void => {
    const sorted = [...found].sort(([one], [other]) => compareText(keyText(one), keyText(other)))
    for (const [name, value] of sorted) add(`{${keyText(name)} = ${text(readable(value))}}`, depth)
  }
  const visit = (group: Group, depth: number): void => {
    add(`@${group.name}:`, depth)
    for (const child of group.children.values()) visit(child, depth + 1)
    if (group.name !== 'all') {
      for (const host of group.hosts.values()) {
        add(host.name, depth + 1)
        if (showVariables) variables(hostVariables(layers, host).entries(), depth + 2)
      }
    }
    if (showVariables) variables(groupVariables(layers, group).entries(), depth + 1)
  }
  visit(start, 0)
  return lines.join('\n')
}

function groupVariables(layers: Layers, group: Group): Mapping {
  const variables = shown(layers.ofGroup(group))
  if (group.priority !== 1) variables.set('ansible_group_priority', group.priority)
  return variables
}

/** A value for people: encrypted strings opened. */
function readable(value: Value): Value {
  if (value instanceof EncryptedText) return value.decrypt()
  if (value instanceof UnsafeText) return value.text
  if (Array.isArray(value)) return value.map(readable)
  return isMapping(value) ? Dict.of(value.entries().map(([key, item]) => [key, readable(item)])) : value
}

// js-yaml writes JavaScript's values; these are the others that variables may hold.
const schema = DUMP_SCHEMA.withTags(
  realMapTag,
  defineScalarTag('tag:yaml.org,2002:int', {
    ...intYaml11Tag,
    identify: value => typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value)),
    represent: String,
  }),
  defineScalarTag('tag:yaml.org,2002:float', {
    ...floatYaml11Tag,
    identify: value => value instanceof WholeFloat || (typeof value === 'number' && !Number.isInteger(value)),
    represent: (value: number | WholeFloat) => yamlFloat(Number(value instanceof WholeFloat ? value.value : value)),
  }),
  defineScalarTag('tag:yaml.org,2002:timestamp', {
    ...timestampTag,
    identify: value => value instanceof Timestamp,
    represent: String,
  }),
  defineScalarTag('!vault', {
    resolve: source => source,
    identify: value => value instanceof EncryptedText,
    represent: (value: EncryptedText) => value.ciphertext,
  }),
)

function yamlFloat(value: number): string {
  if (Number.isNaN(value)) return '.nan'
  if (!Number.isFinite(value)) return value > 0 ? '.inf' : '-.inf'
  // YAML 1.1 wants a point in the mantissa and a sign before the exponent.
  const written = floatText(value)
  return /^-?\d+e/.test(written) ? written.replace('e', '.0e') : written
}

function yamlText(value: Mapping): string {
  return dump(sorted(value), { schema, noRefs: true, lineWidth: -1, seqNoIndent: true })
}

/** A value with its keys sorted, maps as js-yaml knows those whose keys have types. */
function sorted(value: Value): unknown {
  if (value instanceof UnsafeText) return value.text
  if (Array.isArray(value)) return value.map(sorted)
  if (!isMapping(value)) return value
  const entries = value.entries().sort(([one], [other]) => compareText(keyText(one), keyText(other)))
  return new Map(entries.map(([key, item]) => [sorted(key), sorted(item)]))
}
