// Which variable wins: every layer that applies to a host, lowest first, in Ansible's order.
import {
  type Assignment,
  type Assignments,
  compareGroups,
  type Group,
  groupsOf,
  type HostEntry,
  type InventoryData,
} from '../groups.ts'
import { Dict, isMapping, type Mapping, type Value } from '../values.ts'
import type { VariableFolder, VariableLayer } from './variable-files.ts'

/** One set of variables that applies to a host, and what it is called when it is explained. */
export interface Layer {
  readonly title: string
  readonly read: VariableLayer
}

export interface LayerSources {
  readonly data: InventoryData
  /** Folders beside the inventory sources, in the order of the sources. */
  readonly inventoryFolders: readonly VariableFolder[]
  /** The folder of the playbook. */
  readonly playbookFolder?: VariableFolder
  /** `-e`, above everything. */
  readonly extraVars: Assignments
  /** `hash_behaviour = merge` in ansible.cfg. */
  readonly mergeMaps?: boolean
  /** `inject_facts_as_vars = false` in ansible.cfg. */
  readonly factsApart?: boolean
}

/** The layers of hosts. Hosts of the same groups share the work. */
export interface Layers {
  /** Every layer of a host, lowest first. */
  of(host: HostEntry): Layer[]
  /** What remains of them: each variable with the assignment that won. */
  merged(host: HostEntry): Assignments
  /** What remains of its groups' layers: the same object for hosts of the same groups. */
  shared(host: HostEntry): Assignments
  /** Of what remains, the variables that its own layers set, which lie above those of its groups. */
  own(host: HostEntry): Assignments
  /** What remains of a host's own variables, without those of its groups and of `-e`. */
  ofHost(host: HostEntry): Assignments
  /** What remains of the variables that a group itself sets, in its inventory and its group_vars. */
  ofGroup(group: Group): Assignments
}

/** Prepares the layers of an inventory. Finds all files of variables, so that a bad one is reported before anything runs. */
export function createLayers(sources: LayerSources): Layers {
  const { data, inventoryFolders, playbookFolder, extraVars } = sources
  const folders = [...inventoryFolders, ...(playbookFolder ? [playbookFolder] : [])]
  const groupFiles = findAll(folders, [...data.groups.values()], (folder, group) => folder.group(group.name))
  const hostFiles = findAll(folders, [...data.hosts.values()], (folder, host) => folder.host(host.name))
  const extra: Layer = { title: 'extra variables (-e)', read: () => extraVars }
  const all = data.groups.get('all')!

  const file = <Entity extends { readonly name: string }>(
    files: Map<Entity, (VariableLayer | undefined)[]>,
    entity: Entity,
    kind: string,
    from: number,
    to: number,
  ): Layer[] =>
    (files.get(entity) ?? []).slice(from, to).flatMap((read, index) => {
      const beside = from + index < inventoryFolders.length ? 'inventory' : 'playbook'
      return read ? [{ title: `${kind}_vars/${entity.name} beside the ${beside}`, read }] : []
    })
  const inline = (group: Group): Layer[] =>
    group.vars.size === 0 ? [] : [{ title: `group ${group.name}`, read: () => group.vars }]

  const count = inventoryFolders.length
  const shared = new Map<string, { layers: Layer[]; merged?: Assignments }>()
  const sharedOf = (host: HostEntry): { layers: Layer[]; merged?: Assignments } => {
    const key = JSON.stringify([...host.groups.keys()])
    let found = shared.get(key)
    if (!found) {
      const groups = [...groupsOf(host)].filter(group => group !== all).sort(compareGroups)
      const layers = [...inline(all), ...groups.flatMap(inline)]
      layers.push(...file(groupFiles, all, 'group', 0, count), ...file(groupFiles, all, 'group', count, folders.length))
      // Source by source, and within each the groups in their order.
      for (let index = 0; index < folders.length; index++) {
        for (const group of groups) layers.push(...file(groupFiles, group, 'group', index, index + 1))
      }
      found = { layers }
      shared.set(key, found)
    }
    return found
  }
  const hostLayers = (host: HostEntry): Layer[] => [
    ...(host.vars.size === 0 ? [] : [{ title: `host ${host.name}`, read: () => host.vars }]),
    ...file(hostFiles, host, 'host', 0, folders.length),
  ]
  const above = [...(sources.factsApart ? [noFacts] : []), ...(extraVars.size === 0 ? [] : [extra])]
  const ownLayers = (host: HostEntry): Layer[] => [...hostLayers(host), ...above]
  const merge = (below: Assignments, layers: readonly Layer[]): Assignments =>
    laid(below, layers, sources.mergeMaps ?? false)
  const mergedFor = (host: HostEntry): Assignments => merge(mergedOf(host), ownLayers(host))
  const mergedOf = (host: HostEntry): Assignments => {
    const found = sharedOf(host)
    found.merged ??= merge(new Map(), found.layers)
    return found.merged
  }
  return {
    of: host => [...sharedOf(host).layers, ...ownLayers(host)],
    merged: mergedFor,
    shared: mergedOf,
    own(host) {
      const names = merge(new Map(), ownLayers(host))
      if (!sources.mergeMaps) return names
      const all = mergedFor(host)
      return new Map([...names.keys()].map(name => [name, all.get(name)!]))
    },
    ofHost: host => merge(new Map(), hostLayers(host)),
    ofGroup: group => merge(new Map(), [...inline(group), ...file(groupFiles, group, 'group', 0, folders.length)]),
  }
}

/** What Ansible says of facts where they are not variables and none were gathered. */
const noFacts: Layer = {
  title: 'facts',
  read: () =>
    new Map([['ansible_local', { value: new Dict<Value>(), origin: { file: 'inject_facts_as_vars of ansible.cfg' } }]]),
}

/**
 * Lays layers over variables: the last assignment of a name stays, or with `mergeMaps`, of maps what they come to together.
 */
export function laid(below: Assignments, layers: readonly Layer[], mergeMaps: boolean): Assignments {
  const variables = new Map(below)
  for (const { read } of layers) {
    for (const [name, assignment] of read())
      variables.set(name, mergeMaps ? over(variables.get(name), assignment) : assignment)
  }
  return variables
}

/** An assignment laid over the one below it, both with what they replaced within their own layer. */
function over(below: Assignment | undefined, assignment: Assignment): Assignment {
  const own: Assignment[] = []
  for (let one: Assignment | undefined = assignment; one; one = one.replaced) own.push(one)
  let under = below
  for (const { replaced: _, ...one } of own.toReversed()) {
    under =
      under && isMapping(under.value) && isMapping(one.value)
        ? { ...one, value: laidOver(under.value, one.value), ...(under.vaulted && { vaulted: true }) }
        : one
  }
  return under!
}

function laidOver(low: Mapping, high: Mapping): Mapping {
  const both = Dict.of(low.entries())
  for (const [key, value] of high.entries()) {
    const old = both.get(key)
    both.set(key, isMapping(old) && isMapping(value) ? laidOver(old, value) : value)
  }
  return both
}

function findAll<Entity>(
  folders: readonly VariableFolder[],
  entities: readonly Entity[],
  find: (folder: VariableFolder, entity: Entity) => VariableLayer | undefined,
): Map<Entity, (VariableLayer | undefined)[]> {
  const found = new Map<Entity, (VariableLayer | undefined)[]>()
  for (const entity of entities) {
    const layers = folders.map(folder => find(folder, entity))
    if (layers.some(layer => layer !== undefined)) found.set(entity, layers)
  }
  return found
}
