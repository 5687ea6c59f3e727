// Webhooks that are asked about new pods, on an API server that keeps them.
import test from 'ava'
import { podAdmissions, selects } from '../../../lib/kubernetes/before/admission.ts'
import { noteAdmission } from '../../../lib/rotation/recreate/admission.ts'
import { startApiServer } from '../api/_api-server.ts'

const pods = { apiGroups: [''], resources: ['pods'], operations: ['CREATE', 'UPDATE'] }

test('labels are selected as the API does it', t => {
  const labels = { app: 'web', tier: 'front' }
  t.true(selects({}, labels))
  t.true(selects({ matchLabels: { app: 'web' } }, labels))
  t.false(selects({ matchLabels: { app: 'web', tier: 'back' } }, labels))
  const expression = (key: string, operator: string, ...values: string[]) =>
    selects({ matchExpressions: [{ key, operator, values }] }, labels)
  t.deepEqual(
    [
      expression('app', 'In', 'web', 'db'),
      expression('app', 'NotIn', 'db'),
      expression('x', 'NotIn', 'db'),
      expression('app', 'Exists'),
      expression('x', 'DoesNotExist'),
      expression('app', 'Like', 'w'),
    ],
    Array(6).fill(true),
  )
  t.deepEqual(
    [
      expression('app', 'In', 'db'),
      expression('x', 'In', 'db'),
      expression('app', 'NotIn', 'web'),
      expression('x', 'Exists'),
      expression('app', 'DoesNotExist'),
    ],
    Array(5).fill(false),
  )
})

test('one that admits its own pods is refused by name, or accepted; what answers for others is noted to be started anew first', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const webhook = (name: string, more: object, namespace = 'policies') =>
    server.put('/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', {
      metadata: { name },
      webhooks: [
        { name: `${name}.x`, rules: [pods], clientConfig: { service: { namespace, name: 'server' } }, ...more },
      ],
    })
  server.put('/api/v1/namespaces', { metadata: { name: 'policies', labels: { team: 'a' } } })
  server.put('/api/v1/namespaces/policies/services', { metadata: { name: 'server' }, spec: { selector: { app: 'p' } } })
  const metadata = { name: 'server-abc-1', labels: { app: 'p', 'pod-template-hash': 'abc' } }
  const owner = { kind: 'ReplicaSet', name: 'server-abc', uid: 'x', controller: true }
  server.put('/api/v1/namespaces/policies/pods', { metadata: { ...metadata, ownerReferences: [owner] } })
  server.put('/apis/apps/v1/namespaces/policies/deployments', {
    kind: 'Deployment',
    metadata: { name: 'server' },
    spec: { replicas: 1 },
    status: { replicas: 1, updatedReplicas: 1, availableReplicas: 1 },
  })
  const others = { namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['a'] }] } }
  webhook('apart', others)
  webhook('passed-over', { failurePolicy: 'Ignore' })
  webhook('of-secrets', { rules: [{ ...pods, resources: ['secrets'] }] })
  webhook('nobody', {}, 'nowhere')
  const ctx = (accept: readonly string[] = []) =>
    ({
      ...{ cluster: { api: async () => server.api }, signal: new AbortController().signal, vars: { accept } },
      ...{ log: () => {}, registered: () => undefined },
    }) as never
  const rolled = [{ kind: 'Deployment', namespace: 'policies', name: 'server' }]
  t.deepEqual(await noteAdmission.run(ctx()), rolled)
  webhook('of-others', { objectSelector: { matchLabels: { app: 'other' } } })
  webhook('itself', { objectSelector: { matchLabels: { app: 'p' } } })
  t.deepEqual(
    (await podAdmissions(server.api)).map(({ what, asksForItself }) => [what.split(' ')[1], asksForItself]),
    [
      ['apart', false],
      ['itself', true],
      ['of-others', false],
    ],
  )
  await t.throwsAsync(async () => noteAdmission.run(ctx()), {
    code: 'recreate.webhooks',
    message: /ValidatingWebhookConfiguration itself \(Service policies\/server\)$/,
  })
  t.deepEqual(await noteAdmission.run(ctx(['change/ValidatingWebhookConfiguration itself'])), rolled)
})
