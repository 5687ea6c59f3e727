// Which host each instance of the control plane is: never one machine for several.
import test from 'ava'
import { hostsOf } from '../../lib/kops/asked/control-plane.ts'
import type { Instance } from '../../lib/kops/asked/instances.ts'
import type { Host } from '../../lib/playbook/host.ts'

const instances = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map(
  (address, at): Instance => ({
    ...{ id: `i-${at}`, group: 'cp', needsUpdate: false, isControlPlane: true, isApiServer: false },
    addresses: [address],
  }),
)
const master = (address: string, name = address) =>
  ({ name, groups: [], vars: {}, connection: { address, port: 22, user: 'ubuntu' } }) as unknown as Host
const places = (masters: readonly Host[], addresses: Record<string, string[]>, of = instances) =>
  hostsOf(of, masters, new Map(Object.entries(addresses))).map(({ connection }) => connection.address)

test('a name of all machines says how to log in, and each instance is reached at its own address', t => {
  const all = ['10.0.0.1', '10.0.0.2', '10.0.0.3']
  t.deepEqual(places([master('api.c')], { 'api.c': all }), all)
  t.deepEqual(places([master('cp-1.c')], { 'cp-1.c': ['10.0.0.1'] }), ['cp-1.c', '10.0.0.2', '10.0.0.3'])
  t.deepEqual(places([master('unknown.c')], { 'unknown.c': [] }), all)
})

test('whether it is reached from inside its network is said by where the inventory’s one is, and not by its name', t => {
  const both = instances.map((one, at) => ({ ...one, addresses: [...one.addresses, `203.0.113.${at}`] }))
  const [fromOutside, fromInside] = [
    ['203.0.113.0', '203.0.113.1', '203.0.113.2'],
    ['10.0.0.1', '10.0.0.2', '10.0.0.3'],
  ]
  t.deepEqual(places([master('fcos.c')], { 'fcos.c': ['198.51.100.7'] }, both), fromOutside)
  t.deepEqual(places([master('fcos.c')], { 'fcos.c': ['10.9.9.9'] }, both), fromInside)
})

test('two instances that would be one host are refused', t => {
  const same = instances.map(one => ({ ...one, addresses: ['10.0.0.1'] }))
  t.throws(() => places([master('10.0.0.1')], { '10.0.0.1': ['10.0.0.1'] }, same), { code: 'kops.same-host' })
})
