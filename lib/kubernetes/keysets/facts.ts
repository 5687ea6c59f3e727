// What is known of each keyset of a cluster, from what was read of its machines, its API and its issuers. Asks nobody.
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { type CertificateFacts, parseCertificate } from '../../pki/certificates/certificate.ts'
import {
  type HeldKey,
  type KeysetFacts,
  type KeysetName,
  type KeyUse,
  keysetNames,
  type TrustDirection,
  type Truster,
} from '../../pki/keyset.ts'
import type { AuthorityName } from '../../pki/specs.ts'
import { type CensusEntry, readable } from '../census/entry.ts'
import { type JudgedEntry, judgeCensus, stem } from '../census/judge.ts'
import { clustersWithin } from '../census/kubeconfigs.ts'
import { authorityOf } from '../layout/authorities.ts'
import type { Discovery } from '../layout/discover.ts'
import type { ComponentName, FileRole, NamedFile } from '../layout/host-layout.ts'
import { adminKubeconfigOf } from '../layout/plan.ts'
import type { AuditLog } from './audit-log.ts'
import type { HeldToken, TokenKeysOfHost } from './token-keys.ts'

/** What was read of a machine. */
export interface KeysOfHost {
  readonly host: string
  /** Undefined where it runs in a way that nobody knows: it has certificates all the same. */
  readonly found?: Discovery
  /** Certificates in its files and on its ports. */
  readonly entries: readonly CensusEntry[]
  readonly tokens?: TokenKeysOfHost
  /** The keys by which its API server says that it verifies tokens. */
  readonly served?: readonly string[]
  /** Who came to it by certificates, where it keeps an audit log. */
  readonly audit?: AuditLog
}

/** What the API keeps. */
export interface KeysOfApi {
  readonly entries: readonly CensusEntry[]
  /** Those in which the cluster's CA is to be published. */
  readonly namespaces: readonly string[]
  /** The tokens of Secrets. */
  readonly tokens: readonly HeldToken[]
}

/** A mount of an issuer outside of the cluster. */
export interface KeysOfIssuer {
  /** `Vault pki_k8s`. */
  readonly where: string
  readonly authorities: readonly AuthorityName[]
  /** PEM. */
  readonly certificates: readonly string[]
  /** The one that signs unless another is asked for. */
  readonly standard?: string
  /** The ids of those whose keys it has, by their certificates. */
  readonly ids?: ReadonlyMap<string, string>
}

/** What there is to go by. */
export interface ClusterKeys {
  readonly hosts: readonly KeysOfHost[]
  readonly api?: KeysOfApi
  readonly issuers?: readonly KeysOfIssuer[]
}

type Sets = Map<KeysetName, { trusters: Truster[]; uses: KeyUse[]; kept: NonNullable<KeysetFacts['kept']>[number][] }>

/** The facts of each keyset that the cluster has; what can't be read as a certificate is told to `notice`. */
export function keysetFacts(
  keys: ClusterKeys,
  notice: (text: string) => void,
): Partial<Record<KeysetName, KeysetFacts>> {
  const sets: Sets = new Map(keysetNames.map(name => [name, { trusters: [], uses: [], kept: [] }]))
  for (const host of keys.hosts) {
    ofComponents(host, sets, notice)
    ofTokens(host, sets)
  }
  if (keys.api) ofApi(keys.api, sets)
  for (const issuer of keys.issuers ?? []) ofIssuer(issuer, sets)
  ofCensus(keys, sets)
  for (const host of keys.hosts) ofAdministrator(host, sets, notice)
  return Object.fromEntries(
    [...sets].filter(([, { trusters, uses }]) => trusters.length > 0 || uses.some(({ as }) => as !== 'issues')),
  )
}

const keysetOfAuthority = (name: AuthorityName): KeysetName => `${name}-ca`

const held = (facts: CertificateFacts): HeldKey[] => {
  const key = publicKeyOf(facts.pem)
  return key === undefined ? [] : [{ key, certificate: facts }]
}

/** Of what a file is named for: who trusts by it. */
const directionsOf: Partial<Readonly<Record<FileRole, readonly TrustDirection[]>>> = {
  'client-ca': ['servers'],
  'front-proxy-ca': ['servers'],
  'peer-ca': ['servers', 'clients'],
  'etcd-ca': ['clients'],
  'kubelet-ca': ['clients'],
  'root-ca': ['clients'],
  'api-ca': ['clients'],
  kubeconfig: ['clients'],
}

/** The files that components name: whom they trust by them, and what the controller-manager signs with. */
function ofComponents({ host, found }: KeysOfHost, sets: Sets, notice: (text: string) => void): void {
  const named = Object.values(found?.layout.components ?? {}).flatMap(one =>
    one ? one.files.map(file => ({ ...file, component: one.component })) : [],
  )
  for (const file of named) {
    const { component, role, real } = file
    const authority = role === 'kubeconfig' ? 'kubernetes' : authorityOf(component, role)
    const directions = directionsOf[role]
    const where = `${host}:${real}`
    if (authority === undefined) continue
    const set = sets.get(keysetOfAuthority(authority))!
    const holds = readable(trustedIn(file, found!), where, notice).flatMap(held)
    if (role === 'signing') {
      // Where the key is not there, as where it stays in a Vault, nothing is signed.
      if (found!.files.get(file.key?.path ?? '')?.key !== 'private' || !holds[0]) continue
      const isKnown = set.uses.some(use => use.as === 'signs' && use.where === where)
      if (!isKnown) set.uses.push({ where, host, component, as: 'signs', key: holds[0].key })
    } else if (directions && (holds.length > 0 || role !== 'kubeconfig')) {
      const known = set.trusters.find(one => one.where === where)
      const also = { directions: union(known?.directions, directions), by: union(known?.by, [component]) }
      if (known) set.trusters[set.trusters.indexOf(known)] = { ...known, ...also }
      else set.trusters.push({ where, host, kind: 'component', holds, ...also })
    }
  }
}

/** The administrator's kubeconfig, which may lie where no census looks (`/root/admin.kubeconfig`), or be known there by a link to it. */
function ofAdministrator({ host, found }: KeysOfHost, sets: Sets, notice: (text: string) => void): void {
  const path = found && adminKubeconfigOf(found.files)
  if (path === undefined) return
  const { trusters } = sets.get('kubernetes-ca')!
  const where = `${host}:${path}`
  if (trusters.some(one => one.where === where)) return
  const authorities = clustersWithin(found?.files.get(path)?.text ?? '').flatMap(one => one.authorities)
  const holds = readable(authorities, where, notice).flatMap(held)
  if (holds.length > 0) trusters.push({ where, host, kind: 'copy', directions: ['clients'], holds })
}

function trustedIn({ role, path }: NamedFile, { files }: Discovery): readonly string[] {
  const file = files.get(path)
  if (role !== 'kubeconfig') return file?.certificates ?? []
  return clustersWithin(file?.text ?? '').flatMap(({ authorities }) => authorities)
}

/** What API servers verify tokens by, what they are signed with, and which ones pods hold. */
function ofTokens({ host, tokens, served }: KeysOfHost, sets: Sets): void {
  const { trusters, uses } = sets.get('service-account')!
  const trust = (where: string, keys: readonly string[], by: ComponentName) =>
    trusters.push({
      ...{ where, host, kind: 'component', directions: ['servers'], by: [by] },
      holds: keys.map(key => ({ key })),
    })
  // Each file that is named counts: keys of several files are all known.
  const verifying = (tokens?.files ?? []).filter(({ signs }) => !signs)
  if (verifying.length > 0) {
    const where = `${host}:${union(verifying.map(({ path }) => path)).join(', ')}`
    trust(where, union(verifying.flatMap(({ keys }) => keys)), 'kube-apiserver')
  }
  if (served) trust(`${host}: JWKS of its API server`, served, 'kube-apiserver')
  for (const { path, component, signs, keys } of tokens?.files ?? []) {
    const [key] = keys
    if (signs && key !== undefined) uses.push({ where: `${host}:${path}`, host, component, as: 'signs', key })
  }
  for (const { pod, ...one } of tokens?.tokens ?? [])
    uses.push({ ...one, component: `token of a ${pod === undefined ? 'network plugin' : 'pod'}`, as: 'holds' })
}

/** Where the cluster itself publishes its CAs, by object and field. */
const publishedFields: readonly (readonly [where: RegExp, field: RegExp, KeysetName, TrustDirection])[] = [
  [/^ConfigMap kube-system\/extension-apiserver-authentication$/, /^data\/client-ca-file$/, 'kubernetes-ca', 'servers'],
  [/^ConfigMap kube-system\/extension-apiserver-authentication$/, /requestheader/, 'front-proxy-ca', 'servers'],
  [/^(ConfigMap|Secret) /, /^data\//, 'kubernetes-ca', 'clients'],
]

function ofApi({ entries, namespaces, tokens }: KeysOfApi, sets: Sets): void {
  const published = Map.groupBy(
    entries.filter(one => one.published && one.facts.isAuthority),
    ({ where }) => where,
  )
  for (const [where, own] of published) {
    for (const field of union(own.flatMap(({ fields = [] }) => fields))) {
      const [, , name, direction] = publishedFields.find(([at, called]) => at.test(where) && called.test(field)) ?? []
      if (name === undefined || direction === undefined) continue
      const holds = own.filter(({ fields }) => fields?.includes(field)).flatMap(({ facts }) => held(facts))
      sets.get(name)!.trusters.push({ where, kind: 'published', directions: [direction], holds })
    }
  }
  for (const namespace of namespaces) {
    const where = `ConfigMap ${namespace}/kube-root-ca.crt`
    if (published.has(where)) continue
    sets.get('kubernetes-ca')!.trusters.push({ where, kind: 'published', directions: ['clients'], holds: [] })
  }
  const { uses } = sets.get('service-account')!
  for (const one of tokens) uses.push({ ...one, component: 'token of a Secret', as: 'holds' })
}

function ofIssuer({ where, authorities, certificates, standard }: KeysOfIssuer, sets: Sets): void {
  for (const set of authorities.map(name => sets.get(keysetOfAuthority(name))!)) {
    for (const pem of certificates)
      for (const one of held(parseCertificate(pem, where))) set.kept.push({ ...one, where })
    const key = standard === undefined ? undefined : publicKeyOf(standard)
    if (key !== undefined) set.uses.push({ where, as: 'issues', key })
  }
}

/** An earlier certificate that a kubelet keeps beside its current one. */
const isSuperseded = ({ place = '' }: CensusEntry) => /\/kubelet-(client|server)-\d[^/]*\.pem$/.test(place)

/** Certificates by which tokens are verified: of these the key counts, whoever signed them, and nobody presents them. */
function namedForKeysAlone(found: Discovery | undefined): string[] {
  const files = Object.values(found?.layout.components ?? {}).flatMap(one => one?.files ?? [])
  const isOfTokens = ({ role }: NamedFile) => role === 'service-account-verify' || role === 'service-account-sign'
  const others = new Set(files.flatMap(file => (isOfTokens(file) ? [] : [file.real])))
  return files.filter(file => isOfTokens(file) && !others.has(file.real)).flatMap(({ path, real }) => [path, real])
}

/** Copies of CAs that others keep, and everything that CAs signed, at each CA's keyset. */
function ofCensus({ hosts, api }: ClusterKeys, sets: Sets): void {
  const entries = [...hosts.flatMap(one => one.entries), ...(api?.entries ?? [])]
  const judged = judgeCensus(entries, { within: 0 })
  const authorities = new Map(judged.flatMap(({ facts }) => (facts.isAuthority ? [[facts.fingerprint, facts]] : [])))
  const named = new Set(
    hosts.flatMap(({ host, found }) =>
      Object.values(found?.layout.components ?? {}).flatMap(one =>
        (one?.files ?? []).flatMap(({ role, path, real, key }) =>
          // Beside the certificate of a pair may stand the chain that is presented with it: nobody trusts by that.
          role in directionsOf || role === 'signing' || key ? [`${host}:${path}`, `${host}:${real}`] : [],
        ),
      ),
    ),
  )
  const keysAlone = new Set(hosts.flatMap(({ host, found }) => namedForKeysAlone(found).map(path => `${host}:${path}`)))
  const owner = ownerOf(sets)
  const copies = new Map<string, HeldKey[]>()
  for (const entry of judged) {
    const { where, host, facts } = entry
    if (facts.isAuthority) {
      // What a port presents of its chain is nobody's trust.
      if (entry.published || entry.kind === 'served' || named.has(where)) continue
      for (const one of held(facts)) {
        const name = owner(one.key, facts, entry)
        if (name === undefined) continue
        const known = copies.get(`${name} ${where}`)
        if (known) known.push(one)
        else {
          const holds = [one]
          copies.set(`${name} ${where}`, holds)
          sets.get(name)!.trusters.push({ where, host, kind: 'copy', directions: ['clients'], holds })
        }
      }
      continue
    }
    const issuer = authorities.get(entry.issuerFingerprint ?? '')
    const key = issuer && publicKeyOf(issuer.pem)
    if (key === undefined || isSuperseded(entry) || keysAlone.has(where)) continue
    // Nobody gets anywhere with what has expired, unless a port presents it.
    if (entry.kind !== 'served' && entry.daysLeft < 0) continue
    const name = owner(key, issuer!, entry)
    if (name === undefined) continue
    const use = { where, host, component: entry.component, key, certificate: facts }
    sets.get(name)!.uses.push({ ...use, as: entry.kind === 'served' ? 'presents' : 'holds' })
  }
}

/**
 * Whose a key is: of the keyset that trusts it or keeps it, of several of the one that the place speaks for; of none that does, but is of
 * this cluster by all that is known of it, of the keyset whose CAs are called alike.
 */
function ownerOf(sets: Sets) {
  const byKey = new Map<string, Set<KeysetName>>()
  const byName = new Map<string, KeysetName>()
  for (const [name, { trusters, kept, uses }] of sets) {
    if (name === 'service-account') continue
    for (const { key, certificate } of [...trusters.flatMap(({ holds }) => holds), ...kept]) {
      byKey.set(key, (byKey.get(key) ?? new Set()).add(name))
      if (certificate && !byName.has(stem(certificate.commonName))) byName.set(stem(certificate.commonName), name)
    }
    for (const { key, as } of uses) if (as === 'signs') byKey.set(key, (byKey.get(key) ?? new Set()).add(name))
  }
  return (key: string, { commonName }: CertificateFacts, entry: JudgedEntry): KeysetName | undefined => {
    const names = [...(byKey.get(key) ?? [])]
    if (names.length > 1) return names.find(name => name === spokenForBy(entry)) ?? names[0]
    return names[0] ?? (entry.stale ? byName.get(stem(commonName)) : undefined)
  }
}

function spokenForBy({ component, place = '', uses = [] }: CensusEntry): KeysetName {
  if (/^etcd/.test(component) || /etcd/.test(place)) return 'etcd-ca'
  return /front-proxy|proxy-client|aggregator/.test(`${place} ${uses.join(' ')}`) ? 'front-proxy-ca' : 'kubernetes-ca'
}

function union<T>(...lists: (readonly T[] | undefined)[]): T[] {
  return [...new Set(lists.flatMap(list => list ?? []))]
}
