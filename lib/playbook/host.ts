// A host as playbooks see it.
import type { ConnectionSettings } from '../connection/settings.ts'

/** One machine of the inventory. */
export interface Host {
  /** Its name in the inventory (`inventory_hostname`). */
  readonly name: string
  /**
   * Every group that it is in, `all` left out, sorted by name (`group_names`); `masters`, `nodes` and `etcd` are those that these names
   * stand for, whatever the inventory calls them.
   */
  readonly groups: readonly string[]
  /** Its variables, templates in them resolved when read; reading one that can't be resolved throws. */
  readonly vars: Readonly<Record<string, unknown>>
  /** How to reach it; computed when read. */
  readonly connection: ConnectionSettings
  /**
   * What a template of Jinja's comes to for it, as Ansible's `template` has it: with its variables, their types as Ansible has them. Throws
   * `RekeyError` with the template's name. Every host of an inventory has it.
   */
  render?(source: string, template: HostTemplate): string
}

/** A template in a file. */
export interface HostTemplate {
  /** What errors call it: its file. */
  readonly name: string
  /** Names of its own, above the host's variables. */
  readonly vars?: Readonly<Record<string, unknown>>
  /** What Ansible's module calls so: `trim_blocks`, `variable_start_string` and their kin. */
  readonly options?: Readonly<Record<string, unknown>>
}

/** What a name that playbooks use stands for in an inventory. */
export interface InventoryRole {
  readonly name: string
  /** The group or the pattern that it was found as. */
  readonly as: string
  /** Names of its hosts. */
  readonly hosts: readonly string[]
}

/** What a run needs of an inventory: hosts by pattern, and where it came from. */
export interface HostSource {
  /** The sources as given, absolute paths where they are files. */
  readonly sources: readonly string[]
  /** Every host, in inventory order. */
  readonly hosts: readonly Host[]
  /**
   * The hosts of a pattern (`masters`, `nodes:!n1`), in Ansible’s order: those of its first part first. `masters`, `nodes` and `etcd`
   * are roles: what they stand for, the inventory says.
   * Throws `RekeyError` for a pattern that can't be parsed, and for a role that the inventory leaves open.
   */
  select(pattern: string): Host[]
  /** What the roles stand for, once a pattern with one of them was selected. */
  roles(): readonly InventoryRole[]
}

const thisMachine = ['localhost', '127.0.0.1', '::1']

/** Whether all plays are for the machine that rekey runs on: then no inventory is needed, which is there without one. */
export function isForThisMachine(plays: readonly { readonly hosts: string }[]): boolean {
  return plays.length > 0 && plays.every(({ hosts }) => thisMachine.includes(hosts))
}

/** The host of a name, if there is one: of the inventory, or this machine by one of its usual names. */
export function namedHost(inventory: HostSource, name: string): Host | undefined {
  const isLocal = thisMachine.includes(name)
  return inventory.hosts.find(one => one.name === name) ?? (isLocal ? inventory.select(name)[0] : undefined)
}

/** Names joined for a line: `m1, m2, m3`, or `m1, m2 and 98 more`. */
export function names(hosts: readonly string[], most = 6): string {
  if (hosts.length <= most) return hosts.join(', ')
  return `${hosts.slice(0, most - 1).join(', ')} and ${hosts.length - most + 1} more`
}
