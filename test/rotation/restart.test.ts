// What is restarted where, in which order, and how: on each layout.
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import type { ComponentName, FoundComponent, HostLayout } from '../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../lib/kubernetes/layout/kubeadm/index.ts'
import type { StepContext, StepDefinition } from '../../lib/playbook/model.ts'
import { restart, workloads } from '../../lib/rotation/index.ts'

interface Machine {
  readonly groups: readonly string[]
  readonly layout?: HostLayout
}

/** The context of a step on the first of these hosts, or on another. */
function cluster(machines: Readonly<Record<string, Machine>>, more: Record<string, unknown> = {}) {
  const hosts = Object.entries(machines).map(([name, { groups }]) => ({ name, groups }))
  return (name = hosts[0]!.name) =>
    ({
      host: hosts.find(one => one.name === name),
      hosts: (pattern: string) =>
        hosts.filter(({ groups }) => pattern.split(':').some(group => groups.includes(group))),
      registered: (step: string, host: string) => {
        const machine = machines[host]
        return step === 'read-the-certificates' && machine?.layout
          ? { controlPlane: machine.groups.includes('masters'), layout: machine.layout }
          : undefined
      },
      check: true,
      ...more,
    }) as unknown as StepContext<never> & { readonly cluster: never }
}

const unitOf = (component: ComponentName): FoundComponent => ({
  ...{ component, processes: [], flags: {}, files: [], endpoints: [], drift: [] },
  runs: { kind: 'unit', unit: `${component}.service`, definition: [], environmentFiles: [], type: 'simple' },
})
const units = (host: string, ...components: ComponentName[]): HostLayout => ({
  host,
  components: Object.fromEntries(components.map(component => [component, unitOf(component)])),
})
const kubeadm = (name: string, master: boolean): Machine => ({
  groups: master ? ['masters', 'etcd'] : ['nodes'],
  layout: kubeadmLayout(name, master),
})
const controlPlane = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const

type Context = ReturnType<ReturnType<typeof cluster>>
const planned = (step: StepDefinition<never>, ctx: Context) => [(step as StepDefinition<Context>).plan?.(ctx)].flat()
const comes = (step: StepDefinition<never>, ctx: Context) => (step as StepDefinition<Context>).when?.(ctx) ?? true

const stacked = cluster({
  m1: kubeadm('m1', true),
  m2: kubeadm('m2', true),
  m3: kubeadm('m3', true),
  n1: kubeadm('n1', false),
})

test('stacked etcd: the member and the API server of one master, the members of the others, their API servers', t => {
  t.deepEqual(planned(restart.sparedEtcd, stacked()), ['kill etcd on m1; its kubelet starts it again'])
  t.deepEqual(planned(restart.sparedApiServers, stacked()), ['kill kube-apiserver on m1; its kubelet starts it again'])
  t.deepEqual(
    planned(restart.etcd, stacked()),
    ['m2', 'm3'].map(name => `kill etcd on ${name}; its kubelet starts it again`),
  )
  t.deepEqual(
    ['m1', 'm2', 'm3'].filter(name => comes(restart.apiServer, stacked(name))),
    ['m2', 'm3'],
  )
})

test('an inventory that lists the members in another order spares API servers beside the members that it spares', t => {
  const ctx = cluster({
    m3: { groups: ['etcd', 'masters'], layout: kubeadmLayout('m3', true) },
    m1: kubeadm('m1', true),
    m2: kubeadm('m2', true),
  })
  t.deepEqual(planned(restart.sparedEtcd, ctx('m1')), ['kill etcd on m3; its kubelet starts it again'])
  t.deepEqual(planned(restart.sparedApiServers, ctx('m1')), ['kill kube-apiserver on m3; its kubelet starts it again'])
  t.false(comes(restart.apiServer, ctx('m3')))
})

test('etcd on hosts of its own: its members are restarted there, by their units, and API servers on the masters', t => {
  const etcds = Object.fromEntries(
    ['e1', 'e2', 'e3'].map(name => [name, { groups: ['etcd'], layout: units(name, 'etcd') }]),
  )
  const master = (name: string): Machine => ({ groups: ['masters'], layout: kubeadmLayout(name, true) })
  const ctx = cluster({ m1: master('m1'), m2: master('m2'), m3: master('m3'), ...etcds })
  t.deepEqual(planned(restart.sparedEtcd, ctx()), ['kill etcd on e1; systemctl restart etcd.service'])
  t.deepEqual(planned(restart.sparedApiServers, ctx()), ['kill kube-apiserver on m1; its kubelet starts it again'])
  t.deepEqual(
    planned(restart.etcd, ctx()),
    ['e2', 'e3'].map(name => `kill etcd on ${name}; systemctl restart etcd.service`),
  )
  t.deepEqual(
    ['m1', 'm2', 'm3'].filter(name => comes(restart.apiServer, ctx(name))),
    ['m2', 'm3'],
  )
})

test('with one member there is nobody to spare, however many API servers there are', t => {
  const ctx = cluster({
    m1: { groups: ['masters'], layout: units('m1', ...controlPlane) },
    m2: { groups: ['masters'], layout: units('m2', ...controlPlane) },
    e1: { groups: ['etcd'], layout: units('e1', 'etcd') },
  })
  t.false(comes(restart.sparedEtcd, ctx()))
  t.false(comes(restart.sparedApiServers, ctx()))
  t.true(comes(restart.apiServer, ctx('m1')))
  t.deepEqual(planned(restart.apiServer, ctx('m2')), ['kill kube-apiserver; systemctl restart kube-apiserver.service'])
})

test('kubelets are restarted where there are any, and prepared where they start what will be killed', t => {
  const ctx = cluster({
    m1: { groups: ['masters', 'etcd'], layout: units('m1', 'etcd', ...controlPlane) },
    m2: { groups: ['masters'], layout: units('m2', 'kubelet', ...controlPlane) },
    n1: { groups: ['nodes'], layout: units('n1', 'kubelet', 'kube-proxy') },
  })
  const which = (step: StepDefinition<never>, on = ctx, names = ['m1', 'm2', 'n1']) =>
    names.filter(name => comes(step, on(name)))
  t.deepEqual(which(restart.kubelet), ['m2', 'n1'])
  t.deepEqual(which(restart.preparedKubelet), [])
  t.deepEqual(which(restart.kubeletWhereverItStopped), [])
  t.deepEqual(which(restart.preparedKubelet, stacked, ['m1', 'n1']), ['m1'])
  t.deepEqual(planned(restart.kubelet, ctx('n1')), ['systemctl restart kubelet'])
})

test('a kube-proxy that is a unit is restarted as such, beside what the API runs', t => {
  const found = { kubeProxy: { kind: 'DaemonSet', namespace: 'kube-system', name: 'kube-proxy' } }
  const ctx = (pods: object) => {
    const on = cluster({
      m1: { groups: ['masters'], layout: units('m1', ...controlPlane) },
      n1: { groups: ['nodes'], layout: units('n1', 'kubelet', 'kube-proxy') },
    })
    return {
      ...on(),
      registered: (step: string, host: string) =>
        step === 'check-the-nodes' ? { workloads: pods, absent: [], told: [] } : on().registered(step, host),
    } as unknown as Context
  }
  const unit = 'restart kube-proxy on n1: the rules stay in the kernel'
  t.deepEqual(planned(workloads.kubeProxy, ctx({})), [unit])
  t.true(comes(workloads.kubeProxy, ctx({})))
  t.deepEqual(planned(workloads.kubeProxy, ctx(found)).at(-1), unit)
  t.is(planned(workloads.kubeProxy, ctx(found)).length, 2)
})

test('the quorum is waited for before API servers that ask one member each, and after those that ask all', t => {
  const asking = (servers: string): HostLayout => {
    const layout = units('m1', 'etcd', ...controlPlane)
    const { 'kube-apiserver': found } = layout.components
    return {
      ...layout,
      components: { ...layout.components, 'kube-apiserver': { ...found!, flags: { 'etcd-servers': [servers] } } },
    }
  }
  const waits = (servers: string) => {
    const ctx = cluster({ m1: { groups: ['masters', 'etcd'], layout: asking(servers) } }, { check: false })
    return comes(restart.quorum, ctx())
  }
  t.true(waits('https://127.0.0.1:2379'))
  t.false(waits('https://10.0.0.1:2379,https://10.0.0.2:2379'))
  t.true(comes(restart.quorum, { ...stacked(), check: false } as Context))
})

test('a host that lacks what its group says has nothing else killed instead', async t => {
  const ctx = cluster(
    { m1: { groups: ['masters', 'etcd'], layout: units('m1', ...controlPlane) } },
    { on: () => ({ host: { name: 'm1' } }) },
  )
  const error = await t.throwsAsync<RekeyError>(async () => restart.etcd.run(ctx()))
  t.like(error, { code: 'rotation.no-component', message: 'no etcd was found on m1' })
})
