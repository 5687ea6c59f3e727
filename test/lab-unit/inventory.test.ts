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
