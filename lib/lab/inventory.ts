// The inventory of a lab, written the way an operator would write it for a cluster of their own.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { canaryWorkloads } from './canaries.ts'
import { labFolder } from './folders.ts'
import { knownHostsFile, privateKeyFile } from './keys.ts'
import { defaultOptions, type Machine, only, type Role, type Shape } from './shape.ts'
import { vaultAddress, vaultCaFile, vaultTokenFile } from './vault.ts'

/** The path of a lab's inventory. Its group_vars are beside it. */
export const inventoryPath = (lab: string): string => join(labFolder(lab), 'inventory', 'hosts.yml')

/** Where the canaries' results are on every master and node. */
export const canaryResults = '/var/lib/rekey-canary'

/** Writes the inventory of a lab. Strings are written as JSON, which is YAML too. */
export function writeInventory(shape: Shape): void {
  const folder = dirname(inventoryPath(shape.name))
  mkdirSync(join(folder, 'group_vars'), { recursive: true, mode: 0o700 })
  writeFileSync(join(folder, 'hosts.yml'), hosts(shape))
  writeFileSync(join(folder, 'group_vars', 'all.yml'), variables(shape))
}

function hosts(shape: Shape): string {
  const group = (name: string, role: Role) => {
    const line = ({ name, address }: Machine) => `        ${name}: { ansible_host: ${address} }\n`
    return `    ${name}:\n      hosts:\n${shape.machines
      .filter(machine => machine.role === role)
      .map(line)
      .join('')}`
  }
  return `# Written by 'rekey lab up' for the lab '${shape.name}'.
all:
  children:
    cluster:
      children:
        masters:
        nodes:
${group('masters', 'master')}${group('nodes', 'node')}${group('loadbalancers', 'loadbalancer')}${group('vault', 'vault')}`
}

function variables(shape: Shape): string {
  const workloads = canaryWorkloads.map(
    ({ kind, namespace, name }) => `  - { kind: ${kind}, namespace: ${namespace}, name: ${name} }\n`,
  )
  return `# Written by 'rekey lab up' for the lab '${shape.name}'.
ansible_user: root
ansible_ssh_private_key_file: ${JSON.stringify(privateKeyFile(shape.name))}
ansible_ssh_common_args: ${JSON.stringify(`-o UserKnownHostsFile=${knownHostsFile(shape.name)} -o StrictHostKeyChecking=yes`)}

cluster_name: ${shape.name}
api_server: https://${only(shape, 'loadbalancer').address}:6443
control_plane_layout: kubeadm
cluster_domain: ${shape.clusterDomain}
service_subnet: ${shape.serviceSubnet}
pod_subnet: ${shape.podSubnet}

vault_addr: ${vaultAddress(shape)}
vault_cacert: ${JSON.stringify(vaultCaFile(shape.name))}
vault_token_file: ${JSON.stringify(vaultTokenFile(shape.name))}

pki_authorities: three
rotate_service_account_keys: true
clock_tolerance: 60s

canary_results: ${canaryResults}
look_around:
${lookAround(shape)}
restart_workloads:
${workloads.join('')}`
}

/** What a run in this lab tells at its end: where its operator can go and see. */
function lookAround({ name }: Shape): string {
  const flag = name === defaultOptions.name ? '' : ` --name ${name}`
  return [
    `bin/rekey lab ssh${flag} m1 kubectl get nodes,pods -A`,
    `bin/rekey lab status${flag}`,
    `bin/rekey run rotate-ca -i "$(bin/rekey lab inventory${flag})"`,
    `bin/rekey lab down${flag}`,
  ]
    .map(line => `  - ${JSON.stringify(line)}`)
    .join('\n')
}
