// Which pods hold an older CA in memory than their volumes have, by when they were made, when they were started, and when that was published.
import test from 'ava'
import { podsBehind } from '../../../../lib/kubernetes/trust/published/pods.ts'
import { type Given, startApiServer } from '../../api/_api-server.ts'

const at = (minutes: number) => new Date(Date.UTC(2026, 0, 1) + minutes * 60_000).toISOString()

const published = { projected: { sources: [{ configMap: { name: 'kube-root-ca.crt' } }] } }

/** A running pod, made and started at these minutes. */
const pod = (name: string, made: number, started: number, more: Record<string, unknown> = {}): Given => ({
  metadata: { name, creationTimestamp: at(made), labels: { app: name }, ...more } as Given['metadata'],
  spec: {
    volumes: [{ name: 'trust', ...(more['volume'] ?? published) }],
    containers: [{ name: 'one', volumeMounts: [{ name: 'trust' }] }],
  },
  status: { phase: 'Running', containerStatuses: [{ name: 'one', state: { running: { startedAt: at(started) } } }] },
})

const of = (kind: string, name: string) => ({ ownerReferences: [{ kind, name }] })

test('pods that were started before what is published had reached them are told, with what makes them anew and what guards them', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  server.put('/api/v1/namespaces/shop/configmaps', {
    metadata: {
      ...{ name: 'kube-root-ca.crt', creationTimestamp: at(0) },
      managedFields: [{ time: at(60) }],
    } as Given['metadata'],
  })
  server.put('/api/v1/namespaces/shop/secrets', {
    metadata: {
      ...{ name: 'token', creationTimestamp: at(0) },
      // Its last use is written down each day.
      managedFields: [
        { time: at(60), fieldsV1: { 'f:data': { 'f:ca.crt': {}, 'f:token': {} } } },
        { time: at(1_500), fieldsV1: { 'f:metadata': { 'f:labels': {} } } },
      ],
    } as Given['metadata'],
    type: 'kubernetes.io/service-account-token',
  })
  server.put('/apis/apps/v1/namespaces/shop/replicasets', {
    metadata: { name: 'web-1', ...of('Deployment', 'web') } as Given['metadata'],
  })
  for (const [name, disruptionsAllowed] of [
    ['db', 0],
    ['web', 1],
  ] as const) {
    const budget = { metadata: { name: `${name}-budget` }, spec: { selector: { matchLabels: { app: name } } } }
    server.put('/apis/policy/v1/namespaces/shop/poddisruptionbudgets', { ...budget, status: { disruptionsAllowed } })
  }
  const pods = '/api/v1/namespaces/shop/pods'
  server.put(pods, pod('web', 10, 10, of('ReplicaSet', 'web-1')))
  server.put(pods, pod('db', 10, 10, of('StatefulSet', 'db')))
  server.put(pods, pod('bare', 10, 61))
  server.put(
    pods,
    pod('by-secret', 10, 10, { ...of('DaemonSet', 'agent'), volume: { secret: { secretName: 'token' } } }),
  )
  server.put(pods, pod('started-anew', 10, 62))
  server.put(pods, pod('made-since', 60.1, 60.2))
  server.put(pods, pod('without', 10, 10, { volume: { emptyDir: {} } }))
  server.put(pods, pod('of-another-secret', 10, 10, { volume: { secret: { secretName: 'own' } } }))
  const found = await podsBehind(server.api)
  t.deepEqual(
    found.toSorted((a, b) => a.name.localeCompare(b.name)),
    [
      { namespace: 'shop', name: 'bare' },
      { namespace: 'shop', name: 'by-secret', workload: { kind: 'DaemonSet', namespace: 'shop', name: 'agent' } },
      {
        ...{ namespace: 'shop', name: 'db', guardedBy: 'db-budget' },
        workload: { kind: 'StatefulSet', namespace: 'shop', name: 'db' },
      },
      { namespace: 'shop', name: 'web', workload: { kind: 'Deployment', namespace: 'shop', name: 'web' } },
    ],
  )
})

test('what was published in another order since all volumes had it leaves no pod behind that was started after that', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const managedFields = [{ time: at(90), fieldsV1: { 'f:data': { 'f:ca.crt': {} } } }]
  server.put('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: 'kube-root-ca.crt', creationTimestamp: at(0), managedFields } as Given['metadata'],
  })
  const pods = '/api/v1/namespaces/shop/pods'
  const budgets = '/apis/policy/v1/namespaces/shop/poddisruptionbudgets'
  for (const [name, spec, disruptionsAllowed] of [
    ['a', { selector: { matchLabels: { app: 'early' } } }, 1],
    ['all', { selector: {} }, 0],
    ['none', {}, 0],
  ] as const)
    server.put(budgets, { metadata: { name }, spec, status: { disruptionsAllowed } })
  server.put(pods, pod('early', 10, 10))
  server.put(pods, pod('anew', 62, 62))
  server.put(pods, pod('in-place', 10, 62))
  const behind = async (enough?: Date) => (await podsBehind(server.api, enough)).map(({ name }) => name).toSorted()
  t.deepEqual(await behind(), ['anew', 'early', 'in-place'])
  t.deepEqual(await behind(new Date(at(61))), ['early'])
  const guards = (await podsBehind(server.api)).map(({ guardedBy }) => guardedBy)
  t.deepEqual(guards, ['all', 'all', 'all'], 'a selector without labels is about every pod, and each budget counts')
})
