// Which variable wins: every layer that applies to a host, lowest first, in Ansible's order.
import {
  type Assignment,
  type Assignments,
  compareGroups,
  type Group,
  groupsOf,
  type HostEntry,
  type InventoryData,
} from './groups.ts'
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
}

/** The layers of hosts. Hosts of the same groups share the work. */
export interface Layers {
  /** Every layer of a host, lowest first. */
  of(host: HostEntry): Layer[]
  /** What remains of them: each variable with the assignment that won. */
  merged(host: HostEntry): Assignments
  /** What remains of its groups' layers: the same object for hosts of the same groups. */
  shared(host: HostEntry): Assignments
  /** What remains of its own layers, which lie above those of its groups. */
  own(host: HostEntry): Assignments
  /** The variables that a group itself sets, in its inventory and its group_vars. */
  ofGroup(group: Group): Layer[]
}

/** Prepares the layers of an inventory. Finds all files of variables, so that a bad one is reported before anything runs. */
export function createLayers({ data, inventoryFolders, playbookFolder, extraVars }: LayerSources): Layers {
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
    const key = [...host.groups.keys()].join('\n')
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
  const ownLayers = (host: HostEntry): Layer[] => [
    ...(host.vars.size === 0 ? [] : [{ title: `host ${host.name}`, read: () => host.vars }]),
    ...file(hostFiles, host, 'host', 0, folders.length),
    ...(extraVars.size === 0 ? [] : [extra]),
  ]
  const mergedOf = (host: HostEntry): Assignments => {
    const found = sharedOf(host)
    found.merged ??= merge(new Map(), found.layers)
    return found.merged
  }
  return {
    of: host => [...sharedOf(host).layers, ...ownLayers(host)],
    merged: host => merge(new Map(mergedOf(host)), ownLayers(host)),
    shared: mergedOf,
    own: host => merge(new Map(), ownLayers(host)),
    ofGroup: group => [...inline(group), ...file(groupFiles, group, 'group', 0, folders.length)],
  }
}

/** Lays layers over variables: the last assignment of a name stays. */
export function merge(into: Map<string, Assignment>, layers: readonly Layer[]): Assignments {
  for (const { read } of layers) for (const [name, assignment] of read()) into.set(name, assignment)
  return into
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
