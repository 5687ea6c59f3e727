// Every certificate of a cluster, and every copy of a CA: in files of its machines, on the ports of its components, in its
// API. Reads only.
import { Socket } from 'node:net'
import { quote } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import { type CertificateFacts, issuedBy, parseCertificates, splitBundle } from '../../pki/certificates/certificate.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { presentedCertificates, type TlsEndpoint } from '../components/endpoints.ts'
import { kubeletEndpoint, masterEndpoints } from '../layout/kubeadm/index.ts'

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

// Prints `== path` and the certificates of a file, whatever it is called; never a line with a key or a token. `!! ` and what
// find or grep said where something may not be read; `?? ` and a folder that is not there.
const readScript = (folders: readonly string[]) => `export LC_ALL=C
for d in ${folders.map(quote).join(' ')}; do
  [ -d "$d" ] || { printf '?? %s\\n' "$d"; continue; }
  find -H "$d" -path /var/lib/kubelet/pods -prune -o -name '.rekey*' -prune -o \\( -type f -o -type l \\) -size -1024k -exec grep -lE -e '-BEGIN CERTIFICATE-|certificate(-authority)?-data' {} + 2>&1
done | sort -u | while IFS= read -r f; do
  case $f in
  '?? '*) printf '%s\\n' "$f"; continue ;;
  *': Permission denied') printf '!! %s\\n' "$f"; continue ;;
  esac
  [ -f "$f" ] || continue
  printf '\\n== %s\\n' "$f"
  sed -n -e '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/{s/^[[:space:]]*//;p;}' "$f"
  grep -oE -e 'certificate(-authority)?-data"?: *"?[A-Za-z0-9+/=]+' "$f"
done; true`

const components: [pattern: RegExp, component: string][] = [
  [/\/etcd\//, 'etcd'],
  [/\/kubelet\/|kubelet\.conf/, 'kubelet'],
  [/controller-manager/, 'kube-controller-manager'],
  [/scheduler/, 'kube-scheduler'],
  [/admin\.conf/, 'admin'],
  [/\/etc\/kubernetes\//, 'kube-apiserver'],
]

/** Where machines of a cluster keep certificates: those of kubeadm, of kubespray, and of clusters made by hand. */
const certificateFolders = [
  ...[
    '/etc/kubernetes',
    '/var/lib/kubelet',
    '/var/lib/kubernetes',
    '/var/lib/kube-proxy',
    '/etc/etcd',
    '/etc/ssl/etcd',
  ],
  ...['/etc/cni/net.d', '/root/.kube'],
]

/**
 * Every certificate in the files of a machine, those of kubeconfigs among them. What is no certificate is told to `notice`.
 * @param more folders to look in beside the usual ones
 * @param missed is told where something may not be read, so that certificates may be missing
 */
export async function fileCertificates(
  session: HostSession,
  notice: (text: string) => void,
  more: readonly string[] = [],
  missed = notice,
): Promise<CensusEntry[]> {
  const { stdout } = await session.$({ quiet: true })`sh -c ${readScript([...certificateFolders, ...more])}`
  const host = session.host.name
  for (const folder of more)
    if (stdout.split('\n').includes(`?? ${folder}`)) notice(`${host}: there is no folder ${folder}`)
  const denied = stdout.match(/^!! .*$/gm) ?? []
  if (denied.length > 0) {
    const [first] = denied.map(line => line.replace(/^!! (find|grep): /, ''))
    const others = denied.length > 1 ? `, and ${denied.length - 1} more` : ''
    missed(`${host}: not everything may be read (${first}${others}): certificates may be missing here; try --become`)
  }
  return stdout
    .split(/^== /m)
    .slice(1)
    .flatMap(section => {
      const [path = '', ...lines] = section.split('\n')
      const where = `${host}:${path}`
      const component = components.find(([pattern]) => pattern.test(path))?.[1] ?? 'unknown'
      return parsed(eachOnce(lines.join('\n')), where, notice).map(facts => ({
        ...{ where, kind: 'file' as const, host, place: path, component, facts },
      }))
    })
}

/** Every certificate of a text, and of kubeconfigs in it, once. */
const eachOnce = (value: unknown) => [...new Set(splitBundle(withEmbedded(value)))].join('')

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
  // Those of Helm hold its own archives, and are big.
  [
    'Secret',
    `/api/v1/secrets?fieldSelector=${encodeURIComponent('type!=helm.sh/release.v1')}`,
    ({ data }) => decodedValues(data),
  ],
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

const encoded = (value: unknown) => (typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '')

const decodedValues = (data: Record<string, unknown> = {}) => Object.values(data).map(encoded)

/** Every certificate that the API keeps: published CAs, Secrets of any type, webhooks, API services, conversions. */
export async function apiCertificates(api: KubernetesApi, notice: (text: string) => void): Promise<CensusEntry[]> {
  const found: CensusEntry[] = []
  for (const [kind, path, extract] of apiCarriers) {
    for (const object of await api.list(path)) {
      const { namespace, name } = object.metadata
      const where = `${kind} ${namespace ? `${namespace}/` : ''}${name}`
      for (const facts of parsed(eachOnce(extract(object)), where, notice)) {
        found.push({ where, kind: 'api', component: 'API', facts })
      }
    }
  }
  return found
}

/** All texts within a value, and the certificates that kubeconfigs in them hold (cluster-info does). */
function withEmbedded(value: unknown): string {
  if (typeof value === 'string') {
    const blobs = [...value.matchAll(/certificate-(?:authority-)?data"?: *"?([A-Za-z0-9+/=]+)/g)]
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
 * file holds, a copy of a CA that no API server has, a leaf of a CA that is nowhere. What is due and what is wrong comes first, of
 * these what ends first.
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
        rank(a) - rank(b) || a.facts.notAfter.getTime() - b.facts.notAfter.getTime() || a.where.localeCompare(b.where),
    )
}

/** What is due or doesn't fit, then what components made for themselves, as kubeadm leaves it, then what is well. */
function rank({ due, problems, facts }: JudgedEntry): number {
  // Of those that are self-made this is said in any case.
  if (due || problems.length > (isSelfMade(facts) ? 1 : 0)) return 0
  return problems.length > 0 ? 1 : 2
}

const authorityFile =
  /\/(etc\/kubernetes\/(pki|ssl)|var\/lib\/kubernetes|etc\/etcd(\/pki)?|etc\/ssl\/etcd\/ssl)\/(etcd\/|front-proxy-)?ca\.(crt|pem)$/

/** The copies of the cluster's own CA; webhooks and TLS Secrets have CAs of their own. */
const isClusterCopy = ({ where, facts }: CensusEntry) =>
  facts.isAuthority && /kube-root-ca\.crt$|kube-public\/cluster-info$|extension-apiserver-authentication$/.test(where)

/** A kubelet's own certificate, and those of controller-manager and scheduler, come from a CA made in memory. */
const madeInMemory = /-ca@\d+$/

const isSelfMade = ({ isAuthority, subject, issuer, issuerCommonName }: CertificateFacts) =>
  !isAuthority && (subject === issuer || madeInMemory.test(issuerCommonName))

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
  const leaves = entries.filter(one => one.kind === 'file' && one.host === host && !one.facts.isAuthority)
  const pattern = servedFiles[place ?? '']
  const files = leaves.filter(one => pattern?.test(one.place ?? ''))
  const candidates = files.length > 0 ? files : leaves
  if (candidates.length === 0 || candidates.some(one => one.facts.fingerprint === facts.fingerprint)) return []
  if (files.length > 0) {
    return [`is not what ${files.map(one => one.place).join(' or ')} holds: the component has not read that yet`]
  }
  // What a component made for itself lies in no file, and is told of already.
  if (isSelfMade(facts)) return []
  return ['lies in no file of this machine: the component has not read yet what is there now']
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
