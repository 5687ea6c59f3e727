// What certificates are issued by: one contract for Vault's PKI engine and for the CA that rekey keeps itself. Mounts,
// roles and paths are Vault's, so that templates don't see which of the two answers.
import { domainToASCII } from 'node:url'
import { RekeyError } from '../../errors.ts'
import { type CertificateFacts, canonicalAddress } from '../certificates/certificate.ts'
import type { IssueRequest, Vault } from '../vault/contract.ts'

/** The contract. `test/pki/issuer/_issuer-contract.ts` holds every issuer to it. */
export type Issuer = Pick<
  Vault,
  | 'ensureMount'
  | 'generateRoot'
  | 'generateIntermediate'
  | 'signIntermediate'
  | 'importIssuers'
  | 'setUrls'
  | 'listIssuers'
  | 'readIssuer'
  | 'setDefaultIssuer'
  | 'deleteIssuer'
  | 'deleteKey'
  | 'ensureRole'
  | 'readRole'
  | 'issue'
  | 'signCsr'
  | 'read'
  | 'write'
  | 'close'
>

/** The part of a path that names the issuer, where a request does. */
export const issuerPart = ({ issuer }: Pick<IssueRequest, 'issuer'>): string =>
  issuer === undefined ? '' : `/issuer/${issuer}`

/** A role exists, and does not allow what was asked; `said` names it. */
export function roleRefuses(path: string, said: string): RekeyError {
  return new RekeyError(`The role refuses ${path}: ${said}`, {
    code: 'issuer.role-refuses',
    hint: 'Widen the role (allowed_domains, allow_ip_sans …), or ask for less.',
  })
}

export function noSuchRole(mount: string, role: string): RekeyError {
  return new RekeyError(`There is no role "${role}" in ${mount}/`, {
    code: 'issuer.no-such-role',
    hint: 'Create the role, or correct its name in the inventory.',
  })
}

export function noSuchMount(path: string): RekeyError {
  return new RekeyError(`There is no mount for ${path}`, {
    code: 'issuer.no-such-mount',
    hint: 'Enable the engine, or correct the mount in the inventory.',
  })
}

/** What was issued ends before the ttl that was asked for. `said`: the issuer's own words, if it has any. */
export function ttlShortened(path: string, notAfter: Date, ttl: string, said = ''): RekeyError {
  return new RekeyError(
    `${path} answered with a certificate until ${notAfter.toISOString()}, shorter than the ttl of ${ttl} that was asked.${said && ` It says: ${said}`}`,
    { code: 'issuer.ttl-shortened', hint: "Raise the mount's max_lease_ttl and the role's max_ttl, or ask for less." },
  )
}

/** The mount's default CA is missing, or ends too early for what was asked. */
export function issuerRefuses(path: string, said: string): RekeyError {
  return new RekeyError(`${path} was refused: ${said}`, { code: 'issuer.refused' })
}

/**
 * Refuse a certificate that lacks a name that was asked for. Vault leaves out alternative names that are no host names
 * (`a b`, `a.*.example.org`) without a word.
 */
export function requireNames(
  certificate: CertificateFacts,
  asked: {
    commonName?: string
    dnsNames: readonly string[]
    ipAddresses: readonly string[]
    uris?: readonly string[]
  },
  path: string,
): void {
  const has = new Set([...certificate.dnsNames.map(asciiName), ...certificate.ipAddresses])
  const missing = [
    ...asked.dnsNames.filter(name => !name.includes('@') && !has.has(asciiName(name))),
    ...asked.ipAddresses.filter(address => !has.has(canonicalAddress(address))),
    ...(asked.uris ?? []).filter(uri => !certificate.uris.includes(uri)),
    ...(asked.commonName && certificate.commonName !== asked.commonName ? [`CN=${asked.commonName}`] : []),
  ]
  if (missing.length === 0) return
  throw new RekeyError(`${path} answered with a certificate that lacks ${missing.join(', ')}`, {
    code: 'issuer.names-left-out',
    hint: 'Vault leaves out names that it takes for no host names: correct them, or set enforce_hostnames=false.',
  })
}

const asciiName = (name: string) => domainToASCII(name).toLowerCase() || name.toLowerCase()
