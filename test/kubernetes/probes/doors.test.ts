// Whether a server knows who asks, by what it answers: servers of this process that answer as those of a cluster do.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import type { KubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import { doorOf, etcdDoors, extensionDoors, isKnown } from '../../../lib/kubernetes/probes/doors.ts'
import { signClientCertificate } from '../../../lib/pki/issuer/client-certificate.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { listener, refusal } from './_server.ts'

let authority: Issued
let listen: Awaited<ReturnType<typeof listener>>

test.before(async () => {
  authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  listen = await listener(authority)
})

const visitor = async (of: Issued, user = 'rekey-probe') => ({
  credential: await signClientCertificate({ authority: of.pem, key: of.keyPem, commonName: 'front-proxy-client' }),
  user,
  headers: { 'X-Remote-User': user },
})

test('a server that refuses somebody by name knows them, and one that says 401 does not', async t => {
  const { door, close } = await listen(refusal)
  t.true(await isKnown(door(), await visitor(authority)))
  const another = await issue({ name: 'CN=front-proxy-ca', ca: true })
  t.false(await isKnown(door(), await visitor(another)), 'of another CA with the same name')
  close()
})

test('one that takes them for nobody does not know them', async t => {
  const { door, close } = await listen(refusal, refusal('system:anonymous'))
  t.false(await isKnown(door(), await visitor(await issue({ name: 'CN=other', ca: true }))))
  close()
})

test('somebody whose name begins alike is somebody else', async t => {
  const { door, close } = await listen(user => refusal(`${user}-2`))
  t.false(await isKnown(door(), await visitor(authority)))
  close()
})

test('what it is asked goes to it whole', async t => {
  const { door, seen, close } = await listen(user => [
    201,
    JSON.stringify({ status: { userInfo: { username: user } } }),
  ])
  const question = { method: 'POST', path: '/who', body: { kind: 'SelfSubjectReview' } } as const
  t.true(await isKnown(door(question), await visitor(authority)))
  t.deepEqual(seen, [{ method: 'POST', path: '/who', body: '{"kind":"SelfSubjectReview"}' }])
  close()
})

test('a server that is not there is said by its place', async t => {
  const { door, close, port } = await listen(refusal)
  close()
  const error = await t.throwsAsync<RekeyError>(isKnown(door(), await visitor(authority)))
  t.is(error?.code, 'ask.no-answer')
  t.regex(error?.message ?? '', new RegExp(`^m1:${port} does not answer: .*ECONNREFUSED`))
})

test('a host without a component has no door of it', t => {
  t.is(doorOf({} as HostSession, { host: 'm1', components: {} }, 'kube-scheduler'), undefined)
})

test('extension API servers are asked at each address behind their service, by the port that it leads to', async t => {
  const services = [
    { metadata: { name: 'v1.apps' }, spec: { group: 'apps', version: 'v1' } },
    {
      metadata: { name: 'v1beta1.metrics.k8s.io' },
      spec: { group: 'metrics.k8s.io', version: 'v1beta1', service: { namespace: 'kube-system', name: 'metrics' } },
    },
  ]
  const slice = {
    metadata: { name: 'metrics-x' },
    ports: [
      { name: 'health', port: 8080 },
      { name: 'https', port: 10250 },
    ],
    endpoints: [
      { addresses: ['10.0.0.7'], conditions: { ready: true } },
      { addresses: ['10.0.0.8'], conditions: { ready: false } },
      { addresses: ['10.0.0.9'] },
    ],
  }
  const api = {
    each: async function* () {
      yield* services
    },
    get: async () => ({ metadata: { name: 'metrics' }, spec: { ports: [{ name: 'https', port: 443 }] } }),
    list: async () => [slice],
  } as unknown as KubernetesApi
  const asked: string[] = []
  const session = { forward: async (address: string, port: number) => asked.push(`${address}:${port}`) }
  const doors = await extensionDoors(session as unknown as HostSession, api)
  for (const { open } of doors) await open()
  t.deepEqual(asked, ['10.0.0.7:10250', '10.0.0.9:10250'])
  t.is(doors[0]?.where, 'extension API server v1beta1.metrics.k8s.io at 10.0.0.7')
  t.is(doors[0]?.question.path, '/apis/metrics.k8s.io/v1beta1/rekey-probe')
})

/** A server that takes only certificates of a CA, and says in the handshake when it does not, as etcd does; its port. */
async function takingOnly(t: ExecutionContext, { pem }: Issued): Promise<number> {
  const folder = temporaryFolder('doors')
  const own = await issue({ name: 'CN=localhost' })
  writeFileSync(join(folder, 'ca.crt'), pem)
  writeFileSync(join(folder, 'own.crt'), own.pem)
  writeFileSync(join(folder, 'own.key'), own.keyPem)
  const words = '-accept 127.0.0.1:0 -www -Verify 1 -verify_return_error -CAfile ca.crt -cert own.crt -key own.key'
  const server = spawn('openssl', ['s_server', ...words.split(' ')], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.teardown(() => server.kill('SIGKILL'))
  let said = ''
  while (!/ACCEPT \S+:\d+/.test(said)) said += String((await once(server.stdout!, 'data'))[0])
  return Number(/ACCEPT \S+:(\d+)/.exec(said)?.[1])
}

test('a member of etcd is asked at both of its ports, and knows whoever it takes in the handshake', async t => {
  const [port, peer] = await Promise.all([takingOnly(t, authority), takingOnly(t, authority)])
  const session = {
    host: { name: 'e1' },
    forward: async (address: string, at: number) => connect(at, address),
  } as unknown as HostSession
  const flags = {
    'listen-client-urls': [`https://127.0.0.1:${port}`],
    'listen-peer-urls': [`https://127.0.0.1:${peer}`],
  }
  const doors = etcdDoors(session, {
    host: 'e1',
    components: { etcd: { component: 'etcd', flags, files: [] } },
  } as never)
  t.deepEqual(
    doors.map(({ where, place }) => [where, place]),
    [
      ['etcd of e1', `e1:${port}`],
      ['etcd of e1 (peers)', `e1:${peer}`],
    ],
  )
  const another = await issue({ name: 'CN=front-proxy-ca', ca: true })
  for (const door of doors) {
    t.true(await isKnown(door, await visitor(authority)))
    t.false(await isKnown(door, await visitor(another)), 'of another CA with the same name')
    const gone = { ...door, open: async () => connect(1, '127.0.0.1') }
    await t.throwsAsync(isKnown(gone, await visitor(authority)), { code: 'ask.no-answer' }, 'that is no refusal')
  }
})

test('a member of etcd that also listens without TLS on loopback is asked where it listens with it', t => {
  const flags = {
    'listen-client-urls': ['https://10.0.0.1:2379,http://127.0.0.1:2379'],
    'listen-peer-urls': ['https://10.0.0.1:2380'],
  }
  const layout = { host: 'e1', components: { etcd: { component: 'etcd', flags, files: [] } } } as never
  t.deepEqual(
    etcdDoors({ host: { name: 'e1' } } as never, layout).map(({ where }) => where),
    ['etcd of e1', 'etcd of e1 (peers)'],
  )
})

test('a member of etcd that listens without TLS knows nobody', t => {
  const flags = { 'listen-client-urls': ['http://127.0.0.1:2379'], 'listen-peer-urls': ['http://127.0.0.1:2380'] }
  const layout = { host: 'e1', components: { etcd: { component: 'etcd', flags, files: [] } } } as never
  t.deepEqual(etcdDoors({ host: { name: 'e1' } } as never, layout), [])
})
