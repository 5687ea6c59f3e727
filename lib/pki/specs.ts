// The certificates of a cluster that kubeadm laid out: which file, by which CA, for whom, with which names; and the Vault
// mounts, roles and policy that issue exactly those.
import { RekeyError } from '../errors.ts'
import type { CertificateFacts } from './certificate.ts'
import { runTokenPolicy } from './run-token.ts'
import { durationSeconds, type PolicyLine, type RoleSettings } from './vault.ts'

/** kubeadm's three CAs. With `pki_authorities: one` they are one CA, in three files. */
export type AuthorityName = 'kubernetes' | 'etcd' | 'front-proxy'

export interface AuthorityFiles {
  readonly certificate: string
  readonly key: string
  /** The subject that kubeadm gives it. */
  readonly commonName: string
}

/** Where kubeadm keeps each CA. */
export const kubeadmAuthorities: Readonly<Record<AuthorityName, AuthorityFiles>> = {
  kubernetes: {
    certificate: '/etc/kubernetes/pki/ca.crt',
    key: '/etc/kubernetes/pki/ca.key',
    commonName: 'kubernetes',
  },
  etcd: {
    certificate: '/etc/kubernetes/pki/etcd/ca.crt',
    key: '/etc/kubernetes/pki/etcd/ca.key',
    commonName: 'etcd-ca',
  },
  'front-proxy': {
    certificate: '/etc/kubernetes/pki/front-proxy-ca.crt',
    key: '/etc/kubernetes/pki/front-proxy-ca.key',
    commonName: 'front-proxy-ca',
  },
}

/** Where a certificate and its key lie: two files, one file with both, or a kubeconfig that holds both. */
export type CertificatePlace =
  | { readonly kind: 'pair'; readonly certificate: string; readonly key: string }
  | { readonly kind: 'combined'; readonly path: string }
  | { readonly kind: 'kubeconfig'; readonly path: string }

/** One certificate to be issued. */
export interface CertificateSpec {
  /** Unique together with `hosts`: `apiserver`, `etcd-peer`, `kubelet-client`, … */
  readonly id: string
  /** Who presents it. */
  readonly component: string
  readonly authority: AuthorityName
  readonly usages: readonly ('serverAuth' | 'clientAuth')[]
  readonly place: CertificatePlace
  /** The hosts that hold it: issued once and copied where there are several. */
  readonly hosts: readonly string[]
  readonly commonName: string
  readonly organizations: readonly string[]
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
  /** The CN of the one that it replaces may differ (the kubelet's self-signed one has a time in it). */
  readonly renamed: boolean
}

/** What was found on one machine. */
export interface MachineFacts {
  /** Its inventory name. */
  readonly name: string
  readonly nodeName: string
  readonly controlPlane: boolean
  /** The addresses of the node: what its serving certificates must hold. */
  readonly addresses: readonly string[]
  /** The first certificate in each file that was found, kubeconfigs by their client certificate. */
  readonly certificates: ReadonlyMap<string, CertificateFacts>
}

/** Names to add to the API servers' certificate, beside those that it has. */
export interface ExtraNames {
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
}

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
  /** The node's name and addresses belong into it. */
  readonly servesNode?: boolean
  readonly servesLocalhost?: boolean
  readonly commonName?: (machine: MachineFacts) => string
  readonly organizations?: readonly string[]
}

const pki = (name: string): CertificatePlace => ({
  kind: 'pair',
  certificate: `/etc/kubernetes/pki/${name}.crt`,
  key: `/etc/kubernetes/pki/${name}.key`,
})
const kubeconfig = (name: string): CertificatePlace => ({ kind: 'kubeconfig', path: `/etc/kubernetes/${name}.conf` })
const kubelet = '/var/lib/kubelet/pki'
const kubeletClient: CertificatePlace = { kind: 'combined', path: `${kubelet}/kubelet-client-current.pem` }
const kubeletServing: CertificatePlace = {
  kind: 'pair',
  certificate: `${kubelet}/kubelet.crt`,
  key: `${kubelet}/kubelet.key`,
}

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
  row('front-proxy-client', 'kube-apiserver', 'front-proxy', client, pki('front-proxy-client'), 'masters'),
  row('etcd-server', 'etcd', 'etcd', both, pki('etcd/server'), 'each master', servesNode),
  row('etcd-peer', 'etcd', 'etcd', both, pki('etcd/peer'), 'each master', servesNode),
  row('etcd-healthcheck-client', 'etcd', 'etcd', client, pki('etcd/healthcheck-client'), 'masters', optional),
  row('admin', 'admin', 'kubernetes', client, kubeconfig('admin'), 'masters'),
  row('super-admin', 'admin', 'kubernetes', client, kubeconfig('super-admin'), 'masters', optional),
  row(
    'controller-manager',
    'kube-controller-manager',
    'kubernetes',
    client,
    kubeconfig('controller-manager'),
    'masters',
  ),
  row('scheduler', 'kube-scheduler', 'kubernetes', client, kubeconfig('scheduler'), 'masters'),
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
export function kubeadmCertificates(
  machines: readonly MachineFacts[],
  { apiServer = {}, componentServing = false }: { apiServer?: ExtraNames; componentServing?: boolean } = {},
): CertificateSpec[] {
  const masters = machines.filter(machine => machine.controlPlane)
  const all = componentServing ? [...rows, ...servingRows] : rows
  return all.flatMap(row => {
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

/** The file whose certificate a place is known by. */
export function placePath(place: CertificatePlace): string {
  return place.kind === 'pair' ? place.certificate : place.path
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
  const authorities = new Set(Object.values(kubeadmAuthorities).map(files => files.certificate))
  const superseded = /^\/var\/lib\/kubelet\/pki\/kubelet-(client|server)-\d.*\.pem$/
  return machines.flatMap(machine =>
    [...machine.certificates.keys()]
      // kubelet.conf names the kubelet's own file, or holds the same certificate.
      .filter(path => path !== '/etc/kubernetes/kubelet.conf' && !authorities.has(path) && !superseded.test(path))
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
  const requested = `${kubelet}/kubelet-server-current.pem`
  if (row.id !== 'kubelet-serving' || !machine.certificates.has(requested)) return row
  return { ...row, place: { kind: 'combined', path: requested } }
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

/** One CA in Vault: a mount, and which of kubeadm's CA files it fills. */
export interface AuthorityPlan {
  readonly mount: string
  readonly commonName: string
  readonly authorities: readonly AuthorityName[]
  /** The controller-manager signs with the cluster's CA: that key leaves Vault once. The others stay inside. */
  readonly keyOnMasters: boolean
}

/** The CAs of `pki_authorities`: one for everything, or kubeadm's three, in mounts that start with `mount`. */
export function authorityPlans(
  count: 'one' | 'three',
  { mount = 'pki_k8s', controllerManagerSigns = true } = {},
): AuthorityPlan[] {
  const names = Object.keys(kubeadmAuthorities) as AuthorityName[]
  if (count === 'one') {
    return [{ mount, commonName: 'kubernetes', authorities: names, keyOnMasters: controllerManagerSigns }]
  }
  return names.map(name => ({
    mount: name === 'kubernetes' ? mount : `${mount}_${name.replaceAll('-', '_')}`,
    commonName: kubeadmAuthorities[name].commonName,
    authorities: [name],
    keyOnMasters: name === 'kubernetes' && controllerManagerSigns,
  }))
}

/** A role in Vault: the O and the usages of a certificate are the role's in Vault, not the request's. */
export interface VaultRole {
  readonly mount: string
  readonly name: string
  readonly settings: RoleSettings
}

export interface IssuingSettings {
  /** How long certificates hold, e.g. `17520h`. */
  readonly ttl: string
  readonly keyType?: 'rsa' | 'ec' | 'ed25519'
  readonly keyBits?: number
}

/** The name of a certificate's role: its CA, its usages, its organizations. `kubernetes-client-system-masters`. */
export function roleName({ authority, usages, organizations }: CertificateSpec): string {
  const sides = both
    .filter(usage => usages.includes(usage))
    .map(usage => (usage === 'serverAuth' ? 'server' : 'client'))
  const parts = [authority, ...sides, ...organizations.map(name => name.replaceAll(/[^A-Za-z0-9]+/g, '-'))]
  return parts.join('-').toLowerCase()
}

/**
 * The roles that issue exactly these certificates: no DNS name beyond theirs, no O but theirs. CNs like
 * `system:node:m1` are no host names, so Vault's check of the CN is off and SANs alone are restricted.
 */
export function vaultRoles(
  specs: readonly CertificateSpec[],
  plans: readonly AuthorityPlan[],
  { ttl, keyType = 'rsa', keyBits }: IssuingSettings,
): VaultRole[] {
  const groups = Map.groupBy(specs, spec => `${mountOf(spec, plans)}/${roleName(spec)}`)
  return [...groups.values()].map(group => {
    const { usages, organizations } = group[0]!
    return {
      mount: mountOf(group[0]!, plans),
      name: roleName(group[0]!),
      settings: {
        allowed_domains: unionOf(...group.map(spec => spec.dnsNames)).sort(),
        allow_bare_domains: true,
        allow_subdomains: false,
        allow_any_name: false,
        // Only where it is asked for: it is in allowed_domains then.
        allow_localhost: false,
        allow_ip_sans: group.some(spec => spec.ipAddresses.length > 0),
        cn_validations: ['disabled'],
        server_flag: usages.includes('serverAuth'),
        client_flag: usages.includes('clientAuth'),
        key_type: keyType,
        key_bits: keyBits ?? (keyType === 'rsa' ? 2048 : keyType === 'ec' ? 256 : 0),
        key_usage: keyType === 'rsa' ? ['DigitalSignature', 'KeyEncipherment'] : ['DigitalSignature'],
        organization: organizations,
        ttl,
        max_ttl: ttl,
        // Machines whose clocks are behind must take it at once.
        not_before_duration: notBeforeDuration,
      },
    }
  })
}

/** How far certificates and roots are dated back: clocks may be up to a minute apart. */
export const notBeforeDuration = '120s'

/**
 * What the operator's token needs to prepare a rotation: mounts, roots, roles, and the policy and token of the run
 * (`sudo`, since Vault lets no other token give a child a policy that it lacks itself).
 */
export function preparingPolicy(
  plans: readonly AuthorityPlan[],
  roles: readonly VaultRole[],
  runPolicy: string,
): PolicyLine[] {
  return [
    { path: 'sys/mounts', capabilities: ['read'] },
    ...plans.flatMap(({ mount, keyOnMasters }) => [
      { path: `sys/mounts/${mount}`, capabilities: ['update'] },
      { path: `sys/mounts/${mount}/tune`, capabilities: ['update'] },
      { path: `${mount}/issuers/generate/root/${keyOnMasters ? 'exported' : 'internal'}`, capabilities: ['update'] },
      { path: `${mount}/config/issuers`, capabilities: ['update'] },
      // To see which CA is the default, and to take the new one away again where the run is rolled back.
      { path: `${mount}/issuer/+`, capabilities: ['read', 'delete'] },
      { path: `${mount}/key/+`, capabilities: ['delete'] },
    ]),
    ...roles.map(({ mount, name }) => ({
      path: `${mount}/roles/${name}`,
      capabilities: ['read', 'create', 'update'],
    })),
    ...runTokenPolicy(runPolicy),
  ]
}

/** Everything that the token of a run needs: to issue from these roles, and to read the CA certificates. */
export function issuingPolicy(roles: readonly VaultRole[]): PolicyLine[] {
  const mounts = [...new Set(roles.map(role => role.mount))]
  return [
    ...roles.map(role => ({ path: `${role.mount}/issue/${role.name}`, capabilities: ['update'] })),
    ...mounts.map(mount => ({ path: `${mount}/cert/ca`, capabilities: ['read'] })),
  ]
}

/** The mount that issues a certificate. */
export function mountOf({ authority }: Pick<CertificateSpec, 'authority'>, plans: readonly AuthorityPlan[]): string {
  const plan = plans.find(one => one.authorities.includes(authority))
  if (!plan) throw new RekeyError(`No mount is planned for the CA "${authority}"`, { code: 'pki.no-authority' })
  return plan.mount
}

/** What `.` is in the templates for a certificate (`templates/README.md` lists it for their authors). */
export function certificateData(
  spec: CertificateSpec,
  plans: readonly AuthorityPlan[],
  { ttl }: Pick<IssuingSettings, 'ttl'>,
): Record<string, unknown> {
  durationSeconds(ttl)
  return {
    Vault: { Mount: mountOf(spec, plans), Role: roleName(spec) },
    Certificate: {
      CommonName: spec.commonName,
      DNSNames: spec.dnsNames,
      IPAddresses: spec.ipAddresses,
      TTL: ttl,
    },
  }
}
