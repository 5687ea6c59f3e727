// Whom clients of a cluster trust at this moment, as a bundle, from the keyset of its CA.
import type { CertificateFacts } from '../../pki/certificates/certificate.ts'
import type { Keyset, KeysetItem, Truster } from '../../pki/keyset.ts'

/**
 * The CAs of a keyset that these trust now, PEM: the primary first, for those who read one certificate alone, then what comes next and what was.
 * Of a key that has several certificates the one that is its own and lasts longest; none that is not valid now.
 */
export function bundleOf({ items }: Keyset, trusts: (truster: Truster) => boolean, now = new Date()): string {
  return items
    .filter(({ trustedBy }: KeysetItem) => trustedBy.some(trusts))
    .flatMap(({ certificates }) =>
      bestOf(certificates.filter(({ notBefore, notAfter }) => notBefore <= now && now <= notAfter)),
    )
    .map(({ pem }) => pem)
    .join('')
}

/** A cross-signed one is for chains: as an anchor it would end with the CA that signed it. */
function bestOf(valid: readonly CertificateFacts[]): CertificateFacts[] {
  const best = valid.find(({ subject, issuer }) => subject === issuer) ?? valid[0]
  return best ? [best] : []
}
