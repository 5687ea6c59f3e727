// The hosts and groups of an inventory while sources fill it: who is in what, who sets which variable, and where.
import { dirname } from 'node:path'
import { at, RekeyError } from '../errors.ts'
import type { Value } from './values.ts'

/** Where something was written. */
export interface Origin {
  readonly file: string
  readonly line?: number
}

/** One place that gives a variable a value, and the place of the same layer that it replaced. */
export interface Assignment {
  readonly value: Value
  readonly origin: Origin
  readonly replaced?: Assignment
  /** It stood in a file that was encrypted as a whole. */
  readonly vaulted?: true
}
export type Assignments = Map<string, Assignment>

export interface Group {
  readonly name: string
  readonly origin: Origin
  /** Hosts named directly, by name. */
  readonly hosts: Map<string, HostEntry>
  readonly children: Map<string, Group>
  readonly parents: Map<string, Group>
  readonly vars: Assignments
  /** `ansible_group_priority`: later among groups of one depth. */
  priority: number
  /** The longest way down from `all`; deeper groups win. */
  depth: number
}

export interface HostEntry {
  readonly name: string
  readonly origin: Origin
  /** The source that named it first (`inventory_file`), absent for implicit hosts. */
  readonly source?: string
  readonly vars: Assignments
  /** Groups that name it directly. */
  readonly groups: Map<string, Group>
}

/** Everything that the sources said. */
export interface InventoryData {
  readonly groups: Map<string, Group>
  readonly hosts: Map<string, HostEntry>
}

/** What a source that is being read adds to. */
export interface Collector {
  readonly data: InventoryData
  /** The source being read, for `inventory_file`. */
  readonly source: string
}

const builtin: Origin = { file: 'built in' }

/** An inventory with the groups that are always there. */
export function createInventoryData(): InventoryData {
  const data: InventoryData = { groups: new Map(), hosts: new Map() }
  const all = ensureGroup(data, 'all', builtin)
  link(all, ensureGroup(data, 'ungrouped', builtin))
  return data
}

/** More of either is no inventory, but a mistake in a range or somebody's attack. */
const [maxHosts, maxGroups] = [1_000_000, 100_000]
/** Groups within each other, and groups that contain one: nobody's are more. */
const [maxGroupDepth, maxAncestors] = [200, 1000]

// Control characters, line breaks of Unicode, marks that turn the direction of text, and halves of characters.
const unprintable = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u

/** Throws `RekeyError` for the name of a host or group that can be no name. */
function checkName(name: string, what: 'host' | 'group', origin: Origin): void {
  let why: string | undefined
  if (unprintable.test(name)) why = 'has characters in it that can’t be printed'
  else if (what === 'host' && (name.includes('/') || name === '.' || name === '..')) why = 'would be a path'
  if (why === undefined) return
  const shown = JSON.stringify(name.slice(0, 80)).replace(
    /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  throw new RekeyError(`${at(origin.file, origin.line)}: the name ${shown} of a ${what} ${why}`, {
    code: 'inventory.name',
    hint:
      what === 'host' ? 'Give it a plain name, and what it is reached by in ansible_host.' : 'Give it a plain name.',
  })
}

function checkCount(count: number, most: number, what: string, origin: Origin): void {
  if (count < most) return
  throw new RekeyError(`${at(origin.file, origin.line)}: more than ${most.toLocaleString('en')} ${what}`, {
    code: 'inventory.size',
    hint: 'Check the ranges: nothing that large is an inventory.',
  })
}

/** The group of that name, made when it is new. Throws `RekeyError` for what can be no name. */
export function ensureGroup(data: InventoryData, name: string, origin: Origin): Group {
  let group = data.groups.get(name)
  if (!group) {
    checkName(name, 'group', origin)
    checkCount(data.groups.size, maxGroups, 'groups', origin)
    group = {
      name,
      origin,
      hosts: new Map(),
      children: new Map(),
      parents: new Map(),
      vars: new Map(),
      priority: 1,
      depth: 0,
    }
    data.groups.set(name, group)
  }
  return group
}

/** Puts a host into a group, making the host when it is new. Throws `RekeyError` for what can be no name. */
export function addHost(
  { data, source }: Collector,
  name: string,
  group: Group,
  port: number | undefined,
  origin: Origin,
): HostEntry {
  let host = data.hosts.get(name)
  if (!host) {
    checkName(name, 'host', origin)
    checkCount(data.hosts.size, maxHosts, 'hosts', origin)
    host = { name, origin, source, vars: new Map(), groups: new Map() }
    data.hosts.set(name, host)
    // Ansible takes a port only from where the host is named first.
    if (port) assign(host.vars, 'ansible_port', port, origin)
  }
  group.hosts.set(name, host)
  host.groups.set(group.name, group)
  return host
}

/** Makes one group a child of another. Throws `RekeyError` when that closes a loop. */
export function addChild(parent: Group, child: Group, origin: Origin): void {
  if (parent.children.has(child.name)) return
  if (parent === child || isAncestor(child, parent)) {
    const way =
      parent === child ? `"${child.name}" contains itself` : `"${child.name}" already contains "${parent.name}"`
    throw new RekeyError(`${at(origin.file, origin.line)}: a loop among groups: ${way}`, {
      code: 'inventory.group-loop',
      hint: `Take "${child.name}" out of the children of "${parent.name}", or the other way round.`,
    })
  }
  link(parent, child)
}

function link(parent: Group, child: Group): void {
  parent.children.set(child.name, child)
  child.parents.set(parent.name, parent)
}

function tooDeep({ name, origin }: Group, why: string): RekeyError {
  return new RekeyError(`${at(origin.file, origin.line)}: the group "${name}": ${why}`, {
    code: 'inventory.group-depth',
    hint: 'Nothing that deep is an inventory; check what makes these groups.',
  })
}

function isAncestor(candidate: Group, group: Group): boolean {
  const seen = new Set<Group>()
  const pending = [...group.parents.values()]
  for (let next = pending.pop(); next; next = pending.pop()) {
    if (next === candidate) return true
    if (seen.has(next)) continue
    seen.add(next)
    if (seen.size > maxAncestors)
      throw tooDeep(group, `more than ${maxAncestors.toLocaleString('en')} groups contain it`)
    pending.push(...next.parents.values())
  }
  return false
}

/** Sets a variable, remembering what it replaces. */
export function assign(vars: Assignments, name: string, value: Value, origin: Origin): void {
  vars.set(name, { value, origin, replaced: vars.get(name) })
}

/** Sets a variable of a host. Where a group has its name, Ansible takes it for the group's. */
export function assignToHost(data: InventoryData, host: HostEntry, name: string, value: Value, origin: Origin): void {
  const group = data.groups.get(host.name)
  if (group) assignToGroup(group, name, value, origin)
  else assign(host.vars, name, value, origin)
}

/** Sets a variable of a group; `ansible_group_priority` is no variable but the group's rank. */
export function assignToGroup(group: Group, name: string, value: Value, origin: Origin): void {
  if (name !== 'ansible_group_priority') {
    assign(group.vars, name, value, origin)
    return
  }
  const priority = typeof value === 'boolean' ? Number(value) : Number(String(value).trim() || Number.NaN)
  if (!Number.isFinite(priority)) {
    throw new RekeyError(`${at(origin.file, origin.line)}: ansible_group_priority of "${group.name}" is not a number`, {
      code: 'inventory.group-priority',
      hint: 'Give a whole number; higher wins among groups of the same depth.',
    })
  }
  group.priority = Math.trunc(priority)
}

/**
 * What holds once every source was read: groups without a parent belong to `all`, hosts without a group to
 * `ungrouped`, each group knows its depth. Tells of a name that is both a host's and a group's.
 */
export function reconcile(data: InventoryData, notice: (line: string) => void): void {
  const { groups, hosts } = data
  const all = groups.get('all')!
  const ungrouped = groups.get('ungrouped')!
  for (const group of groups.values()) {
    if (group !== all && group.parents.size === 0) addChild(all, group, group.origin)
  }
  for (const host of hosts.values()) {
    const namesake = groups.get(host.name)
    if (namesake) {
      const [here, there] = [host.origin, namesake.origin].map(({ file, line }) => at(file, line))
      notice(
        `${here}: "${host.name}" is a host here and a group in ${there}: in patterns it is the host, and what the inventory sets for the host it sets for the group`,
      )
    }
    let grouped = false
    for (const group of host.groups.values()) if (group !== all && group !== ungrouped) grouped = true
    if (grouped && host.groups.has('ungrouped')) {
      host.groups.delete('ungrouped')
      ungrouped.hosts.delete(host.name)
    } else if (!grouped && !host.groups.has('ungrouped')) {
      // Of a host and a group of one name, Ansible takes the group.
      if (namesake) addChild(ungrouped, namesake, host.origin)
      else {
        host.groups.set('ungrouped', ungrouped)
        ungrouped.hosts.set(host.name, host)
      }
    }
  }
  setDepths(data)
}

/** How deep each group lies, by what contains it now. Throws `RekeyError` for one that lies too deep. */
export function setDepths({ groups }: InventoryData): void {
  // Longest paths from the roots: visit a group once all its parents are done.
  const waiting = new Map<Group, number>()
  const ready: Group[] = []
  for (const group of groups.values()) {
    group.depth = 0
    if (group.parents.size === 0) ready.push(group)
  }
  for (let group = ready.pop(); group; group = ready.pop()) {
    for (const child of group.children.values()) {
      child.depth = Math.max(child.depth, group.depth + 1)
      if (child.depth > maxGroupDepth)
        throw tooDeep(child, `it lies in more than ${maxGroupDepth} groups within each other`)
      const left = (waiting.get(child) ?? child.parents.size) - 1
      waiting.set(child, left)
      if (left === 0) ready.push(child)
    }
  }
}

/** The groups of a host and all that contain them, `all` included, in no particular order. */
export function groupsOf(host: HostEntry): Set<Group> {
  const found = new Set<Group>()
  const pending = [...host.groups.values()]
  for (let group = pending.pop(); group; group = pending.pop()) {
    if (found.has(group)) continue
    found.add(group)
    for (const parent of group.parents.values()) pending.push(parent)
  }
  return found
}

/** Every host in a group or below it: the group's own first, then level by level. */
export function hostsOf(group: Group): HostEntry[] {
  const hosts = new Set<HostEntry>()
  const seen = new Set([group])
  for (const next of seen) {
    for (const host of next.hosts.values()) hosts.add(host)
    for (const child of next.children.values()) seen.add(child)
  }
  return [...hosts]
}

/** The order in which variables of groups apply: depth, then priority, then name; the last one wins. */
export function compareGroups(one: Group, other: Group): number {
  return one.depth - other.depth || one.priority - other.priority || compareText(one.name, other.name)
}

/** Order by code point, as Python sorts text. */
export function compareText(one: string, other: string): number {
  if (one === other) return 0
  // UTF-16's order is another one only where a surrogate meets U+E000 and above.
  for (let index = 0; index < one.length && index < other.length; index++) {
    const [left, right] = [one.charCodeAt(index), other.charCodeAt(index)]
    if (left === right) continue
    if (left >= 0xd800 && right >= 0xd800) return Buffer.compare(Buffer.from(one), Buffer.from(other))
    return left - right
  }
  return one.length - other.length
}

/** The folder of a source: itself, or where it lies. */
export function folderOf(source: string): string {
  return dirname(source)
}
