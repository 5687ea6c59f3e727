// Pods as they were before, on an API server that keeps them: what was well must be well again, and nothing else is waited for.
import test, { type ExecutionContext } from 'ava'
import { comparePods, podProblem, podsBefore, tellPods } from '../../../lib/kubernetes/before/pods.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

const ready = {
  phase: 'Running',
  conditions: [{ type: 'Ready', status: 'True' }],
  containerStatuses: [{ ready: true }],
}
const crashing = {
  phase: 'Running',
  conditions: [{ type: 'Ready', status: 'False' }],
  containerStatuses: [{ ready: false, state: { waiting: { reason: 'CrashLoopBackOff' } } }],
}
const unschedulable = {
  phase: 'Pending',
  conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }],
}
const evicted = { phase: 'Failed', reason: 'Evicted' }
const jobFailed = { phase: 'Failed', containerStatuses: [{ state: { terminated: { reason: 'Error' } } }] }
const starting = {
  phase: 'Pending',
  conditions: [{ type: 'PodScheduled', status: 'True' }],
  containerStatuses: [{ state: { waiting: { reason: 'ContainerCreating' } } }],
}

interface More {
  readonly owner?: [kind: string, name: string]
  readonly hash?: string
  readonly node?: string
  readonly spec?: object
  readonly metadata?: object
}

const pod = (server: StandIn, name: string, status: object, { owner, hash, node = 'n1', spec, metadata }: More = {}) =>
  server.put('/api/v1/namespaces/a/pods', {
    metadata: {
      name,
      labels: hash === undefined ? {} : { 'pod-template-hash': hash },
      ownerReferences: owner ? [{ kind: owner[0], name: owner[1], controller: true }] : [],
      ...metadata,
    },
    spec: { nodeName: node, restartPolicy: 'Always', ...spec },
    status,
  })

const remove = (server: StandIn, ...names: string[]) => {
  for (const name of names) server.remove(`/api/v1/namespaces/a/pods/${name}`)
}

const deployment = (server: StandIn, name: string, replicas: number) =>
  server.put('/apis/apps/v1/namespaces/a/deployments', {
    metadata: { name, generation: 2 },
    spec: { replicas },
    status: { observedGeneration: 2 },
  })

async function cluster(t: ExecutionContext): Promise<StandIn> {
  const server = await startApiServer()
  t.teardown(server.close)
  for (const name of ['n1', 'n2']) server.put('/api/v1/nodes', { metadata: { name } })
  return server
}

test('a pod of a Deployment that was restarted is the one that was there, whatever its name and ReplicaSet', async t => {
  const server = await cluster(t)
  deployment(server, 'web', 2)
  for (const name of ['web-1a-x', 'web-1a-y']) pod(server, name, ready, { owner: ['ReplicaSet', 'web-1a'], hash: '1a' })
  const before = await podsBefore(server.api)
  t.deepEqual(before, { well: { 'Deployment a/web': 2 }, unwell: [] })
  remove(server, 'web-1a-x')
  pod(server, 'web-2b-x', starting, { owner: ['ReplicaSet', 'web-2b'], hash: '2b' })
  const during = await comparePods(server.api, before)
  t.deepEqual(during.missing, ['Deployment a/web: 1 of 2 pods are well, web-2b-x: Pending (ContainerCreating)'])
  t.deepEqual([during.others, during.still, during.told], [[], [], []])
  pod(server, 'web-2b-x', ready, { owner: ['ReplicaSet', 'web-2b'], hash: '2b' })
  t.deepEqual(await comparePods(server.api, before), { missing: [], still: [], others: [], told: [] })
})

test('what was not well before is told, and waited for by nobody', async t => {
  const server = await cluster(t)
  deployment(server, 'web', 1)
  pod(server, 'web-1a-x', ready, { owner: ['ReplicaSet', 'web-1a'], hash: '1a' })
  for (const name of ['web-1a-e1', 'web-1a-e2', 'web-1a-e3'])
    pod(server, name, evicted, { owner: ['ReplicaSet', 'web-1a'], hash: '1a' })
  pod(server, 'import-9', jobFailed, { owner: ['Job', 'import'], spec: { restartPolicy: 'Never' } })
  pod(server, 'big-0', unschedulable, { owner: ['StatefulSet', 'big'] })
  pod(server, 'done-1', { phase: 'Succeeded' }, { owner: ['Job', 'done'] })
  pod(server, 'alone', crashing)
  pod(server, 'going', crashing, { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } })
  const before = await podsBefore(server.api)
  t.deepEqual(before.well, { 'Deployment a/web': 1 })
  t.deepEqual(tellPods(before.unwell).sort(), [
    'Deployment a/web: 3 pods are Failed (Evicted), web-1a-e1 for one',
    'Job a/import: import-9 is Failed (Error)',
    'Pod a/alone: CrashLoopBackOff',
    'StatefulSet a/big: big-0 is Pending (Unschedulable)',
  ])
  const after = await comparePods(server.api, before)
  t.deepEqual([after.missing, after.others, after.told], [[], [], []])
  t.deepEqual(tellPods(after.still), tellPods(before.unwell))
})

test('what did not exist before is nobody’s fault, and keeps nobody waiting', async t => {
  const server = await cluster(t)
  const before = await podsBefore(server.api)
  pod(server, 'new', crashing)
  const { missing, others } = await comparePods(server.api, before)
  t.deepEqual([missing, tellPods(others)], [[], ['Pod a/new: CrashLoopBackOff']])
})

test('what was scaled down, deleted, or ran to its end meanwhile is told', async t => {
  const server = await cluster(t)
  deployment(server, 'web', 3)
  for (const name of ['x', 'y', 'z'])
    pod(server, `web-1a-${name}`, ready, { owner: ['ReplicaSet', 'web-1a'], hash: '1a' })
  pod(server, 'gone-1a-x', ready, { owner: ['ReplicaSet', 'gone-1a'], hash: '1a' })
  pod(server, 'job-1', ready, { owner: ['Job', 'job'] })
  pod(server, 'job-2', ready, { owner: ['Job', 'failing'] })
  pod(server, 'flow-1', ready, { owner: ['Workflow', 'flow'] })
  pod(server, 'alone', ready)
  pod(server, 'once', ready)
  const before = await podsBefore(server.api)
  remove(server, 'web-1a-z', 'gone-1a-x', 'alone', 'flow-1')
  pod(server, 'job-1', { phase: 'Succeeded' }, { owner: ['Job', 'job'] })
  pod(server, 'job-2', jobFailed, { owner: ['Job', 'failing'] })
  pod(server, 'once', jobFailed, { spec: { restartPolicy: 'Never' } })
  t.deepEqual((await comparePods(server.api, before)).missing, ['Deployment a/web: 2 of 3 pods are well'])
  deployment(server, 'web', 2)
  const after = await comparePods(server.api, before)
  t.deepEqual(after.missing, [])
  t.deepEqual(after.told.toSorted(), [
    'Deployment a/gone: is gone',
    'Deployment a/web: has 2 pods now',
    'Job a/failing: has failed meanwhile (job-2: Failed (Error))',
    'Job a/job: has fewer pods than before',
    'Pod a/alone: is gone',
    'Pod a/once: has ended meanwhile: Failed (Error)',
    'Workflow a/flow: has fewer pods than before',
  ])
  t.deepEqual([after.still, after.others], [[], []])
})

test('a pod that is to run always and was evicted meanwhile is missed', async t => {
  const server = await cluster(t)
  pod(server, 'alone', ready)
  const before = await podsBefore(server.api)
  pod(server, 'alone', evicted)
  t.deepEqual((await comparePods(server.api, before)).missing, [
    'Pod a/alone: 0 of 1 pods are well, alone: Failed (Evicted)',
  ])
})

test('a DaemonSet’s pod that fell on one node is not made up for by one that recovered on another', async t => {
  const server = await cluster(t)
  const daemon = { owner: ['DaemonSet', 'cni'] as [string, string] }
  const set = (desiredNumberScheduled: number, numberReady: number) =>
    server.put('/apis/apps/v1/namespaces/a/daemonsets', {
      metadata: { name: 'cni' },
      status: { desiredNumberScheduled, numberReady },
    })
  set(2, 1)
  pod(server, 'cni-1', ready, { ...daemon, node: 'n1' })
  pod(server, 'cni-2', crashing, { ...daemon, node: 'n2' })
  const before = await podsBefore(server.api)
  pod(server, 'cni-1', crashing, { ...daemon, node: 'n1' })
  pod(server, 'cni-2', ready, { ...daemon, node: 'n2' })
  t.deepEqual((await comparePods(server.api, before)).missing, [
    'DaemonSet a/cni on n1: 0 of 1 pods are well, cni-1: CrashLoopBackOff',
  ])
  // It is being replaced: for a moment there is none.
  remove(server, 'cni-1')
  t.is((await comparePods(server.api, before)).missing.length, 1)
  set(1, 1)
  t.deepEqual((await comparePods(server.api, before)).told, ['DaemonSet a/cni on n1: has no pod on n1 any more'])
  set(2, 1)
  server.remove('/api/v1/nodes/n1')
  t.deepEqual((await comparePods(server.api, before)).told, ['DaemonSet a/cni on n1: its node is gone'])
})

test('a static pod must come back; on a node that is known to be away nothing must', async t => {
  const server = await cluster(t)
  pod(server, 'etcd-n1', ready, { owner: ['Node', 'n1'] })
  pod(server, 'etcd-n2', ready, { owner: ['Node', 'n2'], node: 'n2' })
  pod(server, 'x', crashing, { node: 'n2' })
  const absent = { absent: ['n2'] }
  t.deepEqual(await podsBefore(server.api, absent), { well: { 'Pod a/etcd-n1 on n1': 1 }, unwell: [] })
  const before = await podsBefore(server.api)
  remove(server, 'etcd-n1', 'etcd-n2')
  t.deepEqual((await comparePods(server.api, before, absent)).missing, ['Pod a/etcd-n1 on n1: 0 of 1 pods are well'])
})

test('what has been falling over and runs just now passes for unwell before, and for well afterwards', async t => {
  const server = await cluster(t)
  const fell = (minutesAgo: number, restartCount: number, exitCode = 1) => ({
    ...ready,
    containerStatuses: [
      {
        ready: true,
        restartCount,
        lastState: { terminated: { exitCode, finishedAt: new Date(Date.now() - minutesAgo * 60_000).toISOString() } },
      },
    ],
  })
  pod(server, 'flapping', fell(3, 40))
  pod(server, 'recovered', fell(60, 40))
  pod(server, 'restarted', fell(3, 1))
  const before = await podsBefore(server.api)
  t.deepEqual(tellPods(before.unwell), ['Pod a/flapping: restarted 3 times or more, and within the last 20 minutes'])
  t.deepEqual(await comparePods(server.api, before), { missing: [], still: [], others: [], told: [] })
})

test('what an API says of a pod is quoted only where it is a word', t => {
  const status = { phase: 'Failed', reason: 'x\u001b[2J' }
  t.is(podProblem({ metadata: { name: 'x' }, status }), 'Failed (of an unreadable reason)')
})
