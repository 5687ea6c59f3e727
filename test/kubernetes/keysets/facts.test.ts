// From what was read of machines, API and issuers to the states of keys: who trusts, who signs, who presents and holds what.
import test from 'ava'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { type ClusterKeys, type KeysOfHost, keysetFacts } from '../../../lib/kubernetes/keysets/facts.ts'
import { discoveredFrom } from '../../../lib/kubernetes/layout/discover.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { behindOf, type KeysetName, keysetsOf } from '../../../lib/pki/keyset.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { foundText, hardWayServer, kubeadmMaster, kubeconfig, type Machine, together } from '../layout/_found.ts'

const day = 86_400_000
const from = (days: number) => new Date(Date.now() + days * day)
const authority = (name: string, begins = -100) =>
  issue({ name: `CN=${name}`, ca: true, notBefore: from(begins), notAfter: from(300) })

const [k, etcd, proxy, next, company] = (await Promise.all([
  authority('kubernetes'),
  authority('etcd-ca'),
  authority('front-proxy-ca'),
  authority('kubernetes', -1),
  authority('company'),
])) as [Issued, Issued, Issued, Issued, Issued]
const leafOf = (issuer: Issued, name: string, ends = 200) => issue({ name: `CN=${name}`, issuer, notAfter: from(ends) })
const [apiserver, promoted, peer, proxyClient, admin, registry, expired] = await Promise.all([
  leafOf(k, 'kube-apiserver'),
  leafOf(next, 'kube-apiserver'),
  leafOf(etcd, 'm1'),
  leafOf(proxy, 'front-proxy-client'),
  leafOf(k, 'kubernetes-admin'),
  leafOf(company, 'registry'),
  leafOf(k, 'gone', 0),
])
const keyOf = ({ pem }: Issued) => publicKeyOf(pem)!
const pki = '/etc/kubernetes/pki'
const trusting = (...cas: Issued[]) =>
  kubeconfig('system:x').replace('AA==', Buffer.from(cas.map(({ pem }) => pem).join('')).toString('base64'))

/** kubeadm's master, its files as they are given: a bundle each. */
function master(host = 'm1', files: Record<string, Issued[]> = {}, more: Partial<KeysOfHost> = {}): KeysOfHost {
  const bundles = {
    ...{ 'ca.crt': [k], 'etcd/ca.crt': [etcd], 'front-proxy-ca.crt': [proxy] },
    ...files,
  }
  const texts: NonNullable<Machine['files']> = Object.fromEntries([
    ...Object.entries(bundles).map(([name, all]) => [`${pki}/${name}`, { text: all.map(({ pem }) => pem).join('') }]),
    [`${pki}/ca.key`, { key: 'private' }],
    ...['kubelet', 'controller-manager', 'scheduler'].map(name => [
      `/etc/kubernetes/${name}.conf`,
      { text: trusting(...(bundles as Record<string, Issued[]>)['ca.crt']!) },
    ]),
  ])
  const entries = Object.entries(bundles).flatMap(([name, all]) => all.map(one => fileOf(host, `${pki}/${name}`, one)))
  const found = discoveredFrom(foundText(together(kubeadmMaster, { files: texts })), host)
  return { host, found, ...more, entries: [...entries, ...(more.entries ?? [])] }
}

const fileOf = (host: string, place: string, { pem }: Issued, more: Partial<CensusEntry> = {}): CensusEntry => ({
  ...{
    where: `${host}:${place}`,
    kind: 'file',
    host,
    place,
    component: 'kube-apiserver',
    facts: parseCertificate(pem),
  },
  ...more,
})
const portOf = (host: string, port: number, { pem }: Issued, component = 'kube-apiserver'): CensusEntry => ({
  ...{ where: `${host}:${port}`, kind: 'served', host, place: `${port}`, component, facts: parseCertificate(pem) },
})
const objectOf = (where: string, { pem }: Issued, more: Partial<CensusEntry> = {}): CensusEntry => ({
  ...{ where, kind: 'api', component: 'API', facts: parseCertificate(pem), fields: ['data/ca.crt'] },
  ...more,
})
const published = (where: string, one: Issued, field = 'data/ca.crt') =>
  objectOf(where, one, { published: true, fields: [field] })
const apiOf = (...entries: CensusEntry[]): ClusterKeys['api'] => ({ entries, namespaces: [], tokens: [] })

const read = (keys: ClusterKeys) => keysetsOf(keysetFacts(keys, () => undefined))
const setOf = (keys: ClusterKeys, name: KeysetName) => read(keys).find(one => one.name === name)!
const told = (keys: ClusterKeys, name: KeysetName) =>
  setOf(keys, name).items.map(({ key, state, uses }) => [
    key === keyOf(next) ? 'next' : key === keyOf(k) ? 'old' : 'other',
    state,
    uses.map(({ as, where }) => `${as} ${where}`).sort(),
  ])

test('kubeadm: each keyset by the files that name it, one entry a file and whoever goes by it', t => {
  const sets = read({
    hosts: [master('m1', {}, { entries: [fileOf('m1', `${pki}/front-proxy-client.crt`, proxyClient)] })],
  })
  t.deepEqual(
    sets.map(({ name, together: all, items }) => [name, all, items.map(({ state }) => state)]),
    [
      ['kubernetes-ca', [], ['primary']],
      ['etcd-ca', [], ['primary']],
      ['front-proxy-ca', [], ['primary']],
    ],
  )
  const trusters = sets[0]!.items[0]!.trustedBy.map(({ where, directions, by }) => [where, directions, by])
  t.deepEqual(trusters[0], [
    `m1:${pki}/ca.crt`,
    ['servers', 'clients'],
    ['kube-apiserver', 'kube-controller-manager', 'kubelet'],
  ])
  t.true(trusters.some(([where]) => where === 'm1:/etc/kubernetes/kubelet.conf'))
  t.deepEqual(
    sets[2]!.items[0]!.uses.map(({ where }) => where),
    [`m1:${pki}/front-proxy-client.crt`],
  )
})

test('staged in the bundle of one master: the other one is behind, and so are its kubeconfigs', t => {
  const set = setOf({ hosts: [master('m1', { 'ca.crt': [k, next] }), master('m2')] }, 'kubernetes-ca')
  const [primary, staged] = set.items
  t.deepEqual([primary!.key, primary!.state, staged!.key, staged!.state], [keyOf(k), 'primary', keyOf(next), 'staged'])
  t.deepEqual(new Set(behindOf(staged!).map(({ host }) => host)), new Set(['m2']))
  t.true(behindOf(staged!).some(({ where }) => where === `m2:${pki}/ca.crt`))
  t.deepEqual(behindOf(primary!), [])
})

test('what is signed with counts, and where the key of it is not there, what is presented', t => {
  const hosts = [master('m1', { 'ca.crt': [next, k] }, { entries: [portOf('m1', 6443, apiserver)] })]
  t.deepEqual(told({ hosts }, 'kubernetes-ca'), [
    ['next', 'primary', [`signs m1:${pki}/ca.crt`]],
    ['old', 'trusted', ['presents m1:6443']],
  ])
  const files = new Map(hosts[0]!.found!.files)
  files.delete(`${pki}/ca.key`)
  t.deepEqual(told({ hosts: [{ ...hosts[0]!, found: { ...hosts[0]!.found!, files } }] }, 'kubernetes-ca'), [
    ['old', 'primary', ['presents m1:6443']],
    ['next', 'staged', []],
  ])
})

test('leaves are counted by who signed them, wherever they are; what has expired and what others signed is not', t => {
  const entries = [
    portOf('m1', 6443, apiserver),
    fileOf('m1', '/etc/kubernetes/admin.conf', admin, { embedded: true, component: 'admin' }),
    fileOf('m1', `${pki}/old.crt`, expired),
    fileOf('m1', '/etc/registry/tls.crt', registry),
    fileOf('m1', '/etc/registry/ca.crt', company),
    fileOf('m1', '/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem', admin, { component: 'kubelet' }),
    portOf('m1', 2380, peer, 'etcd (peers)'),
  ]
  const keys = { hosts: [master('m1', {}, { entries })] }
  t.deepEqual(told(keys, 'kubernetes-ca'), [
    ['old', 'primary', ['holds m1:/etc/kubernetes/admin.conf', 'presents m1:6443', `signs m1:${pki}/ca.crt`]],
  ])
  t.deepEqual(told(keys, 'etcd-ca'), [['other', 'primary', ['presents m1:2380']]])
})

test('what the cluster publishes is of it, by object and field; a namespace without the CA is behind', t => {
  const authentication = 'ConfigMap kube-system/extension-apiserver-authentication'
  const api = {
    ...apiOf(
      published('ConfigMap default/kube-root-ca.crt', k),
      published('ConfigMap default/kube-root-ca.crt', next),
      published(authentication, k, 'data/client-ca-file'),
      published(authentication, proxy, 'data/requestheader-client-ca-file'),
    )!,
    namespaces: ['default', 'fresh'],
  }
  const keys = { hosts: [master('m1', { 'ca.crt': [k, next] })], api }
  const staged = setOf(keys, 'kubernetes-ca').items.find(({ state }) => state === 'staged')!
  t.deepEqual(
    behindOf(staged).map(({ where, directions }) => [where, directions]),
    [
      [authentication, ['servers']],
      ['ConfigMap fresh/kube-root-ca.crt', ['clients']],
    ],
  )
  t.true(setOf(keys, 'front-proxy-ca').items[0]!.trustedBy.some(({ where }) => where === authentication))
})

test('copies that others keep are told by the keyset whose key they have, and keep nothing from its state', t => {
  const api = apiOf(objectOf('ValidatingWebhookConfiguration policy', k), objectOf('Secret shop/registry', company))
  const home = fileOf('m1', '/root/.kube/config', k, { embedded: true })
  const keys = { hosts: [master('m1', { 'ca.crt': [k, next] }, { entries: [home] })], api }
  const [primary, staged] = setOf(keys, 'kubernetes-ca').items
  const copies = (trusters: readonly { kind: string; where: string }[]) =>
    trusters.filter(({ kind }) => kind === 'copy').map(({ where }) => where)
  t.deepEqual(copies(primary!.trustedBy).sort(), ['ValidatingWebhookConfiguration policy', 'm1:/root/.kube/config'])
  t.deepEqual(copies(staged!.missingFrom).length, 2)
  t.deepEqual(behindOf(staged!), [])
})

test('a place with CAs of two keysets is one copy of each, with all that are of it', t => {
  const where = 'ConfigMap monitoring/scrape'
  const api = apiOf(...[k, etcd, next].map(one => objectOf(where, one)))
  const keys = { hosts: [master('m1', { 'ca.crt': [k, next] })], api }
  const copies = (name: KeysetName) =>
    setOf(keys, name).items.map(({ trustedBy }) =>
      trustedBy.filter(one => one.where === where).map(({ kind, holds }) => [kind, holds.map(({ key }) => key)]),
    )
  const ofCluster = [['copy', [keyOf(k), keyOf(next)]]]
  t.deepEqual(copies('kubernetes-ca'), [ofCluster, ofCluster])
  t.deepEqual(copies('etcd-ca'), [[['copy', [keyOf(etcd)]]]])
})

test('a CA of before that only a kubeconfig has is distrusted, and named', t => {
  const home = fileOf('m1', '/root/.kube/config', k, { embedded: true, server: 'https://127.0.0.1:6443' })
  const keys = { hosts: [master('m1', { 'ca.crt': [next] }, { entries: [home, portOf('m1', 6443, promoted)] })] }
  const [primary, old] = setOf(keys, 'kubernetes-ca').items
  t.deepEqual([primary!.key, old!.key, old!.state], [keyOf(next), keyOf(k), 'distrusted'])
  t.deepEqual(
    old!.trustedBy.map(({ where }) => where),
    ['m1:/root/.kube/config'],
  )
})

test('one CA in one file for all roles, whose key signs tokens, too: all go together, leaves by what they are for', t => {
  const folder = { 'ca.crt': [k], 'etcd/ca.crt': [k], 'front-proxy-ca.crt': [k] }
  const entries = [portOf('m1', 6443, apiserver), portOf('m1', 2379, admin, 'etcd (clients)')]
  const tokens = {
    files: [{ component: 'kube-apiserver' as const, path: `${pki}/ca.key`, signs: true, keys: [keyOf(k)] }],
    tokens: [],
  }
  const sets = read({ hosts: [master('m1', folder, { entries, tokens })] })
  t.deepEqual(
    sets.map(({ name, together: all }) => [name, all.length]),
    [
      ['kubernetes-ca', 3],
      ['etcd-ca', 3],
      ['front-proxy-ca', 3],
      ['service-account', 3],
    ],
  )
  const presented = sets.map(({ items }) =>
    items[0]!.uses.filter(({ as }) => as === 'presents').map(({ where }) => where),
  )
  t.deepEqual(presented, [['m1:6443'], ['m1:2379'], [], []])
})

test('a certificate by which tokens are verified is no use of the CA that signed it: of it the key counts', t => {
  const folder = '/var/lib/kubernetes'
  const files = { [`${folder}/ca.crt`]: { text: k.pem }, [`${folder}/service-accounts.crt`]: { text: admin.pem } }
  const found = discoveredFrom(foundText(together(hardWayServer, { files })), 'm1')
  const entries = [
    fileOf('m1', `${folder}/ca.crt`, k),
    fileOf('m1', `${folder}/kube-api-server.crt`, apiserver),
    fileOf('m1', `${folder}/service-accounts.crt`, admin),
  ]
  const { 'kubernetes-ca': facts } = keysetFacts({ hosts: [{ host: 'm1', found, entries }] }, () => undefined)
  t.deepEqual(
    facts!.uses.filter(({ as }) => as === 'holds').map(({ where }) => where),
    [`m1:${folder}/kube-api-server.crt`],
  )
})

test('keys of tokens: what files have and what each API server says are told apart, tokens by who signed them', t => {
  const [old, fresh] = ['1'.repeat(64), '2'.repeat(64)] as [string, string]
  const file = (signs: boolean, ...keys: string[]) => ({
    ...{ component: 'kube-apiserver' as const, signs, keys },
    path: `${pki}/sa.${signs ? 'key' : 'pub'}`,
  })
  const tokens = {
    files: [file(false, old, fresh), file(true, old)],
    tokens: [{ where: 'm1:/var/lib/kubelet/pods/1/token', host: 'm1', key: old }],
  }
  const api = { ...apiOf()!, tokens: [{ where: 'Secret a/b', key: old }] }
  // Its file holds both, and it was not started since.
  const set = setOf({ hosts: [master('m1', {}, { tokens, served: [old] })], api }, 'service-account')
  const [primary, staged] = set.items
  t.deepEqual([primary!.key, primary!.state, staged!.key, staged!.state], [old, 'primary', fresh, 'staged'])
  t.deepEqual(
    behindOf(staged!).map(({ where }) => where),
    ['m1: JWKS of its API server'],
  )
  t.deepEqual(
    primary!.uses.map(({ as, where }) => `${as} ${where}`),
    [`signs m1:${pki}/sa.key`, 'holds m1:/var/lib/kubelet/pods/1/token', 'holds Secret a/b'],
  )
})

test('what a Vault keeps: a newer issuer that nobody trusts yet is staged, its default signs where no component does', t => {
  const issuers = (standard: Issued) => [
    {
      ...{ where: 'Vault pki_k8s', authorities: ['kubernetes' as const] },
      ...{ certificates: [k.pem, next.pem], standard: standard.pem },
    },
  ]
  t.deepEqual(told({ hosts: [master()], issuers: issuers(k) }, 'kubernetes-ca'), [
    ['old', 'primary', ['issues Vault pki_k8s', `signs m1:${pki}/ca.crt`]],
    ['next', 'staged', []],
  ])
  const { found, ...rest } = master('m1', { 'ca.crt': [k, next] })
  const files = new Map(found!.files)
  files.delete(`${pki}/ca.key`)
  const hosts = [{ ...rest, found: { ...found!, files } }]
  t.deepEqual(told({ hosts, issuers: issuers(next) }, 'kubernetes-ca'), [
    ['next', 'primary', ['issues Vault pki_k8s']],
    ['old', 'trusted', []],
  ])
})

test('a Vault alone makes no keyset, nor does a machine of none', t => {
  const issuers = [{ where: 'Vault pki', authorities: ['kubernetes' as const], certificates: [k.pem], standard: k.pem }]
  t.deepEqual(read({ hosts: [{ host: 'm1', entries: [] }], issuers }), [])
})

test('the CA that a component presents behind its certificate is no copy that somebody trusts by; in a file that nobody names it is', t => {
  const stray = fileOf('m1', '/opt/proxy/chain.pem', k)
  const chain = master('m1', { 'apiserver.crt': [apiserver, k] }, { entries: [stray] })
  const trusters = keysetFacts({ hosts: [chain] }, () => undefined)['kubernetes-ca']?.trusters ?? []
  t.deepEqual(
    trusters.filter(({ kind }) => kind === 'copy').map(({ where }) => where),
    ['m1:/opt/proxy/chain.pem'],
  )
})

test('the administrator’s kubeconfig is a copy of the cluster’s CA, also where it lies in a folder that is not searched', t => {
  const path = '/root/admin.kubeconfig'
  const files = { '/var/lib/kubernetes/ca.crt': { text: k.pem }, [path]: { text: trusting(k) } }
  const found = discoveredFrom(foundText(together(hardWayServer, { files })), 'm1')
  const copies = (entries: CensusEntry[] = []) =>
    keysetFacts({ hosts: [{ host: 'm1', found, entries }] }, () => undefined)['kubernetes-ca']?.trusters.flatMap(
      ({ where, kind, holds }) => (kind === 'copy' ? [[where, holds.map(({ key }) => key)]] : []),
    )
  t.deepEqual(copies(), [[`m1:${path}`, [keyOf(k)]]])
  t.deepEqual(copies([fileOf('m1', path, k)]), [[`m1:${path}`, [keyOf(k)]]], 'once')
})
