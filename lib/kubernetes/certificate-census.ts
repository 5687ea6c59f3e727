// Every certificate of a cluster, and every copy of a CA: in files of its machines, on the ports of its components, in its
// API. Reads only.
import { Socket } from 'node:net'
import { quote } from '../connection/shell.ts'
import { RekeyError } from '../errors.ts'
import { type CertificateFacts, issuedBy, parseCertificates, splitBundle } from '../pki/certificate.ts'
import type { Host } from '../playbook/host.ts'
import type { HostSession } from '../playbook/model.ts'
import type { KubernetesApi, KubernetesObject } from './api.ts'
import { kubeletEndpoint, masterEndpoints, presentedCertificates, type TlsEndpoint } from './endpoints.ts'
import { readKubeconfig } from './kubeconfig.ts'

/** One certificate at one place. */
export interface CensusEntry {
  /** `m1:/etc/kubernetes/pki/apiserver.crt`, `m1:6443`, `ConfigMap default/kube-root-ca.crt`. */
  readonly where: string
  readonly kind: 'file' | 'served' | 'api'
  readonly host?: string
  /** The file, or the port. */
  readonly place?: string
  readonly component: string
  readonly facts: CertificateFacts
}

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
}

// Prints `== path`, then the certificates of the file; of kubeconfigs everything but keys and tokens.
const readScript = (folders: readonly string[]) => `for d in ${folders.map(quote).join(' ')}; do
  [ -d "$d" ] || continue
  find "$d" -path /var/lib/kubelet/pods -prune -o -path '*/.rekey*' -prune -o \\( -type f -o -type l \\) \\( -name '*.crt' -o -name '*.pem' -o -name '*.cert' -o -name '*.conf' -o -name '*.kubeconfig' \\) -print 2>/dev/null
done | sort | while IFS= read -r f; do
  [ -f "$f" ] || continue
  printf '== %s\\n' "$f"
  case $f in
  *.conf|*.kubeconfig) sed -e 's/client-key-data:.*/client-key-data: ""/' -e 's/token:.*/token: ""/' "$f" ;;
  *) sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p' "$f" ;;
  esac
done; true`

const components: [pattern: RegExp, component: string][] = [
  [/\/etcd\//, 'etcd'],
  [/\/kubelet\/|kubelet\.conf/, 'kubelet'],
  [/controller-manager/, 'kube-controller-manager'],
  [/scheduler/, 'kube-scheduler'],
  [/admin\.conf/, 'admin'],
  [/\/etc\/kubernetes\//, 'kube-apiserver'],
]

/** Where machines of a cluster keep certificates. */
const certificateFolders = ['/etc/kubernetes', '/var/lib/kubelet', '/etc/etcd']

/** Every certificate in the files of a machine. What can't be read as a certificate is told to `notice`. */
export async function fileCertificates(
  session: HostSession,
  notice: (text: string) => void,
  folders: readonly string[] = certificateFolders,
): Promise<CensusEntry[]> {
  const { stdout } = await session.$({ quiet: true })`sh -c ${readScript(folders)}`
  const host = session.host.name
  return stdout
    .split(/^== /m)
    .slice(1)
    .flatMap(section => {
      const [path = '', ...lines] = section.split('\n')
      const where = `${host}:${path}`
      const component = components.find(([pattern]) => pattern.test(path))?.[1] ?? 'unknown'
      const text = lines.join('\n')
      const pems = /\.(conf|kubeconfig)$/.test(path) ? kubeconfigCertificates(text, where) : text
      return parsed(pems, where, notice).map(facts => ({
        ...{ where, kind: 'file' as const, host, place: path, component, facts },
      }))
    })
}

/** CA and client certificate of a kubeconfig; nothing of other files that are called alike. */
function kubeconfigCertificates(text: string, where: string): string {
  if (!/^kind: *Config/m.test(text)) return ''
  try {
    const { ca, certificate = '' } = readKubeconfig(text, where)
    return `${ca}\n${certificate}`
  } catch {
    return ''
  }
}

/** What the components of a machine present on their ports now, whatever lies on disk. Closed ports are left out. */
export async function servedCertificates(
  session: HostSession,
  notice: (text: string) => void,
  endpoints: readonly TlsEndpoint[],
): Promise<CensusEntry[]> {
  const host = session.host.name
  const all = await Promise.all(
    endpoints.map(async ({ address, port, component }) => {
      const where = `${host}:${port}`
      const open = await session.forward(address, port).catch(() => undefined)
      if (!open) return []
      if (open instanceof Socket) open.setNoDelay(true)
      try {
        const chain = await presentedCertificates(async () => open, where)
        return parsed(chain, where, notice).map((facts, index) => ({
          ...{ where, kind: 'served' as const, host, place: String(port), facts },
          component: index === 0 ? component : `${component} (chain)`,
        }))
      } catch (error) {
        notice((error as Error).message)
        return []
      }
    }),
  )
  return all.flat()
}

type Extract = (object: KubernetesObject) => unknown

const apiCarriers: [kind: string, path: string, extract: Extract][] = [
  ['ConfigMap', '/api/v1/configmaps', ({ data }) => data],
  ['Secret', secretsOf('kubernetes.io/service-account-token'), ({ data }) => encoded(data?.['ca.crt'])],
  ['Secret', secretsOf('kubernetes.io/tls'), ({ data }) => [encoded(data?.['tls.crt']), encoded(data?.['ca.crt'])]],
  ...(['Validating', 'Mutating'] as const).map((kind): [string, string, Extract] => [
    `${kind}WebhookConfiguration`,
    `/apis/admissionregistration.k8s.io/v1/${kind.toLowerCase()}webhookconfigurations`,
    ({ webhooks }) => (webhooks ?? []).map((one: KubernetesObject) => encoded(one['clientConfig']?.caBundle)),
  ]),
  ['APIService', '/apis/apiregistration.k8s.io/v1/apiservices', ({ spec }) => encoded(spec?.caBundle)],
  [
    'CustomResourceDefinition',
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    ({ spec }) => encoded(spec?.conversion?.webhook?.clientConfig?.caBundle),
  ],
]

function secretsOf(type: string): string {
  return `/api/v1/secrets?fieldSelector=type%3D${encodeURIComponent(type)}`
}

const encoded = (value: unknown) => (typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '')

/** Every certificate that the API keeps: published CAs, token and TLS Secrets, webhooks, API services, conversions. */
export async function apiCertificates(api: KubernetesApi, notice: (text: string) => void): Promise<CensusEntry[]> {
  const found: CensusEntry[] = []
  for (const [kind, path, extract] of apiCarriers) {
    for (const object of await api.list(path)) {
      const { namespace, name } = object.metadata
      const where = `${kind} ${namespace ? `${namespace}/` : ''}${name}`
      const text = withEmbedded(extract(object))
      const pems = [...new Set(splitBundle(text))].join('')
      for (const facts of pems ? parsed(pems, where, notice) : []) {
        found.push({ where, kind: 'api', component: 'API', facts })
      }
    }
  }
  return found
}

/** All texts within a value, and the certificates that kubeconfigs in them hold (cluster-info does). */
function withEmbedded(value: unknown): string {
  if (typeof value === 'string') {
    const blobs = [...value.matchAll(/certificate-(?:authority-)?data: *([A-Za-z0-9+/=]+)/g)]
    return [value, ...blobs.map(([, blob]) => encoded(blob))].join('\n')
  }
  if (typeof value !== 'object' || value === null) return ''
  return Object.values(value).map(withEmbedded).join('\n')
}

function parsed(pems: string, where: string, notice: (text: string) => void): CertificateFacts[] {
  if (splitBundle(pems).length === 0) return []
  try {
    return parseCertificates(pems, where)
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    notice(error.message)
    return []
  }
}

/**
 * Judge a census: what is due, who issued what, and what doesn't fit: a port that presents another certificate than the
 * file holds, a copy of a CA that no API server has, a leaf of a CA that is nowhere. What is wrong comes first, then what
 * ends first.
 */
export function judgeCensus(
  entries: readonly CensusEntry[],
  { within, now = new Date() }: { within: number; now?: Date },
): JudgedEntry[] {
  const authorities = [
    ...new Map(entries.filter(one => one.facts.isAuthority).map(one => [one.facts.fingerprint, one.facts])).values(),
  ]
  const trusted = new Set(
    entries
      .filter(({ kind, place, facts }) => kind === 'file' && place && authorityFile.test(place) && facts.isAuthority)
      .map(({ facts }) => facts.fingerprint),
  )
  return entries
    .map((entry): JudgedEntry => {
      const { facts } = entry
      const issuer =
        facts.isAuthority && facts.issuer === facts.subject ? facts : authorities.find(one => issuedBy(facts, one))
      const left = facts.notAfter.getTime() - now.getTime()
      const problems: string[] = []
      if (left <= 0) problems.push('expired')
      if (facts.notBefore > now) problems.push(`not valid before ${facts.notBefore.toISOString()}`)
      if (!facts.isAuthority && (!issuer || madeInMemory.test(facts.issuerCommonName))) {
        problems.push(unknownIssuer(facts))
      } else if (
        issuer &&
        !facts.isAuthority &&
        entry.kind !== 'api' &&
        trusted.size > 0 &&
        !trusted.has(issuer.fingerprint)
      ) {
        problems.push('is of a CA that no master trusts')
      }
      problems.push(...mismatch(entry, entries))
      if (entry.kind === 'api' && isClusterCopy(entry) && trusted.size > 0 && !trusted.has(facts.fingerprint)) {
        problems.push('is a copy of a CA that no master has')
      }
      return {
        ...entry,
        issuerFingerprint: issuer?.fingerprint,
        daysLeft: Math.floor(left / 86_400_000),
        due: left <= within,
        problems,
      }
    })
    .sort(
      (a, b) =>
        Number(b.problems.length > 0) - Number(a.problems.length > 0) ||
        a.facts.notAfter.getTime() - b.facts.notAfter.getTime() ||
        a.where.localeCompare(b.where),
    )
}

const authorityFile = /\/etc\/kubernetes\/pki\/((etcd\/|front-proxy-)?ca)\.crt$/

/** The copies of the cluster's own CA; webhooks and TLS Secrets have CAs of their own. */
const isClusterCopy = ({ where, facts }: CensusEntry) =>
  facts.isAuthority && /kube-root-ca\.crt$|kube-public\/cluster-info$|extension-apiserver-authentication$/.test(where)

/** A kubelet's own certificate, and those of controller-manager and scheduler, come from a CA made in memory. */
const madeInMemory = /-ca@\d+$/

function unknownIssuer({ subject, issuer, issuerCommonName }: CertificateFacts): string {
  if (subject === issuer) return 'is self-signed: nobody can verify it'
  if (madeInMemory.test(issuerCommonName)) return 'is of a CA that its component made for itself: nobody can verify it'
  return `was issued by "${issuer}", and that CA is nowhere`
}

/** The files that a component serves from, by port. */
const servedFiles: Record<string, RegExp> = {
  '6443': /\/pki\/apiserver\.crt$/,
  '2379': /\/etcd\/server\.crt$/,
  '2380': /\/etcd\/peer\.crt$/,
  '10250': /\/kubelet\/pki\/(kubelet\.crt|kubelet-server-current\.pem)$/,
  '10257': /\/pki\/kube-controller-manager\.crt$/,
  '10259': /\/pki\/kube-scheduler\.crt$/,
}

/** A port that presents something else than its file holds: the component has not reread it. */
function mismatch({ kind, host, place, component, facts }: CensusEntry, entries: readonly CensusEntry[]): string[] {
  if (kind !== 'served' || component.endsWith('(chain)')) return []
  const pattern = servedFiles[place ?? '']
  const files = entries.filter(one => one.kind === 'file' && one.host === host && pattern?.test(one.place ?? ''))
  if (files.length === 0 || files.some(one => one.facts.fingerprint === facts.fingerprint)) return []
  return [`is not what ${files.map(one => one.place).join(' or ')} holds: the component has not read that yet`]
}

/**
 * Every port that a machine of a cluster may serve on, as a master and as a node. etcd's peers are served on the node's own
 * address: `nodeAddress`, else the inventory's `node_ip`, else where the machine is reached.
 */
export function endpointsOf(
  { vars, connection }: Pick<Host, 'vars' | 'connection'>,
  nodeAddress?: string,
): TlsEndpoint[] {
  const { node_ip: named } = vars as { node_ip?: unknown }
  const address = nodeAddress ?? (typeof named === 'string' ? named : connection.address)
  return [...masterEndpoints(address), kubeletEndpoint]
}

/**
 * The address that the API has for the node that a machine is: by its inventory name, by the address where it is reached, or by
 * the host name that it has itself. Undefined where it is no node.
 */
export async function nodeAddress(
  session: Pick<HostSession, 'host' | '$'>,
  nodes: readonly KubernetesObject[],
): Promise<string | undefined> {
  const { name, connection } = session.host
  const addresses = (node: KubernetesObject) =>
    (node['status']?.addresses ?? []) as { readonly type: string; readonly address: string }[]
  const called = (hostName: string) =>
    nodes.find(
      node => node.metadata.name === hostName || addresses(node).some(one => one.address === connection.address),
    )
  const node = called(name) ?? (nodes.length > 0 ? called((await session.$`hostname`).stdout.trim()) : undefined)
  return node && addresses(node).find(({ type }) => type === 'InternalIP')?.address
}
