// A leaf as a role has it, signed with the key of a CA that is at hand: from rekey's own CA, or from a file that lies on a host.
import { parseCertificate } from '../certificates/certificate.ts'
import type { Issued, IssuerUrls, RoleSettings, VaultResponse } from '../vault/contract.ts'
import { durationSeconds } from '../vault/duration.ts'
import { type Ask, askOf, checkPossession, namesOf, publicKeyOf, responseOf } from './asked.ts'
import { issuerRefuses, ttlShortened } from './issuer.ts'
import { generateKeys, leafExtensions, privateKeyPem, signCertificate, urlExtensions } from './signing.ts'

/** Who signs. */
export interface LeafSigner {
  /** The CA, PEM. */
  readonly certificate: string
  /** Its private key, PEM, in any form that needs no passphrase. */
  readonly key: string
  /** The CA, and those above it, as they are handed out with what it signs. */
  readonly chain?: readonly string[]
  readonly urls?: IssuerUrls
  /** For how long it signs at most, where a role says nothing. */
  readonly maxLeaseTtl: string
}

/** Vault's default, for roles that name no ttl. */
const defaultTtl = 768 * 3600

/** From when to when. A ttl beyond what role and mount allow is cut, as in Vault; `requireWhole` makes it an error. */
export function lifetimeOf(ttl: string | undefined, role: RoleSettings, maxLeaseTtl: string, path: string) {
  // As in Vault: a role's own maximum counts instead of the mount's, also where it is more.
  const most = durationSeconds(role.max_ttl ?? '0') || durationSeconds(maxLeaseTtl)
  const wanted = durationSeconds(ttl ?? role.ttl ?? String(Math.min(defaultTtl, most)))
  if (wanted === 0) throw issuerRefuses(path, 'a ttl of 0 was asked')
  // Certificates tell whole seconds.
  const now = Math.floor(Date.now() / 1000) * 1000
  return {
    notBefore: new Date(now - durationSeconds(role.not_before_duration ?? '30s') * 1000),
    notAfter: new Date(now + Math.min(wanted, most) * 1000),
  }
}

/** Throws `RekeyError` where a certificate holds shorter than was asked. */
export function requireWhole(certificate: string, ttl: string, path: string): void {
  const { notAfter } = parseCertificate(certificate)
  if (durationSeconds(ttl) - (notAfter.getTime() - Date.now()) / 1000 > 120) throw ttlShortened(path, notAfter, ttl)
}

/**
 * Signs a leaf. Its key is made here, unless a request brings one.
 * @param path where it was asked for, for errors
 * @throws RekeyError where the role does not allow what is asked, or the leaf would end after its CA
 */
export async function signLeaf(signer: LeafSigner, role: RoleSettings, ask: Ask, path: string): Promise<Issued> {
  if (ask.csr !== undefined) await checkPossession(ask.csr, path)
  const names = namesOf(ask, role, path)
  const lifetime = lifetimeOf(ask.ttl, role, signer.maxLeaseTtl, path)
  const ca = parseCertificate(signer.certificate)
  if (lifetime.notAfter > ca.notAfter) {
    throw issuerRefuses(path, `it would end after its CA, which ends on ${ca.notAfter.toISOString()}`)
  }
  const keys = ask.csr ? undefined : await generateKeys(role.key_type ?? 'rsa', role.key_bits)
  const publicKey = keys?.publicKey ?? publicKeyOf(ask.csr!, role, path)
  const { certificate, serialNumber } = await signCertificate({
    ...{ subject: names.subject, ...lifetime, publicKey, signingKey: signer.key, issuer: signer.certificate },
    extensions: [...leafExtensions(names, role), ...urlExtensions(signer.urls)],
  })
  return {
    certificate,
    issuingCa: signer.certificate,
    caChain: signer.chain ?? [signer.certificate],
    serialNumber: serialNumber.match(/../g)!.join(':'),
    privateKey: keys && privateKeyPem(keys.privateKey),
  }
}

/**
 * The same as Vault is asked and answers, for templates: `MOUNT/issue/ROLE` with these parameters, and `MOUNT/cert/ca` without.
 * @throws RekeyError where the role does not allow what is asked, or the leaf would end after its CA
 */
export async function answerFrom(
  signer: LeafSigner,
  role: RoleSettings,
  path: string,
  data?: Readonly<Record<string, unknown>>,
): Promise<VaultResponse> {
  if (!data) return { data: { certificate: signer.certificate.trim() } }
  const issued = await signLeaf(signer, role, askOf(data, path), path)
  return { lease_id: '', lease_duration: 0, renewable: false, data: responseOf(issued) }
}
