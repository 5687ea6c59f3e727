// Keys, requests and certificates of rekey's own CA: what is in them, and how they are signed.
import 'reflect-metadata'
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, randomBytes, webcrypto } from 'node:crypto'
import { promisify } from 'node:util'
import * as x509 from '@peculiar/x509'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import { keyTypeOf } from '../certificates/certificate.ts'
import { usageName } from '../certificates/reuse.ts'
import type { IssuerUrls, RoleSettings } from '../vault/contract.ts'
import type { Names } from './asked.ts'

const generate = promisify(generateKeyPair) as (
  type: string,
  options: Record<string, unknown>,
) => Promise<{ publicKey: KeyObject; privateKey: KeyObject }>

const keyUsageFlags: Record<string, number> = {
  DigitalSignature: x509.KeyUsageFlags.digitalSignature,
  ContentCommitment: x509.KeyUsageFlags.nonRepudiation,
  KeyEncipherment: x509.KeyUsageFlags.keyEncipherment,
  DataEncipherment: x509.KeyUsageFlags.dataEncipherment,
  KeyAgreement: x509.KeyUsageFlags.keyAgreement,
}

/** Extended key usages by the names that roles have for them. */
export const purposesByName: Record<string, x509.ExtendedKeyUsage> = {
  ...x509.ExtendedKeyUsage,
  any: '2.5.29.37.0' as x509.ExtendedKeyUsage,
}

function purposesOf(role: RoleSettings): x509.ExtendedKeyUsage[] {
  const names = [
    ...(role.server_flag === false ? [] : ['serverAuth']),
    ...(role.client_flag === false ? [] : ['clientAuth']),
    ...(role.code_signing_flag ? ['codeSigning'] : []),
    ...(role.email_protection_flag ? ['emailProtection'] : []),
    ...(role.ext_key_usage ?? []).map(usageName),
  ]
  return [...new Set(names)].flatMap(name => purposesByName[name] ?? [])
}

/** What a leaf says beside its names and keys, as its role has it. */
export function leafExtensions({ subject, names, addresses, uris }: Names, role: RoleSettings): x509.Extension[] {
  const usages = role.key_usage ?? ['DigitalSignature', 'KeyAgreement', 'KeyEncipherment']
  const flags = usages.reduce((sum, one) => sum | (keyUsageFlags[one.replace('KeyUsage', '')] ?? 0), 0)
  const purposes = purposesOf(role)
  const alternatives = [
    ...names.map(value => ({ type: value.includes('@') ? ('email' as const) : ('dns' as const), value })),
    ...addresses.map(value => ({ type: 'ip' as const, value })),
    ...uris.map(value => ({ type: 'url' as const, value })),
  ]
  const nameless = subject.toString() === ''
  return [
    ...(flags === 0 ? [] : [new x509.KeyUsagesExtension(flags, true)]),
    ...(purposes.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension(purposes)]),
    ...(alternatives.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(alternatives, nameless)]),
  ]
}

/** Where clients fetch the issuer and ask whether it was revoked. */
export function urlExtensions({ issuing = [], crl = [], ocsp = [] }: IssuerUrls = {}): x509.Extension[] {
  return [
    ...(crl.length > 0 ? [new x509.CRLDistributionPointsExtension([...crl])] : []),
    ...(issuing.length + ocsp.length > 0
      ? [new x509.AuthorityInfoAccessExtension({ ocsp: [...ocsp], caIssuers: [...issuing] })]
      : []),
  ]
}

/** A request for the certificate of a CA, or of a client with organizations. */
export async function makeRequest(
  commonName: string,
  privateKey: KeyObject,
  organizations: readonly string[] = [],
): Promise<string> {
  const algorithm = algorithmOf(privateKey)
  const [pkcs8, spki] = [
    privateKey.export({ type: 'pkcs8', format: 'der' }),
    createPublicKey(privateKey.export({ type: 'pkcs8', format: 'pem' })).export({ type: 'spki', format: 'der' }),
  ]
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    // As they are: a plain text would be read for quotes and backslashes.
    name: new x509.Name([
      ...organizations.map(name => ({ O: [{ utf8String: name }] })),
      { CN: [{ utf8String: commonName }] },
    ]),
    keys: {
      privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']),
      publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
    },
    signingAlgorithm: algorithm,
  })
  return `${request.toString('pem')}\n`
}

/** A certificate to be signed. */
export interface Signing {
  readonly subject: x509.Name
  readonly publicKey: KeyObject
  readonly notBefore: Date
  readonly notAfter: Date
  readonly extensions: readonly x509.Extension[]
  /** PKCS#8 of the CA's key. */
  readonly signingKey: string
  /** The CA's certificate; without one the certificate is its own. */
  readonly issuer?: string
}

/** Signs a certificate. */
export async function signCertificate(ask: Signing): Promise<{ certificate: string; serialNumber: string }> {
  const privateKey = createPrivateKey(ask.signingKey)
  const publicKey = new x509.PublicKey(ask.publicKey.export({ type: 'spki', format: 'der' }))
  const serialNumber = newSerialNumber()
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber,
    subject: ask.subject,
    issuer: ask.issuer ? new x509.X509Certificate(ask.issuer).subjectName : ask.subject,
    notBefore: ask.notBefore,
    notAfter: ask.notAfter,
    publicKey,
    ...(await signerWith(privateKey)),
    extensions: [
      ...ask.extensions,
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await authorityKeyIdentifier(privateKey, ask.issuer),
    ],
  })
  return { certificate: `${certificate.toString('pem')}\n`, serialNumber }
}

/** As the CA calls its key, which is not always by SHA-1: openssl takes one that is called otherwise for another CA's. */
async function authorityKeyIdentifier(privateKey: KeyObject, issuer?: string): Promise<x509.Extension> {
  const own = issuer && new x509.X509Certificate(issuer).getExtension(x509.SubjectKeyIdentifierExtension)
  if (own) return new x509.AuthorityKeyIdentifierExtension(own.keyId)
  const key = createPublicKey(issuer ?? privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
  return x509.AuthorityKeyIdentifierExtension.create(new x509.PublicKey(key.export({ type: 'spki', format: 'der' })))
}

/** How a certificate is signed anew. */
export interface SigningAnew {
  readonly notBefore: Date
  readonly notAfter: Date
  /** PKCS#8, PKCS#1 or SEC 1, PEM: whoever it belongs to, the certificate says that its own issuer signed it. */
  readonly signingKey: string
  /** Keep the serial number. */
  readonly sameSerial?: boolean
}

/**
 * A certificate once more, for another time: names, key and extensions are, byte for byte, those that it has.
 * @param pem the certificate
 */
export async function signAnew(pem: string, ask: SigningAnew): Promise<string> {
  const { serialNumber, subjectName, issuerName, publicKey, extensions } = new x509.X509Certificate(pem)
  const certificate = await x509.X509CertificateGenerator.create({
    ...{ subject: subjectName, issuer: issuerName, publicKey, extensions },
    ...{ notBefore: ask.notBefore, notAfter: ask.notAfter },
    serialNumber: ask.sameSerial ? serialNumber : newSerialNumber(),
    ...(await signerWith(createPrivateKey(ask.signingKey))),
  })
  return `${certificate.toString('pem')}\n`
}

async function signerWith(privateKey: KeyObject) {
  const signingAlgorithm = algorithmOf(privateKey)
  const der = privateKey.export({ type: 'pkcs8', format: 'der' })
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der, signingAlgorithm, false, ['sign'])
  return { signingKey, signingAlgorithm }
}

/** 159 random bits: positive, and never seen before. */
function newSerialNumber(): string {
  const bytes = randomBytes(20)
  bytes[0] = (bytes[0]! & 0x3f) | 0x40
  return bytes.toString('hex')
}

function algorithmOf(key: KeyObject): webcrypto.RsaHashedImportParams | webcrypto.EcKeyImportParams {
  const kind = keyTypeOf(key)
  if (kind.startsWith('RSA')) return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
  if (kind === 'Ed25519') return { name: 'Ed25519' } as webcrypto.RsaHashedImportParams
  const namedCurve = kind.slice('ECDSA-'.length)
  const hash = { 'P-384': 'SHA-384', 'P-521': 'SHA-512' }[namedCurve] ?? 'SHA-256'
  return { name: 'ECDSA', namedCurve, hash } as webcrypto.EcKeyImportParams
}

/** New keys. Throws `RekeyError` for a type or size that there is not. */
export async function generateKeys(type: string, bits?: number) {
  if (type === 'rsa') return generate('rsa', { modulusLength: bits || 2048 })
  if (type === 'ed25519') return generate('ed25519', {})
  const namedCurve = { 256: 'P-256', 384: 'P-384', 521: 'P-521' }[bits || 256]
  if (type !== 'ec' || !namedCurve) {
    throw new RekeyError(`There are no keys of type ${type} with ${bits} bits`, { code: 'issuer.refused' })
  }
  return generate('ec', { namedCurve })
}

/** In the form that Vault gives: PKCS#1 for RSA, SEC 1 for curves, else PKCS#8. */
export function privateKeyPem(key: KeyObject): string {
  const type = ({ rsa: 'pkcs1', ec: 'sec1' } as const)[key.asymmetricKeyType as 'rsa' | 'ec'] ?? 'pkcs8'
  const pem = key.export({ type, format: 'pem' }) as string
  tellSecret(pem)
  return pem
}
