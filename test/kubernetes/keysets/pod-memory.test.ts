// Which containers may hold in memory the CAs that were published before.
import test from 'ava'
import type { KubernetesObject } from '../../../lib/kubernetes/api/api.ts'
import { memoriesOf, podMemories } from '../../../lib/kubernetes/keysets/pod-memory.ts'
import { startApiServer } from '../api/_api-server.ts'

const published = new Date('2026-03-01T12:00:00Z')
const after = (seconds: number) => new Date(published.getTime() + seconds * 1_000)
const time = (seconds: number) => `${after(seconds).toISOString().slice(0, 19)}Z`

/** A pod that was made, and whose containers were started, so many seconds after the CAs were published. */
function pod(made: number, started: Record<string, number>, volume: object = trust): KubernetesObject {
  const names = Object.keys(started)
  const mounts = (name: string) => (name === 'blind' ? [{ name: 'other' }] : [{ name: 'other' }, { name: 'trust' }])
  return {
    metadata: { namespace: 'shop', name: 'web', uid: 'u1', creationTimestamp: time(made) },
    spec: {
      nodeName: 'n1',
      volumes: [
        { name: 'trust', ...volume },
        { name: 'other', emptyDir: {} },
      ],
      containers: names.map(name => ({ name, volumeMounts: mounts(name) })),
    },
    status: {
      phase: 'Running',
      containerStatuses: names.map(name => ({ name, state: { running: { startedAt: time(started[name]!) } } })),
    },
  }
}
const trust = {
  projected: { sources: [{ serviceAccountToken: {} }, { configMap: { name: 'kube-root-ca.crt' } }] },
}
const isTrust = ({ projected, configMap }: Parameters<Parameters<typeof memoriesOf>[1]>[0]) =>
  [configMap, ...(projected?.sources ?? []).map(one => one.configMap)].some(one => one?.name === 'kube-root-ca.crt')
const told = (of: KubernetesObject, at?: Date, written?: Date) =>
  memoriesOf(of, volume => (isTrust(volume) ? at : undefined), written).map(({ container }) => container)

test('a container that was started before is told with the time of its start, one that was started since is not', t => {
  const of = pod(-900, { old: -800, new: 120, blind: -800 })
  t.deepEqual(
    memoriesOf(of, volume => (isTrust(volume) ? published : undefined)),
    [{ namespace: 'shop', pod: 'web', container: 'old', node: 'n1', since: after(-800) }],
  )
})

test('until its volume has been written, or may have been, a container holds what was there before', t => {
  const of = pod(-900, { soon: 30, later: 60, last: 100 })
  t.deepEqual(told(of, published), ['soon', 'later'])
  t.deepEqual(told(of, published, after(45)), ['soon'])
  // Written once more with a new token: it had them long before.
  t.deepEqual(told(of, published, after(3_000)), ['soon', 'later'])
})

test('a pod that was made since, one without these CAs, and one that does not run hold nothing of before', t => {
  t.deepEqual(told(pod(10, { one: 11 }), published, after(3_000)), [])
  t.deepEqual(
    told(pod(-900, { one: -800 }, { projected: { sources: [{ configMap: { name: 'mine' } }] } }), published),
    [],
  )
  t.deepEqual(told({ ...pod(-900, { one: -800 }), status: { phase: 'Succeeded' } }, published), [])
  t.deepEqual(told(pod(-900, { one: -800 }), undefined), [])
  t.deepEqual(told(pod(-900, { one: -800 }, { configMap: { name: 'kube-root-ca.crt' } }), published), ['one'])
})

test('they are read of the whole cluster, by when each namespace got its CAs', async t => {
  const server = await startApiServer()
  t.teardown(() => server.close())
  const managedFields = [{ time: time(0) }, { time: time(-5) }]
  server.put('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: 'kube-root-ca.crt', creationTimestamp: time(-9_000), managedFields } as never,
  })
  server.put('/api/v1/namespaces/shop/pods', pod(-900, { one: -800, two: -850, late: 40 }))
  // Here nothing else was ever published.
  server.put('/api/v1/namespaces/new/configmaps', {
    metadata: { name: 'kube-root-ca.crt', creationTimestamp: time(0), managedFields: [{ time: time(0) }] } as never,
  })
  const early = pod(-1, { early: 30 })
  server.put('/api/v1/namespaces/new/pods', { ...early, metadata: { ...early.metadata, namespace: 'new', uid: 'u2' } })
  const found = await podMemories(server.api, new Map([['u1', after(20)]]))
  t.deepEqual(
    found.map(({ container }) => container),
    ['two', 'one'],
  )
})
