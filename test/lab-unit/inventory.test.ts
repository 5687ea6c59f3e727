// The inventory that the lab writes is read as it was meant.
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { loadInventory } from '../../lib/inventory/index.ts'
import { inventoryPath, writeInventory } from '../../lib/lab/inventory.ts'
import { knownHostsFile, privateKeyFile } from '../../lib/lab/keys.ts'
import { shapeOf } from '../../lib/lab/shape.ts'

test.serial('groups, addresses, keys and variables arrive', async t => {
  const state = mkdtempSync(join(tmpdir(), 'rekey-lab-inventory-'))
  const before = process.env.XDG_STATE_HOME
  process.env.XDG_STATE_HOME = state
  try {
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
    t.like(inventory.host('m1').vars, {
      cluster_name: 'test',
      api_server: 'https://10.201.7.10:6443',
      vault_addr: 'https://10.201.7.20:8200',
      rotate_service_account_keys: true,
      clock_tolerance: '60s',
    })
    const workloads = inventory.host('m1').vars.restart_workloads as { kind: string; name: string }[]
    t.deepEqual(workloads.find(({ kind }) => kind === 'DaemonSet')?.name, 'service-caller')
  } finally {
    if (before === undefined) delete process.env.XDG_STATE_HOME
    else process.env.XDG_STATE_HOME = before
    rmSync(state, { recursive: true, force: true })
  }
})
