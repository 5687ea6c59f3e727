// The census: certificates found in files and on ports, and what is said of them.
// Over 500 lines: what the census says of each kind of file, port and object, told by one small cluster.
import 'reflect-metadata'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createServer } from 'node:tls'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import { remoteFiles } from '../../../lib/connection/files.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { fileCertificates } from '../../../lib/kubernetes/census/files.ts'
import { type JudgedEntry, judgeCensus, knowsTrust } from '../../../lib/kubernetes/census/judge.ts'
import { apiCertificates } from '../../../lib/kubernetes/census/objects.ts'
import { endpointsOf, nodeAddress, servedCertificates } from '../../../lib/kubernetes/census/ports.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { ownMountsMissing, withOwnMounts } from '../../_mounts.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { startApiServer } from '../api/_api-server.ts'

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
  const $ = (options: object) => (_: TemplateStringsArray, script: string, folders: string[]) =>
    machine.$(options)`setpriv --reuid 65534 --clear-groups sh -c ${script} rekey ${folders}`
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
    const server = await startApiServer()
    t.teardown(server.close)
    const put = (namespace: string, kind: string, name: string, rest: object) =>
      server.put(`/api/v1/namespaces/${namespace}/${kind}`, { metadata: { name }, ...rest })
    put('default', 'configmaps', 'kube-root-ca.crt', { data: { 'ca.crt': ca.pem } })
    put('kube-public', 'configmaps', 'cluster-info', {
      data: {
        kubeconfig: `clusters:\n- cluster:\n    certificate-authority-data: ${blob(ca)}\n    server: https://10.0.0.1:6443\n`,
      },
    })
    put('default', 'configmaps', 'other', { data: { text: 'nothing' } })
    put('default', 'configmaps', 'json', { data: { text: JSON.stringify({ ca: other.pem, more: 1 }) } })
    put('a', 'secrets', 'token', {
      type: 'kubernetes.io/service-account-token',
      data: { 'ca.crt': blob(ca), token: 'x' },
    })
    put('a', 'secrets', 'tls', { data: { 'tls.crt': blob(leaf), 'tls.key': 'x' } })
    put('monitoring', 'secrets', 'etcd-client', { type: 'Opaque', data: { any: blob(leaf) } })
    put('a', 'secrets', 'helm', { type: 'helm.sh/release.v1', data: { release: blob(ca) } })
    put('capi', 'secrets', 'prod-ca', { type: 'cluster.x-k8s.io/secret', data: { 'tls.crt': blob(ca) } })
    put('a', 'secrets', 'password', { data: { password: 'eA==' } })
    server.put('/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', {
      metadata: { name: 'hook' },
      webhooks: [
        { name: 'a', clientConfig: { caBundle: Buffer.from(`# c\n${other.pem}${ca.pem}`).toString('base64') } },
        { name: 'b', clientConfig: {} },
      ],
    })
    server.put('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'crd' },
      spec: { conversion: { webhook: { clientConfig: { caBundle: blob(other) } } } },
    })
    const found = await apiCertificates(server.api, noNotice)
    t.deepEqual(
      found.map(({ where, facts, published, server, foreign }) =>
        [where, facts.commonName, published && 'published', server, foreign && 'foreign'].filter(Boolean).join(' '),
      ),
      [
        'ConfigMap default/json webhook',
        'ConfigMap default/kube-root-ca.crt kubernetes published',
        'ConfigMap kube-public/cluster-info kubernetes published https://10.0.0.1:6443',
        'Secret a/tls ingress',
        'Secret a/token kubernetes published',
        'Secret capi/prod-ca kubernetes foreign',
        'Secret monitoring/etcd-client ingress',
        'ValidatingWebhookConfiguration hook webhook',
        'ValidatingWebhookConfiguration hook kubernetes',
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
        { ...inApi('ConfigMap default/kube-root-ca.crt', next), published: true },
        { ...inApi('ConfigMap kube-public/cluster-info', old), published: true },
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

const told = (judged: readonly JudgedEntry[]) =>
  Object.fromEntries(
    judged.map(({ where, problems, stale }) => [where, `${stale ? 'STALE ' : ''}${problems.join('; ')}`]),
  )

test.serial('copies of a CA that no master trusts any more are told wherever somebody goes by them', async t => {
  const [old, next, company] = await Promise.all(
    ['kubernetes', 'kubernetes 2026-11-28', 'company'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const san = new SubjectAlternativeNameExtension([
    { type: 'dns', value: 'api.example.org' },
    { type: 'ip', value: '10.0.0.1' },
  ])
  const apiserver = await issue({ name: 'CN=kube-apiserver', issuer: next!, extensions: [san] })
  const admin = await issue({ name: 'CN=admin', issuer: old! })
  const inApi = (where: string, issued: Issued, more: Partial<CensusEntry> = {}) =>
    entry(where, issued, { kind: 'api', host: undefined, place: undefined, ...more })
  const inKubeconfig = (where: string, issued: Issued, server?: string) =>
    entry(where, issued, { embedded: true, server })
  const entries = [
    entry('m1:/etc/kubernetes/pki/ca.crt', next!, { uses: ['kube-apiserver client-ca-file'] }),
    entry('m1:6443', apiserver, { kind: 'served', component: 'kube-apiserver' }),
    entry('m1:/etc/kubernetes/pki/apiserver.crt', apiserver, { uses: ['kube-apiserver tls-cert-file'] }),
    entry('m1:/etc/kubernetes/pki/oidc-ca.crt', company!),
    entry('m1:/etc/kubernetes/pki/ca.crt.old', old!),
    entry('n1:/etc/kubernetes/pki/ca.crt', old!),
    inKubeconfig('m1:/root/.kube/config', old!, 'https://api.example.org:6443'),
    inKubeconfig('m1:/root/.kube/config#user', admin),
    inKubeconfig('m1:/home/ann/.kube/config', old!, 'https://other.example.org:6443'),
    inKubeconfig('m1:/home/bob/.kube/config', company!, 'https://10.0.0.1:6443'),
    inApi('ConfigMap a/kube-root-ca.crt', next!, { published: true }),
    inApi('ConfigMap kube-public/cluster-info', old!, { published: true }),
    inApi('ConfigMap shop/trust', old!),
    inApi('Secret shop/tls', company!),
    inApi('Secret shop/client', admin),
    inApi('Secret capi/prod-ca', old!, { foreign: true }),
    inApi('ValidatingWebhookConfiguration hook', old!),
    inApi('ValidatingWebhookConfiguration own', company!),
  ]
  t.true(knowsTrust(entries))
  t.deepEqual(told(judgeCensus(entries, { within: 0 })), {
    'm1:/etc/kubernetes/pki/ca.crt': '',
    'm1:6443': '',
    'm1:/etc/kubernetes/pki/apiserver.crt': '',
    'm1:/etc/kubernetes/pki/oidc-ca.crt': '',
    'm1:/etc/kubernetes/pki/ca.crt.old': 'is called like a CA of the cluster, and no master has it',
    'n1:/etc/kubernetes/pki/ca.crt': 'STALE is a CA that no master has',
    'm1:/root/.kube/config': 'STALE a kubeconfig trusts this cluster by it, and no master has it',
    'm1:/root/.kube/config#user': 'STALE is of a CA that no master trusts',
    'm1:/home/ann/.kube/config': '',
    'm1:/home/bob/.kube/config': 'STALE a kubeconfig trusts this cluster by it, and no master has it',
    'ConfigMap a/kube-root-ca.crt': '',
    'ConfigMap kube-public/cluster-info': 'STALE is a copy of a CA that no master has',
    'ConfigMap shop/trust': 'STALE is a copy of a CA that is called like the cluster’s, and that no master has',
    'Secret shop/tls': '',
    'Secret shop/client': 'STALE is of a CA that no master trusts',
    'Secret capi/prod-ca': '',
    'ValidatingWebhookConfiguration hook':
      'STALE is a copy of a CA that is called like the cluster’s, and that no master has',
    'ValidatingWebhookConfiguration own': '',
  })
  // Without a master nobody can tell.
  const withoutMasters = entries.filter(({ kind }) => kind === 'api')
  t.false(knowsTrust(withoutMasters))
  t.true(judgeCensus(withoutMasters, { within: 0 }).every(({ stale }) => !stale))
})

const blobOf = (text: string) => Buffer.from(text).toString('base64')

/** This machine with folders of its own mounted over those of the system, for one script. */
async function withMounts(mounts: Record<string, string>): Promise<{ session: HostSession; said: string[] }> {
  const machine = await thisMachine()
  const said: string[] = []
  const lines = Object.entries(mounts).map(([from, to]) => `mkdir -p ${to} 2>/dev/null; mount --bind ${from} ${to}`)
  const $ = (options: object) => async (_: TemplateStringsArray, script: string, folders: string[]) => {
    const inner = [...lines, 'exec sh -c "$@"'].join('\n')
    const result = await machine.$(options)`${withOwnMounts} sh -c ${inner} sh ${script} rekey ${folders}`
    said.push(result.stdout)
    return result
  }
  return { session: { ...machine, $ } as unknown as HostSession, said }
}

const mounting = ownMountsMissing() === undefined ? test.serial : test.skip
mounting(
  'kubeconfigs of everybody with a home are read, with what they lead to, and what kubectl remembers is not',
  async t => {
    const [ca, other] = await Promise.all(['kubernetes', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
    const ann = await issue({ name: 'CN=ann', issuer: ca! })
    const home = join(folder, 'homes')
    const write = (path: string, text: string) => {
      mkdirSync(dirname(join(home, path)), { recursive: true })
      writeFileSync(join(home, path), text)
    }
    const cluster = (name: string, fields: string) => `- name: ${name}\n  cluster:\n    ${fields}\n`
    write(
      'ann/.kube/config',
      `apiVersion: v1\nkind: Config\nclusters:\n${cluster('a', `certificate-authority-data: ${blobOf(ca!.pem)}\n    server: https://10.0.0.1:6443`)}${cluster('insecure', 'server: https://x')}${cluster('b', `server: https://other:6443\n    certificate-authority-data: ${blobOf(other!.pem)}`)}contexts:\n- context:\n    cluster: a\n    user: ann\n  name: a\nusers:\n- name: ann\n  user:\n    client-certificate-data: ${blobOf(ann.pem)}\n    client-key-data: ${blobOf(ann.keyPem)}\n    token: secret-token\n`,
    )
    write('ann/.kube/cache/discovery/ca.json', ca!.pem)
    write('ann/.kube/http-cache/ca', ca!.pem)
    write('ann/notes.pem', ca!.pem)
    // With paths, as clusters made by hand have them; relative ones, too.
    write(
      'bob/.kube/config',
      `clusters: [{cluster: {certificate-authority: ../pki/ca.pem, server: "https://10.0.0.2:6443"}, name: c}]\nusers: [{name: u, user: {client-certificate: ${join(home, 'bob/pki/bob.pem')}}}]\n`,
    )
    write('bob/pki/ca.pem', ca!.pem)
    write('bob/pki/bob.pem', ann.pem + ann.keyPem)
    const passwd = join(folder, 'passwd')
    writeFileSync(
      passwd,
      `root:x:0:0::${home}/nobody:/bin/sh\nann:x:1:1::${home}/ann:/bin/sh\nbob:x:2:2::${home}/bob:/bin/sh\nd:x:3:3::/:/bin/sh\nbroken\n`,
    )
    const { session, said } = await withMounts({ [passwd]: '/etc/passwd' })
    const found = (await fileCertificates(session, noNotice)).filter(({ place = '' }) => place.startsWith(home))
    t.deepEqual(
      found.map(({ place = '', facts, server, embedded }) => [
        place.slice(home.length),
        facts.commonName,
        server,
        embedded,
      ]),
      [
        ['/ann/.kube/config', 'kubernetes', 'https://10.0.0.1:6443', true],
        ['/ann/.kube/config', 'other', 'https://other:6443', true],
        ['/ann/.kube/config', 'ann', undefined, true],
        ['/bob/pki/bob.pem', 'ann', undefined, false],
        ['/bob/pki/ca.pem', 'kubernetes', 'https://10.0.0.2:6443', false],
      ],
    )
    t.notRegex(said.join(), /PRIVATE KEY|client-key|secret-token/)
    t.false(said.join().includes(blobOf(ann.keyPem).slice(100, 160)))
  },
)

test.serial(
  'folders that are links are followed once, wherever they lead, and links to everything are not',
  async t => {
    const { pem } = await issue({ name: 'CN=kubernetes', ca: true })
    const at = (path: string) => join(folder, 'links', path)
    const write = (path: string) => {
      mkdirSync(dirname(at(path)), { recursive: true })
      writeFileSync(at(path), pem)
    }
    write('etc/ssl/ca.crt')
    write('opt/pki/ca.crt')
    write('opt/pki/etcd/ca.crt')
    // As Kubespray has it, and as somebody has it who keeps them on another disk.
    symlinkSync('ssl', at('etc/pki'))
    symlinkSync(at('opt/pki'), at('etc/away'))
    symlinkSync(at('opt/pki'), at('etc/away-again'))
    symlinkSync('../opt/pki/etcd', at('etc/within'))
    symlinkSync('/', at('etc/everything'))
    symlinkSync('..', at('etc/ssl/up'))
    symlinkSync('nowhere', at('etc/dangling'))
    spawnSync('mkfifo', [at('etc/fifo')])
    symlinkSync('fifo', at('etc/linked-fifo'))
    const found = await fileCertificates(await thisMachine(), noNotice, [at('etc')])
    const mine = found.flatMap(({ place = '' }) => (place.startsWith(at('')) ? [place.slice(at('').length)] : []))
    t.true(mine.includes('/etc/ssl/ca.crt'))
    t.is(mine.filter(one => one.endsWith('ca.crt') && !one.includes('etcd')).length, 2, mine.join())
    t.is(mine.filter(one => one.includes('etcd/ca.crt') || one.includes('within/ca.crt')).length, 1, mine.join())
  },
)

test.serial('files that flags of running components name are read, and what they are used for is known', async t => {
  const [ca, etcdCa] = await Promise.all(['kubernetes', 'etcd-ca'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const at = (path: string) => join(folder, 'opt', path)
  mkdirSync(at('tls'), { recursive: true })
  for (const [name, { pem }] of Object.entries({ 'ca.pem': ca!, 'kubelet-ca.pem': ca!, 'etcd.pem': etcdCa! }))
    writeFileSync(at(`tls/${name}`), pem)
  writeFileSync(at('tls/unused.pem'), etcdCa!.pem)
  writeFileSync(
    at('kubelet.yaml'),
    `kind: KubeletConfiguration\nauthentication:\n  x509:\n    clientCAFile: "${at('tls/kubelet-ca.pem')}"\n`,
  )
  const running = (argv0: string, args: string[], env = {}) => {
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)', 'x', ...args], {
      argv0,
      cwd: at(''),
      env,
    })
    t.teardown(() => child.kill())
    return new Promise(resolve => child.once('spawn', resolve))
  }
  await running('/usr/local/bin/kube-apiserver', [
    `--client-ca-file=${at('tls/ca.pem')}`,
    '--etcd-cafile',
    'tls/etcd.pem',
  ])
  await running('kubelet', [`--config=${at('kubelet.yaml')}`, '--client-ca-file', at('not-there')])
  await running('etcd', [], { ETCD_TRUSTED_CA_FILE: at('tls/etcd.pem'), ETCD_NAME: 'x', SECRET: at('tls/unused.pem') })
  await running('/usr/bin/something-else', [`--ca-file=${at('tls/unused.pem')}`])
  const found = await fileCertificates(await thisMachine(), () => undefined)
  t.deepEqual(
    found
      .filter(({ place = '' }) => place.startsWith(at('')))
      .map(({ place = '', component, uses }) => [place.slice(at('tls/').length), component, ...(uses ?? [])]),
    [
      ['ca.pem', 'kube-apiserver', 'kube-apiserver client-ca-file'],
      ['etcd.pem', 'etcd', 'etcd trusted-ca-file', 'kube-apiserver etcd-cafile'],
      ['kubelet-ca.pem', 'kubelet', 'kubelet clientCAFile'],
    ],
  )
})

test.serial(
  'of files that hold keys on the same line, or whose certificate is cut off, no key comes along',
  async t => {
    const { pem, keyPem } = await issue({ name: 'CN=a' })
    const at = join(folder, 'mixed')
    mkdirSync(at)
    const files = {
      'one-line.json': JSON.stringify({
        key: keyPem,
        cert: pem + pem,
        more: { key: keyPem, cert: pem },
        token: 'secret-token',
      }),
      'indented.yaml': `key: |\n${keyPem.replaceAll(/^/gm, '  ')}\ncert: |\n${pem.replaceAll(/^/gm, '  ')}\ntoken: secret-token\n`,
      'cut-off.pem': pem.slice(0, 150) + keyPem,
      'cut-off-then-key.pem': `${pem.split('\n').slice(0, 3).join('\n')}\nc2VjcmV0LXRva2Vu\n`,
      'crlf.pem': (keyPem + pem).replaceAll('\n', '\r\n'),
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(at, name), text)
    const { session, said } = await withMounts({})
    const found = await fileCertificates(session, noNotice, [at])
    t.deepEqual(
      found.flatMap(({ place = '', facts }) =>
        place.startsWith(at) ? [`${place.slice(at.length)} ${facts.commonName}`] : [],
      ),
      ['/crlf.pem a', '/indented.yaml a', '/one-line.json a'],
    )
    const body = keyPem.split('\n')[2]!
    t.false(said.join().includes(body.slice(0, 40)))
    t.notRegex(said.join(), /PRIVATE|secret-token|c2VjcmV0/)
  },
)

test.serial('where not everything came through, it is said', async t => {
  const machine = await thisMachine()
  const $ = () => async () => ({ stdout: '== /a\n-----BEGIN CERTIFICATE-----\n' })
  const missed: string[] = []
  await fileCertificates({ ...machine, $ } as unknown as HostSession, noNotice, [], text => void missed.push(text))
  t.deepEqual(missed, ['m1: not all certificates were read: there are too many'])
})
