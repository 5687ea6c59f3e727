// Keysets: the keys that a cluster signs with and trusts, by role, and in which state each of them is. From plain facts, without asking anybody:
// who trusts which keys, who signs with which, who presents what was signed by which. Nothing here knows where these facts come from.
import { type CertificateFacts, issuedBy } from './certificates/certificate.ts'

/** The roles that keys have in a cluster, in the order in which they are told. */
export const keysetNames = ['kubernetes-ca', 'etcd-ca', 'front-proxy-ca', 'service-account'] as const

export type KeysetName = (typeof keysetNames)[number]

/**
 * `staged`: trusted, or made to be, and to be promoted; `primary`: what signs; `trusted`: what signed before; `distrusted`: trusted by no
 * part of the cluster, and not forgotten yet.
 */
export type ItemState = 'primary' | 'staged' | 'trusted' | 'distrusted'

/** Whose trust it is: that of servers, which let clients in, or that of clients, which believe servers. */
export type TrustDirection = 'servers' | 'clients'

/** A public key at a place: the SHA-256 of its SPKI (`publicKeyOf`), and the certificate by which it stands there, where it is one. */
export interface HeldKey {
  readonly key: string
  readonly certificate?: CertificateFacts
}

/** Somebody who trusts the keys of a keyset: a file, a ConfigMap. */
export interface Truster {
  /** `m1:/pki/ca.crt`, `ConfigMap default/kube-root-ca.crt`. */
  readonly where: string
  readonly host?: string
  /**
   * `component`: what runs goes by it; `published`: the cluster hands it out; `copy`: others keep it (kubeconfigs of people, webhooks). Copies
   * are told, and decide nothing.
   */
  readonly kind: 'component' | 'published' | 'copy'
  readonly directions: readonly TrustDirection[]
  /** The components that go by it. */
  readonly by?: readonly string[]
  /** In their order there. */
  readonly holds: readonly HeldKey[]
}

/** Somebody who signs with a key of a keyset, or has what it signed. */
export interface KeyUse {
  readonly where: string
  readonly host?: string
  /** Who: `kube-apiserver`, `kubelet`; what a certificate is for. */
  readonly component?: string
  /**
   * `signs`: a component signs with it; `issues`: an issuer outside of the cluster has it as its default; `presents`: a port presents a
   * certificate that it signed; `holds`: a file or an object has one.
   */
  readonly as: 'signs' | 'issues' | 'presents' | 'holds'
  readonly key: string
  /** The certificate that it signed. */
  readonly certificate?: CertificateFacts
}

/** What is known of one keyset. */
export interface KeysetFacts {
  readonly trusters: readonly Truster[]
  readonly uses: readonly KeyUse[]
  /** Keys that are kept for it, whoever trusts them: the issuers of a Vault. */
  readonly kept?: readonly (HeldKey & { readonly where: string })[]
  /** Keys that somebody says are to be promoted; what the facts say of them counts first. */
  readonly comesNext?: readonly string[]
}

/** A key of a keyset: one authority, however many certificates of it there are. */
export interface KeysetItem {
  /** The beginning of `key`: what people call it by. */
  readonly id: string
  readonly key: string
  readonly state: ItemState
  /** Those of this key, what ends last first; none of a bare key. */
  readonly certificates: readonly CertificateFacts[]
  /** The subject key identifier of a CA, else the `kid` of tokens: base64url of the SHA-256. */
  readonly keyIdentifier: string
  /** When the first certificate of it began, and the last one ends. */
  readonly created?: Date
  readonly ends?: Date
  /** It has certificates, and none of them is valid now. */
  readonly expired: boolean
  /** Who trusts it now, by a certificate that is valid now, and who of the keyset doesn't. */
  readonly trustedBy: readonly Truster[]
  readonly missingFrom: readonly Truster[]
  readonly uses: readonly KeyUse[]
  /** The ids of other items of which it signed a certificate: those under it as a root, or cross-signed by it. */
  readonly signed: readonly string[]
}

/** A role, and its keys. */
export interface Keyset {
  readonly name: KeysetName
  /** The other keysets that have the same key, or are trusted by the same file: they can only be rotated together. */
  readonly together: readonly KeysetName[]
  /** The primary first, then those that come next, then those that were. */
  readonly items: readonly KeysetItem[]
  /** Who signs, or presents what was signed, by another key than the primary, while others go by that: a promotion is on its way. */
  readonly split: readonly KeyUse[]
}

/**
 * The keysets of a cluster, in the order of `keysetNames`; those that it has no facts of are left out.
 *
 * The primary is the key that components sign with; where none does, an issuer's default that is trusted or used, else what is presented, else
 * what is held. Where these disagree it is the key of most, or the newer one of as many. Another key is `staged` where it is newer than the
 * primary, else `trusted`; bare keys have no age, and stand in bundles in the order in which they came. A key that no component trusts, and
 * that the cluster publishes nowhere, is `distrusted`, unless it is newer than the primary and kept, or said to come next.
 */
export function keysetsOf(
  facts: Readonly<Partial<Record<KeysetName, KeysetFacts>>>,
  { now = new Date() }: { readonly now?: Date } = {},
): Keyset[] {
  const sets = keysetNames.flatMap(name => {
    const own = facts[name]
    const set = own && keysetOf(own, now)
    return own && set && set.items.length > 0 ? [{ name, own, ...set }] : []
  })
  const shared = (one: (typeof sets)[number], other: (typeof sets)[number]) =>
    sharesKey(one.items, other.items) || sharesBundle(one.own, other.own)
  const groups = joined(
    sets.flatMap((one, index) =>
      sets
        .slice(index + 1)
        .filter(other => shared(one, other))
        .map(other => [one.name, other.name]),
    ),
  )
  return sets.map(({ name, items, split }) => ({
    ...{ name, items, split },
    together: keysetNames.filter(
      other => other !== name && groups.some(group => group.includes(name) && group.includes(other)),
    ),
  }))
}

/**
 * The facts of keysets, with those that one CA serves as one, under the name of the first of them: whoever trusts by a file counts once.
 * @param groups of names
 */
export function factsTogether(
  facts: Readonly<Partial<Record<KeysetName, KeysetFacts>>>,
  groups: readonly (readonly KeysetName[])[],
): Partial<Record<KeysetName, KeysetFacts>> {
  const result = { ...facts }
  for (const group of groups.filter(({ length }) => length > 1)) {
    const [first] = group
    const all = group.flatMap(name => facts[name] ?? [])
    for (const name of group) delete result[name]
    const trusters = new Map(all.flatMap(one => one.trusters.map(truster => [truster.where, truster] as const)))
    if (first === undefined || all.length === 0) continue
    result[first] = {
      trusters: [...trusters.values()],
      uses: all.flatMap(({ uses }) => uses),
      kept: all.flatMap(({ kept = [] }) => kept),
      comesNext: all.flatMap(({ comesNext = [] }) => comesNext),
    }
  }
  return result
}

/** The item that signs; undefined where none is known to. */
export const primaryOf = ({ items }: Keyset): KeysetItem | undefined => items.find(({ state }) => state === 'primary')

/**
 * Who keeps an item from the stage that it is in: of a staged one and of the primary those parts of the cluster that don't trust it, of a
 * distrusted one none. Copies that others keep are no part of the cluster.
 */
export function behindOf({ state, missingFrom }: KeysetItem): Truster[] {
  return state === 'staged' || state === 'primary' ? missingFrom.filter(isOfCluster) : []
}

/** Lists joined where they have something in common: `[[a, b], [b, c]]` is `[[a, b, c]]`. */
export function joined<T>(lists: readonly (readonly T[])[]): T[][] {
  let groups: Set<T>[] = []
  for (const list of lists) {
    const touched = groups.filter(group => list.some(one => group.has(one)))
    groups = [
      ...groups.filter(group => !touched.includes(group)),
      new Set([...touched.flatMap(group => [...group]), ...list]),
    ]
  }
  return groups.map(group => [...group])
}

const isOfCluster = ({ kind }: Truster) => kind !== 'copy'

const isValid = ({ notBefore, notAfter }: CertificateFacts, now: Date) => notBefore <= now && now <= notAfter

function keysetOf(facts: KeysetFacts, now: Date): { items: KeysetItem[]; split: KeyUse[] } {
  const keys = [
    ...new Set([
      ...facts.trusters.flatMap(({ holds }) => holds.map(({ key }) => key)),
      ...facts.uses.map(({ key }) => key),
      ...(facts.kept ?? []).map(({ key }) => key),
    ]),
  ]
  const standing = keys.map(key => standingOf(key, facts, now))
  const all = standing.map(one => ({
    ...one,
    signed: standing.filter(other => hasSigned(one, other)).map(({ id }) => id),
  }))
  const { primary, split } = primaryAmong(all, facts)
  const items = all.map(one => ({ ...one, state: stateOf(one, primary, facts) }))
  return { items: items.sort((a, b) => byState(a, b) || newerFirst(a, b)), split }
}

/** An item, before anything is said of its state. */
type Standing = Omit<KeysetItem, 'state'>

function standingOf(key: string, { trusters, uses, kept = [] }: KeysetFacts, now: Date): Omit<Standing, 'signed'> {
  const held = [...trusters.flatMap(({ holds }) => holds), ...kept].filter(one => one.key === key)
  const byFingerprint = new Map(held.flatMap(({ certificate: one }) => (one ? [[one.fingerprint, one] as const] : [])))
  const certificates = [...byFingerprint.values()].sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())
  const trusts = ({ holds }: Truster) =>
    holds.some(one => one.key === key && (one.certificate === undefined || isValid(one.certificate, now)))
  const [last] = certificates
  const times = certificates.map(({ notBefore }) => notBefore.getTime())
  return {
    ...{ id: key.slice(0, 8), key, certificates },
    keyIdentifier: last?.subjectKeyId ?? Buffer.from(key, 'hex').toString('base64url'),
    ...(last && { created: new Date(Math.min(...times)), ends: last.notAfter }),
    expired: last !== undefined && !certificates.some(one => isValid(one, now)),
    trustedBy: trusters.filter(trusts),
    missingFrom: trusters.filter(one => !trusts(one)),
    uses: uses.filter(one => one.key === key),
  }
}

function hasSigned(one: Omit<Standing, 'signed'>, other: Omit<Standing, 'signed'>): boolean {
  const [own] = one.certificates
  return one !== other && own !== undefined && other.certificates.some(certificate => issuedBy(certificate, own))
}

function primaryAmong(all: readonly Standing[], { uses }: KeysetFacts): { primary?: Standing; split: KeyUse[] } {
  const known = new Map(all.map(one => [one.key, one]))
  const isUsed = ({ key }: KeyUse) =>
    known.get(key)?.trustedBy.some(isOfCluster) || uses.some(one => one.key === key && one.as !== 'issues')
  for (const kind of ['signs', 'issues', 'presents', 'holds'] as const) {
    // An issuer that nobody in the cluster knows may be one of another cluster, or of a rotation that was undone.
    const deciding = uses.filter(one => one.as === kind && (kind !== 'issues' || isUsed(one)))
    if (deciding.length === 0) continue
    const counted = [...Map.groupBy(deciding, ({ key }) => key)].map(([key, own]) => ({ one: known.get(key)!, own }))
    const [most] = counted.sort((a, b) => b.own.length - a.own.length || newerFirst(a.one, b.one))
    return { primary: most!.one, split: deciding.filter(({ key }) => key !== most!.one.key) }
  }
  const [first] = all.filter(({ trustedBy }) => trustedBy.some(isOfCluster))
  // Nobody is seen to use any: only where there is but one can it be said which it is.
  return { ...(all.length === 1 && first && { primary: first }), split: [] }
}

function stateOf(item: Standing, primary: Standing | undefined, facts: KeysetFacts): ItemState {
  if (item.key === primary?.key) return 'primary'
  const next = primary !== undefined && comesAfter(item, primary, facts)
  if (item.trustedBy.some(isOfCluster)) return next ? 'staged' : 'trusted'
  // A bare key has no age: of one that nobody trusts it must be said that it comes next.
  const isKept =
    facts.comesNext?.includes(item.key) ||
    (item.certificates.length > 0 && facts.kept?.some(({ key }) => key === item.key))
  return next && isKept && !item.expired ? 'staged' : 'distrusted'
}

/** Whether an item is to follow the primary, and did not go before it. */
function comesAfter(item: Standing, primary: Standing, { trusters, comesNext }: KeysetFacts): boolean {
  if (item.created && primary.created && item.created > primary.created) return true
  // A CA that was brought along may be older than the one that it is to follow. What signed something that is in use went before.
  if (comesNext?.includes(item.key) && item.uses.length === 0) return true
  if (item.created && primary.created && item.created < primary.created) return false
  const places = trusters.flatMap(({ holds }) => {
    const at = (key: string) => holds.findIndex(one => one.key === key)
    const [own, other] = [at(item.key), at(primary.key)]
    return own < 0 || other < 0 ? [] : [own > other]
  })
  if (places.length > 0) return places.filter(Boolean).length * 2 > places.length
  return item.uses.length === 0
}

const order: readonly ItemState[] = ['primary', 'staged', 'trusted', 'distrusted']

const byState = (a: KeysetItem, b: KeysetItem) => order.indexOf(a.state) - order.indexOf(b.state)

const newerFirst = (a: Standing, b: Standing) => (b.created?.getTime() ?? 0) - (a.created?.getTime() ?? 0)

/** Whether two keysets have a key between them that somebody trusts or goes by. */
function sharesKey(one: readonly KeysetItem[], other: readonly KeysetItem[]): boolean {
  const living = (items: readonly KeysetItem[]) => items.filter(({ state }) => state !== 'distrusted')
  return living(one).some(({ key }) => living(other).some(also => also.key === key))
}

/** Whether one bundle is trusted in both roles. */
function sharesBundle({ trusters }: KeysetFacts, other: KeysetFacts): boolean {
  const bundles = (all: readonly Truster[]) => all.filter(({ kind }) => kind === 'component')
  return bundles(trusters).some(({ where }) => bundles(other.trusters).some(also => also.where === where))
}
