// The inventory that the lab writes is read as it was meant.
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { loadInventory } from '../../lib/inventory/index.ts'
import { inventoryPath, writeInventory } from '../../lib/lab/inventory.ts'
import { knownHostsFile, privateKeyFile } from '../../lib/lab/machines/keys.ts'
import { shapeOf } from '../../lib/lab/shape.ts'

async function withState(work: () => Promise<void>): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), 'rekey-lab-inventory-'))
  const before = process.env.XDG_STATE_HOME
  process.env.XDG_STATE_HOME = state
  try {
    await work()
  } finally {
    if (before === undefined) delete process.env.XDG_STATE_HOME
    else process.env.XDG_STATE_HOME = before
    rmSync(state, { recursive: true, force: true })
  }
}

test.serial('groups, addresses, keys and variables arrive', t =>
  withState(async () => {
    writeInventory(shapeOf({ name: 'test', masters: 1, nodes: 2 }, '10.201.7.0/24'))
    const file = inventoryPath('test')
    t.is(statSync(dirname(file)).mode & 0o777, 0o700)
    const inventory = await loadInventory({ sources: [file], environment: {} })
    const names = (pattern: string) => inventory.select(pattern).map(({ name }) => name)
    t.deepEqual(names('cluster'), ['m1', 'n1', 'n2'])
    t.deepEqual(names('all:!cluster'), ['lb1', 'vault1'])
    t.like(inventory.host('n2').connection, {
      address: '10.201.7.152',
      user: 'root',
      privateKeyFile: privateKeyFile('test'),
      knownHostsFiles: [knownHostsFile('test')],
      hostKeyChecking: 'yes',
    })
    t.is(inventory.host('n2').connection.become, undefined)
    t.like(inventory.host('m1').vars, {
      cluster_name: 'test',
      api_server: 'https://10.201.7.10:6443',
      vault_addr: 'https://10.201.7.20:8200',
      rotate_service_account_keys: true,
      clock_tolerance: '60s',
    })
    const workloads = inventory.host('m1').vars.restart_workloads as { kind: string; name: string }[]
    t.deepEqual(workloads.find(({ kind }) => kind === 'DaemonSet')?.name, 'service-caller')
    t.is(inventory.host('m1').vars.cni_workloads, undefined)
  }),
)

test.serial("the inventory of a lab as Kubespray makes clusters has Kubespray's groups and variables", t =>
  withState(async () => {
    const read = async (etcdHosts: number) => {
      writeInventory(
        shapeOf({ name: 'test', masters: 1, nodes: 1, layout: 'external-etcd', etcdHosts }, '10.201.7.0/24'),
      )
      const inventory = await loadInventory({ sources: [inventoryPath('test')], environment: {} })
      const names = (pattern: string) => inventory.select(pattern).map(({ name }) => name)
      return { vars: (host: string) => inventory.host(host).vars, names }
    }
    const { names, vars } = await read(0)
    t.deepEqual([names('kube_control_plane'), names('kube_node'), names('etcd')], [['m1'], ['n1'], ['m1']])
    t.deepEqual(
      [names('k8s_cluster'), names('all:!k8s_cluster')],
      [
        ['m1', 'n1'],
        ['lb1', 'vault1'],
      ],
    )
    t.like(vars('m1'), { ip: '10.201.7.101', access_ip: '10.201.7.101', etcd_member_name: 'etcd1' })
    t.like(vars('n1'), { ip: '10.201.7.151', access_ip: '10.201.7.151', etcd_member_name: undefined })
    t.is(vars('lb1').ip, undefined)
    const apart = await read(3)
    t.deepEqual(
      [apart.names('etcd'), apart.names('k8s_cluster')],
      [
        ['e1', 'e2', 'e3'],
        ['m1', 'n1'],
      ],
    )
    t.is(apart.vars('e3').etcd_member_name, 'etcd3')
    t.is(apart.vars('m1').etcd_member_name, undefined)
  }),
)

test.serial(
  'a lab that is like others is entered by its user, asked at its first master, and restarts its own routes',
  t =>
    withState(async () => {
      const without = ['load-balancer', 'kube-proxy'] as const
      const shape = shapeOf({ name: 'test', masters: 3, nodes: 1, login: 'sudo-password', without }, '10.201.7.0/24')
      mkdirSync(join(dirname(inventoryPath('test')), '../ssh'), { recursive: true })
      writeFileSync(join(dirname(inventoryPath('test')), '../ssh/password'), 'what sudo asks for\n')
      writeInventory(shape)
      const inventory = await loadInventory({ sources: [inventoryPath('test')], environment: {} })
      t.deepEqual(
        inventory.select('all:!cluster').map(({ name }) => name),
        ['vault1'],
      )
      t.like(inventory.host('n1').connection, { user: 'ops' })
      t.like(inventory.host('n1').connection.become, { method: 'sudo', user: 'root', password: 'what sudo asks for' })
      t.like(inventory.host('m1').vars, {
        api_server: 'https://10.201.7.101:6443',
        cni_workloads: [{ kind: 'DaemonSet', namespace: 'kube-system', name: 'service-routes' }],
      })
      t.is(statSync(join(dirname(inventoryPath('test')), 'group_vars/all.yml')).mode & 0o777, 0o600)
    }),
)
