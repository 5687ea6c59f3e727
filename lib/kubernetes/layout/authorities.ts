// The CAs of a cluster by what its components name them for: which roles each file has, which roles can't be told apart, where keys lie.
import { type KeyObject, X509Certificate } from 'node:crypto'
import { joinBundle, splitBundle } from '../../pki/certificates/certificate.ts'
import { joined } from '../../pki/keyset.ts'
import { type AuthorityName, authorityNames } from '../../pki/specs.ts'
import type { ComponentName, FileRole, HostLayout, NamedFile } from './host-layout.ts'
import type { MachineFacts } from './layout.ts'

/** Whose CA a file holds, by what it is named for; undefined where it is none. */
export function authorityOf(component: ComponentName, role: FileRole): AuthorityName | undefined {
  switch (role) {
    case 'client-ca':
      return component === 'etcd' ? 'etcd' : 'kubernetes'
    case 'peer-ca':
    case 'etcd-ca':
      return 'etcd'
    case 'front-proxy-ca':
      return 'front-proxy'
    case 'kubelet-ca':
    case 'root-ca':
    case 'api-ca':
    case 'signing':
      return 'kubernetes'
    default:
      return undefined
  }
}

/** A file that holds the CA of some roles, once however many flags name it. */
export interface AuthorityFile {
  /** Where it lies. */
  readonly real: string
  readonly authorities: readonly AuthorityName[]
}

const named = ({ components }: HostLayout): (NamedFile & { readonly component: ComponentName })[] =>
  Object.values(components).flatMap(found =>
    found ? found.files.map(file => ({ ...file, component: found.component })) : [],
  )

/** The files of CAs on a host. */
export function authorityFilesOf(layout: HostLayout): AuthorityFile[] {
  const files = new Map<string, Set<AuthorityName>>()
  for (const { component, role, real } of named(layout)) {
    const authority = authorityOf(component, role)
    if (authority) files.set(real, (files.get(real) ?? new Set()).add(authority))
  }
  return [...files].map(([real, authorities]) => ({
    real,
    authorities: authorityNames.filter(name => authorities.has(name)),
  }))
}

/** Where the key of the cluster's CA lies for the controller-manager to sign with: for requests of each kind it may be told another file. */
export function signingKeysOf(layout: HostLayout): string[] {
  const files = layout.components['kube-controller-manager']?.files.filter(({ role }) => role === 'signing') ?? []
  return [...new Set(files.flatMap(({ key }) => key?.real ?? []))]
}

/** What may be the key of a CA by its name: `ca.key`, `ca-key.pem`. */
export function keyNamesOf(certificate: string): string[] {
  const stem = certificate.replace(/\.(crt|pem|cert|cer)$/, '')
  return stem === certificate ? [] : [`${stem}.key`, `${stem}-key.pem`]
}

/** The roles of each file of a CA that has several, on any host. */
export function authorityRoles(layouts: readonly HostLayout[]): (readonly AuthorityName[])[] {
  return layouts.flatMap(layout => authorityFilesOf(layout).map(({ authorities }) => authorities))
}

/** Roles that go together, joined where they have one in common: `[[a, b], [b, c]]` is `[[a, b, c]]`. */
export function authorityShares(together: readonly (readonly AuthorityName[])[]): AuthorityName[][] {
  return joined(together)
    .filter(({ length }) => length > 1)
    .map(group => authorityNames.filter(name => group.includes(name)))
}

const authoritySources: readonly (readonly [AuthorityName, ComponentName, FileRole])[] = [
  ['kubernetes', 'kube-apiserver', 'client-ca'],
  ['etcd', 'etcd', 'client-ca'],
  ['etcd', 'kube-apiserver', 'etcd-ca'],
  ['front-proxy', 'kube-apiserver', 'front-proxy-ca'],
]

/** The CAs that the cluster has now, PEM, by their roles, as the first machine that names each has it: of a bundle, the first. */
export function oldAuthorities(
  machines: readonly MachineFacts[],
  layouts: readonly HostLayout[],
): Partial<Record<AuthorityName, string>> {
  const old: Partial<Record<AuthorityName, string>> = {}
  for (const [name, [pem]] of trusted(machines, layouts)) if (pem) old[name] ??= pem
  return old
}

/** Every CA that is trusted on some machine, PEM, by its role: a bundle of the old one and the new one, while one follows the other. */
export function trustedAuthorities(
  machines: readonly MachineFacts[],
  layouts: readonly HostLayout[],
): Partial<Record<AuthorityName, string>> {
  const all = trusted(machines, layouts)
  return Object.fromEntries(
    authorityNames
      .map(name => [name, joinBundle(...all.flatMap(([role, pems]) => (role === name ? pems : [])))] as const)
      .filter(([, bundle]) => bundle !== ''),
  )
}

function trusted(
  machines: readonly MachineFacts[],
  layouts: readonly HostLayout[],
): (readonly [AuthorityName, readonly string[]])[] {
  return authoritySources.flatMap(([name, component, role]) =>
    layouts.map((layout, index) => {
      const path = layout.components[component]?.files.find(one => one.role === role)?.path ?? ''
      const machine = machines[index]
      const first = machine?.certificates.get(path)
      return [name, machine?.bundles?.get(path) ?? (first ? [first.pem] : [])] as const
    }),
  )
}

/** The public keys of CAs with their roles. */
export type AuthorityKeys = readonly (readonly [AuthorityName, KeyObject])[]

/** The keys of CAs, PEM, alone or in bundles, of those roles that there are. */
export function authorityKeys(authorities: Readonly<Partial<Record<AuthorityName, string>>>): AuthorityKeys {
  return authorityNames.flatMap(name =>
    splitBundle(authorities[name] ?? '').map(pem => [name, new X509Certificate(pem).publicKey] as const),
  )
}

/** The first CA whose key signed a certificate, PEM, whatever that says of its issuer; undefined where none did. */
export function signerOf(pem: string, authorities: AuthorityKeys): AuthorityName | undefined {
  const certificate = new X509Certificate(pem)
  return authorities.find(([, key]) => certificate.verify(key))?.[0]
}

/** The file of a CA that API servers verify the tokens of service accounts with; undefined where these have a key of their own. */
export function tokenAuthorityOf(layout: HostLayout): NamedFile | undefined {
  const authorities = new Set(authorityFilesOf(layout).map(({ real }) => real))
  return layout.components['kube-apiserver']?.files.find(
    ({ role, real }) => role === 'service-account-verify' && authorities.has(real),
  )
}

/** A file of a CA by which a component signs or verifies tokens. */
export interface OfAuthority {
  readonly component: ComponentName
  readonly role: 'service-account-verify' | 'service-account-sign'
  readonly file: NamedFile
}

/** The files of CAs by which the tokens of service accounts are signed and verified: none where these have keys of their own. */
export function tokenFilesOfAuthorities(layout: HostLayout): OfAuthority[] {
  const files = named(layout)
  const authorities = new Set(authorityFilesOf(layout).map(({ real }) => real))
  const keys = new Set(files.flatMap(({ role, key }) => (role === 'signing' && key ? [key.real] : [])))
  return files.flatMap(({ component, ...file }): OfAuthority[] => {
    const { role, real } = file
    const isSo =
      (role === 'service-account-verify' && authorities.has(real)) ||
      (role === 'service-account-sign' && (keys.has(real) || authorities.has(real)))
    return isSo ? [{ component, role, file }] : []
  })
}

/** Whether the tokens of service accounts are signed with the key of a CA or verified with its certificate, as kubeasz has it. */
export function authoritySignsTokens(layout: HostLayout): boolean {
  return tokenFilesOfAuthorities(layout).length > 0
}
