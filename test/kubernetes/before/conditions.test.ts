// What a cluster is like before a rotation, on an API server that keeps it: found whatever it is called, told or refused.
import test from 'ava'
import { nodeConditions, oddities, systemWorkloads, tryChanges } from '../../../lib/kubernetes/before/conditions.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

async function withServer(work: (server: StandIn) => Promise<void>): Promise<void> {
  const server = await startApiServer()
  try {
    await work(server)
  } finally {
    server.close()
  }
}

const apps = (kind: string) => `/apis/apps/v1/namespaces/kube-system/${kind}`
const services = '/api/v1/namespaces/kube-system/services'

test('kube-proxy and the DNS are found as kubeadm names them', async t => {
  await withServer(async server => {
    server.put(apps('daemonsets'), {
      metadata: { name: 'kube-proxy' },
      spec: { template: { spec: { containers: [{ name: 'kube-proxy', command: ['/usr/local/bin/kube-proxy'] }] } } },
    })
    server.put(services, { metadata: { name: 'kube-dns' }, spec: { selector: { 'k8s-app': 'kube-dns' } } })
    server.put(apps('deployments'), {
      metadata: { name: 'coredns' },
      spec: { template: { metadata: { labels: { 'k8s-app': 'kube-dns' } } } },
    })
    t.deepEqual(await systemWorkloads(server.api), {
      kubeProxy: { kind: 'DaemonSet', namespace: 'kube-system', name: 'kube-proxy' },
      dns: { kind: 'Deployment', namespace: 'kube-system', name: 'coredns' },
      dnsService: { namespace: 'kube-system', name: 'kube-dns' },
    })
  })
})

test('a cluster whose network does what kube-proxy does has none, and its DNS may be of any name and kind', async t => {
  await withServer(async server => {
    server.put(apps('daemonsets'), {
      metadata: { name: 'cilium' },
      spec: { template: { spec: { containers: [{ name: 'agent', command: ['cilium-agent'] }] } } },
    })
    server.put(apps('daemonsets'), {
      metadata: { name: 'node-dns' },
      spec: { template: { metadata: { labels: { app: 'dns', tier: 'node' } } } },
    })
    server.put(services, {
      metadata: { name: 'dns', labels: { 'k8s-app': 'kube-dns' } },
      spec: { selector: { app: 'dns' } },
    })
    t.deepEqual(await systemWorkloads(server.api), {
      kubeProxy: undefined,
      dns: { kind: 'DaemonSet', namespace: 'kube-system', name: 'node-dns' },
      dnsService: { namespace: 'kube-system', name: 'dns' },
    })
  })
})

test('a Service without a selector leads to nothing that could be restarted', async t => {
  await withServer(async server => {
    server.put(services, { metadata: { name: 'kube-dns' }, spec: {} })
    server.put(apps('deployments'), { metadata: { name: 'anything' }, spec: {} })
    t.is((await systemWorkloads(server.api)).dns, undefined)
  })
})

test('nodes that are away, and cordoned ones, are told apart', t => {
  const node = (name: string, ready: string, more = {}) => ({
    metadata: { name },
    spec: more,
    status: { conditions: [{ type: 'Ready', status: ready }] },
  })
  t.deepEqual(
    nodeConditions([node('n1', 'True'), node('n2', 'Unknown'), node('n3', 'True', { unschedulable: true })]),
    { notReady: ['n2'], cordoned: ['n3'] },
  )
})

test('what stands in nobody’s way is told, and what is as usual is not', async t => {
  await withServer(async server => {
    server.put('/api/v1/namespaces', {
      metadata: { name: 'gone', deletionTimestamp: '2024-01-01T00:00:00Z' },
      status: { phase: 'Terminating' },
    })
    server.put('/api/v1/namespaces', { metadata: { name: 'a' }, status: { phase: 'Active' } })
    const webhooks = (name: string, more: object) =>
      server.put('/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', {
        metadata: { name },
        webhooks: [{ name: `${name}.example.com`, ...more }],
      })
    const service = (name: string) => ({ clientConfig: { service: { namespace: 'a', name } } })
    server.put('/apis/discovery.k8s.io/v1/namespaces/a/endpointslices', {
      metadata: { name: 'up-x', labels: { 'kubernetes.io/service-name': 'up' } },
      endpoints: [{ conditions: { ready: true } }],
    })
    webhooks('dead', { failurePolicy: 'Fail', ...service('down') })
    webhooks('kind', { failurePolicy: 'Ignore', ...service('down') })
    webhooks('well', { failurePolicy: 'Fail', ...service('up') })
    webhooks('outside', { failurePolicy: 'Fail', clientConfig: { url: 'https://hooks.example.com' } })
    const budget = (name: string, spec: object, status: object) =>
      server.put('/apis/policy/v1/namespaces/a/poddisruptionbudgets', { metadata: { name }, spec, status })
    budget('never', { maxUnavailable: 0 }, { expectedPods: 2, desiredHealthy: 2, disruptionsAllowed: 0 })
    budget('usual', { maxUnavailable: 1 }, { expectedPods: 2, desiredHealthy: 1, disruptionsAllowed: 1 })
    budget('busy', { maxUnavailable: 1 }, { expectedPods: 2, desiredHealthy: 1, disruptionsAllowed: 0 })
    const staticPod = (namespace: string, name: string) =>
      server.put(`/api/v1/namespaces/${namespace}/pods`, {
        metadata: { name, ownerReferences: [{ kind: 'Node', name: 'm1' }] },
      })
    staticPod('kube-system', 'etcd-m1')
    staticPod('kube-system', 'kube-vip-m1')
    t.deepEqual(await oddities(server.api), [
      'There is no ConfigMap kube-public/cluster-info: machines that join find the CA elsewhere',
      'Namespace gone has been ending since 2024-01-01T00:00:00Z',
      'ValidatingWebhookConfiguration dead: nobody answers for dead.example.com (Service a/down), and it may not be passed over',
      'PodDisruptionBudget a/never never lets a pod go: a rolling restart does not ask it',
      'Pod kube-system/kube-vip-m1 is a static pod of somebody else, and is left alone',
    ])
  })
})

test('changes are tried without being made, and each that would be refused is named with the reason', async t => {
  await withServer(async server => {
    const web = { kind: 'Deployment', namespace: 'a', name: 'web' } as const
    const gone = { kind: 'Deployment', namespace: 'a', name: 'gone' } as const
    server.put('/apis/apps/v1/namespaces/a/deployments', {
      metadata: { name: 'web' },
      spec: { template: { metadata: { labels: { app: 'web' } }, spec: { containers: [] } } },
    })
    server.put('/api/v1/namespaces/a/secrets', { metadata: { name: 'token' } })
    for (const name of ['a', 'b', 'ending']) {
      const phase = name === 'ending' ? 'Terminating' : 'Active'
      server.put('/api/v1/namespaces', { metadata: { name }, status: { phase } })
    }
    server.put('/api/v1/namespaces/a/configmaps', { metadata: { name: 'kube-root-ca.crt' } })
    server.put('/api/v1/namespaces/b/configmaps', { metadata: { name: 'kube-root-ca.crt' } })
    server.instead = (request, response) => {
      const guarded = ['POST /api/v1/namespaces/a/pods', 'PATCH /api/v1/namespaces/b/configmaps']
      if (!guarded.some(one => request.startsWith(one))) return false
      response.statusCode = 500
      response.end(JSON.stringify({ message: 'failed calling webhook "guard.example.com"' }))
      return true
    }
    const before = JSON.stringify(server.get('/apis/apps/v1/namespaces/a/deployments/web'))
    const refusals = await tryChanges(server.api, {
      workloads: [web, gone],
      secrets: [
        { namespace: 'a', name: 'token' },
        { namespace: 'a', name: 'another' },
      ],
    })
    t.deepEqual(
      refusals.map(({ what }) => what),
      ['ConfigMap b/kube-root-ca.crt', 'Secret a/another', 'a new pod of Deployment a/web', 'Deployment a/gone'],
    )
    t.regex(refusals[2]?.why ?? '', /guard\.example\.com/)
    const writes = server.asked.filter(one => !one.startsWith('GET'))
    t.true(writes.length >= 4)
    t.deepEqual(
      writes.filter(one => !one.includes('dryRun=All')),
      [],
    )
    t.is(JSON.stringify(server.get('/apis/apps/v1/namespaces/a/deployments/web')), before)
  })
})
