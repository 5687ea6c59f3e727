// A CA that was kept in a PKCS#12 file (`.p12`, `.pfx`), as openssl, XCA and Windows write them: its certificates and its key.
// node-forge opens the envelope, which Node can't; what is in it goes on to Node as it is, since node-forge knows RSA alone.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'

/** What a PKCS#12 file holds. */
export interface Pkcs12Content {
  /** PEM, in the order of the file. */
  readonly certificates: readonly string[]
  readonly privateKey: KeyObject
}

/**
 * Read a PKCS#12 file with one private key. Throws `RekeyError` for a wrong password, and for a file that is none or holds
 * no key; its message names the file and nothing of what is in it.
 */
export async function readPkcs12(bytes: Buffer, password: string, file: string): Promise<Pkcs12Content> {
  // Loaded here: it takes 30 ms, and hardly a command needs it.
  const { default: forge } = await import('node-forge')
  let envelope: ReturnType<typeof forge.asn1.fromDer>
  try {
    envelope = forge.asn1.fromDer(bytes.toString('latin1'))
  } catch {
    throw unreadable(`${file}: is no PKCS#12 file`)
  }
  let bags: ReturnType<typeof forge.pkcs12.pkcs12FromAsn1>
  try {
    bags = forge.pkcs12.pkcs12FromAsn1(envelope, password)
  } catch {
    throw unreadable(`${file}: is no PKCS#12 file, or its password is another one`)
  }
  const der = (asn1: Parameters<typeof forge.asn1.toDer>[0]) => Buffer.from(forge.asn1.toDer(asn1).getBytes(), 'latin1')
  const all = bags.safeContents.flatMap(({ safeBags }) => safeBags)
  const certificates = all
    .filter(({ type }) => type === forge.pki.oids['certBag'])
    .map(({ cert, asn1 }) => new X509Certificate(der(cert ? forge.pki.certificateToAsn1(cert) : asn1)).toString())
  const keys = all
    .filter(({ type }) => type === forge.pki.oids['keyBag'] || type === forge.pki.oids['pkcs8ShroudedKeyBag'])
    .map(({ key, asn1 }) => (key ? forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(key)) : asn1))
    .map(asn1 => createPrivateKey({ key: der(asn1), format: 'der', type: 'pkcs8' }))
  if (keys.length !== 1) throw unreadable(`${file}: holds ${keys.length} private keys, and one is needed`)
  return { certificates, privateKey: keys[0]! }
}

const unreadable = (message: string) => new RekeyError(message, { code: 'pki.pkcs12' })
