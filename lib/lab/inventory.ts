// The inventory of a lab, written the way an operator would write it for a cluster of their own.
import { chmodSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { canaryWorkloads, routesWorkload } from './cluster/canaries.ts'
import { layoutOf } from './cluster/layouts/index.ts'
import { pluginVariables } from './cluster/plugins.ts'
import { vaultAddress, vaultCaFile, vaultTokenFile } from './cluster/vault.ts'
import { labFolder, writeWhole } from './folders.ts'
import { loginUser } from './machines/furnish.ts'
import { knownHostsFile, loginPassword, privateKeyFile } from './machines/keys.ts'
import { defaultOptions, endpointOf, has, loadBalancer, type Machine, type Role, type Shape } from './shape.ts'

/** The path of a lab's inventory. Its group_vars are beside it. */
export const inventoryPath = (lab: string): string => join(labFolder(lab), 'inventory', 'hosts.yml')

/** Where the canaries' results are on every master and node. */
const canaryResults = '/var/lib/rekey-canary'

/** Writes the inventory of a lab. Strings are written as JSON, which is YAML too. */
export function writeInventory(shape: Shape): void {
  const folder = dirname(inventoryPath(shape.name))
  mkdirSync(join(folder, 'group_vars'), { recursive: true, mode: 0o700 })
  writeWhole(join(folder, 'hosts.yml'), hosts(shape))
  const file = join(folder, 'group_vars', 'all.yml')
  writeWhole(file, variables(shape))
  chmodSync(file, 0o600)
}

function hosts(shape: Shape): string {
  const { groups, hostVariables } = layoutOf(shape)
  const line = (machine: Machine) => {
    const variables = { ansible_host: machine.address, ...hostVariables?.(shape, machine) }
    const said = Object.entries(variables).map(([name, value]) => `${name}: ${value}`)
    return `        ${machine.name}: { ${said.join(', ')} }\n`
  }
  const group = (name: string, role: Role) =>
    `    ${name}:\n      hosts:\n${shape.machines
      .filter(machine => machine.role === role)
      .map(line)
      .join('')}`
  const parent = (name: string, children: readonly string[]) =>
    `    ${name}:\n      children:\n${children.map(child => `        ${child}:\n`).join('')}`
  const etcd = (name: string) => (shape.etcdHosts === 0 ? parent(name, [groups.masters]) : group(name, 'etcd'))
  return `# Written by 'rekey lab up' for the lab '${shape.name}'.
all:
  children:
${[
  parent(groups.cluster ?? 'cluster', [groups.masters, groups.nodes]),
  ...(groups.etcd === undefined ? [] : [etcd(groups.etcd)]),
  group(groups.masters, 'master'),
  group(groups.nodes, 'node'),
  ...(loadBalancer(shape) ? [group('loadbalancers', 'loadbalancer')] : []),
  group('vault', 'vault'),
].join('')}`
}

function variables(shape: Shape): string {
  return `# Written by 'rekey lab up' for the lab '${shape.name}'.
ansible_user: ${loginUser(shape)}
${become(shape)}ansible_ssh_private_key_file: ${JSON.stringify(privateKeyFile(shape.name))}
ansible_ssh_common_args: ${JSON.stringify(`-o UserKnownHostsFile=${knownHostsFile(shape.name)} -o StrictHostKeyChecking=yes`)}

cluster_name: ${shape.name}
api_server: https://${endpointOf(shape).address}:6443
cluster_domain: ${shape.clusterDomain}
service_subnet: ${shape.serviceSubnet}
pod_subnet: ${shape.podSubnet}

vault_addr: ${vaultAddress(shape)}
vault_cacert: ${JSON.stringify(vaultCaFile(shape.name))}
vault_token_file: ${JSON.stringify(vaultTokenFile(shape.name))}

pki_authorities: three
rotate_service_account_keys: true
clock_tolerance: 60s
${Object.entries(pluginVariables(shape))
  .map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`)
  .join('')}
canary_results: ${canaryResults}
look_around:
${lookAround(shape)}
${has(shape, 'kube-proxy') ? '' : `cni_workloads:\n${workload(routesWorkload)}`}restart_workloads:
${canaryWorkloads.map(workload).join('')}`
}

const workload = ({ kind, namespace, name }: (typeof canaryWorkloads)[number] | typeof routesWorkload) =>
  `  - { kind: ${kind}, namespace: ${namespace}, name: ${name} }\n`

/** How an unprivileged user becomes root. */
function become({ login, name }: Shape): string {
  if (login === 'root') return ''
  const password = login === 'sudo-password' ? `ansible_become_password: ${JSON.stringify(loginPassword(name))}\n` : ''
  return `ansible_become: true\n${password}`
}

/** What a run in this lab tells at its end: where its operator can go and see. */
function lookAround({ name, login }: Shape): string {
  const flag = name === defaultOptions.name ? '' : ` --name ${name}`
  return [
    `bin/rekey lab ssh${flag} m1 ${login === 'root' ? '' : 'sudo '}kubectl get nodes,pods -A`,
    `bin/rekey lab status${flag}`,
    `bin/rekey run rotate-ca -i "$(bin/rekey lab inventory${flag})"`,
    `bin/rekey lab down${flag}`,
  ]
    .map(line => `  - ${JSON.stringify(line)}`)
    .join('\n')
}
