// The certificate of a CA for a longer time, with the key that it has: what it signed stays valid, and nothing is issued.
import { X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import { keyMatches, keyTypeOf, parseCertificate } from '../certificates/certificate.ts'
import { x509 } from '../certificates/x509.ts'

/** Loaded when something is signed: it brings the whole library with it, and every start of a playbook would load that. */
const signing = () => import('./signing.ts')

/** For how long, and with which serial number. */
export interface Renewal {
  readonly notBefore: Date
  readonly notAfter: Date
  /** For certificates that name their issuer by its serial number: `namesIssuerBySerial`. */
  readonly sameSerial?: boolean
}

/**
 * The certificate of a CA signed anew with its own key.
 * @param pem the CA
 * @param key its private key, PEM
 * @throws RekeyError where it is no root, where the key is another's, or the result would not be the same CA
 */
export async function renewedRoot(pem: string, key: string, renewal: Renewal): Promise<string> {
  requireRoot(pem)
  if (!keyMatches(pem, key, 'the key of the CA'))
    throw new RekeyError('the key is not that of the CA', { code: 'pki.other-key' })
  const { signAnew } = await signing()
  const renewed = await signAnew(pem, { ...renewal, signingKey: key })
  requireSame(renewed, pem)
  return renewed
}

/**
 * What whoever has the key is to sign, where that key can't be had: the CA for its new time, signed with a key that is thrown away. Only what
 * it says counts.
 * @throws RekeyError where it is no root
 */
export async function rootToSign(pem: string, renewal: Renewal): Promise<string> {
  requireRoot(pem)
  // The kind of the signature is part of what is signed.
  const { publicKey } = new X509Certificate(pem)
  const [type = '', bits] = keyTypeOf(publicKey)
    .toLowerCase()
    .split('-')
    .filter(part => part !== 'p')
  const { generateKeys, privateKeyPem, signAnew } = await signing()
  const { privateKey } = await generateKeys(type === 'ecdsa' ? 'ec' : type, type === 'rsa' ? 2048 : Number(bits))
  return signAnew(pem, { ...renewal, signingKey: privateKeyPem(privateKey) })
}

/** Throws `RekeyError` where a CA is signed by another one, or is none. */
export function requireRoot(pem: string): void {
  const { subject, issuer, isAuthority } = parseCertificate(pem)
  const own = new X509Certificate(pem)
  if (isAuthority && subject === issuer && own.verify(own.publicKey)) return
  throw new RekeyError(isAuthority ? `"${subject}" is no root: "${issuer}" signed it` : `"${subject}" is not a CA`, {
    code: 'pki.not-root',
    hint: 'Only whoever has the key of the CA above it can give it a longer time: have it signed there, for the same key and name, and put in place.',
  })
}

/** Throws `RekeyError`, naming what, where a certificate is not that of the same CA: what the old one signed would not verify. */
export function requireSame(renewed: string, old: string): void {
  const [next, before] = [renewed, old].map(pem => new (x509().X509Certificate)(pem))
  const [facts, own] = [parseCertificate(renewed), new X509Certificate(renewed)]
  const same = (one: ArrayBuffer | undefined, other: ArrayBuffer | undefined) =>
    Buffer.from(one ?? new ArrayBuffer()).equals(Buffer.from(other ?? new ArrayBuffer()))
  const wrong = [
    ...(same(next?.subjectName.toArrayBuffer(), before?.subjectName.toArrayBuffer()) ? [] : ['its name']),
    ...(same(next?.publicKey.rawData, before?.publicKey.rawData) ? [] : ['its key']),
    ...(own.verify(own.publicKey) && facts.subject === facts.issuer ? [] : ['its signature']),
    ...(before?.extensions ?? []).flatMap(({ type, rawData }) =>
      same(next?.getExtension(type)?.rawData, rawData) ? [] : [`the extension ${type}`],
    ),
  ]
  if (wrong.length === 0) return
  throw new RekeyError(
    `the new certificate of "${parseCertificate(old).subject}" is another CA's: ${wrong.join(', ')} differs`,
    {
      code: 'pki.other-authority',
    },
  )
}

/**
 * Whether a certificate names its issuer by that one's serial number, beside its key: OpenSSL takes no other certificate for its issuer then.
 */
export function namesIssuerBySerial(pem: string): boolean {
  const library = x509()
  const identifier = new library.X509Certificate(pem).getExtension(library.AuthorityKeyIdentifierExtension)
  return identifier?.certId !== undefined
}
