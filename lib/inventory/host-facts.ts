// What Ansible knows of every host without being told: its short name, its groups.
import { isIpAddress } from './addresses.ts'
import { compareText, groupsOf, type HostEntry } from './groups.ts'

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
