// An inventory of 10,000 hosts in 200 nested groups, each host with variables of its own and of its groups.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const hostCount = 10_000
export const groupCount = 200

/** The inventory, whose `file` of YAML and whose group_vars are there once it is written. */
export function bigInventory(folder: string): { file: string; hosts: number; write(): void } {
  const file = join(folder, 'hosts.yml')
  const write = () => {
    mkdirSync(join(folder, 'group_vars'), { recursive: true })
    writeFileSync(file, yamlInventory())
    for (let group = 0; group < groupCount; group++)
      writeFileSync(join(folder, 'group_vars', `g${group}.yml`), groupVariables(group))
    writeFileSync(
      join(folder, 'group_vars', 'all.yml'),
      'ansible_user: root\nntp: [10.0.0.1, 10.0.0.2]\nlimits: { nofile: 65536, nproc: 4096 }\n',
    )
  }
  return { file, hosts: hostCount, write }
}

/** Groups in a tree of three: g0 holds g1, g2 and g3, and so on. */
export function childrenOf(group: number): number[] {
  return [1, 2, 3].map(offset => group * 3 + offset).filter(child => child < groupCount)
}

/** The names of the hosts of a group. */
export function* hostsOf(group: number): Generator<string> {
  for (let host = group; host < hostCount; host += groupCount) yield `host${String(host).padStart(5, '0')}`
}

function yamlInventory(): string {
  const lines: string[] = []
  for (let group = 0; group < groupCount; group++) {
    lines.push(`g${group}:`, '  vars:', `    rack: r${group}`, `    shared_by_depth: ${group}`, '  hosts:')
    for (const name of hostsOf(group)) {
      lines.push(
        `    ${name}:`,
        `      ansible_host: 10.${group}.0.1`,
        `      label: "${name}-x"`,
        '      disks: [sda, sdb]',
      )
    }
    const children = childrenOf(group)
    if (children.length > 0) lines.push('  children:', ...children.map(child => `    g${child}:`))
  }
  return `${lines.join('\n')}\n`
}

function groupVariables(group: number): string {
  return `zone: z${group}\nlabels: { group: g${group}, tier: ${group % 3} }\nfrom_template: "{{ rack }}-{{ inventory_hostname }}"\n`
}
