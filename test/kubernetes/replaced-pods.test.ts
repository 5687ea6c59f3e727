// Pods that are replaced, and the pod network before them, on an API server that keeps them.
import test, { type ExecutionContext } from 'ava'
import { networkWorkloads } from '../../lib/kubernetes/pod-network.ts'
import { podsOfNow, type Replacing, replaceNetwork, replacePods } from '../../lib/kubernetes/replaced-pods.ts'
import { type Given, type StandIn, startApiServer } from './api/_api-server.ts'

async function started(t: ExecutionContext, more: Partial<Replacing> = {}) {
  const server = await startApiServer()
  t.teardown(server.close)
  const told: string[] = []
  const replacing: Replacing = {
    ask: async work => work(server.api),
    ...{ signal: new AbortController().signal, within: 2_000, log: line => void told.push(line) },
    ...more,
  }
  return { server, told, replacing }
}

const owned = (kind: string, name: string) => ({ ownerReferences: [{ kind, name, uid: 'x', controller: true }] })

function pod(server: StandIn, name: string, owner?: [string, string], more: Partial<Given> = {}) {
  const metadata = { name, ...(owner && owned(...owner)) }
  return server.put('/api/v1/namespaces/shop/pods', { ...more, metadata } as Given)
}
const names = async ({ api }: StandIn) => (await api.list('/api/v1/pods')).map(({ metadata }) => metadata.name)

test('what somebody makes anew is deleted; what nobody owns, what has ended and static pods stay', async t => {
  const { server, told, replacing } = await started(t)
  pod(server, 'web', ['ReplicaSet', 'web'])
  pod(server, 'bare')
  pod(server, 'static-n1', ['Node', 'n1'])
  pod(server, 'import', ['Job', 'import'], { status: { phase: 'Running' } })
  for (const phase of ['Succeeded', 'Failed']) pod(server, phase.toLowerCase(), ['Job', 'done'], { status: { phase } })
  const noted = await podsOfNow(replacing)
  pod(server, 'since', ['ReplicaSet', 'web'])
  t.deepEqual(await replacePods(replacing, noted), { replaced: 2, left: ['shop/bare'], cut: ['Job shop/import'] })
  t.deepEqual(await names(server), ['bare', 'failed', 'since', 'static-n1', 'succeeded'])
  t.regex(told.join('\n'), /^Job shop\/import: running pods of these are cut off/)
})

test('a pod that is another one of the same name stays, one that has just gone is no failure, and one that is refused stops no other', async t => {
  const { server, replacing } = await started(t)
  for (const name of ['a-gone', 'b-other', 'c-refused', 'd-old']) pod(server, name, ['StatefulSet', 'db'])
  const noted = await podsOfNow(replacing)
  const path = (name: string) => `/api/v1/namespaces/shop/pods/${name}`
  server.instead = (request, response) => {
    if (request === `DELETE ${path('a-gone')}`) server.remove(path('a-gone'))
    if (request === `DELETE ${path('b-other')}`) {
      server.remove(path('b-other'))
      pod(server, 'b-other', ['StatefulSet', 'db'])
    }
    if (request !== `DELETE ${path('c-refused')}`) return false
    response.writeHead(403, { 'content-type': 'application/json' })
    response.end('{"message": "protected"}')
    return true
  }
  await t.throwsAsync(replacePods(replacing, noted), {
    code: 'pods.not-replaced',
    message: /^1 pods could not be deleted: .*protected/,
  })
  t.deepEqual(await names(server), ['b-other', 'c-refused'])
})

test('whoever answers is asked anew, and nothing is deleted any more once it may not be', async t => {
  let asked = 0
  let left = 5
  const { server, replacing } = await started(t, {
    guard: () => {
      if (left-- <= 0) throw new Error('not ours any more')
    },
  })
  for (let index = 0; index < 120; index++) pod(server, `web-${index}`, ['ReplicaSet', 'web'])
  const counting: Replacing = {
    ...replacing,
    ask: work => {
      asked++
      return work(server.api)
    },
  }
  const noted = await podsOfNow(replacing)
  await t.throwsAsync(replacePods(counting, noted), { message: 'not ours any more' })
  t.is((await names(server)).length, 115)
  left = 1_000
  asked = 0
  t.is((await replacePods(counting, noted)).replaced, 115)
  t.is(asked, 3)
})

/** A DaemonSet or Deployment on the machines' network; `pods` of `wanted` are there. */
function workload(
  server: StandIn,
  [kind, namespace, name]: readonly ['daemonsets' | 'deployments', string, string],
  {
    wanted = 2,
    pods = wanted,
    path = '/etc/cni/net.d',
    hostNetwork = true,
  }: { wanted?: number; pods?: number; path?: string; hostNetwork?: boolean } = {},
) {
  const template = { spec: { hostNetwork, volumes: [{ name: 'a' }, { name: 'b', hostPath: { path } }] } }
  const status =
    kind === 'daemonsets'
      ? { desiredNumberScheduled: wanted, updatedNumberScheduled: wanted, numberAvailable: pods }
      : { replicas: pods, updatedReplicas: pods, availableReplicas: pods }
  server.put(`/apis/apps/v1/namespaces/${namespace}/${kind}`, {
    kind: kind === 'daemonsets' ? 'DaemonSet' : 'Deployment',
    metadata: { name },
    spec: { replicas: wanted, template },
    status,
  })
}

const short = (all: readonly { kind: string; namespace: string; name: string; turn?: number }[]) =>
  all.map(({ kind, namespace, name, turn }) => `${turn} ${kind} ${namespace}/${name}`)

test('the pod network is found in any namespace, with what it goes by, and in the order in which one needs the other', async t => {
  const { server } = await started(t)
  workload(server, ['daemonsets', 'calico-system', 'calico-node'])
  workload(server, ['daemonsets', 'kube-system', 'kube-proxy'], { path: '/lib/modules' })
  workload(server, ['daemonsets', 'shop', 'agent'], { path: '/var/log' })
  workload(server, ['daemonsets', 'shop', 'etcetera'], { path: '/etc/cnidarian' })
  workload(server, ['deployments', 'calico-system', 'calico-typha'])
  workload(server, ['deployments', 'calico-system', 'controllers'], { hostNetwork: false })
  workload(server, ['deployments', 'shop', 'proxy'])
  const named = [
    { kind: 'Deployment' as const, namespace: 'calico-system', name: 'controllers' },
    { kind: 'DaemonSet' as const, namespace: 'shop', name: 'agent' },
    { kind: 'DaemonSet' as const, namespace: 'shop', name: 'nowhere' },
  ]
  const told: string[] = []
  t.deepEqual(short(await networkWorkloads(server.api, { named, log: line => void told.push(line) })), [
    '0 Deployment calico-system/calico-typha',
    '1 DaemonSet calico-system/calico-node',
    '1 DaemonSet kube-system/kube-proxy',
    '1 DaemonSet shop/agent',
    '2 Deployment calico-system/controllers',
  ])
  t.deepEqual(told, ['DaemonSet shop/nowhere is not there: it is not replaced'])
})

test('each part of the pod network is replaced before those that need it', async t => {
  const { server, replacing } = await started(t)
  const network = [
    { kind: 'Deployment' as const, namespace: 'shop', name: 'controllers', turn: 2 as const },
    { kind: 'DaemonSet' as const, namespace: 'shop', name: 'cni' },
    { kind: 'StatefulSet' as const, namespace: 'shop', name: 'typha', turn: 0 as const },
  ]
  for (const { kind, name } of network) {
    server.put(`/apis/apps/v1/namespaces/shop/${kind.toLowerCase()}s`, {
      kind,
      metadata: { name },
      spec: { replicas: 0 },
    })
    if (kind !== 'Deployment') pod(server, name, [kind, name])
  }
  server.put('/api/v1/namespaces/shop/pods', {
    metadata: { name: 'controllers', labels: { 'pod-template-hash': '5d' }, ...owned('ReplicaSet', 'controllers-5d') },
  })
  const noted = await podsOfNow(replacing)
  t.is((await replaceNetwork(replacing, noted, network)).replaced, 3)
  const deleted = server.asked.filter(one => one.startsWith('DELETE')).map(one => one.split('/').at(-1))
  t.deepEqual(deleted, ['typha', 'cni', 'controllers'])
})

test('a node that is away leaves the pod network where it is; one that is not rolled out for another reason is named', async t => {
  const { server } = await started(t)
  workload(server, ['daemonsets', 'kube-system', 'cni'], { pods: 1 })
  server.put('/api/v1/namespaces/kube-system/pods', {
    metadata: { name: 'cni-n7', ...owned('DaemonSet', 'cni') },
    spec: { nodeName: 'n7' },
  })
  const told: string[] = []
  const log = (line: string) => void told.push(line)
  t.deepEqual(await networkWorkloads(server.api, { log }), [])
  t.regex(told.join(), /^DaemonSet kube-system\/cni is not rolled out \(1 of 2 new pods are available\)/)
  t.deepEqual(short(await networkWorkloads(server.api, { absent: ['n7'], log })), ['1 DaemonSet kube-system/cni'])
})

test('a node that was lost since is not waited for', async t => {
  const { server, replacing } = await started(t)
  const node = (name: string, status: string) =>
    server.put('/api/v1/nodes', { metadata: { name }, status: { conditions: [{ type: 'Ready', status }] } })
  node('n1', 'True')
  node('n2', 'Unknown')
  workload(server, ['daemonsets', 'kube-system', 'cni'], { pods: 1 })
  for (const name of ['n1', 'n2'])
    server.put('/api/v1/namespaces/kube-system/pods', {
      metadata: { name: `cni-${name}`, ...owned('DaemonSet', 'cni') },
      spec: { nodeName: name },
    })
  const noted = await podsOfNow(replacing)
  // The one on the lost node never ends.
  server.instead = (request, response) => {
    if (!request.startsWith('DELETE') || !request.endsWith('/cni-n2')) return false
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end('{}')
    return true
  }
  const network = [{ kind: 'DaemonSet' as const, namespace: 'kube-system', name: 'cni', turn: 1 as const }]
  t.is((await replaceNetwork(replacing, noted, network)).replaced, 2)
  node('n2', 'False')
  await t.throwsAsync(replaceNetwork({ ...replacing, within: 100 }, noted, network), {
    message: /the old pods of DaemonSet kube-system\/cni to end: cni-n2 still ending/,
  })
})
