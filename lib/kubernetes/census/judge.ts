// What is to be said of the certificates of a cluster: what is due, who issued what, and what doesn't fit.
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { type CertificateFacts, issuedBy } from '../../pki/certificates/certificate.ts'
import { isAnchor } from '../layout/discover.ts'
import type { CensusEntry } from './entry.ts'

/** An entry, and what is to be said of it. */
export interface JudgedEntry extends CensusEntry {
  /** SHA-256 of the CA that signed it, where that was found anywhere in the cluster. */
  readonly issuerFingerprint?: string
  /** Whole days until it ends; negative where it has ended. */
  readonly daysLeft: number
  /** It ends within the time that was asked for. */
  readonly due: boolean
  /** What doesn't fit, in words. Empty where all is well. */
  readonly problems: readonly string[]
  /** It is of a CA of this cluster that no master trusts any more, in a place where somebody relies on it. */
  readonly stale: boolean
}

/**
 * Judge a census: what is due, who issued what, and what doesn't fit: a port that presents another certificate than the
 * file holds, a copy of a CA that no master has, a leaf of a CA that is nowhere. What is due and what is wrong comes first, of
 * these what ends first.
 */
export function judgeCensus(
  found: readonly CensusEntry[],
  { within, now = new Date() }: { within: number; now?: Date },
): JudgedEntry[] {
  const entries = ofTheCluster(found)
  const authorities = Map.groupBy(
    new Map(entries.filter(one => one.facts.isAuthority).map(one => [one.facts.fingerprint, one.facts])).values(),
    ({ subject }) => subject,
  )
  const trust = trustOf(entries)
  const replaced = new Set(entries.flatMap(one => (replacedCopy(one, trust) ? [keyOf(one.facts)] : [])))
  const leaves = Map.groupBy(
    entries.filter(({ kind, facts }) => kind === 'file' && !facts.isAuthority),
    ({ host }) => host,
  )
  const judge = (entry: CensusEntry): JudgedEntry => {
    const { facts } = entry
    const isRoot = facts.isAuthority && facts.issuer === facts.subject
    const issuer = isRoot ? facts : authorities.get(facts.issuer)?.find(one => issuedBy(facts, one))
    const left = facts.notAfter.getTime() - now.getTime()
    const problems: string[] = []
    if (left <= 0)
      problems.push(isKeyAlone(entry) ? 'expired, which nobody minds: tokens are verified by its key' : 'expired')
    if (facts.notBefore > now) problems.push(`not valid before ${facts.notBefore.toISOString()}`)
    if (!facts.isAuthority && (!issuer || madeInMemory.test(facts.issuerCommonName)))
      problems.push(unknownIssuer(facts))
    const copy = replacedCopy(entry, trust)
    if (copy !== undefined) problems.push(copy)
    const orphaned = issuer !== undefined && isOrphaned(entry, issuer, trust, replaced)
    if (orphaned) problems.push('is of a CA that no master trusts')
    problems.push(...mismatch(entry, leaves.get(entry.host) ?? []))
    return {
      ...entry,
      issuerFingerprint: issuer?.fingerprint,
      daysLeft: Math.floor(left / 86_400_000),
      due: left <= within && !isKeyAlone(entry),
      problems,
      stale: (copy !== undefined || orphaned) && isReliedOn(entry),
    }
  }
  return entries
    .map(judge)
    .sort(
      (a, b) =>
        rank(a) - rank(b) || a.facts.notAfter.getTime() - b.facts.notAfter.getTime() || a.where.localeCompare(b.where),
    )
}

/** A certificate that API servers take the key out of, to verify tokens with it: its end is nobody's. */
const isKeyAlone = ({ uses = [] }: CensusEntry) =>
  uses.length > 0 && uses.every(use => use.endsWith(' service-account-key-file'))

const isTrustedByMachine = ({ kind, place = '' }: CensusEntry) => kind === 'file' && isAnchor(place)

/**
 * Without the CAs of others that whole machines trust: of those only copies of what the cluster has anywhere else are its own, and what is
 * called like a CA of its masters, as those before it were.
 */
function ofTheCluster(found: readonly CensusEntry[]): readonly CensusEntry[] {
  const keys = new Set(found.filter(one => !isTrustedByMachine(one)).map(({ facts }) => keyOf(facts)))
  const { names } = trustOf(found)
  return found.filter(
    one => !isTrustedByMachine(one) || keys.has(keyOf(one.facts)) || names.has(stem(one.facts.commonName)),
  )
}

/** Whom masters trust, and where they are. */
interface Trust {
  /** The public keys of the CAs. None: no master was read, and nothing can be said. */
  readonly keys: ReadonlySet<string>
  /** What the names of the CAs begin with: those before them are called alike. */
  readonly names: ReadonlySet<string>
  /** The names and addresses that API servers present certificates for. */
  readonly servers: ReadonlySet<string>
}

/** Whether masters were read, so that a copy of a CA can be told from one that was replaced. */
export const knowsTrust = (entries: readonly CensusEntry[]) => trustOf(entries).keys.size > 0

function trustOf(entries: readonly CensusEntry[]): Trust {
  const hostsOf = (test: (entry: CensusEntry) => boolean) =>
    new Set(entries.flatMap(one => (one.host !== undefined && test(one) ? [one.host] : [])))
  const byUse = hostsOf(({ uses = [] }) => uses.some(use => use.startsWith('kube-apiserver ')))
  const masters = byUse.size > 0 ? byUse : hostsOf(isApiServer)
  const trusted = entries
    .filter(one => one.facts.isAuthority && isAuthorityFile(one))
    .filter(({ host = '' }) => masters.size === 0 || masters.has(host))
  return {
    keys: new Set(trusted.map(({ facts }) => keyOf(facts))),
    names: new Set(trusted.map(({ facts }) => stem(facts.commonName))),
    servers: new Set(entries.filter(isApiServer).flatMap(({ facts }) => [...facts.dnsNames, ...facts.ipAddresses])),
  }
}

const keyOf = ({ pem }: CertificateFacts) => publicKeyOf(pem) ?? pem

const isApiServer = ({ kind, component }: CensusEntry) => kind === 'served' && component === 'kube-apiserver'

const authorityPath =
  /\/(etc\/kubernetes\/(pki|ssl)|var\/lib\/kubernetes(\/pki)?|etc\/etcd(\/pki)?|etc\/ssl\/etcd\/ssl)\/(etcd\/|front-proxy-)?ca\.(crt|pem)$/
const authorityUse = /(ca-?file|certificate-authority|cluster-signing-cert-file)$/i

/** A file from which components learn whom to trust. */
const isAuthorityFile = ({ kind, place = '', uses = [], embedded }: CensusEntry) =>
  kind === 'file' && !embedded && (authorityPath.test(place) || uses.some(use => authorityUse.test(use)))

/** What the CA of a cluster is called, without what tells the ones that follow each other apart. */
export const stem = (commonName: string) =>
  // Nobody calls a CA so, and the search for what tells it apart would take long.
  commonName
    .slice(0, 256)
    .toLowerCase()
    .replace(/[\s_.-]*\(?(\d[\dtz:.-]*|[gv]\d+|[0-9a-f]{8,})\)?$/, '')
    .replace(/[\s_-]*ca$/, '')

/** What is wrong with a copy of a CA, in words: it was this cluster's, and no master trusts it. */
function replacedCopy(entry: CensusEntry, { keys, names, servers }: Trust): string | undefined {
  const { facts, kind, published, server, foreign, embedded } = entry
  if (!facts.isAuthority || keys.size === 0 || keys.has(keyOf(facts)) || foreign) return undefined
  if (published) return 'is a copy of a CA that no master has'
  if (server !== undefined) {
    // A kubeconfig of somebody may lead to other clusters as well.
    const host = hostOf(server)
    if (servers.has(host)) return 'a kubeconfig trusts this cluster by it, and no master has it'
    if (servers.size > 0 && !isLoopback(host)) return undefined
  }
  if (kind === 'file' && isAuthorityFile(entry)) return 'is a CA that no master has'
  if (!names.has(stem(facts.commonName))) return undefined
  if (isTrustedByMachine(entry))
    return 'is called like a CA of the cluster, no master has it, and the whole machine trusts it'
  if (kind === 'file' && !embedded) return 'is called like a CA of the cluster, and no master has it'
  return 'is a copy of a CA that is called like the cluster’s, and that no master has'
}

/** Whether what a CA signed is good for nothing in this cluster any more. */
function isOrphaned(
  { kind, facts }: CensusEntry,
  issuer: CertificateFacts,
  { keys, names }: Trust,
  replaced: ReadonlySet<string>,
): boolean {
  const key = keyOf(issuer)
  if (facts.isAuthority || isSelfMade(facts) || keys.size === 0 || keys.has(key)) return false
  // What is kept beside it, for a registry or an identity provider, has CAs of its own.
  return replaced.has(key) || kind === 'served' || (kind === 'file' && names.has(stem(issuer.commonName)))
}

/** Whether somebody goes by it: what only lies there, as backups do, is told, and no more. */
const isReliedOn = (entry: CensusEntry) =>
  entry.kind !== 'file' ||
  entry.embedded ||
  isAuthorityFile(entry) ||
  isTrustedByMachine(entry) ||
  entry.uses !== undefined

function hostOf(server: string): string {
  try {
    return new URL(server).hostname.replace(/^\[|\]$/g, '')
  } catch {
    return server
  }
}

const isLoopback = (host: string) => host === 'localhost' || host === '::1' || host.startsWith('127.')

/** What is due or doesn't fit, then what components made for themselves, as kubeadm leaves it, then what is well. */
function rank({ due, problems, facts }: JudgedEntry): number {
  // Of those that are self-made this is said in any case.
  if (due || problems.length > (isSelfMade(facts) ? 1 : 0)) return 0
  return problems.length > 0 ? 1 : 2
}

/** A kubelet's own certificate, and those of controller-manager and scheduler, come from a CA made in memory. */
const madeInMemory = /-ca@\d+$/

const isSelfMade = ({ isAuthority, subject, issuer, issuerCommonName }: CertificateFacts) =>
  !isAuthority && (subject === issuer || madeInMemory.test(issuerCommonName))

function unknownIssuer({ subject, issuer, issuerCommonName }: CertificateFacts): string {
  if (subject === issuer) return 'is self-signed: nobody can verify it'
  if (madeInMemory.test(issuerCommonName)) return 'is of a CA that its component made for itself: nobody can verify it'
  return `was issued by "${issuer}", and that CA is nowhere`
}

/** The files that a component serves from, by port: by its flags, and where kubeadm has them. */
const servedFiles: Record<string, readonly [flag: RegExp, path: RegExp]> = {
  '6443': [/^kube-apiserver tls-cert-file$/, /\/pki\/apiserver\.crt$/],
  '2379': [/^etcd cert-file$/, /\/etcd\/server\.crt$/],
  '2380': [/^etcd peer-cert-file$/, /\/etcd\/peer\.crt$/],
  '10250': [/^kubelet (tls-cert-file|tlsCertFile)$/, /\/kubelet\/pki\/(kubelet\.crt|kubelet-server-current\.pem)$/],
  '10257': [/^kube-controller-manager tls-cert-file$/, /\/pki\/kube-controller-manager\.crt$/],
  '10259': [/^kube-scheduler tls-cert-file$/, /\/pki\/kube-scheduler\.crt$/],
}

/**
 * A port that presents something else than its file holds: the component has not reread it.
 * @param leaves the certificates in files of its machine that are no CAs
 */
function mismatch({ kind, place, component, facts }: CensusEntry, leaves: readonly CensusEntry[]): string[] {
  if (kind !== 'served' || component.endsWith('(chain)')) return []
  const [flag, path] = servedFiles[place ?? ''] ?? []
  const byUse = leaves.filter(({ uses = [] }) => uses.some(use => flag?.test(use)))
  const files = byUse.length > 0 ? byUse : leaves.filter(one => path?.test(one.place ?? ''))
  const candidates = files.length > 0 ? files : leaves
  if (candidates.length === 0 || candidates.some(one => one.facts.fingerprint === facts.fingerprint)) return []
  if (files.length > 0) {
    const places = [...new Set(files.map(one => one.place))].join(' or ')
    return [`is not what ${places} holds: the component has not read that yet`]
  }
  // What a component made for itself lies in no file, and is told of already.
  if (isSelfMade(facts)) return []
  return ['lies in no file of this machine: the component has not read yet what is there now']
}
