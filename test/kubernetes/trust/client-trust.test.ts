// The CAs by which extension API servers and the scheduler know clients: those that were replaced go, and nothing else does.
import test from 'ava'
import { ApiError, type KubernetesApi, type KubernetesObject } from '../../../lib/kubernetes/api/api.ts'
import { tightenClientTrust } from '../../../lib/kubernetes/trust/client-trust.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const authority = async (name: string) => (await issue({ name: `CN=${name}`, ca: true })).pem
const named = async (...names: string[]) => Promise.all(names.map(authority))

/** An API with that one ConfigMap, or without it. */
function apiWith(data?: Record<string, string>) {
  const found = { metadata: { name: 'extension-apiserver-authentication', resourceVersion: '7' }, data }
  const patches: unknown[] = []
  const api = {
    get: async (path: string) => {
      if (data && path.endsWith('/kube-system/configmaps/extension-apiserver-authentication')) return found
      throw new ApiError(`GET ${path}: 404`, 404)
    },
    patch: async (_path: string, patch: KubernetesObject, type?: string) => {
      patches.push([type, patch])
      Object.assign(data!, patch['data'])
      return found
    },
  } as unknown as KubernetesApi
  return { api, patches, data }
}

test('CAs with the name of one of the cluster’s go, those with another name stay, in their order', async t => {
  const [before = '', ancestor = '', next = '', foreign = ''] = await named(
    'kubernetes',
    'kubernetes',
    'new',
    'company',
  )
  const [oldProxy = '', nextProxy = ''] = await named('front-proxy-ca', 'front-proxy-ca')
  const { api, patches, data } = apiWith({
    'client-ca-file': ancestor + foreign + before + next,
    'requestheader-client-ca-file': oldProxy + nextProxy,
    'requestheader-group-headers': '["X-Remote-Group"]',
  })
  const authorities = {
    old: { kubernetes: before, frontProxy: oldProxy },
    next: { kubernetes: next, frontProxy: nextProxy },
  }
  const removed = await tightenClientTrust(api, authorities)
  t.deepEqual(
    removed.map(({ pem }) => pem),
    [ancestor, before, oldProxy],
  )
  t.deepEqual(data, {
    'client-ca-file': foreign + next,
    'requestheader-client-ca-file': nextProxy,
    'requestheader-group-headers': '["X-Remote-Group"]',
  })
  // What an API server added meanwhile must not be lost.
  t.like(patches, [['merge', { metadata: { resourceVersion: '7' } }]])
  t.deepEqual(await tightenClientTrust(api, authorities), [])
  t.is(patches.length, 1)
})

test('what is missing of the next CA comes in, also where nothing can be read in the bundle', async t => {
  const [before = '', next = ''] = await named('kubernetes', 'kubernetes')
  for (const bundle of [before, '']) {
    const { api, data } = apiWith({ 'client-ca-file': bundle })
    const authorities = {
      old: { kubernetes: before, frontProxy: before },
      next: { kubernetes: next, frontProxy: next },
    }
    await tightenClientTrust(api, authorities)
    // An API server that is told of no CA for the front proxy writes no key for it, and none is made.
    t.deepEqual(data, { 'client-ca-file': next })
  }
})

test('without the ConfigMap there is nothing to do, and another error is not taken for that', async t => {
  const [before = '', next = ''] = await named('kubernetes', 'kubernetes')
  const authorities = { old: { kubernetes: before, frontProxy: before }, next: { kubernetes: next, frontProxy: next } }
  const { api, patches } = apiWith()
  t.deepEqual(await tightenClientTrust(api, authorities), [])
  t.is(patches.length, 0)
  const refusing = { get: async () => Promise.reject(new ApiError('GET: 403 forbidden', 403)) }
  await t.throwsAsync(tightenClientTrust(refusing as unknown as KubernetesApi, authorities), { message: /403/ })
})
