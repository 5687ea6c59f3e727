// The census: certificates found in files and on ports, and what is said of them.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import { remoteFiles } from '../../../lib/connection/files.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import type { KubernetesApi, KubernetesObject } from '../../../lib/kubernetes/api/api.ts'
import {
  apiCertificates,
  type CensusEntry,
  endpointsOf,
  fileCertificates,
  judgeCensus,
  nodeAddress,
  servedCertificates,
} from '../../../lib/kubernetes/trust/certificate-census.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-census-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const noNotice = (text: string) => {
  throw new Error(text)
}
const day = 86_400_000

/** This machine, as the host `m1`. */
async function thisMachine(): Promise<HostSession> {
  const settings = {
    kind: 'local',
    address: '127.0.0.1',
    port: 22,
    user: 'me',
    hostKeyChecking: 'yes',
    connectTimeout: 5,
  } as const
  const connection = await connect('m1', settings)
  const host = { name: 'm1', groups: [], vars: {}, connection: settings }
  return {
    host,
    $: remoteShell(connection),
    files: remoteFiles(connection),
    forward: (address, port) => connection.forward(address, port),
  }
}

function entry(where: string, { pem }: { pem: string }, more: Partial<CensusEntry> = {}): CensusEntry {
  const [host, place] = where.split(':')
  return { where, kind: 'file', host, place, component: 'x', facts: parseCertificate(pem), ...more }
}

test.serial(
  'finds every certificate, whatever its file is called, of kubeconfigs, and behind links, and takes no key along',
  async t => {
    const ca = await issue({ name: 'CN=kubernetes', ca: true })
    const leaf = await issue({ name: 'CN=leaf', issuer: ca })
    const pki = join(folder, 'files')
    mkdirSync(join(pki, 'pki'), { recursive: true })
    writeFileSync(join(pki, 'pki/apiserver.crt'), leaf.pem + ca.pem)
    writeFileSync(join(pki, 'pki/apiserver.key'), leaf.keyPem)
    writeFileSync(join(pki, 'pki/kubelet-client-2026.pem'), leaf.pem + leaf.keyPem)
    symlinkSync(join(pki, 'pki/kubelet-client-2026.pem'), join(pki, 'pki/kubelet-client-current.pem'))
    const blob = (text: string) => Buffer.from(text).toString('base64')
    writeFileSync(
      join(pki, 'admin.conf'),
      `apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\nclusters:\n- name: c\n  cluster:\n    server: https://x\n    certificate-authority-data: ${blob(ca.pem)}\nusers:\n- name: u\n  user:\n    client-certificate-data: ${blob(leaf.pem)}\n    client-key-data: ${blob(leaf.keyPem)}\n`,
    )
    writeFileSync(join(pki, 'other.conf'), 'nothing: here\n')
    // As a kubelet made by hand has it, and as the API server's own configuration has it.
    writeFileSync(
      join(pki, 'kubeconfig'),
      `{"clusters":[{"cluster":{"certificate-authority-data":"${blob(ca.pem)}"}}],"users":[{"user":{"client-key-data":"${blob(leaf.keyPem)}"}}]}`,
    )
    writeFileSync(
      join(pki, 'authentication.yaml'),
      `jwt:\n- issuer:\n    certificateAuthority: |\n${ca.pem.replaceAll(/^/gm, '      ')}`,
    )
    const machine = await thisMachine()
    const said: string[] = []
    const $ =
      (options: object) =>
      async (pieces: TemplateStringsArray, ...values: string[]) => {
        const result = await machine.$(options)(pieces, ...values)
        said.push(result.stdout)
        return result
      }
    const session = { ...machine, $ } as unknown as HostSession
    const told: string[] = []
    const all = await fileCertificates(session, text => void told.push(text), [pki, join(folder, 'not-there')])
    t.deepEqual(told, [`m1: there is no folder ${join(folder, 'not-there')}`])
    const found = all.filter(({ where }) => where.startsWith(`m1:${pki}`))
    t.deepEqual(
      found.map(({ where, facts }) => `${where.slice(`m1:${pki}`.length)} ${facts.commonName}`),
      [
        '/admin.conf kubernetes',
        '/admin.conf leaf',
        '/authentication.yaml kubernetes',
        '/kubeconfig kubernetes',
        '/pki/apiserver.crt leaf',
        '/pki/apiserver.crt kubernetes',
        '/pki/kubelet-client-2026.pem leaf',
        '/pki/kubelet-client-current.pem leaf',
      ],
    )
    t.true(said.join().includes('BEGIN CERTIFICATE'))
    t.notRegex(said.join(), /PRIVATE KEY|client-key-data/)
  },
)

const asRoot = process.getuid?.() === 0 ? test.serial : test.skip
asRoot('tells what it may not read, and goes on', async t => {
  const pki = join(folder, 'closed')
  mkdirSync(pki)
  chmodSync(folder, 0o755)
  const { pem } = await issue({ name: 'CN=a' })
  writeFileSync(join(pki, 'open.crt'), pem)
  writeFileSync(join(pki, 'closed.crt'), pem, { mode: 0o600 })
  const machine = await thisMachine()
  const $ = (options: object) => (_: TemplateStringsArray, script: string) =>
    machine.$(options)`setpriv --reuid 65534 --clear-groups sh -c ${script}`
  const told: string[] = []
  const found = await fileCertificates({ ...machine, $ } as unknown as HostSession, text => void told.push(text), [pki])
  t.true(found.some(({ place }) => place === join(pki, 'open.crt')))
  t.regex(told.join('\n'), /m1: not everything may be read \(.*Permission denied.*\): .*; try --become/)
})

test.serial('tells what a port serves from memory apart from what its file holds', async t => {
  const ca = await issue({ name: 'CN=kubernetes', ca: true })
  const [old, next] = [await issue({ name: 'CN=a', issuer: ca }), await issue({ name: 'CN=a', issuer: ca })]
  const server = createServer({ cert: old.pem, key: old.keyPem })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  t.teardown(() => server.close())
  const endpoint = { address: '127.0.0.1', port, component: 'kubelet', authority: 'kubernetes', files: [] } as const
  const closed = { ...endpoint, port: 1 }
  const served = await servedCertificates(await thisMachine(), noNotice, [endpoint, closed])
  t.deepEqual(
    served.map(one => one.facts.fingerprint),
    [parseCertificate(old.pem).fingerprint],
  )

  const asKubelet = { ...served[0]!, place: '10250', where: 'm1:10250' }
  const file = (issued: Issued) => entry('m1:/var/lib/kubelet/pki/kubelet.crt', issued)
  const judge = (issued: Issued) =>
    judgeCensus([asKubelet, file(issued), entry('m1:/etc/kubernetes/pki/ca.crt', ca)], { within: 0 })
  t.deepEqual(
    judge(old).flatMap(one => one.problems),
    [],
  )
  const [first] = judge(next)
  t.is(first!.where, 'm1:10250')
  t.deepEqual(first!.problems, [
    'is not what /var/lib/kubelet/pki/kubelet.crt holds: the component has not read that yet',
  ])
  // Where nobody knows by name which file a component serves from.
  const elsewhere = (issued: Issued) =>
    judgeCensus([asKubelet, entry('m1:/opt/tls/node.pem', issued), entry('m1:/etc/etcd/ca.pem', ca)], { within: 0 })
  t.deepEqual(
    elsewhere(old).flatMap(one => one.problems),
    [],
  )
  t.deepEqual(elsewhere(next)[0]!.problems, [
    'lies in no file of this machine: the component has not read yet what is there now',
  ])
})

test.serial(
  'finds what the API keeps: published CAs, Secrets, kubeconfigs in ConfigMaps, webhooks, conversions',
  async t => {
    const [ca, other] = [
      await issue({ name: 'CN=kubernetes', ca: true }),
      await issue({ name: 'CN=webhook', ca: true }),
    ]
    const leaf = await issue({ name: 'CN=ingress', issuer: other })
    const blob = ({ pem }: Issued) => Buffer.from(pem).toString('base64')
    const objects: Record<string, Partial<KubernetesObject>[]> = {
      configmaps: [
        { metadata: { namespace: 'default', name: 'kube-root-ca.crt' }, data: { 'ca.crt': ca.pem } },
        {
          metadata: { namespace: 'kube-public', name: 'cluster-info' },
          data: { kubeconfig: `clusters:\n- cluster:\n    certificate-authority-data: ${blob(ca)}\n` },
        },
        { metadata: { namespace: 'default', name: 'other' }, data: { text: 'nothing' } },
      ],
      secrets: [
        { metadata: { namespace: 'a', name: 'token' }, data: { 'ca.crt': blob(ca), token: 'x' } },
        { metadata: { namespace: 'a', name: 'tls' }, data: { 'tls.crt': blob(leaf), 'tls.key': 'x' } },
        { metadata: { namespace: 'monitoring', name: 'etcd-client' }, type: 'Opaque', data: { any: blob(leaf) } },
        { metadata: { namespace: 'a', name: 'password' }, data: { password: 'eA==' } },
      ],
      validatingwebhookconfigurations: [
        { metadata: { name: 'hook' }, webhooks: [{ clientConfig: { caBundle: blob(other) } }, { clientConfig: {} }] },
      ],
      customresourcedefinitions: [
        { metadata: { name: 'crd' }, spec: { conversion: { webhook: { clientConfig: { caBundle: blob(other) } } } } },
      ],
    }
    const api = {
      list: async (path: string) => objects[Object.keys(objects).find(name => path.includes(name)) ?? ''] ?? [],
    } as unknown as KubernetesApi
    const found = await apiCertificates(api, noNotice)
    t.deepEqual(
      found.map(({ where, facts }) => `${where} ${facts.commonName}`),
      [
        'ConfigMap default/kube-root-ca.crt kubernetes',
        'ConfigMap kube-public/cluster-info kubernetes',
        'Secret a/token kubernetes',
        'Secret a/tls ingress',
        'Secret monitoring/etcd-client ingress',
        'ValidatingWebhookConfiguration hook webhook',
        'CustomResourceDefinition crd webhook',
      ],
    )
  },
)

test.serial('says what is due, what has ended, and whose CA is nowhere; what is due or wrong comes first', async t => {
  const ca = await issue({ name: 'CN=kubernetes', ca: true, notAfter: new Date(Date.now() + 1000 * day) })
  const leaf = (days: number) =>
    issue({ name: 'CN=x', issuer: ca, notAfter: new Date(Date.now() + days * day + 60_000) })
  const gone = await issue({ name: 'CN=gone', ca: true })
  const expired = await issue({ name: 'CN=x', issuer: ca, notBefore: new Date(0), notAfter: new Date(1000) })
  const judged = judgeCensus(
    [
      entry('m1:/etc/kubernetes/pki/ca.crt', ca),
      entry('m1:/later', await leaf(400)),
      entry('m1:/soon', await leaf(10)),
      entry('m1:/orphan', await issue({ name: 'CN=y', issuer: gone, notAfter: new Date(Date.now() + 500 * day) })),
      entry('m1:/self', await issue({ name: 'CN=self', notAfter: new Date(Date.now() + 600 * day) })),
      entry('m1:/expired', expired),
    ],
    { within: 30 * day },
  )
  t.deepEqual(
    judged.map(({ where, due, problems }) => [where, due, problems.join()]),
    [
      ['m1:/expired', true, 'expired'],
      ['m1:/soon', true, ''],
      ['m1:/orphan', false, 'was issued by "CN=gone", and that CA is nowhere'],
      ['m1:/self', false, 'is self-signed: nobody can verify it'],
      ['m1:/later', false, ''],
      ['m1:/etc/kubernetes/pki/ca.crt', false, ''],
    ],
  )
  t.is(judged.find(one => one.where === 'm1:/soon')!.daysLeft, 10)
  t.is(judged.find(one => one.where === 'm1:/soon')!.issuerFingerprint, parseCertificate(ca.pem).fingerprint)
})

test.serial(
  'after a rotation a copy of the old CA in the API is found, and a leaf of the old CA of the same name too',
  async t => {
    const [old, next] = [
      await issue({ name: 'CN=kubernetes', ca: true }),
      await issue({ name: 'CN=kubernetes', ca: true }),
    ]
    const inApi = (where: string, issued: Issued) =>
      entry(where, issued, { kind: 'api', host: undefined, place: undefined })
    const judged = judgeCensus(
      [
        entry('m1:/etc/kubernetes/pki/ca.crt', next),
        entry('m1:/new', await issue({ name: 'CN=x', issuer: next })),
        entry('m1:/old', await issue({ name: 'CN=x', issuer: old })),
        inApi('ConfigMap default/kube-root-ca.crt', next),
        inApi('ConfigMap kube-public/cluster-info', old),
        inApi('ValidatingWebhookConfiguration hook', await issue({ name: 'CN=hook', ca: true })),
      ],
      { within: 0 },
    )
    const problems = Object.fromEntries(judged.map(({ where, problems }) => [where, problems.join()]))
    t.deepEqual(problems, {
      'm1:/etc/kubernetes/pki/ca.crt': '',
      'm1:/new': '',
      'm1:/old': 'is of a CA that no master trusts',
      'ConfigMap default/kube-root-ca.crt': '',
      'ConfigMap kube-public/cluster-info': 'is a copy of a CA that no master has',
      'ValidatingWebhookConfiguration hook': '',
    })
  },
)

test.serial("etcd's peers are looked for on the address that the API has for the node", async t => {
  const node = (name: string, address: string) => ({
    metadata: { name },
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
    },
  })
  const nodes = [node('m1.example.org', '10.0.0.1'), node('m2', '10.0.0.2')]
  const machine = (name: string, address: string, hostname: string) => ({
    host: { name, groups: [], vars: { node_ip: '10.0.0.9' }, connection: { address } },
    $: async () => ({ stdout: `${hostname}\n` }),
  })
  const addressOf = (...of: [string, string, string]) =>
    nodeAddress(machine(...of) as unknown as Parameters<typeof nodeAddress>[0], nodes)
  t.is(await addressOf('m2', 'bastion', 'x'), '10.0.0.2')
  t.is(await addressOf('first', '10.0.0.1', 'x'), '10.0.0.1')
  t.is(await addressOf('first', '192.0.2.1', 'm1.example.org'), '10.0.0.1')
  t.is(await addressOf('lb', '192.0.2.9', 'lb'), undefined)
  const host = machine('m2', 'bastion', 'x').host as unknown as Parameters<typeof endpointsOf>[0]
  const peers = (address?: string) => endpointsOf(host, address).find(({ port }) => port === 2380)?.address
  t.deepEqual([peers('10.0.0.2'), peers()], ['10.0.0.2', '10.0.0.9'])
})
