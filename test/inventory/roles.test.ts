// What `masters`, `nodes` and `etcd` are in inventories that call them otherwise.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { loadInventory } from '../../lib/inventory/index.ts'
import { temporaryFolder } from '../_temporary.ts'

/** An inventory of an INI text, with group_vars/all.yml where it is given. */
async function inventoryOf(ini: string, { all, extraVars }: { all?: string; extraVars?: string[] } = {}) {
  const cwd = temporaryFolder('roles')
  writeFileSync(join(cwd, 'hosts'), ini)
  if (all !== undefined) {
    mkdirSync(join(cwd, 'group_vars'))
    writeFileSync(join(cwd, 'group_vars', 'all.yml'), all)
  }
  const notices: string[] = []
  const notice = (line: string) => void notices.push(line)
  const inventory = await loadInventory({ sources: ['hosts'], cwd, environment: {}, extraVars, notice })
  const names = (pattern: string, limit?: string) => inventory.select(pattern, { limit }).map(({ name }) => name)
  return {
    inventory,
    names,
    notices,
    roles: () => inventory.roles().map(({ name, as, hosts }) => [name, as, ...hosts]),
  }
}

// As inventory/sample/inventory.ini of Kubespray has it, with its examples put in.
const kubespray = `
[kube_control_plane]
node1 ansible_host=192.0.2.1 ip=10.3.0.1 access_ip=192.0.2.1 etcd_member_name=etcd1
node2 ansible_host=192.0.2.2 ip=10.3.0.2 access_ip=192.0.2.2 etcd_member_name=etcd2
[etcd:children]
kube_control_plane
[kube_node]
node2
node4 ansible_host=192.0.2.4 ip=10.3.0.4
[k8s_cluster:children]
kube_control_plane
kube_node
[bastion]
jump ansible_host=192.0.2.9
`

test('a Kubespray inventory: the roles by its groups, one that is both counts once, and a run can say which', async t => {
  const { inventory, names, notices, roles } = await inventoryOf(kubespray)
  t.deepEqual(inventory.roles(), [], 'nobody asked')
  t.deepEqual(names('k8s_cluster'), ['node1', 'node2', 'node4'])
  t.deepEqual(inventory.roles(), [], 'nobody asked for a role')
  t.deepEqual(names('masters'), ['node1', 'node2'])
  t.deepEqual(names('masters:nodes'), ['node1', 'node2', 'node4'])
  t.deepEqual(names('nodes:!masters'), ['node4'])
  t.deepEqual(names('masters[-1]'), ['node2'])
  t.deepEqual(names('masters:nodes:etcd', 'nodes'), ['node2', 'node4'])
  t.deepEqual(names('all', '!masters'), ['jump', 'node4'])
  t.deepEqual(inventory.host('node2').groups, [
    'etcd',
    'k8s_cluster',
    'kube_control_plane',
    'kube_node',
    'masters',
    'nodes',
  ])
  t.deepEqual(inventory.host('node4').groups, ['k8s_cluster', 'kube_node', 'nodes'])
  t.deepEqual(inventory.host('jump').groups, ['bastion'])
  t.deepEqual(roles(), [
    ['masters', 'kube_control_plane', 'node1', 'node2'],
    ['nodes', 'kube_node', 'node2', 'node4'],
    ['etcd', 'etcd', 'node1', 'node2'],
  ])
  t.deepEqual(notices, [])
})

test('every usual name is taken, and etcd is on the masters where nothing else is said', async t => {
  for (const name of ['masters', 'kube_control_plane', 'kube-master', 'kube_master', 'control_plane', 'controllers']) {
    for (const other of ['nodes', 'kube_node', 'kube-node', 'workers']) {
      const { names, roles, inventory } = await inventoryOf(`[${name}]\nm1\n[${other}]\nn1\n`)
      t.deepEqual(names('masters:nodes:etcd'), ['m1', 'n1'])
      t.deepEqual(roles(), [
        ['masters', name, 'm1'],
        ['nodes', other, 'n1'],
        ['etcd', 'the masters', 'm1'],
      ])
      t.true(inventory.host('m1').groups.includes('etcd'))
    }
  }
})

test('patterns of the inventory come first: with templates, other roles, and groups by the name itself', async t => {
  const { names, roles, inventory } = await inventoryOf(
    '[masters]\nm1\nm2\nold\n[kube_control_plane]\nx1\n[db]\ne[1:3]\n[web]\nw1\n',
    {
      all: 'rekey_masters: "masters:!{{ retired }}"\nretired: old\nrekey_nodes: all:!masters:!etcd:!old\nrekey_etcd: db[0:1]\n',
    },
  )
  t.deepEqual(names('masters'), ['m1', 'm2'])
  t.deepEqual(names('etcd'), ['e1', 'e2'])
  t.deepEqual(names('nodes'), ['x1', 'e3', 'w1'])
  t.deepEqual(inventory.host('old').groups, [], 'is in a group of that name, and no master')
  t.deepEqual(roles()[0], ['masters', 'masters:!old', 'm1', 'm2'])
  const given = await inventoryOf('[cp]\nm1\n', { extraVars: ['rekey_masters=cp'] })
  t.deepEqual(given.names('masters'), ['m1'])
})

test('a group around others is the one, as are groups of the same hosts', async t => {
  const around = await inventoryOf(
    '[kube_node]\nn1\n[workers]\nn2\n[nodes:children]\nkube_node\nworkers\n[masters]\nm1\n',
  )
  t.deepEqual(around.names('nodes'), ['n1', 'n2'])
  const same = await inventoryOf('[kube-master]\nm1\n[kube_control_plane]\nm1\n[masters]\n')
  t.deepEqual(same.names('masters'), ['m1'])
})

test('none, several that contradict each other, and a pattern that can be none: one error each', async t => {
  const refuses = async (ini: string, all: string | undefined, role: string, message: RegExp) => {
    const { names, inventory } = await inventoryOf(ini, { all })
    t.throws(() => names(role), {
      code: /no masters/.test(message.source) ? 'inventory.no-masters' : 'inventory.role',
      message,
    })
    t.notThrows(() => inventory.hosts.map(({ groups }) => groups))
  }
  await refuses(
    '[web]\nw1\n',
    undefined,
    'masters:nodes',
    /^the inventory has no masters: there is none of the groups masters, kube_control_plane, /,
  )
  await refuses('[web]\nw1\n', undefined, 'etcd', /no masters/)
  await refuses('[web]\nw1\n[masters]\n', undefined, 'masters', /no masters: there is no host in the group masters$/)
  await refuses(
    '[masters]\nm1\n[controllers]\nm1\nm2\n',
    undefined,
    'masters',
    /^the masters may be the group masters \(1 host\) or the group controllers \(2 hosts\)/,
  )
  await refuses(
    '[masters]\nm1\n[workers]\nm1\n[kube_node]\nm2\n',
    undefined,
    'nodes',
    /kube_node \(1 host\) or the group workers/,
  )
  await refuses(
    '[masters]\nm1\n',
    'x: 1\nrekey_masters: nobody\n',
    'masters',
    /all\.yml:2: rekey_masters is "nobody", which matches no host/,
  )
  await refuses('[masters]\nm1\n', 'rekey_masters: [a, b]\n', 'masters', /rekey_masters is \["a","b"\], and no pattern/)
  await refuses(
    '[a]\nm1\n[b]\nm2\n[a:vars]\nrekey_masters=a\n[b:vars]\nrekey_masters=b\n',
    undefined,
    'masters',
    /hosts:8: rekey_masters is "b" for m2, and "a" for m1 \(.*hosts:6\)/,
  )
})

test('without nodes the machines are the masters, and it is told', async t => {
  const { names, notices, roles } = await inventoryOf('[masters]\nm1\n')
  t.deepEqual(names('masters:nodes'), ['m1'])
  t.regex(notices.join('\n'), /^"nodes" matches no host/)
  t.deepEqual(
    roles().map(([name]) => name),
    ['masters', 'etcd'],
  )
})

test('what is printed of an inventory knows no roles, and a host of that name is the host', async t => {
  const { inventory, names } = await inventoryOf('[kube_control_plane]\nm1\n')
  t.throws(() => inventory.list({ limit: 'masters' }), { code: 'inventory.limit-unmatched' })
  const host = await inventoryOf('[masters]\nm1\n[db]\netcd\n')
  t.deepEqual(host.names('etcd'), ['etcd'])
  t.deepEqual(names('masters'), ['m1'])
})
