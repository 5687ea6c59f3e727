// The certificates of a cluster that kubeadm laid out: which file, by which CA, for whom, with which names.
import { RekeyError } from '../../../errors.ts'
import { type AuthorityName, type CertificatePlace, type CertificateSpec, placePath } from '../../../pki/specs.ts'
import type { ExtraNames, MachineFacts } from '../layout.ts'
import { adminKubeconfig, authorities, directory, kubelet, pair } from './files.ts'

interface Row {
  readonly id: string
  readonly component: string
  readonly authority: AuthorityName
  readonly usages: CertificateSpec['usages']
  readonly place: CertificatePlace
  /** One for all masters, or one for each machine. */
  readonly scope: 'masters' | 'each master' | 'each machine'
  /** kubeadm does not make it on every master, or in every version. */
  readonly optional?: boolean
  /** A CA without which nobody needs it. */
  readonly onlyWith?: string
  /** The node's name and addresses belong into it. */
  readonly servesNode?: boolean
  readonly servesLocalhost?: boolean
  readonly commonName?: (machine: MachineFacts) => string
  readonly organizations?: readonly string[]
}

const pki = (name: string): CertificatePlace => ({ kind: 'pair', ...pair(name) })
const kubeconfig = (path: string): CertificatePlace => ({ kind: 'kubeconfig', path })
const kubeletClient: CertificatePlace = { kind: 'combined', path: kubelet.client }
const kubeletServing: CertificatePlace = { kind: 'pair', ...kubelet.serving }

const client = ['clientAuth'] as const
const server = ['serverAuth'] as const
const both = ['serverAuth', 'clientAuth'] as const

const optional = { optional: true }
const servesNode = { servesNode: true, servesLocalhost: true }
const nodeIdentity = {
  commonName: ({ nodeName }: MachineFacts) => `system:node:${nodeName}`,
  organizations: ['system:nodes'],
}

function row(
  id: string,
  component: string,
  authority: AuthorityName,
  usages: CertificateSpec['usages'],
  place: CertificatePlace,
  scope: Row['scope'],
  more: Partial<Row> = {},
): Row {
  return { id, component, authority, usages, place, scope, ...more }
}

// CN and O come from the certificate that is there, since kubeadm's have changed over its versions; a row that names
// its own is for files that may hold another name, or not be there.
const rows: readonly Row[] = [
  row('apiserver', 'kube-apiserver', 'kubernetes', server, pki('apiserver'), 'masters'),
  row('apiserver-kubelet-client', 'kube-apiserver', 'kubernetes', client, pki('apiserver-kubelet-client'), 'masters'),
  row('apiserver-etcd-client', 'kube-apiserver', 'etcd', client, pki('apiserver-etcd-client'), 'masters'),
  row('front-proxy-client', 'kube-apiserver', 'front-proxy', client, pki('front-proxy-client'), 'masters', {
    onlyWith: authorities['front-proxy'].certificate,
  }),
  row('etcd-server', 'etcd', 'etcd', both, pki('etcd/server'), 'each master', servesNode),
  row('etcd-peer', 'etcd', 'etcd', both, pki('etcd/peer'), 'each master', servesNode),
  row('etcd-healthcheck-client', 'etcd', 'etcd', client, pki('etcd/healthcheck-client'), 'masters', optional),
  row('admin', 'admin', 'kubernetes', client, kubeconfig(adminKubeconfig), 'masters'),
  row('super-admin', 'admin', 'kubernetes', client, kubeconfig(`${directory}/super-admin.conf`), 'masters', optional),
  row(
    'controller-manager',
    'kube-controller-manager',
    'kubernetes',
    client,
    kubeconfig(`${directory}/controller-manager.conf`),
    'masters',
  ),
  row('scheduler', 'kube-scheduler', 'kubernetes', client, kubeconfig(`${directory}/scheduler.conf`), 'masters'),
  row('kubelet-client', 'kubelet', 'kubernetes', client, kubeletClient, 'each machine', nodeIdentity),
  row('kubelet-serving', 'kubelet', 'kubernetes', server, kubeletServing, 'each machine', {
    servesNode: true,
    ...nodeIdentity,
  }),
]

/** Serving certificates that kubeadm leaves out, so that these two sign their own at each start. */
const servingRows: readonly Row[] = ['kube-controller-manager', 'kube-scheduler'].map(component =>
  row(`${component}-serving`, component, 'kubernetes', server, pki(component), 'each master', {
    ...servesNode,
    commonName: () => component,
  }),
)

/**
 * Every certificate that a kubeadm cluster needs anew, with the names of those it replaces and what its machines need.
 * With `componentServing` controller-managers and schedulers get serving certificates of the CA too, which their
 * manifests must then name (`--tls-cert-file`).
 * Throws `RekeyError` where a machine lacks a certificate that kubeadm makes, or masters disagree on one they share.
 */
export function certificates(
  machines: readonly MachineFacts[],
  { apiServer = {}, componentServing = false }: { apiServer?: ExtraNames; componentServing?: boolean } = {},
): CertificateSpec[] {
  const masters = machines.filter(machine => machine.controlPlane)
  const all = componentServing ? [...rows, ...servingRows] : rows
  const isNeeded = ({ onlyWith }: Row) =>
    onlyWith === undefined || masters.some(machine => machine.certificates.has(onlyWith))
  return all.filter(isNeeded).flatMap(row => {
    if (row.scope === 'masters') {
      const holders = masters.filter(machine => machine.certificates.has(placePath(row.place)))
      if (!row.optional) requireAll(row, masters, holders)
      const extra = row.id === 'apiserver' ? apiServer : {}
      return holders.length > 0 ? [specOf(row, holders, extra)] : []
    }
    return (row.scope === 'each master' ? masters : machines).map(machine =>
      specOf(placed(row, machine), [machine], {}),
    )
  })
}

/**
 * `host:path` of every certificate that was found and that neither the specs nor the CA files replace: what a rotation
 * would leave behind under the old CA. Earlier certificates that a kubelet keeps beside its current one don't count.
 */
export function unplannedCertificates(
  machines: readonly MachineFacts[],
  specs: readonly CertificateSpec[],
): { host: string; path: string }[] {
  const planned = new Set(specs.flatMap(spec => spec.hosts.map(host => `${host}:${placePath(spec.place)}`)))
  const ofAuthorities = new Set(Object.values(authorities).map(files => files.certificate))
  const superseded = (path: string) =>
    path.startsWith(`${kubelet.pki}/`) && /\/kubelet-(client|server)-\d.*\.pem$/.test(path)
  return machines.flatMap(machine =>
    [...machine.certificates.keys()]
      // kubelet.conf names the kubelet's own file, or holds the same certificate.
      .filter(path => path !== kubelet.kubeconfig && !ofAuthorities.has(path) && !superseded(path))
      .filter(path => !planned.has(`${machine.name}:${path}`))
      .map(path => ({ host: machine.name, path })),
  )
}

function specOf(row: Row, holders: readonly MachineFacts[], extra: ExtraNames): CertificateSpec {
  const path = placePath(row.place)
  const olds = holders.flatMap(machine => machine.certificates.get(path) ?? [])
  const names = row.commonName ? [row.commonName(holders[0]!)] : [...new Set(olds.map(old => old.commonName))]
  if (names.length === 0) {
    throw new RekeyError(`${holders[0]!.name} has no ${path}, which kubeadm makes`, {
      code: 'pki.certificate-missing',
      hint: 'This plan is for clusters that kubeadm laid out, with stacked etcd.',
    })
  }
  if (names.length > 1) {
    const has = holders.map(machine => `${machine.name}: ${machine.certificates.get(path)?.commonName}`).join(', ')
    throw new RekeyError(`The masters don't agree on the CN of ${path} (${has})`, { code: 'pki.masters-disagree' })
  }
  const serving = row.servesNode ? holders : []
  const localhost = row.servesLocalhost ?? false
  return {
    id: row.id,
    component: row.component,
    authority: row.authority,
    usages: unionOf(row.usages, olds.flatMap(old => old.extendedKeyUsages).filter(isTlsUsage)),
    place: row.place,
    hosts: holders.map(machine => machine.name),
    commonName: names[0]!,
    organizations: unionOf(
      row.organizations ?? [],
      olds.flatMap(old => old.organizations),
    ),
    dnsNames: unionOf(
      olds.flatMap(old => old.dnsNames),
      serving.map(machine => machine.nodeName),
      localhost ? ['localhost'] : [],
      extra.dnsNames ?? [],
    ),
    ipAddresses: unionOf(
      olds.flatMap(old => old.ipAddresses),
      serving.flatMap(machine => machine.addresses),
      localhost ? ['127.0.0.1'] : [],
      extra.ipAddresses ?? [],
    ),
    renamed: row.commonName !== undefined && olds.some(old => old.commonName !== names[0]),
  }
}

/** A kubelet that asks the cluster for its serving certificate keeps it in a file of another name. */
function placed(row: Row, machine: MachineFacts): Row {
  if (row.id !== 'kubelet-serving' || !machine.certificates.has(kubelet.requestedServing)) return row
  return { ...row, place: { kind: 'combined', path: kubelet.requestedServing } }
}

function requireAll(row: Row, masters: readonly MachineFacts[], holders: readonly MachineFacts[]): void {
  const without = masters.find(machine => !holders.includes(machine))
  if (!without) return
  throw new RekeyError(`${without.name} has no ${placePath(row.place)}, which kubeadm makes`, {
    code: 'pki.certificate-missing',
    hint: 'This plan is for clusters that kubeadm laid out, with stacked etcd.',
  })
}

const isTlsUsage = (usage: string): usage is 'serverAuth' | 'clientAuth' =>
  usage === 'serverAuth' || usage === 'clientAuth'

function unionOf<T>(...lists: readonly (readonly T[])[]): T[] {
  return [...new Set(lists.flat())]
}
