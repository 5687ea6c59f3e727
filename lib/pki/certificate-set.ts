// Files that were made together, checked together before any of them is put in place.
import { RekeyError } from '../errors.ts'
import { type CertificateFacts, keyMatches, parseCertificates, splitBundle, verifyChain } from './certificate.ts'

/** A file that was rendered, and what it holds. */
export interface RenderedText {
  readonly path: string
  readonly text: string
}

const keyBlock = /-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----[^-]+-----END (?:[A-Z0-9]+ )?PRIVATE KEY-----/g

/**
 * Check the certificates and keys among files that were rendered together, whatever they are called: each certificate
 * holds now, each key belongs to one of the certificates, and where a CA of the same name is among them, it has signed.
 * Returns the facts of every certificate by path. Throws `RekeyError` that names the files.
 */
export function verifySet(files: readonly RenderedText[], now = new Date()): Map<string, CertificateFacts[]> {
  const found = new Map<string, CertificateFacts[]>()
  for (const { path, text } of files) {
    if (splitBundle(text).length > 0) found.set(path, parseCertificates(text, path))
  }
  const all = [...found].flatMap(([path, certificates]) => certificates.map(facts => ({ path, facts })))
  for (const { path, facts } of all) {
    if (now < facts.notBefore || now > facts.notAfter) {
      const [from, to] = [facts.notBefore.toISOString(), facts.notAfter.toISOString()]
      throw bad(
        `${path}: the certificate "${facts.subject}" holds from ${from} to ${to}, not now`,
        "Compare this machine's clock with that of the issuer. A role's not_before_duration dates certificates back.",
      )
    }
    const authorities = all.filter(one => one.facts.isAuthority && one.facts.subject === facts.issuer)
    if (facts.isAuthority || authorities.length === 0) continue
    verifyChain(
      facts.pem,
      authorities.map(one => one.facts.pem),
      { now, source: path },
    )
  }
  for (const { path, text } of files) {
    for (const [key] of text.matchAll(keyBlock)) {
      if (all.length === 0) continue
      if (!all.some(({ facts }) => keyMatches(facts.pem, key, path))) {
        throw bad(`${path}: the private key in it belongs to none of the certificates that were rendered with it`)
      }
    }
  }
  return found
}

const bad = (message: string, hint?: string) => new RekeyError(message, { code: 'pki.set', hint })
