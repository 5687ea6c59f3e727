// Everything is written anew by an empty patch each, whatever the API server answers meanwhile; what can't be read any more stops it by name.
import type { ServerResponse } from 'node:http'
import test, { type ExecutionContext } from 'ava'
import { reencrypt } from '../../lib/encryption/rewrite/reencrypt.ts'
import { apiResources } from '../../lib/encryption/rewrite/resources.ts'
import { HostFailedError } from '../../lib/errors.ts'
import { ApiError } from '../../lib/kubernetes/api/api.ts'
import { startApiServer } from '../kubernetes/api/_api-server.ts'

const secrets = { name: 'secrets', list: '/api/v1/secrets', namespaced: true }

async function withSecrets(t: ExecutionContext, count: number) {
  const server = await startApiServer()
  t.teardown(() => server.close())
  for (let i = 0; i < count; i++) server.put('/api/v1/namespaces/a/secrets', { metadata: { name: `s-${i}` } })
  return server
}

const answer = (response: ServerResponse, code: number, message: string, headers: Record<string, string> = {}) => {
  response.writeHead(code, headers).end(JSON.stringify({ kind: 'Status', code, message }))
  return true
}

test('each object is patched once with nothing, several at a time, and no more than metadata is asked for', async t => {
  const server = await withSecrets(t, 60)
  const accepted = new Set<string | undefined>()
  let [now, most] = [0, 0]
  server.instead = async (_, response) => {
    accepted.add(response.req.headers.accept)
    most = Math.max(most, ++now)
    await new Promise(resolve => setTimeout(resolve, 1))
    now--
    return false
  }
  const done = await reencrypt(server.api, [secrets])
  t.is(done.done, 60)
  const patched = server.asked.filter(one => one.startsWith('PATCH '))
  t.is(new Set(patched).size, 60)
  t.is(patched.length, 60)
  t.true(most > 1 && most <= 8)
  t.true([...accepted].every(accept => /as=PartialObjectMetadata(List)?;g=meta\.k8s\.io;v=v1$/.test(accept ?? '')))
})

test('what is deleted meanwhile is gone, and 409, 429, 5xx and a broken connection are tried again', async t => {
  const server = await withSecrets(t, 12)
  const failed = new Map<string, number>()
  server.instead = (request, response) => {
    const [, name] = /^PATCH .*\/s-(\d+)$/.exec(request) ?? []
    if (name === undefined) return false
    const tries = (failed.get(name) ?? 0) + 1
    failed.set(name, tries)
    if (name === '0') server.remove('/api/v1/namespaces/a/secrets/s-0')
    if (tries > 2) return false
    if (name === '1') return answer(response, 409, 'modified')
    if (name === '2') return answer(response, 429, 'too many', { 'retry-after': '0' })
    if (name === '3') return answer(response, 503, 'away')
    if (name === '4') return answer(response, 500, 'etcdserver: leader changed')
    if (name === '5') return response.destroy() !== undefined
    return false
  }
  const { done, gone } = await reencrypt(server.api, [secrets], { pause: 1 })
  t.deepEqual([done, gone], [11, 1])
  t.deepEqual(
    ['1', '2', '3', '4', '5', '6'].map(name => failed.get(name)),
    [3, 3, 3, 3, 3, 1],
  )
})

test('an object that can’t be read stops it at once, by its name', async t => {
  const server = await withSecrets(t, 60)
  const message = 'Internal error occurred: unable to transform key "/registry/secrets/a/s-7": no matching prefix found'
  server.instead = (request, response) => request.endsWith('/s-7') && answer(response, 500, message)
  const error = await t.throwsAsync(reencrypt(server.api, [secrets], { pause: 1 }))
  t.like(error, { code: 'encryption.unreadable' })
  t.regex(error!.message, /^\/api\/v1\/namespaces\/a\/secrets\/s-7 can't be read any more: /)
  t.is(server.asked.filter(one => one.endsWith('/s-7')).length, 1)
  const asked = server.asked.length
  await new Promise(resolve => setTimeout(resolve, 20))
  t.is(server.asked.length, asked, 'nobody goes on')
})

test('a list that holds what can’t be read stops it by its name, and a webhook that can’t transform is tried again', async t => {
  const server = await withSecrets(t, 3)
  const identity =
    'Internal error occurred: unable to transform key "/registry/secrets/a/s-0": identity transformer tried to read encrypted data'
  server.instead = (request, response) => request.startsWith('GET ') && answer(response, 500, identity)
  const error = await t.throwsAsync(reencrypt(server.api, [secrets], { pause: 1 }))
  t.like(error, { code: 'encryption.unreadable' })
  t.regex(error!.message, /^\/api\/v1\/secrets can't be read any more: /)
  let failed = 0
  const webhook = 'conversion webhook for example.com/v1, Kind=S failed: could not transform spec: cannot decrypt it'
  server.instead = (request, response) =>
    request.endsWith('/s-1') && failed++ < 2 ? answer(response, 500, webhook) : false
  t.is((await reencrypt(server.api, [secrets], { pause: 1 })).done, 3)
  t.is(failed, 3)
})

test('objects that are refused are named at the end, and all others are written', async t => {
  const server = await withSecrets(t, 40)
  server.instead = (request, response) => /\/s-1.$/.test(request) && answer(response, 403, 'denied by webhook')
  const error = await t.throwsAsync(reencrypt(server.api, [secrets]))
  t.like(error, { code: 'encryption.not-rewritten' })
  t.regex(error!.message, /^10 objects were not written anew: PATCH .*\/s-1\d: 403 denied by webhook/)
  t.is(new Set(server.asked.filter(one => one.startsWith('PATCH'))).size, 40)
})

test('a stop ends it, and a list that is forgotten is gone on with', async t => {
  const server = await withSecrets(t, 280)
  const stop = new AbortController()
  let patched = 0
  server.instead = request => {
    if (request.startsWith('PATCH') && ++patched === 20) server.forget()
    if (patched === 60) stop.abort(new Error('stopped'))
    return false
  }
  await t.throwsAsync(reencrypt(server.api, [secrets], { signal: stop.signal }), { message: 'stopped' })
  server.instead = undefined
  const { done } = await reencrypt(server.api, [secrets])
  t.is(done, 280)
})

test('resources are those that the API keeps, each by the version that it prefers of those that have it', async t => {
  const lists: Record<string, object> = {
    '/apis': {
      groups: [
        ['apps/v1'],
        ['metrics.k8s.io/v1beta1'],
        ['events.k8s.io/v1'],
        ['cilium.io/v2', 'cilium.io/v2alpha1'],
      ].map(all => ({
        ...{ name: all[0]!.split('/')[0], preferredVersion: { groupVersion: all[0] } },
        versions: all.toReversed().map(groupVersion => ({ groupVersion })),
      })),
    },
    '/api/v1': {
      resources: [
        { name: 'secrets', namespaced: true, verbs: ['list', 'patch'] },
        { name: 'pods/log', namespaced: true, verbs: ['get'] },
        { name: 'bindings', namespaced: true, verbs: ['create'] },
        { name: 'events', namespaced: true, verbs: ['list', 'patch'] },
      ],
    },
    '/apis/apps/v1': { resources: [{ name: 'deployments', namespaced: true, verbs: ['list', 'patch'] }] },
    '/apis/cilium.io/v2': { resources: [{ name: 'ciliumnodes', namespaced: false, verbs: ['list', 'patch'] }] },
    '/apis/cilium.io/v2alpha1': {
      resources: ['ciliumpodippools', 'ciliumnodes'].map(name => ({
        name,
        namespaced: false,
        verbs: ['list', 'patch'],
      })),
    },
    '/apis/events.k8s.io/v1': { resources: [{ name: 'events', namespaced: true, verbs: ['list', 'patch'] }] },
  }
  const api = {
    get: async (path: string) => lists[path] as never,
    list: async () => [
      {
        metadata: { name: 'v1beta1.metrics.k8s.io' },
        spec: { group: 'metrics.k8s.io', version: 'v1beta1', service: {} },
      },
    ],
  }
  const found = await apiResources(api, () => true)
  t.deepEqual(
    found.map(({ name, list }) => `${name} ${list}`),
    [
      'secrets /api/v1/secrets',
      'events /api/v1/events',
      'deployments.apps /apis/apps/v1/deployments',
      'ciliumnodes.cilium.io /apis/cilium.io/v2/ciliumnodes',
      'ciliumpodippools.cilium.io /apis/cilium.io/v2alpha1/ciliumpodippools',
    ],
  )
  t.is((await apiResources(api, name => name === 'deployments.apps')).length, 1)
})

test('an API server that was just restarted, and has no time to say which resources it has, is asked again', async t => {
  let asked = 0
  const api = {
    get: async (path: string) => {
      if (path === '/apis') return { groups: [] } as never
      if (++asked === 1) throw new HostFailedError(`waited 10 s for GET ${path}`, { code: 'api.no-answer' })
      if (asked === 2) throw new ApiError(`GET ${path}: 503 starting`, 503, 1)
      return { resources: [{ name: 'secrets', namespaced: true, verbs: ['list', 'patch'] }] } as never
    },
    list: async () => [],
  }
  t.deepEqual(await apiResources(api, () => true), [secrets])
  t.is(asked, 3)
})
