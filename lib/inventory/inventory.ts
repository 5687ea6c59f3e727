// A loaded inventory: hosts with their variables, by name and by pattern.
import { createHash } from 'node:crypto'
import type { ConnectionDefaults, ConnectionSettings } from '../connection/settings.ts'
import { RekeyError } from '../errors.ts'
import type { Host, HostSource } from '../playbook/host.ts'
import { didYouMean } from '../suggestion.ts'
import { connectionSettings, isUnusedConnectionVariable } from './connection/connection-variables.ts'
import { type Explanation, explainVariable } from './explanation.ts'
import { type Group, type HostEntry, hostsOf, type InventoryData } from './groups.ts'
import { groupNames } from './host-facts.ts'
import type { Machine } from './jinja/jinja-call.ts'
import { graph, hostJson, hostYaml, listJson, listYaml } from './listing.ts'
import { matchPattern, type Role, splitLimit, splitPattern, unmatchedError } from './pattern.ts'
import { openRoles, type Roles } from './roles.ts'
import type { Layers } from './variables/layers.ts'
import { createResolver, type VariableResolver } from './variables/resolve.ts'

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
  /** The names of the variables that `-e` sets, however it is written. */
  readonly extraVariables: readonly string[]
  /** One host by its exact name. Throws `RekeyError` with the nearest name when there is none. */
  host(name: string): Host
  /**
   * The hosts of a pattern, in Ansible's order: those of the first part first. Throws `RekeyError` for a pattern or
   * limit that can't be parsed, and for a limit that matches nothing.
   */
  select(pattern: string, options?: SelectOptions): Host[]
  /** What `ansible-inventory --list` prints. */
  list(options?: ListOptions): string
  /** What `ansible-inventory --host` prints. Throws `RekeyError` unless the pattern is exactly one host. */
  describeHost(pattern: string, options?: PrintOptions): string
  /** What `ansible-inventory --graph` prints, from a group on. Throws `RekeyError` when there is no such group. */
  graph(options?: { readonly group?: string; readonly vars?: boolean }): string
  /**
   * A hash for each host of what is written of it: its groups and its variables, before templates in them are resolved. The same
   * wherever the inventory lies.
   */
  fingerprints(): Record<string, string>
  /** Every place that sets a variable of a host, and which one won. Throws `RekeyError` when nothing sets it. */
  explain(host: string, variable: string): Explanation
}

/** How what `ansible-inventory` prints is printed. */
export interface PrintOptions {
  readonly yaml?: boolean
  /** `--export`: variables of groups stay with their groups, and those of `-e` are left out. */
  readonly exported?: boolean
}
export interface ListOptions extends SelectOptions, PrintOptions {}

export interface InventoryContext {
  readonly sources: readonly string[]
  readonly data: InventoryData
  readonly layers: Layers
  readonly extraVariables: readonly string[]
  readonly playbookDirectory?: string
  readonly connection?: ConnectionDefaults
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly notice: (line: string) => void
  readonly machine: Machine
}

/** Puts the parts of a loaded inventory behind one interface. */
export function createInventory(context: InventoryContext): Inventory {
  const { data, extraVariables, layers, notice, sources } = context
  const resolver = createResolver(context)
  const known = new Map<HostEntry, Host>()
  const hostOf = (entry: HostEntry): Host => {
    let host = known.get(entry)
    if (!host) {
      host = createHost(entry, resolver, roles, context)
      known.set(entry, host)
    }
    return host
  }
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
  // What is printed of an inventory, it prints as Ansible does: without roles.
  const match = (parts: readonly string[], role?: Role): ReturnType<typeof matchPattern> =>
    matchPattern(data, parts, implicitLocalhost, role)
  const roles = openRoles({
    ...{ data, layers, read: resolver.read },
    match: (pattern, role) => {
      const { hosts, unmatched } = match(splitPattern(pattern), role)
      return unmatched.length > 0 ? undefined : hosts
    },
  })
  const named = (name: string): HostEntry => {
    const entry = data.hosts.get(name) ?? implicitLocalhost(name)
    if (entry) return entry
    const guess = didYouMean(name, data.hosts.keys())
    throw new RekeyError(`there is no host "${name}" in the inventory`, {
      code: 'inventory.unknown-host',
      hint: guess ? `Did you mean "${guess}"?` : 'rekey inventory --graph shows what there is.',
    })
  }
  const select = (pattern: string, { limit }: SelectOptions = {}, role?: Role): HostEntry[] => {
    const { hosts, unmatched } = match(splitPattern(pattern), role)
    for (const part of unmatched) {
      const comma =
        pattern.includes(',') && part.includes(':') ? '; in a pattern with a comma, only commas separate' : ''
      notice(`"${part}" matches no host and no group of the inventory${comma}`)
    }
    if (limit === undefined) return hosts
    if (splitPattern(limit).length === 0) {
      throw new RekeyError('--limit is empty', {
        code: 'inventory.limit-empty',
        hint: 'Leave it out for all hosts; to Ansible, too, an empty limit means all.',
      })
    }
    const limited = match(splitLimit(limit, context.cwd), role)
    for (const part of limited.unmatched) throw unmatchedError(data, part, `--limit ${limit}`)
    if (limited.hosts.length === 0) {
      throw new RekeyError(`--limit ${limit} leaves no host of the inventory`, {
        code: 'inventory.limit-empty',
        hint: 'Parts with & and ! take hosts away from those before them.',
      })
    }
    const wanted = new Set(limited.hosts)
    return hosts.filter(host => wanted.has(host))
  }
  let groups: ReadonlyMap<string, InventoryGroup> | undefined
  let hosts: readonly Host[] | undefined
  return {
    sources,
    extraVariables,
    roles: roles.asked,
    get hosts() {
      hosts ??= hostsOf(data.groups.get('all')!).map(hostOf)
      return hosts
    },
    get groups() {
      groups ??= new Map([...data.groups].map(([name, group]) => [name, describeGroup(group)]))
      return groups
    },
    host: name => hostOf(named(name)),
    select: (pattern, options) => select(pattern, options, roles.hosts).map(hostOf),
    list({ limit, yaml, exported } = {}) {
      const hosts = select('all', { limit })
      return yaml ? listYaml(context, hosts, { exported }) : listJson(context, hosts, { exported })
    },
    describeHost(pattern, { yaml, exported } = {}) {
      const { hosts } = match(splitPattern(pattern))
      const [host] = hosts
      if (!host) throw unmatchedError(data, pattern, '--host')
      if (hosts.length > 1) {
        throw new RekeyError(`--host ${pattern} is ${hosts.length} hosts`, {
          code: 'inventory.host-pattern',
          hint: `Name one of them: ${hosts
            .slice(0, 5)
            .map(one => one.name)
            .join(', ')}${hosts.length > 5 ? ' …' : ''}.`,
        })
      }
      return yaml ? hostYaml(layers, host, exported) : hostJson(layers, host, exported)
    },
    graph({ group = 'all', vars } = {}) {
      const start = data.groups.get(group)
      if (start) return graph(context, start, vars)
      const guess = didYouMean(group, data.groups.keys())
      throw new RekeyError(`there is no group "${group}"`, {
        code: 'inventory.unknown-group',
        hint: guess ? `Did you mean "${guess}"?` : 'Without a name, --graph shows all groups.',
      })
    },
    fingerprints() {
      const all = hostsOf(data.groups.get('all')!)
      return Object.fromEntries(all.map(host => [host.name, fingerprint(hostJson(layers, host), groupNames(host))]))
    },
    explain: (host, variable) => explainVariable(layers, named(host), variable),
  }
}

function fingerprint(variables: string, groups: readonly string[]): string {
  return createHash('sha256')
    .update(`${JSON.stringify(groups)}\n${variables}`)
    .digest('hex')
    .slice(0, 16)
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

function createHost(
  entry: HostEntry,
  resolver: VariableResolver,
  roles: Roles,
  { connection: defaults, cwd, environment, notice }: InventoryContext,
): Host {
  let groups: readonly string[] | undefined
  let vars: Readonly<Record<string, unknown>> | undefined
  let connection: ConnectionSettings | undefined
  return {
    name: entry.name,
    get groups() {
      groups ??= roles.among(entry, groupNames(entry))
      return groups
    },
    get vars() {
      vars ??= resolver.vars(entry)
      return vars
    },
    render: (source, template) => resolver.render(entry, source, template),
    get connection() {
      if (!connection) {
        connection = connectionSettings(entry.name, name => resolver.read(entry, name), {
          defaults,
          cwd,
          environment,
          notice,
        })
        for (const name of Object.keys(resolver.vars(entry)).filter(isUnusedConnectionVariable).sort()) {
          notice(`the inventory sets ${name}, which rekey does not use`)
        }
      }
      return connection
    },
  }
}
