// Whether what Vault gave lasts as long as was asked: it shortens, and only warns.
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { CertificateFacts } from '../certificates/certificate.ts'
import { ttlShortened } from '../issuer/issuer.ts'
import type { VaultResponse } from './contract.ts'
import { durationSeconds, isDuration } from './duration.ts'

/** The PKI engine shortens what outlives its mount or issuer, and only warns. Here that is an error: throws `RekeyError`. */
export function requireLifetime(
  { notAfter }: CertificateFacts,
  ttl: string,
  path: string,
  warnings: readonly string[] | null | undefined,
): void {
  const short = durationSeconds(ttl) - (notAfter.getTime() - Date.now()) / 1000
  if (short <= 120) return
  // Vault says the same of the role and of the answer.
  throw ttlShortened(path, notAfter, ttl, foreignWords([...new Set(warnings)].join(' ')) || undefined)
}

/** Whatever else has a lease: a token, a login, credentials of a cloud. Throws `RekeyError`. */
export function requireLease(
  { auth, lease_duration: lease }: VaultResponse,
  ttl: string | undefined,
  path: string,
): void {
  const seconds = Number(auth?.['lease_duration'] ?? lease ?? 0)
  // A path of its own may mean something else by `ttl`, and has no lease then.
  if (!ttl || seconds === 0 || !isDuration(ttl) || durationSeconds(ttl) - seconds <= 1) return
  throw new RekeyError(`${path} answered with a lease of ${seconds} s, shorter than the ttl of ${ttl} that was asked`, {
    code: 'vault.lease-shortened',
    hint: 'Raise the maximum TTL of the mount or the role, or ask for less.',
  })
}
