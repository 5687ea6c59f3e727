// What of a cluster's state is refused before the first change, what is accepted by its name, and what is only told.
import 'reflect-metadata'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import type { StepContext } from '../../../lib/playbook/model.ts'
import type { Conditions } from '../../../lib/rotation/given/found.ts'
import { conditions } from '../../../lib/rotation/index.ts'
import { later, type StandIn, startApiServer } from '../../kubernetes/api/_api-server.ts'

const hosts = ['m1', 'n1'].map(name => ({ name, groups: [name === 'm1' ? 'masters' : 'nodes'] }))

/** A step's context over an API server, whose nodes m1 and n1 are the inventory's hosts m1 and n1. */
function over(server: StandIn, accept: string[] = [], vars: Record<string, unknown> = {}) {
  const said: string[] = []
  const readings = Object.fromEntries(hosts.map(({ name }) => [name, { host: name, nodeName: `node-${name}` }]))
  const ctx = {
    vars: { accept, cni_workloads: [], restart_workloads: [], ...vars },
    hosts: (pattern: string) => hosts.filter(({ groups }) => groups.some(one => pattern.split(':').includes(one))),
    ...{ host: hosts[0], signal: new AbortController().signal, log: (text: string) => void said.push(text) },
    registered: (step: string, host?: string) => (step === 'read-the-certificates' ? readings[host ?? ''] : undefined),
    cluster: {
      nodes: () => server.api.list('/api/v1/nodes'),
      ...{ api: async () => server.api, apiOf: async () => server.api },
    },
  } as unknown as StepContext<never> & { readonly cluster: never }
  return { ctx, said, look: async () => conditions.look.run(ctx) as Promise<Conditions> }
}

async function serverWith(t: { teardown(fn: () => void): void }, nodes: Record<string, 'True' | 'False' | 'Unknown'>) {
  const server = await startApiServer()
  t.teardown(server.close)
  server.put('', { metadata: { name: 'version' } })
  for (const [name, status] of Object.entries(nodes))
    server.put('/api/v1/nodes', { metadata: { name }, status: { conditions: [{ type: 'Ready', status }] } })
  return server
}

test('a node that is not Ready is refused by its name; accepted, it is left out and told; a master is never left out', async t => {
  const server = await serverWith(t, { 'node-m1': 'True', 'node-n1': 'Unknown' })
  const refused = await t.throwsAsync<RekeyError>(over(server, ['node/node-n']).look)
  t.like(refused, { code: 'preflight.not-ready', message: 'not Ready: node-n1' })
  t.regex(refused?.hint ?? '', /accept: \[node\/node-n1\]/)
  const accepted = await over(server, ['node/node-n1']).look()
  t.deepEqual(accepted.absent, ['node-n1'])
  t.regex(accepted.told.join('\n'), /^Node node-n1 is left out: it gets no new certificate/)
  const masters = await serverWith(t, { 'node-m1': 'False', 'node-n1': 'True' })
  const never = await t.throwsAsync<RekeyError>(over(masters, ['node/*']).look)
  t.like(never, { code: 'preflight.not-ready', hint: 'Begin with masters that are well.' })
})

test('a node that the inventory does not have is refused, and accepted by its name alone', async t => {
  const server = await serverWith(t, { 'node-m1': 'True', 'node-n1': 'True', stranger: 'True' })
  const refused = await t.throwsAsync<RekeyError>(over(server, ['node/node-n1']).look)
  t.like(refused, { code: 'preflight.unknown-nodes', message: 'nodes that are not in the inventory: stranger' })
  t.regex(refused?.hint ?? '', /locked out.*accept: \[node\/stranger\]/)
  t.deepEqual((await over(server, ['node/stranger']).look()).absent, ['stranger'])
})

test('what is only out of the ordinary is told and stops nothing; pods of a node that is left out are not told', async t => {
  const server = await serverWith(t, { 'node-m1': 'True', 'node-n1': 'Unknown' })
  server.put('/api/v1/nodes', {
    metadata: { name: 'node-m1' },
    spec: { unschedulable: true },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  })
  const pod = (name: string, nodeName: string) =>
    server.put('/api/v1/namespaces/batch/pods', { metadata: { name }, spec: { nodeName }, status: { phase: 'Failed' } })
  pod('nightly', 'node-m1')
  pod('away', 'node-n1')
  const { look, said } = over(server, ['node/node-n1'])
  const { told, workloads } = await look()
  t.deepEqual(workloads, { kubeProxy: undefined, dns: undefined, dnsService: undefined })
  t.deepEqual(said, told)
  t.deepEqual(told.slice(1), [
    'Node node-m1 is cordoned, and stays so',
    'There is no kube-proxy: none is restarted',
    'Nothing was found behind the Service of the cluster\u2019s DNS: it is not restarted',
    'There is no ConfigMap kube-public/cluster-info: machines that join find the CA elsewhere',
    'Pod batch/nightly: Failed',
  ])
})

test('an API server that is slow is told by the name of its master', async t => {
  const server = await serverWith(t, { 'node-m1': 'True', 'node-n1': 'True' })
  server.instead = async request => {
    if (request.includes('/namespaces?limit=1') && !request.includes('limit=1&')) await later(1_100)
    return false
  }
  const { told } = await over(server).look()
  t.regex(told.join('\n'), /^The API server of m1 is slow: 1\.\d s for one namespace$/m)
})

test('a change that the API would refuse is refused before anything is changed, by name and reason; accepted, it is told', async t => {
  const server = await serverWith(t, {})
  const web = { kind: 'Deployment', namespace: 'shop', name: 'web' }
  const container = { metadata: { labels: { app: 'web' } }, spec: { containers: [] } }
  server.put('/apis/apps/v1/namespaces/shop/deployments', { metadata: { name: 'web' }, spec: { template: container } })
  server.instead = (request, response) => {
    if (!request.startsWith('POST /api/v1/namespaces/shop/pods')) return false
    response.statusCode = 500
    response.end(JSON.stringify({ message: 'failed calling webhook "guard.example.com"' }))
    return true
  }
  const tryThem = async ({ ctx }: ReturnType<typeof over>) => conditions.tryThem.run(ctx)
  const vars = { restart_workloads: [web], cni_workloads: [web] }
  const proxy = 'change/DaemonSet kube-system/kube-proxy'
  const others = [proxy, 'change/Deployment kube-system/coredns']
  const refused = await t.throwsAsync<RekeyError>(tryThem(over(server, others, vars)))
  t.is(refused?.code, 'preflight.refused')
  t.regex(
    refused?.message ?? '',
    /^the API would refuse a change: a new pod of Deployment shop\/web \(.*guard\.example/,
  )
  t.regex(refused?.hint ?? '', /accept: \[change\/a new pod of Deployment shop\/web\]/)
  const accepting = over(server, [...others, 'change/a new pod of Deployment shop/web'], vars)
  await tryThem(accepting)
  t.regex(accepting.said.join('\n'), /^a new pod of Deployment shop\/web: .*guard\.example\.com/m)
  t.deepEqual(
    server.asked.filter(one => !one.startsWith('GET') && !one.includes('dryRun=All')),
    [],
  )
})
