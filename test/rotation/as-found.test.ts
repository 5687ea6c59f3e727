// What is compared with what was found before a rotation, and what the inventory adds to it.
import 'reflect-metadata'
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { createServer } from 'node:tls'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import type { FoundComponent, HostLayout } from '../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../lib/kubernetes/layout/kubeadm/index.ts'
import type { MachineReading } from '../../lib/kubernetes/trust/machine.ts'
import type { StepContext } from '../../lib/playbook/model.ts'
import { keyOfBefore } from '../../lib/rotation/as-found/token-key.ts'
import { drift, extra, machineTrust, tokenKey } from '../../lib/rotation/index.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const ca = await issue({ name: 'CN=cluster', ca: true })
const etcdCa = await issue({ name: 'CN=etcd', ca: true })
const other = await issue({ name: 'CN=company', ca: true })
const leaf = async (issuer = ca) => (await issue({ name: 'CN=cni,O=network', issuer })).pem

const reading = (certificates: Record<string, string>, more: Partial<MachineReading> = {}): MachineReading => ({
  ...{ host: 'n1', nodeName: 'n1', controlPlane: false, certificates, kubeconfigs: {}, authority: ca.pem },
  ...more,
})
const asked = (...entries: Record<string, unknown>[]) => ({
  vars: { extra_certificates: extra.variables.extra_certificates.parse(entries) },
})
const old = { kubernetes: ca.pem, etcd: etcdCa.pem }

test('a certificate that the inventory names is issued with its names by the CA that signed it, once where hosts share it', async t => {
  const path = '/etc/calico/ssl/cert.pem'
  const shared = await leaf(etcdCa)
  const on = (host: string, pem: string) => reading({ [path]: pem }, { host })
  const ctx = asked({ path, key: '/etc/calico/ssl/key.pem', restart: ['calico.service'] })
  const specs = extra.specsOf(ctx, [on('n1', shared), on('n2', shared), on('n3', await leaf(etcdCa)), reading({})], old)
  t.deepEqual(
    specs.map(({ id, authority, hosts, commonName, organizations, place }) => ({
      id,
      authority,
      hosts,
      commonName,
      organizations,
      place,
    })),
    [['n1', 'n2'], ['n3']].map(hosts => ({
      ...{ id: 'extra-cert.pem', authority: 'etcd' as const, hosts, commonName: 'cni', organizations: ['network'] },
      place: { kind: 'pair' as const, certificate: path, key: '/etc/calico/ssl/key.pem' },
    })),
  )
})

test('one that no host has, or that somebody else signed, is refused by name', async t => {
  const missing = t.throws<RekeyError>(() => extra.specsOf(asked({ path: '/a.pem' }), [reading({})], old))
  t.is(missing?.message, 'no host has /a.pem, which extra_certificates names')
  const foreign = { '/a.pem': await leaf(other) }
  const error = t.throws<RekeyError>(() => extra.specsOf(asked({ path: '/a.pem' }), [reading(foreign)], old))
  t.is(error?.message, "none of the cluster's CAs signed n1:/a.pem, which extra_certificates names")
})

test('the owner and the mode that the inventory gives are those of the new files; the mode is the key’s', async t => {
  const files = { '/a.pem': { real: '/real/a.pem', mode: 0o640, owner: 'etcd:root' } }
  const given = extra.withOwners(
    asked({ path: '/a.pem', key: '/a.key', owner: 'cni:cni', mode: '0600' }),
    reading({ '/a.pem': await leaf() }, { files }),
  )
  t.deepEqual(given.files, {
    '/a.pem': { real: '/real/a.pem', mode: 0o640, owner: 'cni:cni' },
    '/a.key': { real: '/a.key', mode: 0o600, owner: 'cni:cni' },
  })
})

test('units are restarted where the certificate is, and what is restarted anyway is not restarted twice', async t => {
  const ran: string[] = []
  const context = (certificates: Record<string, string>) =>
    ({
      ...asked({ path: '/a.pem', restart: ['cni.service', 'kubelet'] }),
      host: { name: 'n1' },
      registered: () => reading(certificates),
      $: async (pieces: TemplateStringsArray, ...values: string[]) => {
        ran.push(String.raw(pieces, ...values))
        return { stdout: '', exitCode: 0 }
      },
    }) as unknown as StepContext<never>
  t.deepEqual(extra.restarted.plan?.(context({ '/a.pem': await leaf() })), ['systemctl restart cni.service'])
  t.false(await extra.restarted.when?.(context({})))
})

const withDrift = (sentence: string): HostLayout => {
  const layout = kubeadmLayout('m1', true)
  const { 'kube-scheduler': scheduler } = layout.components
  return {
    ...layout,
    components: { 'kube-scheduler': { ...scheduler, drift: [sentence], endpoints: [] } as FoundComponent },
  }
}
const drifted = (accept: string[]) =>
  ({
    vars: { accept },
    host: { name: 'm1' },
    log: () => {},
    registered: () =>
      reading({}, { host: 'm1', layout: withDrift('the manifest has --v=4, and its process does not') }),
  }) as unknown as StepContext<{ accept: string[] }>

test('what was changed and not restarted is refused, and told where it is accepted', async t => {
  const error = await t.throwsAsync<RekeyError>(async () => drift.compare.run(drifted([])))
  t.is(error?.code, 'preflight.drift')
  t.is(
    error?.message,
    'somebody changed what is not in use yet: kube-scheduler of m1: the manifest has --v=4, and its process does not',
  )
  t.regex(error?.hint ?? '', /accept: \[drift\/m1\/kube-scheduler\]/)
  t.deepEqual(await drift.compare.run(drifted(['drift/m1/*'])), [
    'kube-scheduler of m1: the manifest has --v=4, and its process does not',
  ])
})

async function connected(port: number, address: string) {
  const socket = connect(port, address)
  await once(socket, 'connect')
  return socket
}

test('a port that presents another certificate than its file has now is told, and is no reason to stop', async t => {
  const [before, now] = await Promise.all(['CN=before', 'CN=now'].map(name => issue({ name, issuer: etcdCa })))
  const server = createServer({ cert: before!.pem, key: before!.keyPem })
  t.teardown(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const path = '/etc/ssl/etcd/ssl/member-m1.pem'
  const etcd: FoundComponent = {
    ...(kubeadmLayout('m1', true).components.etcd as FoundComponent),
    endpoints: [
      { address: '127.0.0.1', port, role: 'serving' },
      // Nobody listens there: what is down is another check's.
      { address: '127.0.0.1', port: 1, role: 'serving' },
    ],
    files: [{ role: 'serving', by: 'ETCD_CERT_FILE', path, real: path }],
    drift: [],
  }
  const told = (lies: string) =>
    drift.compare.run({
      ...drifted([]),
      forward: (address: string, asked: number) => connected(asked, address),
      registered: () => reading({ [path]: lies }, { host: 'm1', layout: { host: 'm1', components: { etcd } } }),
    } as unknown as StepContext<{ accept: string[] }>)
  t.deepEqual(await told(now!.pem), [
    `etcd on m1:${port} presents another certificate than ${path} has: that was written after it started, and it was not restarted`,
  ])
  t.deepEqual(await told(before!.pem), [])
})

test('where the CA’s own key signs tokens, API servers are to know the old one as well; where they have a key of their own, not', t => {
  const apiServer = kubeadmLayout('m1', true).components['kube-apiserver'] as FoundComponent
  const file = '/etc/kubernetes/ssl/ca.pem'
  const layout: HostLayout = {
    host: 'm1',
    components: {
      'kube-apiserver': {
        ...apiServer,
        flags: { 'service-account-key-file': [file] },
        files: [
          { role: 'client-ca', by: '--client-ca-file', path: file, real: file },
          { role: 'service-account-verify', by: '--service-account-key-file', path: file, real: file },
        ],
      },
    },
  }
  const found = reading({ [file]: ca.pem })
  t.deepEqual(keyOfBefore(found, layout), [
    { path: '/etc/kubernetes/ssl/service-account-before.pem', content: ca.pem, mode: 0o644 },
  ])
  t.deepEqual(keyOfBefore(found, kubeadmLayout('m1', true)), [])
  const context = (rotate: boolean) =>
    ({
      vars: { rotate_service_account_keys: rotate },
      host: { name: 'm1' },
      registered: () => ({ ...found, layout }),
    }) as unknown as StepContext<{ rotate_service_account_keys: boolean }>
  t.true(tokenKey.known.when?.(context(false)))
  t.false(tokenKey.known.when?.(context(true)))
})

test('a machine that trusts a CA in all it does is seen to take the new one, and to have forgotten the old one; else that is told', async t => {
  const path = '/usr/local/share/ca-certificates/etcd-ca.crt'
  const planned = { oldAuthorities: old, authorityCopies: { n1: [{ real: path, authorities: ['etcd'] }] } }
  const context = (bundle: string, code = 0, host = 'n1') =>
    ({
      host: { name: host },
      log: () => {},
      registered: () => planned,
      files: { readText: async () => other.pem },
      $: () => async (pieces: TemplateStringsArray) =>
        pieces[0] === 'cat ' ? { stdout: bundle, exitCode: 1 } : { stdout: '', exitCode: code },
    }) as unknown as StepContext<never>
  const seen = async (...[bundle, code]: [string, number?]) =>
    machineTrust.follow.run(context(bundle, code)) as Promise<string[]>
  t.deepEqual(await seen(other.pem), [])
  const told = [`n1 does not trust what is in ${path} now, or more than that`]
  t.deepEqual(await seen(''), told)
  t.deepEqual(await seen(other.pem + etcdCa.pem), told)
  t.deepEqual(await seen(other.pem, 127), told)
  t.false(await machineTrust.follow.when?.(context('', 0, 'n2')))
})
