// A loaded inventory: hosts with their variables, by name and by pattern.
import type { ConnectionSettings } from '../connection/settings.ts'
import { RekeyError } from '../errors.ts'
import type { Host, HostSource } from '../playbook/host.ts'
import { isIpAddress } from './addresses.ts'
import { connectionSettings } from './connection-variables.ts'
import { compareText, type Group, groupsOf, type HostEntry, hostsOf, type InventoryData } from './groups.ts'
import type { Layers } from './layers.ts'
import { matchPattern, splitLimit, splitPattern, unmatchedError } from './pattern.ts'
import type { VariableResolver } from './resolve.ts'

export interface SelectOptions {
  /** `--limit`: a pattern that the hosts must match too; one that matches nothing is an error. */
  readonly limit?: string
}

/** One group, as operators see it. */
export interface InventoryGroup {
  readonly name: string
  /** Names of the hosts in it or below it. */
  readonly hosts: readonly string[]
  /** Names of the groups directly below it. */
  readonly children: readonly string[]
}

/** The hosts, groups and variables of all sources together. */
export interface Inventory extends HostSource {
  readonly groups: ReadonlyMap<string, InventoryGroup>
  /** One host by its exact name. Throws `RekeyError` with the nearest name when there is none. */
  host(name: string): Host
  /**
   * The hosts of a pattern, in Ansible's order: those of the first part first. Throws `RekeyError` for a pattern or
   * limit that can't be parsed, and for a limit that matches nothing.
   */
  select(pattern: string, options?: SelectOptions): Host[]
}

export interface InventoryContext {
  readonly sources: readonly string[]
  readonly data: InventoryData
  readonly layers: Layers
  readonly resolver: VariableResolver
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly notice: (line: string) => void
}

/** Puts the parts of a loaded inventory behind one interface. */
export function createInventory(context: InventoryContext): Inventory {
  const { data, layers, resolver, notice, sources } = context
  const known = new Map<HostEntry, Host>()
  const hostOf = (entry: HostEntry): Host => {
    let host = known.get(entry)
    if (!host) {
      host = createHost(entry, context)
      known.set(entry, host)
    }
    return host
  }
  void layers
  void resolver
  let localhost: HostEntry | undefined
  const implicitLocalhost = (name: string): HostEntry | undefined => {
    if (!['localhost', '127.0.0.1', '::1'].includes(name)) return undefined
    for (const alias of ['localhost', '127.0.0.1', '::1']) {
      const explicit = data.hosts.get(alias)
      if (explicit) return explicit
    }
    if (!localhost) {
      const origin = { file: 'built in' }
      localhost = {
        name,
        origin,
        vars: new Map([['ansible_connection', { value: 'local', origin }]]),
        groups: new Map(),
      }
    }
    return localhost
  }
  const match = (parts: readonly string[]): ReturnType<typeof matchPattern> =>
    matchPattern(data, parts, implicitLocalhost)
  let groups: ReadonlyMap<string, InventoryGroup> | undefined
  return {
    sources,
    get hosts() {
      return hostsOf(data.groups.get('all')!).map(hostOf)
    },
    get groups() {
      groups ??= new Map([...data.groups].map(([name, group]) => [name, describeGroup(group)]))
      return groups
    },
    host(name) {
      const entry = data.hosts.get(name)
      if (!entry) throw unmatchedError(data, name, 'host')
      return hostOf(entry)
    },
    select(pattern, { limit } = {}) {
      const { hosts, unmatched } = match(splitPattern(pattern))
      for (const part of unmatched)
        notice(`"${part.replace(/^[!&]/, '')}" matches no host and no group of the inventory`)
      if (limit === undefined) return hosts.map(hostOf)
      const limited = match(splitLimit(limit))
      for (const part of limited.unmatched) throw unmatchedError(data, part, `--limit ${limit}`)
      const wanted = new Set(limited.hosts)
      const left = hosts.filter(host => wanted.has(host))
      if (left.length === 0 && hosts.length > 0) {
        throw new RekeyError(`--limit ${limit} leaves no host of "${pattern}"`, {
          code: 'inventory.limit-empty',
          hint: `"${pattern}" has ${hosts.length === 1 ? '1 host' : `${hosts.length} hosts`}: ${hosts
            .slice(0, 5)
            .map(host => host.name)
            .join(', ')}${hosts.length > 5 ? ' …' : ''}`,
        })
      }
      return left.map(hostOf)
    },
  }
}

function describeGroup(group: Group): InventoryGroup {
  let hosts: readonly string[] | undefined
  return {
    name: group.name,
    get hosts() {
      hosts ??= hostsOf(group).map(host => host.name)
      return hosts
    },
    children: [...group.children.keys()],
  }
}

function createHost(entry: HostEntry, { resolver, cwd, environment, notice }: InventoryContext): Host {
  let groups: readonly string[] | undefined
  let vars: Readonly<Record<string, unknown>> | undefined
  let connection: ConnectionSettings | undefined
  return {
    name: entry.name,
    get groups() {
      groups ??= groupNames(entry)
      return groups
    },
    get vars() {
      vars ??= resolver.vars(entry)
      return vars
    },
    get connection() {
      connection ??= connectionSettings(entry.name, name => resolver.read(entry, name), { cwd, environment, notice })
      return connection
    },
  }
}

/** `group_names`: the groups of a host by name, without `all`. */
export function groupNames(host: HostEntry): string[] {
  return [...groupsOf(host)]
    .map(group => group.name)
    .filter(name => name !== 'all')
    .sort(compareText)
}

/** `inventory_hostname_short`: up to the first dot, unless it is an address. */
export function shortName(name: string): string {
  return isIpAddress(name) ? name : name.split('.')[0]!
}
