// Files that were made together, checked together before any of them is put in place.
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import { writtenOut } from './bundle-text.ts'
import { type CertificateFacts, keyTypeOf, parseCertificates, readPrivateKey, verifyChain } from './certificate.ts'

/** A file that was rendered, and what it holds. */
export interface RenderedText {
  readonly path: string
  readonly text: string
}

/**
 * Check the certificates and keys among files that were rendered together, whatever they are called and whether they stand by themselves, in
 * YAML, in JSON or on one line: each certificate
 * holds now, where a CA of the same name is among them, it has signed, and no key and certificate were issued apart: a key of
 * no certificate beside a certificate of no key. A key alone, as service accounts have it, is no mistake.
 * Returns the facts of every certificate by path. Throws `RekeyError` that names the files.
 */
export function verifySet(files: readonly RenderedText[], now = new Date()): Map<string, CertificateFacts[]> {
  const found = new Map<string, CertificateFacts[]>()
  for (const { path, text } of files) {
    const blocks = writtenOut(text).certificates
    if (blocks.length > 0) found.set(path, parseCertificates(blocks.join(''), path))
  }
  const all = [...found].flatMap(([path, certificates]) => certificates.map(facts => ({ path, facts })))
  // Every file may hold the same CA.
  const authorities = [
    ...new Map(all.flatMap(({ facts }) => (facts.isAuthority ? [[facts.fingerprint, facts]] : []))).values(),
  ]
  for (const { path, facts } of all) {
    if (now < facts.notBefore || now > facts.notAfter) {
      const [from, to] = [facts.notBefore.toISOString(), facts.notAfter.toISOString()]
      throw bad(
        `${path}: the certificate "${facts.subject}" holds from ${from} to ${to}, not now`,
        "Compare this machine's clock with that of the issuer. A role's not_before_duration dates certificates back.",
      )
    }
    const above = authorities.filter(one => one.subject === facts.issuer).map(({ pem }) => pem)
    if (facts.isAuthority || above.length === 0) continue
    verifyChain(facts.pem, above, { now, source: path })
  }
  const keys = files.flatMap(({ path, text }) =>
    writtenOut(text).keys.map(key => ({ path, publicKey: createPublicKey(readPrivateKey(key, path)) })),
  )
  const ofKeys = new Set(keys.map(({ publicKey }) => derOf(publicKey)))
  const certificates = all.map(one => ({ ...one, der: derOf(new X509Certificate(one.facts.pem).publicKey) }))
  const alone = certificates.filter(({ facts, der }) => !facts.isAuthority && !ofKeys.has(der))
  const ofCertificates = new Set(certificates.map(({ der }) => der))
  for (const { path, publicKey } of keys) {
    const apart = alone.find(({ facts }) => facts.keyType === keyTypeOf(publicKey))
    if (!apart || ofCertificates.has(derOf(publicKey))) continue
    throw bad(
      `${path}: the private key in it belongs to none of the certificates that were rendered with it`,
      `"${apart.facts.subject}" in ${apart.path} has no key here: both templates must ask with the same parameters.`,
    )
  }
  return found
}

const derOf = (publicKey: KeyObject) => publicKey.export({ type: 'spki', format: 'der' }).toString('base64')

const bad = (message: string, hint?: string) => new RekeyError(message, { code: 'pki.set', hint })
