// Audit logs: who came by which certificate, and who of them comes by one of a CA that is on its way out.
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type AuditedClient, auditLogOf } from '../../../lib/kubernetes/keysets/audit-log.ts'
import { describeClient, oldClientsOf } from '../../../lib/kubernetes/keysets/old-clients.ts'
import type { HostLayout } from '../../../lib/kubernetes/layout/host-layout.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { type Keyset, keysetsOf } from '../../../lib/pki/keyset.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { localSession } from '../_local.ts'

const hour = 3_600_000
const now = Date.now()
const at = (hours: number) => new Date(now + hours * hour)

const authority = (begins: number) =>
  issue({ name: 'CN=kubernetes', ca: true, notBefore: at(begins), notAfter: at(1_000) })
const [old, next, etcd] = (await Promise.all([
  authority(-100),
  authority(-50),
  issue({ name: 'CN=etcd', ca: true }),
])) as [Issued, Issued, Issued]
const event = (user: string, credential: string, more: object = {}) =>
  JSON.stringify({
    ...{ kind: 'Event', level: 'Metadata', requestURI: '/api', verb: 'get' },
    user: { username: user, extra: { 'authentication.kubernetes.io/credential-id': [credential] } },
    ...{ sourceIPs: ['10.0.0.7', '10.0.0.8'], userAgent: 'kubectl/v1 "x"' },
    ...more,
    requestReceivedTimestamp: at(0).toISOString(),
  })

function layoutOf(path: string | undefined): HostLayout {
  const flags: Record<string, string[]> = path === undefined ? {} : { 'audit-log-path': [path] }
  const server = {
    component: 'kube-apiserver',
    runs: { kind: 'pod' },
    processes: [process.pid],
    files: [],
    endpoints: [],
    drift: [],
  } as const
  return { host: 'm1', components: { 'kube-apiserver': { ...server, flags } } }
}

const [one, two] = ['1'.repeat(64), '2'.repeat(64)]

test('a log tells who came by certificates, how often and when last; tokens, and what is asked for, count for nothing', async t => {
  const path = join(temporaryFolder('audit'), 'audit.log')
  const lines = [
    event('jane', `X509SHA256=${one}`),
    event('jane', `X509SHA256=${one}`),
    event('a:b "c"\\\t', `X509SHA256=${two}`),
    event('system:serviceaccount:a:b', 'JTI=1'),
    // The body of somebody who reviews credentials.
    event('reviewer', 'JTI=2', {
      responseObject: { 'authentication.kubernetes.io/credential-id': [`X509SHA256=${two}`] },
    }),
  ]
  writeFileSync(path, `"cut off","username":"x"}\n${lines.join('\n')}\nno JSON\n`)
  const missed: string[] = []
  const log = await auditLogOf(await localSession(), layoutOf(path), text => missed.push(text))
  t.deepEqual(missed, [])
  t.is(log?.since?.getTime(), now)
  const told = log!.clients.toSorted((a, b) => a.fingerprint.localeCompare(b.fingerprint))
  const same = { agent: 'kubectl/v1 "x"', address: '10.0.0.7', last: at(0) }
  t.deepEqual(told, [
    { fingerprint: one, user: 'jane', count: 2, ...same },
    { fingerprint: two, user: 'a:b "c"\\\t', count: 1, ...same },
  ])
})

test('the file of before is read where that of now is short; what is none, or can’t be read, is said', async t => {
  const folder = temporaryFolder('audit')
  const path = join(folder, 'audit.log')
  writeFileSync(join(folder, 'audit-2026-01-01T00-00-00.000.log'), `${event('long ago', `X509SHA256=${two}`)}\n`)
  writeFileSync(join(folder, 'audit-2026-02-01T00-00-00.000.log'), `${event('joe', `X509SHA256=${two}`)}\n`)
  appendFileSync(path, `${event('jane', `X509SHA256=${one}`)}\n`)
  const missed: string[] = []
  const read = async (layout: HostLayout) => auditLogOf(await localSession(), layout, text => missed.push(text))
  t.deepEqual((await read(layoutOf(path)))?.clients.map(({ user }) => user).sort(), ['jane', 'joe'])
  t.is(await read(layoutOf(undefined)), undefined)
  t.is(await read(layoutOf('-')), undefined)
  t.deepEqual(missed, [])
  t.is(await read(layoutOf(join(folder, 'none.log'))), undefined)
  t.deepEqual(missed, [`m1: the audit log of its API server (${folder}/none.log) can't be read`])
})

const leaf = async (issuer: Issued, name: string, begins: number) => {
  const { pem } = await issue({ name: `CN=${name}`, issuer, notBefore: at(begins), notAfter: at(900) })
  return parseCertificate(pem)
}
const fingerprintOf = ({ fingerprint }: { fingerprint: string }) => fingerprint.replaceAll(':', '').toLowerCase()

function setOf(...trusted: Issued[]): Keyset {
  const held = (issued: Issued) => ({ key: publicKeyOf(issued.pem)!, certificate: parseCertificate(issued.pem) })
  const where = 'm1:/ca.crt'
  const truster = {
    where,
    host: 'm1',
    kind: 'component' as const,
    directions: ['servers' as const],
    holds: trusted.map(held),
  }
  const signs = { where, as: 'signs' as const, key: held(trusted[0]!).key }
  return keysetsOf({ 'kubernetes-ca': { trusters: [truster], uses: [signs] } })[0]!
}
const came = (user: string, fingerprint: string, hours: number): AuditedClient => ({
  ...{ user, fingerprint, agent: 'curl', address: '10.0.0.9', count: 1 },
  last: at(hours),
})

test('whoever came by a certificate of the CA of before is told, and whose certificate nobody knows, unless they have another one since', async t => {
  const [jane, kubelet, renewed, client] = await Promise.all([
    leaf(old, 'jane', -90),
    leaf(next, 'system:node:n1', -40),
    leaf(next, 'admin', -40),
    leaf(etcd, 'etcd-client', -90),
  ])
  const clients = [
    came('jane', fingerprintOf(jane), -1),
    came('system:node:n1', fingerprintOf(kubelet), -1),
    // The kubelet's of before, which is gone: used until it got another one, and a moment longer.
    came('system:node:n1', '3'.repeat(64), -39.9),
    came('admin', '4'.repeat(64), -2),
    came('rekey-probe', '5'.repeat(64), -1),
    came('ci', '6'.repeat(64), -60),
    came('etcd-client', fingerprintOf(client), -1),
  ]
  const logs = [
    { host: 'm1', clients },
    { host: 'm2', clients: [came('jane', fingerprintOf(jane), -3)] },
  ]
  const known = [jane, kubelet, renewed, client, parseCertificate(old.pem), parseCertificate(next.pem)]
  const found = oldClientsOf(setOf(next, old), logs, known)
  t.deepEqual(
    found.map(({ user, key, hosts }) => [user, key === publicKeyOf(old.pem) ? 'old' : key, hosts]),
    [
      ['jane', 'old', ['m1', 'm2']],
      ['admin', undefined, ['m1']],
      ['ci', undefined, ['m1']],
    ],
  )
  const minute = at(-1).toISOString().slice(0, 16)
  t.is(describeClient(found[0]!), `jane came to m1 and m2 (curl from 10.0.0.9, last at ${minute}Z)`)
  t.deepEqual(oldClientsOf(setOf(next), logs, known), [])
})
