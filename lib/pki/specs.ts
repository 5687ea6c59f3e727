// Certificates to be issued: by which CA, for whom, with which names; and the Vault mounts, roles and policy that issue exactly
// those. Which of them a cluster needs, and where they lie, says its layout (lib/kubernetes/layout).
import { RekeyError } from '../errors.ts'
import type { PolicyLine, RoleSettings } from './vault/contract.ts'
import { durationSeconds } from './vault/duration.ts'
import { runTokenPolicy } from './vault/run-token.ts'

/** The roles of CAs in a cluster. With `pki_authorities: one` one CA has them all. */
export type AuthorityName = 'kubernetes' | 'etcd' | 'front-proxy'

/** The roles that a CA can have, that of the cluster itself first. */
export const authorityNames: readonly AuthorityName[] = ['kubernetes', 'etcd', 'front-proxy']

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
  /** What is issued once, and lies in several files or under several names: the same for all specs of it. */
  readonly issue?: string
}

/** The file whose certificate a place is known by. */
export function placePath(place: CertificatePlace): string {
  return place.kind === 'pair' ? place.certificate : place.path
}

function unionOf<T>(...lists: readonly (readonly T[])[]): T[] {
  return [...new Set(lists.flat())]
}

/** One CA in Vault: a mount, and which roles it has in the cluster. */
export interface AuthorityPlan {
  readonly mount: string
  readonly commonName: string
  readonly authorities: readonly AuthorityName[]
  /** The controller-manager signs with the cluster's CA: that key leaves Vault once. The others stay inside. */
  readonly keyOnMasters: boolean
}

/** What says which CAs there are to be. */
export interface AuthorityOptions {
  readonly mount?: string
  readonly controllerManagerSigns?: boolean
  /** The roles that the cluster has a CA for. */
  readonly roles?: readonly AuthorityName[]
  /** Those that must have one between them, whatever is asked for. */
  readonly sharing?: readonly (readonly AuthorityName[])[]
  /** Which of those that follow each other: old and new are told apart by their names, in error messages above all. */
  readonly generation?: string
}

/** The CAs of `pki_authorities`: one for everything, or one for each role, in mounts that start with `mount`. */
export function authorityPlans(
  count: 'one' | 'three',
  {
    mount = 'pki_k8s',
    controllerManagerSigns = true,
    roles = authorityNames,
    sharing = [],
    generation,
  }: AuthorityOptions = {},
): AuthorityPlan[] {
  const commonName = (role: AuthorityName) => (generation === undefined ? `${role}-ca` : `${role}-ca-${generation}`)
  if (count === 'one') {
    return [{ mount, commonName: commonName('kubernetes'), authorities: roles, keyOnMasters: controllerManagerSigns }]
  }
  const groupOf = (name: AuthorityName) =>
    sharing.find(group => group.includes(name))?.filter(one => roles.includes(one)) ?? [name]
  return roles
    .filter(name => groupOf(name)[0] === name)
    .map(name => ({
      mount: name === 'kubernetes' ? mount : `${mount}_${name.replaceAll('-', '_')}`,
      commonName: commonName(name),
      authorities: groupOf(name),
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
  const sides = (['serverAuth', 'clientAuth'] as const)
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
