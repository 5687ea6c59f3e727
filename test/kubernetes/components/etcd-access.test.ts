// How etcd is reached and asked, on each of the layouts that it is found in.
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { etcdHealthy, etcdServes } from '../../../lib/kubernetes/components/etcd.ts'
import { etcdAccess, urlOf } from '../../../lib/kubernetes/components/etcd-access.ts'
import type { FoundComponent, HostLayout, NamedFile } from '../../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../../lib/kubernetes/layout/kubeadm/index.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { found, localHost, unit } from './_host.ts'

const file = (role: NamedFile['role'], path: string, key?: string): NamedFile => ({
  ...{ role, by: '--x', path, real: path },
  ...(key !== undefined && { key: { path: key, real: key } }),
})
const layout = (flags: Record<string, string>, files: NamedFile[] = [], apiServer?: FoundComponent): HostLayout => ({
  host: 'e1',
  components: {
    etcd: found({
      ...{ component: 'etcd', runs: unit('etcd'), files },
      flags: Object.fromEntries(Object.entries(flags).map(([name, value]) => [name, [value]])),
    }),
    ...(apiServer && { 'kube-apiserver': apiServer }),
  },
})

test('as kubeadm has it: loopback, its health port, its own client for health checks first', t => {
  const access = etcdAccess(kubeadmLayout('m1', true))
  t.is(urlOf(access.client), 'https://127.0.0.1:2379')
  t.deepEqual(access.metrics, { tls: false, address: '127.0.0.1', port: 2381 })
  t.is(access.ca, '/etc/kubernetes/pki/etcd/ca.crt')
  t.is(access.identities[0]?.certificate, '/etc/kubernetes/pki/etcd/healthcheck-client.crt')
  t.is(access.data, '/var/lib/etcd')
})

test('as Kubespray has it: no plain port, the identity that its environment names for etcdctl', t => {
  const access = etcdAccess(
    layout(
      {
        'listen-client-urls': 'https://10.0.0.5:2379,https://127.0.0.1:2379',
        'listen-peer-urls': 'https://10.0.0.5:2380',
        'data-dir': '/srv/etcd',
      },
      [
        file('serving', '/etc/ssl/etcd/ssl/member-e1.pem', '/etc/ssl/etcd/ssl/member-e1-key.pem'),
        file('client-ca', '/etc/ssl/etcd/ssl/ca.pem'),
        file('etcd-ca', '/etc/ssl/etcd/ssl/ca-of-etcdctl.pem'),
        file('etcd-client', '/etc/ssl/etcd/ssl/admin-e1.pem', '/etc/ssl/etcd/ssl/admin-e1-key.pem'),
      ],
    ),
  )
  t.is(urlOf(access.client), 'https://127.0.0.1:2379')
  t.is(urlOf(access.peer), 'https://10.0.0.5:2380')
  t.is(access.metrics, undefined)
  t.is(access.ca, '/etc/ssl/etcd/ssl/ca-of-etcdctl.pem')
  t.deepEqual(access.identities[0], {
    certificate: '/etc/ssl/etcd/ssl/admin-e1.pem',
    key: '/etc/ssl/etcd/ssl/admin-e1-key.pem',
  })
  t.is(access.identities.at(-1)?.certificate, '/etc/ssl/etcd/ssl/member-e1.pem')
  t.is(access.data, '/srv/etcd')
})

test('it is asked on loopback, by TLS where it has both there: kubeasz opens a port without, and only there', t => {
  const access = etcdAccess(layout({ 'listen-client-urls': 'https://10.0.0.5:2379,http://127.0.0.1:2379' }))
  t.is(urlOf(access.client), 'http://127.0.0.1:2379')
  const both = etcdAccess(layout({ 'listen-client-urls': 'http://127.0.0.1:2379,https://127.0.0.1:4001' }))
  t.is(urlOf(both.client), 'https://127.0.0.1:4001')
})

test('without TLS nobody is asked for anything', t => {
  const access = etcdAccess(layout({ 'listen-client-urls': 'http://127.0.0.1:2379' }, [file('client-ca', '/ca')]))
  t.like(access, { identities: [], ca: undefined })
})

test('where nothing is said, it is as etcd itself has it; where there is none, that is said', t => {
  t.is(urlOf(etcdAccess(layout({})).client), 'http://localhost:2379')
  t.is(urlOf(etcdAccess(layout({ 'listen-client-urls': 'http://[::1]:2379' })).client), 'http://[::1]:2379')
  t.throws<RekeyError>(() => etcdAccess({ host: 'n1', components: {} }), { code: 'etcd.none' })
})

test('one without a plain port is asked as a client whose files are there; a handshake alone is no answer', async t => {
  const { session, folder } = await localHost(t)
  const ca = await issue({ name: 'CN=etcd-ca', ca: true })
  const client = await issue({ name: 'CN=client', issuer: ca })
  const server = await issue({ name: 'CN=server', issuer: ca })
  const [certificate, key] = [join(folder, 'client.pem'), join(folder, 'client-key.pem')]
  writeFileSync(certificate, client.pem)
  writeFileSync(key, client.keyPem)
  let answers = false
  const options = { cert: server.pem, key: server.keyPem, ca: ca.pem, requestCert: true, rejectUnauthorized: true }
  const etcd = createTlsServer(options, (request, response) => {
    if (answers) response.end(request.url === '/health' ? '{"health":"true","reason":""}' : '{"etcdserver":"3.6.0"}')
    else request.socket.destroy()
  }).listen(0, '127.0.0.1')
  t.teardown(() => etcd.close())
  await new Promise(resolve => etcd.once('listening', resolve))
  const url = `https://127.0.0.1:${(etcd.address() as AddressInfo).port}`
  const access = etcdAccess(
    layout({ 'listen-client-urls': url, 'listen-peer-urls': url }, [
      file('etcd-client', '/none.pem', '/none-key.pem'),
      file('serving', certificate, key),
      file('peer', certificate, key),
    ]),
  )
  t.false(await etcdServes(session, access))
  t.false(await etcdHealthy(session, access))
  answers = true
  t.true(await etcdServes(session, access))
  t.true(await etcdHealthy(session, access))
  t.false(await etcdHealthy(session, { ...access, identities: [] }), 'it lets nobody else in')
  const gone = { ...access, identities: access.identities.slice(0, 1) }
  const error = await t.throwsAsync<RekeyError>(() => etcdHealthy(session, gone), { code: 'etcd.no-identity' })
  t.regex(error.message, /^m1 has no certificate that its etcd may be asked with: \/none\.pem$/)
  await t.throwsAsync(() => etcdServes(session, { ...access, peer: { ...access.peer, port: 1 } }))
})

test('one that is asked without TLS tells its health there', async t => {
  const { session } = await localHost(t)
  let health = 'false'
  const server = createServer((request, response) => {
    response.end(request.url === '/health' ? `{"health":"${health}"}` : '{}')
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const access = etcdAccess(layout({ 'listen-client-urls': url, 'listen-peer-urls': url }))
  t.false(await etcdHealthy(session, access))
  health = 'true'
  t.true(await etcdHealthy(session, access))
  t.true(await etcdServes(session, access))
})
