// What a lab consists of, worked out without touching the system.
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import {
  checkOptions,
  chooseSubnet,
  differences,
  endpointOf,
  etcdMachines,
  hostName,
  interfaceName,
  members,
  overlap,
  shapeOf,
  traitsOf,
  unusual,
} from '../../lib/lab/shape.ts'

test.serial(
  'the default lab has three masters, two nodes, a load balancer and a Vault, each with an address of its own',
  t => {
    const shape = shapeOf({ name: 'default', masters: 3, nodes: 2 }, '10.201.7.0/24')
    t.deepEqual(
      shape.machines.map(({ name, address }) => [name, address]),
      [
        ['lb1', '10.201.7.10'],
        ['vault1', '10.201.7.20'],
        ['m1', '10.201.7.101'],
        ['m2', '10.201.7.102'],
        ['m3', '10.201.7.103'],
        ['n1', '10.201.7.151'],
        ['n2', '10.201.7.152'],
      ],
    )
    t.is(shape.gateway, '10.201.7.1')
  },
)

test.serial(
  'no two machines of the largest lab share an address or a range of pods, and all pods are in the pod subnet',
  t => {
    const shape = shapeOf({ name: 'large', masters: 7, nodes: 40 }, '10.201.7.0/24')
    t.is(new Set(shape.machines.map(({ address }) => address)).size, shape.machines.length)
    const ranges = members(shape).map(({ podSubnet }) => podSubnet!)
    t.is(new Set(ranges).size, 47)
    t.true(ranges.every(range => overlap(range, shape.podSubnet)))
  },
)

test.serial('with --node-names other, machines call themselves otherwise than the inventory does', t => {
  const shape = shapeOf({ name: 'a', masters: 1, nodes: 1, nodeNames: 'other' }, '10.201.7.0/24')
  t.deepEqual(
    shape.machines.map(({ name, hostname }) => [name, hostname]),
    [
      ['lb1', 'lb1'],
      ['vault1', 'vault1'],
      ['m1', 'ip-10-201-7-101'],
      ['n1', 'ip-10-201-7-151'],
    ],
  )
})

test.serial('etcd is on the masters, or on hosts of its own that are no nodes and have no pods', t => {
  const shape = (etcdHosts: number) =>
    shapeOf({ name: 'a', masters: 1, nodes: 1, layout: 'external-etcd', etcdHosts }, '10.201.7.0/24')
  t.deepEqual(
    etcdMachines(shape(0)).map(({ name }) => name),
    ['m1'],
  )
  t.deepEqual(
    etcdMachines(shape(3)).map(({ name, address, podSubnet }) => [name, address, podSubnet]),
    [
      ['e1', '10.201.7.121', undefined],
      ['e2', '10.201.7.122', undefined],
      ['e3', '10.201.7.123', undefined],
    ],
  )
  t.deepEqual(
    members(shape(3)).map(({ name }) => name),
    ['m1', 'n1'],
  )
})

test.serial('without a load balancer, several masters share a name, and a single one is asked at its address', t => {
  const shape = (masters: number, without: readonly 'load-balancer'[] = []) =>
    shapeOf({ name: 'a', masters, nodes: 1, without }, '10.201.7.0/24')
  t.deepEqual(endpointOf(shape(3)), { host: '10.201.7.10', name: undefined, address: '10.201.7.10' })
  const shared = endpointOf(shape(3, ['load-balancer']))
  t.deepEqual(shared, { host: 'cluster-endpoint', name: 'cluster-endpoint', address: '10.201.7.101' })
  t.is(endpointOf(shape(1, ['load-balancer'])).host, '10.201.7.101')
  t.false(shape(3, ['load-balancer']).machines.some(({ role }) => role === 'loadbalancer'))
})

test.serial('where a lab that is there differs from what is asked for, both are said, and nothing else', t => {
  const there = { name: 'a', masters: 3, nodes: 1, login: 'sudo', without: ['etcdctl', 'coredns'] } as const
  t.deepEqual(differences(there, { ...there, without: ['coredns', 'etcdctl', 'etcdctl'] }), [])
  t.deepEqual(unusual(traitsOf(there)), ['--login sudo', '--without coredns,etcdctl'])
  t.deepEqual(differences({ ...there, layout: 'external-etcd', etcdHosts: 3 }, there), [
    { there: '--layout external-etcd', asked: '--layout kubeadm' },
    { there: '--etcd-hosts 3', asked: 'etcd on the masters' },
  ])
  t.deepEqual(differences(there, { name: 'a', masters: 1, nodes: 1 }), [
    { there: '3 masters', asked: '1 master' },
    { there: '--login sudo', asked: '--login root' },
    { there: '--without coredns,etcdctl', asked: 'nothing left out' },
  ])
})

test.serial('the same name leads to the same subnet, another name to another', t => {
  t.is(chooseSubnet('one', []), chooseSubnet('one', []))
  t.not(chooseSubnet('one', []), chooseSubnet('two', []))
})

test.serial('a subnet that overlaps a route of this machine is passed over', t => {
  const first = chooseSubnet('one', [])
  const second = chooseSubnet('one', [first])
  t.not(second, first)
  t.false(overlap(second, first))
  // A route to a whole /9 around it.
  t.false(overlap(chooseSubnet('one', ['10.200.0.0/14', '10.208.0.0/12']), '10.200.0.0/14'))
})

test.serial('when every subnet is taken, the message says where a free one is needed', t => {
  const error = t.throws<RekeyError>(() => chooseSubnet('one', ['10.0.0.0/8']), { code: 'lab.no-subnet' })
  t.regex(error.message, /10\.200\.0\.0 to 10\.239\.255\.255/)
})

test.serial('overlapping is found in both directions, and a network ends where it ends', t => {
  t.true(overlap('10.0.0.0/8', '10.200.3.0/24'))
  t.true(overlap('10.200.3.0/24', '10.0.0.0/8'))
  t.true(overlap('10.200.3.7', '10.200.3.0/24'))
  t.false(overlap('10.200.2.0/24', '10.200.3.0/24'))
  t.false(overlap('10.200.4.0', '10.200.3.0/24'))
})

for (const [options, message] of [
  [{ name: 'Upper', masters: 3, nodes: 2 }, /'Upper' can't be a lab's name/],
  [{ name: '../etc', masters: 3, nodes: 2 }, /can't be a lab's name/],
  [{ name: 'a-', masters: 3, nodes: 2 }, /can't be a lab's name/],
  [{ name: 'a', masters: 2, nodes: 2 }, /can't have 2 masters/],
  [{ name: 'a', masters: 0, nodes: 2 }, /can't have 0 masters/],
  [{ name: 'a', masters: 3, nodes: 0 }, /nowhere to run its canaries/],
  [{ name: 'a', masters: 3, nodes: 41 }, /can't have 41 nodes/],
  [{ name: 'a', masters: 3, nodes: 2, etcdHosts: 3 }, /--layout kubeadm can't have hosts of its own/],
  [{ name: 'a', masters: 3, nodes: 2, unitShape: 'kubeasz' }, /the layout kubeadm has no shape 'kubeasz'/],
  [{ name: 'a', masters: 3, nodes: 2, encryptionReload: 'off' }, /given no file/],
  [{ name: 'a', masters: 3, nodes: 2, layout: 'external-etcd', etcdHosts: 2 }, /can't have 2 hosts of etcd/],
] as const)
  test.serial(`a lab of ${JSON.stringify(options)} is refused before anything is made`, t => {
    const error = t.throws<RekeyError>(() => checkOptions(options), { message, code: 'lab.options' })
    t.truthy(error.hint)
  })

test.serial(
  'names of interfaces fit into what the kernel allows, and differ between labs with a long common beginning',
  t => {
    const [one, other] = [interfaceName('a-long-name-of-a-lab-1'), interfaceName('a-long-name-of-a-lab-2')]
    t.true(one.length <= 15)
    t.not(one, other)
    t.is(interfaceName('default').length <= 15 && interfaceName('default'), 'rekey-default')
    t.is(hostName('default', 'm1'), 'rekey-default-m1')
  },
)
