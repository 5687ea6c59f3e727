// Workloads that are restarted while a CA is staged: whatever becomes of one, the stage goes on, and says so.
import test from 'ava'
import { waitUntilNoneLeft } from '../../../lib/operations/wait.ts'
import { restartEach } from '../../../lib/rotation/keysets/cluster/rollouts.ts'
import { startApiServer } from '../../kubernetes/api/_api-server.ts'

test('a rolling restart may take as long as it likes while there is another new pod from time to time', async t => {
  const left = [300, 299, 299, 298, 1]
  const options = { within: 0, every: 0 }
  const remaining = (counts: number[]) => async () => {
    const [now] = counts.splice(0, 1)
    return now === undefined ? undefined : { left: now, told: `${now} are left` }
  }
  await t.notThrowsAsync(waitUntilNoneLeft('all', options, remaining([...new Set(left)])))
  const error = await t.throwsAsync(waitUntilNoneLeft('all', options, remaining(left)))
  t.regex(error?.message ?? '', /299 are left/)
})

test('workloads that nobody replaces the pods of, that were unwell before, or that do not come round, end no stage: each is named', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const since = new Date(Date.UTC(2026, 0, 1))
  const template = (at: number) => ({
    metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': new Date(at).toISOString() } },
  })
  const put = (name: string, spec: object, available: number) =>
    server.put('/apis/apps/v1/namespaces/shop/deployments', {
      ...{ kind: 'Deployment', metadata: { name }, spec: { replicas: 2, ...spec } },
      status: { replicas: 2, updatedReplicas: 2, availableReplicas: available },
    } as never)
  put('well', { template: template(since.getTime() - 1) }, 2)
  put('paused', { paused: true }, 2)
  put('on-delete', { updateStrategy: { type: 'OnDelete' } }, 2)
  put('unwell-for-months', {}, 1)
  put('begun-by-this-run', { template: template(since.getTime() + 1) }, 1)
  const said: string[] = []
  const ctx = {
    ...{ cluster: { api: async () => server.api }, signal: new AbortController().signal },
    ...{ log: (line: string) => said.push(line), registered: () => undefined },
  }
  const names = ['well', 'paused', 'on-delete', 'unwell-for-months', 'begun-by-this-run', 'gone', 'dns']
  const workloads = names.map(name => ({ kind: 'Deployment' as const, namespace: 'shop', name }))
  await restartEach(ctx as never, workloads, since, async ({ name }) => name === 'dns', { before: 0, since: 0 })
  t.deepEqual(said.toSorted(), [
    'Deployment shop/begun-by-this-run has not come round, and is left to do so: waited 0 s for Deployment shop/begun-by-this-run to be rolled out: 1 of 2 new pods are available',
    'Deployment shop/dns',
    'Deployment shop/gone is not there any more',
    'Deployment shop/on-delete is left alone: its update strategy is OnDelete',
    'Deployment shop/paused is left alone: it is paused',
    'Deployment shop/unwell-for-months is left alone, it was not well before: waited 0 s for Deployment shop/unwell-for-months to be rolled out: 1 of 2 new pods are available',
    'Deployment shop/well',
  ])
  const patched = server.asked.filter(request => request.startsWith('PATCH'))
  t.is(patched.length, 1)
  t.regex(patched[0] ?? '', /deployments\/well$/)
})
