// What is restarted together, drained, on each layout, and what of it a playbook is asked for.
import { join } from 'node:path'
import test from 'ava'
import type { ComponentName, FoundComponent, HostLayout } from '../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../lib/kubernetes/layout/kubeadm/index.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import type { StepContext, StepDefinition } from '../../lib/playbook/model.ts'
import { restart } from '../../lib/rotation/index.ts'

type Wanted = readonly restart.Drained[]
type Context = StepContext<restart.Variables> & { readonly cluster: never }

function on(layout: HostLayout, groups: readonly string[] = ['masters', 'etcd']): Context {
  return {
    host: { name: layout.host, groups },
    registered: (step: string) => (step === 'read-the-certificates' ? { layout } : undefined),
    check: true,
  } as unknown as Context
}

const planned = (layout: HostLayout, wanted?: Wanted) => {
  const step = restart.drained(wanted && (() => wanted)) as StepDefinition<Context>
  return step.when?.(on(layout)) === true ? step.plan?.(on(layout)) : 'left out'
}

/** A master of units, whose API server asks several members of etcd. */
function units(...components: ComponentName[]): HostLayout {
  const unitOf = (component: ComponentName): FoundComponent => ({
    ...{ component, processes: [], files: [], endpoints: [], drift: [] },
    flags: { 'etcd-servers': ['https://10.0.0.1:2379,https://10.0.0.2:2379'] },
    runs: { kind: 'unit', unit: `${component}.service`, definition: [], environmentFiles: [], type: 'simple' },
  })
  return { host: 'm1', components: Object.fromEntries(components.map(one => [one, unitOf(one)])) }
}

const handing = "hand its API server's new connections to another master"
const ofPods = ['end kube-apiserver; its kubelet starts it again', 'end etcd; its kubelet starts it again']

test('beside its member of etcd, the API server that asks it alone is never left out', t => {
  const stacked = kubeadmLayout('m1', true)
  t.deepEqual(planned(stacked), [handing, ...ofPods])
  t.deepEqual(planned(stacked, ['etcd']), [handing, ...ofPods])
  t.deepEqual(planned(stacked, ['kube-apiserver']), [handing, ...ofPods.slice(0, 1)])
})

test('one that asks several members stays where only etcd is wanted', t => {
  const all = units('kube-apiserver', 'etcd')
  t.deepEqual(planned(all, ['etcd']), ['end etcd; systemctl restart etcd.service'])
  t.deepEqual(planned(all), [
    handing,
    'end kube-apiserver; systemctl restart kube-apiserver.service',
    'end etcd; systemctl restart etcd.service',
  ])
})

test('of a master without etcd, only its API server is restarted; members on hosts of their own have a step of theirs', t => {
  t.deepEqual(planned(units('kube-apiserver')), [
    handing,
    'end kube-apiserver; systemctl restart kube-apiserver.service',
  ])
  t.is(planned(units('kube-apiserver'), ['etcd']), 'left out')
  const member = restart.memberDrained() as StepDefinition<Context>
  t.true(member.when?.(on(units('etcd'), ['etcd'])))
  t.false(member.when?.(on(units('etcd', 'kube-apiserver'))))
})

test('rolling-restart takes its components as a list or as names with commas, and no other ones', async t => {
  const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/rolling-restart.ts'))
  const read = (components: unknown) =>
    playbook.vars.safeParse({ api_server: 'https://127.0.0.1:6443', components }).data as
      | { components: string[] }
      | undefined
  t.deepEqual(read('etcd,kube-apiserver')?.components, ['etcd', 'kube-apiserver'])
  t.deepEqual(read(['etcd'])?.components, ['etcd'])
  t.is(read(undefined)?.components.length, 4)
  t.is(read('kubelet'), undefined)
})
