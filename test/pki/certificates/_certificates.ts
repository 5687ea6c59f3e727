// Certificates made on the spot, for tests of what reads and checks them.
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

export const rsa = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
}
export const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
export const ed25519 = { name: 'Ed25519' }

export interface Issued {
  pem: string
  keyPem: string
  keys: webcrypto.CryptoKeyPair
  certificate: x509.X509Certificate
}

export interface Ask {
  name: string
  issuer?: Issued
  algorithm?: typeof rsa | typeof p256 | typeof ed25519
  ca?: boolean
  pathLength?: number
  usages?: number
  notBefore?: Date
  notAfter?: Date
  extensions?: x509.Extension[]
  /** Hexadecimal; a random one where nothing is said. */
  serial?: string
  /** Of this key, and not of a fresh one. */
  keys?: webcrypto.CryptoKeyPair
}

/** By what a CA calls its key: others than we take another hash of it. */
async function identifierOf({ certificate, keys }: Issued): Promise<x509.AuthorityKeyIdentifierExtension> {
  const own = certificate.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId
  return own === undefined
    ? x509.AuthorityKeyIdentifierExtension.create(keys.publicKey)
    : new x509.AuthorityKeyIdentifierExtension(own)
}

/** A certificate by a fresh key: self-signed, or by `issuer`. Holds for an hour unless asked otherwise. */
export async function issue({
  name,
  issuer,
  algorithm = p256,
  ca = false,
  pathLength,
  usages,
  ...rest
}: Ask): Promise<Issued> {
  const keys =
    rest.keys ?? ((await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair)
  const certificate = await x509.X509CertificateGenerator.create({
    ...(rest.serial === undefined ? {} : { serialNumber: rest.serial }),
    subject: name,
    issuer: issuer ? issuer.certificate.subject : name,
    publicKey: keys.publicKey,
    signingKey: (issuer ?? { keys }).keys.privateKey,
    signingAlgorithm: { hash: 'SHA-256', ...(issuer ?? { keys }).keys.privateKey.algorithm } as webcrypto.EcdsaParams,
    notBefore: rest.notBefore ?? new Date(Date.now() - 60_000),
    notAfter: rest.notAfter ?? new Date(Date.now() + 3_600_000),
    extensions: [
      new x509.BasicConstraintsExtension(ca, pathLength, true),
      ...(usages === undefined ? [] : [new x509.KeyUsagesExtension(usages, true)]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(issuer ? [await identifierOf(issuer)] : []),
      ...(rest.extensions ?? []),
    ],
  })
  const exported = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${exported.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`
  return { pem: `${certificate.toString('pem')}\n`, keyPem, keys, certificate }
}
