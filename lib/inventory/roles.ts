// What playbooks call `masters`, `nodes` and `etcd`, in an inventory that calls them otherwise: a pattern that it sets (`rekey_masters`),
// or a group by one of the usual names.
import { at, RekeyError } from '../errors.ts'
import type { InventoryRole } from '../playbook/host.ts'
import { compareText, type Group, type HostEntry, hostsOf, type InventoryData } from './groups.ts'
import type { Role } from './pattern.ts'
import type { Layers } from './variables/layers.ts'

/** The usual names of their groups. */
const usual = {
  masters: ['masters', 'kube_control_plane', 'kube-master', 'kube_master', 'control_plane', 'controllers'],
  nodes: ['nodes', 'kube_node', 'kube-node', 'workers'],
  etcd: ['etcd'],
} as const satisfies Record<string, readonly string[]>

export type RoleName = keyof typeof usual

const roleNames = Object.keys(usual) as RoleName[]

/** The variables by which an inventory says itself who they are. */
export const roleVariables: readonly string[] = roleNames.map(variableOf)

export interface RoleSources {
  readonly data: InventoryData
  readonly layers: Pick<Layers, 'shared' | 'own'>
  /** The value of a variable of a host, its templates resolved. */
  readonly read: (host: HostEntry, name: string) => unknown
  /** The hosts of a pattern; undefined where a part of it names nothing. */
  readonly match: (pattern: string, role: Role) => readonly HostEntry[] | undefined
}

export interface Roles {
  /**
   * The hosts of a role, in the order of the inventory; undefined for what is no role, and for one that has another meaning here or
   * none: `nodes` where there are none.
   * @throws RekeyError where the inventory has no masters, or says two things
   */
  hosts(name: string): readonly HostEntry[] | undefined
  /** The groups of a host with its roles among them; a role that can't be told is left out. */
  among(host: HostEntry, groups: readonly string[]): readonly string[]
  /** Those that can be told, once `hosts` was asked for one. */
  asked(): readonly InventoryRole[]
}

interface Found {
  /** What it was found as. */
  readonly as: string
  readonly hosts: readonly HostEntry[]
}

/** Finds out what the roles are; nothing is looked for before somebody asks. */
export function openRoles(sources: RoleSources): Roles {
  const { data } = sources
  const known = new Map<RoleName, { readonly found?: Found } | { readonly error: unknown }>()
  const running = new Set<RoleName>()
  let wasAsked = false

  const find = (name: RoleName): Found | undefined => {
    // In a pattern of its own, the name of a role is that of a group.
    if (running.has(name)) return undefined
    let one = known.get(name)
    if (!one) {
      running.add(name)
      try {
        one = { found: lookFor(name) }
      } catch (error) {
        one = { error }
      } finally {
        running.delete(name)
      }
      known.set(name, one)
    }
    if ('error' in one) throw one.error
    return one.found
  }
  const hostsOfRole: Role = name => (isRole(name) ? find(name)?.hosts : undefined)
  const lookFor = (name: RoleName): Found | undefined => {
    const set = assigned(name, hostsOfRole, sources)
    if (set) return set
    // To patterns, a host of that name comes before any group.
    if (data.hosts.has(name) && !data.groups.has(name)) return undefined
    const found = byUsualName(name, data)
    if (found) return found
    if (name === 'etcd') {
      const masters = find('masters')
      return masters && { as: 'the masters', hosts: masters.hosts }
    }
    if (name === 'masters') throw noMasters(data)
    return undefined
  }
  const orNot = (name: RoleName): Found | undefined => {
    try {
      return find(name)
    } catch {
      return undefined
    }
  }
  const members = new Map<RoleName, ReadonlySet<HostEntry>>()
  const membersOf = (name: RoleName): ReadonlySet<HostEntry> => {
    let set = members.get(name)
    if (!set) {
      set = new Set(orNot(name)?.hosts)
      members.set(name, set)
    }
    return set
  }
  return {
    hosts(name) {
      wasAsked ||= isRole(name)
      return hostsOfRole(name)
    },
    among(host, groups) {
      const own = roleNames.filter(name => membersOf(name).has(host))
      const others = groups.filter(name => !isRole(name) || membersOf(name).size === 0)
      return [...new Set([...others, ...own])].sort(compareText)
    },
    asked: () =>
      wasAsked
        ? roleNames.flatMap(name => {
            const found = orNot(name)
            return found ? [{ name, as: found.as, hosts: found.hosts.map(host => host.name) }] : []
          })
        : [],
  }
}

function isRole(name: string): name is RoleName {
  return Object.hasOwn(usual, name)
}

function variableOf(name: string): string {
  return `rekey_${name}`
}

/** What the inventory says itself: the same for every host for which it says something. */
function assigned(name: RoleName, role: Role, { data, layers, read, match }: RoleSources): Found | undefined {
  const variable = variableOf(name)
  let first: { readonly value: unknown; readonly where: string; readonly host: string } | undefined
  for (const host of data.hosts.values()) {
    const assignment = layers.own(host).get(variable) ?? layers.shared(host).get(variable)
    if (!assignment) continue
    const { file, line } = assignment.origin
    const one = { value: read(host, variable), where: at(file, line), host: host.name }
    if (first === undefined) first = one
    if (one.value === first.value) continue
    throw new RekeyError(
      `${one.where}: ${variable} is ${JSON.stringify(one.value)} for ${one.host}, and ${JSON.stringify(first.value)} for ${first.host} (${first.where})`,
      {
        code: 'inventory.role',
        hint: `Set it once for all hosts, in group_vars/all.yml; or name the ${name} of this cluster with -e ${variable}=….`,
      },
    )
  }
  if (first === undefined) return undefined
  const { value, where } = first
  const refused = (why: string) =>
    new RekeyError(`${where}: ${variable} ${why}`, {
      code: 'inventory.role',
      hint: `Write a pattern as for --limit: ${variable}: ${usual[name][1] ?? usual[name][0]}.`,
    })
  if (typeof value !== 'string' || value.trim() === '') throw refused(`is ${JSON.stringify(value)}, and no pattern`)
  const hosts = match(value, role)
  if (!hosts || hosts.length === 0) throw refused(`is ${JSON.stringify(value)}, which matches no host of the inventory`)
  return { as: value, hosts }
}

/** The group by one of the usual names; of several, the one that the others are in. */
function byUsualName(name: RoleName, data: InventoryData): Found | undefined {
  const candidates = usual[name]
    .flatMap(usualName => data.groups.get(usualName) ?? [])
    .map(group => ({ group, hosts: hostsOf(group) }))
    .filter(({ hosts }) => hosts.length > 0)
  const outermost = candidates.filter(({ group }) => !candidates.some(other => contains(other.group, group)))
  const [first, ...others] = outermost
  if (!first) return undefined
  const other = others.find(({ hosts }) => !sameHosts(hosts, first.hosts))
  if (other) {
    const [one, two] = [first, other].map(
      ({ group, hosts }) => `${group.name} (${hosts.length} ${hosts.length === 1 ? 'host' : 'hosts'})`,
    )
    throw new RekeyError(`the ${name} may be the group ${one} or the group ${two}: they are not the same hosts`, {
      code: 'inventory.role',
      hint: `Say which: ${variableOf(name)}: ${first.group.name} in group_vars/all.yml, or -e ${variableOf(name)}=${first.group.name}.`,
    })
  }
  return { as: first.group.name, hosts: first.hosts }
}

function contains(outer: Group, inner: Group): boolean {
  if (outer === inner) return false
  const seen = new Set([inner])
  for (const group of seen) for (const parent of group.parents.values()) seen.add(parent)
  return seen.has(outer)
}

function sameHosts(one: readonly HostEntry[], other: readonly HostEntry[]): boolean {
  const hosts = new Set(one)
  return one.length === other.length && other.every(host => hosts.has(host))
}

function noMasters({ groups }: InventoryData): RekeyError {
  const empty = usual.masters.find(name => groups.has(name))
  const why =
    empty === undefined
      ? `none of the groups ${usual.masters.slice(0, -1).join(', ')} or ${usual.masters.at(-1)}`
      : `no host in the group ${empty}`
  return new RekeyError(`the inventory has no masters: there is ${why}`, {
    code: 'inventory.no-masters',
    hint: 'Say which hosts the control plane is on: rekey_masters: PATTERN in group_vars/all.yml, or -e rekey_masters=PATTERN.',
  })
}
