// Waiting until pods have got what is published: whom it asks, and what it does not wait for.
import test from 'ava'
import { conditionsStep, readingStep } from '../../../lib/rotation/given/found.ts'
import { publishedEverywhere, publishedInApi } from '../../../lib/rotation/keysets/cluster/published.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { startApiServer } from '../../kubernetes/api/_api-server.ts'

test('every host is asked, those that were behind again, and every one once none is; of an accepted node and of a pod that is ending nothing is waited for', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  server.put('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'default' } })
  const volumes = [{ name: 'x', projected: { sources: [{ configMap: { name: 'kube-root-ca.crt' } }] } }]
  for (const [name, more] of Object.entries({ n1: {}, n2: {}, n3: {}, ending: { deletionTimestamp: 'now' } }))
    server.put('/api/v1/namespaces/shop/pods', {
      metadata: { name, uid: name, ...more },
      spec: { nodeName: name === 'ending' ? 'n1' : name, volumes },
    } as never)
  const [master, ...nodes] = ['m1', 'n1', 'n2', 'n3'].map(name => ({
    name,
    groups: [name === 'm1' ? 'masters' : 'nodes'],
  }))
  const asked: string[] = []
  const said: string[] = []
  const $ =
    (host: string) =>
    ({ input }: { input: string }) =>
    async () => {
      asked.push(host)
      const isBehind = (path: string) => path.includes('/ending/') || (host === 'n2' && asked.length < 3)
      return { stdout: input.split('\n').slice(1).filter(isBehind).join('\n') }
    }
  const component = (role?: string) => ({ flags: {}, files: role ? [{ role, real: '/ca.crt' }] : [] })
  const ctx = {
    ...{ check: false, signal: new AbortController().signal, log: (line: string) => said.push(line) },
    hosts: (pattern: string) => (pattern === 'masters' ? [master] : [master, ...nodes]),
    on: async ({ name }: { name: string }) => ({ $: $(name), host: { name }, files: { readText: async () => 'both' } }),
    cluster: { api: async () => server.api },
    registered: (step: string, host: string) =>
      ({
        [lookStep]: [{ authority: 'kubernetes' }],
        [conditionsStep]: { absent: ['n3'] },
        [readingStep]: {
          nodeName: host,
          layout: {
            components: {
              kubelet: component(),
              ...(host === 'm1' && { 'kube-controller-manager': component('root-ca') }),
            },
          },
        },
      })[step],
  }
  await publishedEverywhere.run(ctx as never)
  t.deepEqual(
    [asked.slice(0, 2).toSorted(), asked.slice(2, 3), asked.slice(3).toSorted()],
    [['n1', 'n2'], ['n2'], ['n1', 'n2']],
  )
  t.deepEqual(said, ['nothing else is given to Pod shop/ending, which is being deleted'])
})

test('what is published is what the file of one of the masters holds, whichever leads, and everywhere the same', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const own = ['m1', 'm2', 'm3'].map(name => ({ name, groups: ['masters'] }))
  const publish = (namespace: string, text: string) =>
    server.put(`/api/v1/namespaces/${namespace}/configmaps`, {
      metadata: { name: 'kube-root-ca.crt' },
      data: { 'ca.crt': text },
    } as never)
  const asked = (signal = new AbortController().signal) =>
    publishedInApi.run({
      ...{ check: false, signal, hosts: () => own, cluster: { api: async () => server.api } },
      on: async ({ name }: { name: string }) => ({
        files: { readText: async () => (name === 'm3' ? '# both' : 'both') },
      }),
      registered: () => ({
        layout: { components: { 'kube-controller-manager': { files: [{ role: 'root-ca', real: '/ca.crt' }] } } },
      }),
    } as never)
  for (const namespace of ['shop', 'kube-system']) {
    server.put('/api/v1/namespaces', { metadata: { name: namespace }, status: { phase: 'Active' } } as never)
    publish(namespace, '# both')
  }
  await t.notThrowsAsync(async () => asked())
  publish('shop', 'both')
  await t.throwsAsync(async () => asked(AbortSignal.timeout(1_500)))
  publish('shop', 'another')
  publish('kube-system', 'another')
  await t.throwsAsync(async () => asked(AbortSignal.timeout(1_500)))
})
