// A census reads every value once, in pages that stay small whatever lies there, and counts what it was written by.
import test from 'ava'
import { keptAt, takeCensus } from '../../lib/encryption/census.ts'
import { etcdValues } from '../../lib/encryption/etcd-values.ts'
import { tellingApart } from '../../lib/encryption/stored.ts'
import { type Gateway, gatewayOf } from './_gateway.ts'

const bounds = { first: 4, most: 100, wanted: 20_000, kept: 60_000, within: 60_000 }

async function read({ session, access }: Gateway, prefix = '/registry/') {
  const found: { key: string; size: number; head: string; whole: number }[] = []
  for await (const page of etcdValues(session, access, prefix, { bounds }))
    for (const one of page)
      found.push({
        key: one.key,
        size: one.size,
        head: Buffer.from(one.head(4)).toString().slice(0, 4),
        whole: one.all().length,
      })
  return found
}

test('every value comes once, big ones together too, and no page is kept that is longer than bounds', async t => {
  const values = new Map<string, Uint8Array>()
  for (let i = 0; i < 300; i++) values.set(`/registry/secrets/default/small-${i}`, Buffer.alloc(120, 'a'))
  // They lie together, after many small ones have made pages long; and one alone is longer than a page.
  for (let i = 0; i < 12; i++) values.set(`/registry/secrets/default/tall-${i}`, Buffer.alloc(9_000 + i, 'b'))
  values.set('/registry/secrets/default/tall-9-longest', Buffer.alloc(200_000, 'c'))
  values.set('/registry/secrets/default/tall-', Buffer.alloc(0))
  values.set('/registry/secretz', Buffer.alloc(1, 'd'))
  values.set('/registry0/not-below', Buffer.alloc(1, 'd'))
  const gateway = await gatewayOf(t, values)
  const found = await read(gateway)
  const expected = [...values].filter(([key]) => key.startsWith('/registry/'))
  t.deepEqual(
    found.map(({ key, size, whole }) => [key, size, whole]),
    expected
      .map(([key, value]) => [key, value.length, value.length] as [string, number, number])
      .sort((a, b) => (a[0] < b[0] ? -1 : 1)),
  )
  t.true(found.every(({ head, size }) => head === { b: 'bbbb', a: 'aaaa', c: 'cccc' }[head[0]!] || size < 4))
  t.true(gateway.asked.every(({ serializable, limit }) => serializable && limit <= 100))
  t.true(gateway.asked.some(({ limit }) => limit === 1))
  t.false(JSON.stringify(gateway.asked).includes('revision'))
  const one = await gatewayOf(t, values)
  for await (const _ of etcdValues(one.session, one.access, '/registry/secretz', { serializable: false }));
  t.deepEqual(
    one.asked.map(({ serializable }) => serializable),
    [false],
  )
})

test('an answer is read with whatever spaces it has, and one without values is empty', async t => {
  const values = new Map([1, 2, 3, 4, 5, 6].map(i => [`/registry/configmaps/a/${i}`, Buffer.from(`k8s\0${i}`)]))
  const spaced = await gatewayOf(t, values, answer => JSON.stringify(answer, null, '  ').replaceAll('":', '" :\n '))
  t.is((await read(spaced)).length, 6)
  t.deepEqual(await read(spaced, '/registry/secrets/'), [])
})

test('an etcd without its gateway, and one that is not there, are said', async t => {
  const gateway = await gatewayOf(t, new Map())
  const answers = await gatewayOf(t, new Map(), () => '{"kvs":[{"no":"key"}]}')
  t.like(await t.throwsAsync(read(answers)), { code: 'etcd.not-json' })
  const nobody = { ...gateway, access: { ...gateway.access, client: { tls: false, address: '127.0.0.1', port: 1 } } }
  t.like(await t.throwsAsync(read(nobody)), { code: 'etcd.no-range' })
})

test('values are counted by resource, namespace, provider, key and key id; those that nobody knows are named', async t => {
  const aescbc = (name: string) => Buffer.from(`k8s:enc:aescbc:v1:${name}:${'x'.repeat(50)}`)
  const v2 = (keyId: string) =>
    Buffer.concat([
      Buffer.from('k8s:enc:kms:v2:hsm:\x0a\xac\x10', 'latin1'),
      Buffer.alloc(2092, 1),
      Buffer.from([0x12, keyId.length]),
      Buffer.from(keyId),
    ])
  const values = new Map<string, Uint8Array>([
    ['/registry/secrets/a/one', aescbc('k:1')],
    ['/registry/secrets/a/two', aescbc('k:1')],
    ['/registry/secrets/a/three', aescbc('k')],
    ['/registry/secrets/b/one', v2('id-1')],
    ['/registry/secrets/b/two', v2('id-2')],
    ['/registry/secrets/b/three', Buffer.from('garbage')],
    ['/registry/configmaps/b/plain', Buffer.from('k8s\0plain')],
    ['/registry/example.com/widgets/b/plain', Buffer.from('{"a":1}')],
  ])
  const { session, access } = await gatewayOf(t, values)
  const tell = tellingApart([
    { kind: 'aescbc', name: 'k' },
    { kind: 'aescbc', name: 'k:1' },
  ])
  const { rows, values: counted } = await takeCensus(etcdValues(session, access, '/registry/'), '/registry/', tell)
  t.is(counted, 8)
  const key = (name: string) => ({ kind: 'key', provider: 'aescbc', name, known: true })
  const kms = (keyId: string) => ({ kind: 'kms', version: 'v2', name: 'hsm', known: false, keyId })
  t.deepEqual(
    rows.map(({ resource, namespace, stored, count }) => [resource, namespace, stored, count]),
    [
      ['configmaps', 'b', { kind: 'plain', form: 'protobuf' }, 1],
      ['widgets.example.com', 'b', { kind: 'plain', form: 'json' }, 1],
      ['secrets', 'a', key('k:1'), 2],
      ['secrets', 'a', key('k'), 1],
      ['secrets', 'b', kms('id-1'), 1],
      ['secrets', 'b', { kind: 'unknown', why: 'no API server writes what it begins with' }, 1],
      ['secrets', 'b', kms('id-2'), 1],
    ],
  )
  t.deepEqual(
    rows.flatMap(({ keys }) => keys),
    ['/registry/secrets/b/three'],
  )
})

test('a key says of which resource and namespace it is', t => {
  const at = (key: string) => Object.values(keptAt(key, '/registry/')).join(' in ')
  t.is(at('/registry/secrets/kube-system/token'), 'secrets in kube-system')
  t.is(at('/registry/minions/m1'), 'nodes')
  t.is(at('/registry/services/specs/default/kubernetes'), 'services in default')
  t.is(at('/registry/services/endpoints/default/kubernetes'), 'endpoints in default')
  t.is(at('/registry/apiregistration.k8s.io/apiservices/v1.apps'), 'apiservices.apiregistration.k8s.io')
  t.is(at('/registry/example.com/widgets/ns/w'), 'widgets.example.com in ns')
  t.is(at('/registry/clusterroles/system:node'), 'clusterroles.rbac.authorization.k8s.io')
  t.is(at('/registry/ingress/shop/front'), 'ingresses.networking.k8s.io in shop')
  t.is(keptAt('/kubernetes.io/secrets/a/b', '/kubernetes.io/').namespace, 'a')
})
