// Which certificates a cluster needs anew, from what was found on its machines: what its components name, with the names that are there now.
import { posix } from 'node:path'
import { RekeyError } from '../../errors.ts'
import type { CertificateFacts } from '../../pki/certificates/certificate.ts'
import {
  type AuthorityName,
  authorityNames,
  type CertificatePlace,
  type CertificateSpec,
  placePath,
} from '../../pki/specs.ts'
import {
  type AuthorityKeys,
  authorityKeys,
  authorityRoles,
  authorityShares,
  oldAuthorities,
  signerOf,
  trustedAuthorities,
} from './authorities.ts'
import type { ComponentName, FileRole, HostLayout, NamedFile } from './host-layout.ts'
import { kubeadmLayout, kubelet } from './kubeadm/index.ts'
import type { ExtraNames, MachineFacts } from './layout.ts'

/** What runs on a machine; as kubeadm has it, where nobody looked. */
export function layoutOfMachine({ layout, name, controlPlane }: MachineFacts): HostLayout {
  return layout ?? kubeadmLayout(name, controlPlane)
}

/** A certificate of a component, and what the plan makes of it. */
interface Row {
  readonly id: string
  readonly component: string
  readonly authority: AuthorityName
  readonly usages: CertificateSpec['usages']
  /** Where it lies on a machine: in several places, where each may hold another one; undefined where that has none. */
  readonly find: (
    machine: MachineFacts,
    layout: HostLayout,
  ) => CertificatePlace | readonly CertificatePlace[] | undefined
  /** Under one path it is one for all masters, whatever each of them has there now; else only where they have the same. */
  readonly oneForMasters?: boolean
  /** Made where it is not there yet. */
  readonly made?: boolean
  /** It is named by nobody, and nobody misses it. */
  readonly optional?: boolean
  /** The node's name and addresses belong into it, and what is on every machine. */
  readonly serves?: (layout: HostLayout, machine: MachineFacts) => 'node' | 'node and localhost' | undefined
  /** Its CN and O are the node's, or the component's, whatever is there. */
  readonly identity?: (layout: HostLayout, machine: MachineFacts) => Identity | undefined
}

interface Identity {
  readonly commonName: string
  readonly organizations?: readonly string[]
}

const client = ['clientAuth'] as const
const server = ['serverAuth'] as const
const both = ['serverAuth', 'clientAuth'] as const

const filesOf = (layout: HostLayout, component: ComponentName, ...roles: FileRole[]) =>
  layout.components[component]?.files.filter(({ role }) => roles.includes(role)) ?? []

const fileOf = (...words: Parameters<typeof filesOf>) => filesOf(...words)[0]

function placeOf(file: NamedFile | undefined): CertificatePlace | undefined {
  if (!file?.key) return undefined
  const { path, key } = file
  return path === key.path ? { kind: 'combined', path } : { kind: 'pair', certificate: path, key: key.path }
}

const named =
  (component: ComponentName, ...roles: FileRole[]): Row['find'] =>
  (_, layout) =>
    filesOf(layout, component, ...roles).flatMap(file => placeOf(file) ?? [])

/**
 * The certificates by which a component is a client of the API: files that its kubeconfigs name, and what those hold themselves. It may have
 * a kubeconfig of its own for asking who somebody is (`--authentication-kubeconfig`).
 */
const asClient =
  (component: ComponentName): Row['find'] =>
  ({ certificates }, layout) => [
    ...filesOf(layout, component, 'client').flatMap(file => placeOf(file) ?? []),
    ...filesOf(layout, component, 'kubeconfig').flatMap(({ path }) =>
      certificates.has(path) ? [{ kind: 'kubeconfig', path } as const] : [],
    ),
  ]

/** The kubelet's own, of which it makes the next one itself: it keeps it beside its kubeconfig, whatever that holds. */
const ofKubelet: Row['find'] = (machine, layout) => {
  const current = ownClientFile(layout)
  return machine.certificates.has(current) && layout.components.kubelet
    ? { kind: 'combined', path: current }
    : asClient('kubelet')(machine, layout)
}

/** Where a kubelet keeps what it makes itself. */
export function kubeletFolder({ components }: HostLayout): string {
  return components.kubelet?.flags['cert-dir']?.at(-1) ?? kubelet.pki
}

/** Where a kubelet keeps the client certificate that it makes anew itself: a link to the last one. */
export const ownClientFile = (layout: HostLayout): string =>
  posix.join(kubeletFolder(layout), 'kubelet-client-current.pem')

/** A serving certificate that nobody gave to the kubelet: one that it asked the cluster for keeps it in another file. */
const kubeletServing: Row['find'] = (machine, layout) => {
  const file = fileOf(layout, 'kubelet', 'serving')
  const requested = posix.join(kubeletFolder(layout), 'kubelet-server-current.pem')
  return file && isOfKubelet(layout) && machine.certificates.has(requested)
    ? { kind: 'combined', path: requested }
    : placeOf(file)
}

const isOfKubelet = ({ components }: HostLayout) => components.kubelet?.flags['tls-cert-file'] === undefined

const isStaticPod = ({ components }: HostLayout, component: ComponentName) =>
  components[component]?.runs.kind === 'static-pod'

const nodeIdentity: Row['identity'] = (_, { nodeName }) => ({
  commonName: `system:node:${nodeName}`,
  organizations: ['system:nodes'],
})

const adminKubeconfigs = [
  '/etc/kubernetes/admin.conf',
  '/etc/kubernetes/admin.kubeconfig',
  '/etc/kubernetes/kubectl.kubeconfig',
  '/var/lib/kubernetes/admin.kubeconfig',
  '/root/admin.kubeconfig',
  '/root/.kube/config',
]

/** The administrator's kubeconfig on a master; undefined where it has none of those that are usual. */
export function adminKubeconfigOf(files: { has(path: string): boolean }): string | undefined {
  return adminKubeconfigs.find(path => files.has(path))
}

/** Beside the CA of etcd, on masters whose etcd kubeadm made: what its health checks were done with. */
const healthcheck: Row['find'] = ({ certificates }, layout) => {
  const ca = fileOf(layout, 'etcd', 'client-ca')
  if (!ca || !isStaticPod(layout, 'etcd')) return undefined
  const stem = posix.join(posix.dirname(ca.path), 'healthcheck-client')
  return certificates.has(`${stem}.crt`) ? { kind: 'pair', certificate: `${stem}.crt`, key: `${stem}.key` } : undefined
}

/** Where the serving certificate of a controller lies: where its flag says; beside the API server's, where it is a static pod without. */
function controllerServing(layout: HostLayout, component: 'kube-controller-manager' | 'kube-scheduler') {
  const given = placeOf(fileOf(layout, component, 'serving'))
  if (given || !isStaticPod(layout, component)) return given
  const apiServer = fileOf(layout, 'kube-apiserver', 'serving')
  if (!apiServer) return undefined
  const stem = posix.join(posix.dirname(apiServer.path), component)
  return { kind: 'pair', certificate: `${stem}.crt`, key: `${stem}.key` } as const
}

const kubernetes = 'kubernetes'

// CN and O come from the certificate that is there, and so do all names: what goes by them is not known. To kubeadm's, what kubeadm itself
// would put into them is added.
const rows: readonly Row[] = [
  {
    ...{ id: 'apiserver', component: 'kube-apiserver', authority: kubernetes, usages: server, oneForMasters: true },
    find: named('kube-apiserver', 'serving'),
  },
  {
    ...{ id: 'apiserver-sni', component: 'kube-apiserver', authority: kubernetes, usages: server, oneForMasters: true },
    find: named('kube-apiserver', 'sni'),
  },
  {
    ...{ id: 'apiserver-kubelet-client', component: 'kube-apiserver', authority: kubernetes, usages: client },
    ...{ oneForMasters: true, find: named('kube-apiserver', 'kubelet-client') },
  },
  {
    ...{ id: 'apiserver-etcd-client', component: 'kube-apiserver', authority: 'etcd', usages: client },
    ...{ oneForMasters: true, find: named('kube-apiserver', 'etcd-client') },
  },
  {
    ...{ id: 'front-proxy-client', component: 'kube-apiserver', authority: 'front-proxy', usages: client },
    ...{ oneForMasters: true, find: named('kube-apiserver', 'front-proxy-client') },
  },
  ...(['server', 'peer'] as const).map(
    (name): Row => ({
      ...{ id: `etcd-${name}`, component: 'etcd', authority: 'etcd', usages: both },
      find: named('etcd', name === 'server' ? 'serving' : name),
      serves: layout => (isStaticPod(layout, 'etcd') ? 'node and localhost' : undefined),
    }),
  ),
  {
    ...{ id: 'etcd-healthcheck-client', component: 'etcd', authority: 'etcd', usages: client, oneForMasters: true },
    ...{ find: healthcheck, optional: true },
  },
  {
    ...{ id: 'etcd-client', component: 'etcd', authority: 'etcd', usages: client },
    find: named('etcd', 'etcd-client'),
    // An environment may name what was never made.
    optional: true,
  },
  {
    ...{ id: 'admin', component: 'admin', authority: kubernetes, usages: client, oneForMasters: true, optional: true },
    find: ({ controlPlane, certificates }) => {
      const path = controlPlane ? adminKubeconfigOf(certificates) : undefined
      return path === undefined ? undefined : { kind: 'kubeconfig', path }
    },
  },
  {
    ...{ id: 'super-admin', component: 'admin', authority: kubernetes, usages: client, oneForMasters: true },
    ...{ optional: true },
    find: ({ controlPlane }) =>
      controlPlane ? { kind: 'kubeconfig', path: '/etc/kubernetes/super-admin.conf' } : undefined,
  },
  ...(['controller-manager', 'scheduler'] as const).map(
    (name): Row => ({
      ...{ id: name, component: `kube-${name}`, authority: kubernetes, usages: client, oneForMasters: true },
      find: asClient(`kube-${name}`),
    }),
  ),
  {
    ...{ id: 'kubelet-client', component: 'kubelet', authority: kubernetes, usages: client, find: ofKubelet },
    identity: nodeIdentity,
  },
  {
    ...{ id: 'kubelet-serving', component: 'kubelet', authority: kubernetes, usages: server, find: kubeletServing },
    made: true,
    serves: layout => (isOfKubelet(layout) ? 'node' : undefined),
    identity: (layout, machine) => (isOfKubelet(layout) ? nodeIdentity(layout, machine) : undefined),
  },
  {
    ...{ id: 'kube-proxy', component: 'kube-proxy', authority: kubernetes, usages: client },
    find: asClient('kube-proxy'),
  },
]

/** Serving certificates that kubeadm leaves out, so that these two sign their own at each start. */
const servingRows = (['kube-controller-manager', 'kube-scheduler'] as const).map(
  (component): Row => ({
    ...{ id: `${component}-serving`, component, authority: kubernetes, usages: server, made: true },
    find: (_, layout) => controllerServing(layout, component),
    serves: layout => (isStaticPod(layout, component) ? 'node and localhost' : undefined),
    identity: layout => (isStaticPod(layout, component) ? { commonName: component } : undefined),
  }),
)

/** A certificate on the machines that hold it, in all of its roles. */
interface Draft {
  readonly id: string
  readonly rows: Row[]
  readonly place: CertificatePlace
  readonly machines: MachineFacts[]
}

/** What is planned for a cluster. */
export interface CertificatePlan {
  readonly specs: CertificateSpec[]
  /** The CAs of before, PEM, by their role: only those that the cluster has. */
  readonly oldAuthorities: Readonly<Partial<Record<AuthorityName, string>>>
  /** Roles that must have one CA between them: one file says whom several of them trust, or one certificate is presented in them. */
  readonly sharing: readonly (readonly AuthorityName[])[]
}

/**
 * Every certificate that a cluster needs anew, each once, with the names of those it replaces.
 * With `componentServing` controller-managers and schedulers of static pods get serving certificates of the CA too, which their manifests
 * must then name (`--tls-cert-file`).
 * Throws `RekeyError` where a machine lacks a certificate that something names, or masters disagree on one they share.
 */
export function planOfCluster(
  machines: readonly MachineFacts[],
  { apiServer = {}, componentServing = false }: { apiServer?: ExtraNames; componentServing?: boolean } = {},
): CertificatePlan {
  const layouts = machines.map(layoutOfMachine)
  const old = oldAuthorities(machines, layouts)
  const keys = authorityKeys(trustedAuthorities(machines, layouts))
  const drafts = draftsOf(machines, componentServing ? [...rows, ...servingRows] : rows, keys)
  const specs = drafts.map(draft => specOf(draft, draft.rows[0]?.id === 'apiserver' ? apiServer : {}))
  const same = sameIn(drafts)
  const presented = same.map(group => [
    ...new Set(group.flatMap(({ rows: own }) => own.map(({ authority }) => authority))),
  ])
  const sharing = authorityShares([...authorityRoles(layouts), ...presented])
  return { specs: issuedOnce(specs, drafts, same), oldAuthorities: old, sharing }
}

/** The certificates alone. */
export function certificates(
  machines: readonly MachineFacts[],
  options?: Parameters<typeof planOfCluster>[1],
): CertificateSpec[] {
  return planOfCluster(machines, options).specs
}

function draftsOf(machines: readonly MachineFacts[], all: readonly Row[], authorities: AuthorityKeys): Draft[] {
  const drafts: Draft[] = []
  for (const row of all) {
    for (const machine of machines) {
      for (const place of [row.find(machine, layoutOfMachine(machine)) ?? []].flat())
        addTo(drafts, row, machine, place, authorities)
    }
  }
  for (const draft of drafts) addCopies(draft, drafts, machines)
  return drafts
}

function addTo(drafts: Draft[], row: Row, machine: MachineFacts, place: CertificatePlace, authorities: AuthorityKeys) {
  const path = placePath(place)
  const present = machine.certificates.get(path)
  if (!present && row.optional) return
  if (!present && !row.made) throw missing(machine, path, row)
  if (present && !row.identity?.(layoutOfMachine(machine), machine) && isForeign(present, authorities)) return
  const known = drafts.find(
    draft => draft.machines.includes(machine) && realOf(machine, placePath(draft.place)) === realOf(machine, path),
  )
  if (known) {
    if (!known.rows.includes(row)) known.rows.push(row)
    return
  }
  const same = drafts.find(
    draft =>
      draft.rows.includes(row) &&
      placePath(draft.place) === path &&
      (row.oneForMasters || sameCertificate(draft.machines[0]?.certificates.get(path), present)),
  )
  if (same) same.machines.push(machine)
  else {
    const before = drafts.filter(draft => draft.rows.includes(row) && draft.machines.includes(machine)).length
    drafts.push({ id: before === 0 ? row.id : `${row.id}-${before + 1}`, rows: [row], place, machines: [machine] })
  }
}

/**
 * Copies on other machines, under the same path: kubeasz hands the administrator's kubeconfig out to nodes, and Kubespray keeps what all
 * members of etcd have on the first of them, from where it would bring the old ones back.
 */
function addCopies(
  { place, machines: holders }: Draft,
  drafts: readonly Draft[],
  machines: readonly MachineFacts[],
): void {
  const path = placePath(place)
  const present = holders.flatMap(machine => machine.certificates.get(path) ?? [])
  const isPlanned = (machine: MachineFacts) =>
    drafts.some(
      draft => draft.machines.includes(machine) && realOf(machine, placePath(draft.place)) === realOf(machine, path),
    )
  const copies = machines.filter(
    machine => present.some(one => sameCertificate(one, machine.certificates.get(path))) && !isPlanned(machine),
  )
  holders.push(...copies)
}

/** Whether a file lies where somebody lives. */
export const isInHome = (path: string) => /^\/(root|home)\//.test(path)

const realOf = ({ reals }: MachineFacts, path: string) => reals?.get(path) ?? path

function sameCertificate(one: CertificateFacts | undefined, other: CertificateFacts | undefined): boolean {
  return one !== undefined && one.fingerprint === other?.fingerprint && one.subject === other.subject
}

/** Somebody else's CA signed it: the API may be served with a certificate that the company buys. */
function isForeign({ pem }: CertificateFacts, authorities: AuthorityKeys): boolean {
  return pem !== '' && authorities.length > 0 && signerOf(pem, authorities) === undefined
}

function missing({ name }: MachineFacts, path: string, { component }: Row): RekeyError {
  return new RekeyError(`${name} has no ${path}, which ${component} names`, {
    code: 'pki.certificate-missing',
    hint: 'What a component names must be there before it can be made anew.',
  })
}

function specOf({ id, rows: own, place, machines }: Draft, extra: ExtraNames): CertificateSpec {
  const [row] = own
  const [first] = machines
  if (!row || !first) throw new RekeyError('a certificate without a place', { code: 'pki.no-place' })
  const path = placePath(place)
  const olds = machines.flatMap(machine => machine.certificates.get(path) ?? [])
  const identity = own.flatMap(one => one.identity?.(layoutOfMachine(first), first) ?? [])[0]
  const names = identity ? [identity.commonName] : [...new Set(olds.map(old => old.commonName))]
  if (names.length === 0) throw missing(first, path, row)
  if (names.length > 1) {
    const has = machines.map(machine => `${machine.name}: ${machine.certificates.get(path)?.commonName}`).join(', ')
    throw new RekeyError(`The masters don't agree on the CN of ${path} (${has})`, { code: 'pki.masters-disagree' })
  }
  const serves = own.flatMap(one => one.serves?.(layoutOfMachine(first), first) ?? [])
  const serving = serves.length > 0 ? machines : []
  const localhost = serves.includes('node and localhost')
  return {
    id,
    component: row.component,
    authority: row.authority,
    usages: unionOf(...own.map(({ usages }) => usages), olds.flatMap(old => old.extendedKeyUsages).filter(isTlsUsage)),
    place,
    hosts: machines.map(({ name }) => name),
    commonName: names[0] ?? '',
    organizations: unionOf(
      identity?.organizations ?? [],
      olds.flatMap(old => old.organizations),
    ),
    dnsNames: unionOf(
      olds.flatMap(old => old.dnsNames),
      serving.flatMap(({ nodeName }) => nodeName ?? []),
      localhost ? ['localhost'] : [],
      extra.dnsNames ?? [],
    ),
    ipAddresses: unionOf(
      olds.flatMap(old => old.ipAddresses),
      serving.flatMap(({ addresses }) => addresses),
      localhost ? ['127.0.0.1'] : [],
      extra.ipAddresses ?? [],
    ),
    renamed: identity !== undefined && olds.some(old => old.commonName !== names[0]),
  }
}

/** Drafts of what is one certificate now, in several files; each draft once. */
function sameIn(drafts: readonly Draft[]): Draft[][] {
  const present = (draft: Draft) => {
    const olds = draft.machines.map(machine => machine.certificates.get(placePath(draft.place)))
    const [old] = olds
    return old?.pem && olds.every(one => sameCertificate(one, old)) ? old.fingerprint : draft
  }
  return [...Map.groupBy(drafts, present).values()]
}

/** One certificate that lies in several files stays one: it is issued once for all of them, for all that they are used for. */
function issuedOnce(
  specs: readonly CertificateSpec[],
  drafts: readonly Draft[],
  groups: readonly (readonly Draft[])[],
): CertificateSpec[] {
  return specs.map((spec, index) => {
    const group = groups.find(one => one.some(draft => draft === drafts[index])) ?? []
    if (group.length < 2) return spec
    const same = group.flatMap(draft => specs[drafts.indexOf(draft)] ?? [])
    return {
      ...spec,
      authority: authorityNames.find(name => same.some(({ authority }) => authority === name)) ?? spec.authority,
      usages: unionOf(...same.map(({ usages }) => usages)),
      organizations: unionOf(...same.map(({ organizations }) => organizations)),
      dnsNames: unionOf(...same.map(({ dnsNames }) => dnsNames)),
      ipAddresses: unionOf(...same.map(({ ipAddresses }) => ipAddresses)),
      issue: same.map(({ id, hosts }) => `${id} ${hosts[0]}`).join(' '),
    }
  })
}

/**
 * `host:path` of every certificate that was found and that neither the specs nor the CA files replace: what a rotation
 * would leave behind under the old CA. Earlier certificates that a kubelet keeps beside its current one don't count, nor do those of which
 * only the key is used.
 */
export function unplannedCertificates(
  machines: readonly MachineFacts[],
  specs: readonly CertificateSpec[],
): { host: string; path: string }[] {
  return machines.flatMap(machine => {
    const layout = layoutOfMachine(machine)
    const files = Object.values(layout.components).flatMap(component => component?.files ?? [])
    const known = new Set(
      [
        ...specs.flatMap(({ hosts, place }) => (hosts.includes(machine.name) ? [placePath(place)] : [])),
        // A kubeconfig that something names is written anew, whatever it holds.
        ...files.flatMap(({ role, path }) => (knownRoles.has(role) ? [path] : [])),
      ].map(path => realOf(machine, path)),
    )
    const superseded = new RegExp(
      `^${kubeletFolder(layout).replaceAll(/[.+]/g, '\\$&')}/kubelet-(client|server)-\\d.*\\.pem$`,
    )
    return (
      [...machine.certificates.keys()]
        // What people keep in their homes is theirs.
        .filter(path => !isInHome(path) && !known.has(realOf(machine, path)) && !superseded.test(realOf(machine, path)))
        .map(path => ({ host: machine.name, path }))
    )
  })
}

const knownRoles: ReadonlySet<FileRole> = new Set([
  ...(['client-ca', 'peer-ca', 'etcd-ca', 'kubelet-ca', 'front-proxy-ca', 'root-ca', 'api-ca', 'signing'] as const),
  ...(['kubeconfig', 'service-account-verify', 'service-account-sign'] as const),
])

const isTlsUsage = (usage: string): usage is 'serverAuth' | 'clientAuth' =>
  usage === 'serverAuth' || usage === 'clientAuth'

function unionOf<T>(...lists: readonly (readonly T[])[]): T[] {
  return [...new Set(lists.flat())]
}
