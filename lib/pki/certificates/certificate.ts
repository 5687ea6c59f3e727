// What a certificate says, and whether it holds: facts, chains, keys, trust bundles. Reads only.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import { x509 } from './x509.ts'

/** What is read from one certificate. Names are compared as they are written, addresses in one canonical form. */
export interface CertificateFacts {
  /** The whole subject, e.g. `O=system:masters, CN=kubernetes-admin`. */
  readonly subject: string
  readonly commonName: string
  /** Every O of the subject, in order. */
  readonly organizations: readonly string[]
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
  readonly emailAddresses: readonly string[]
  readonly uris: readonly string[]
  /** Serial number in lower-case hexadecimal, without separators. */
  readonly serialNumber: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** The whole issuer name. */
  readonly issuer: string
  readonly issuerCommonName: string
  /** SHA-256 of the certificate as openssl prints it: `AB:CD:…`. */
  readonly fingerprint: string
  readonly isAuthority: boolean
  /** How many CAs may stand below it, where it says so. */
  readonly pathLength?: number
  /** `RSA-2048`, `ECDSA-P-256`, `Ed25519`. */
  readonly keyType: string
  /** `digitalSignature`, `keyEncipherment`, `keyCertSign`, … */
  readonly keyUsages: readonly string[]
  /** `serverAuth`, `clientAuth`, …; an OID where it has no well-known name. */
  readonly extendedKeyUsages: readonly string[]
  /** Lower-case hexadecimal, where the certificate has one. */
  readonly subjectKeyId?: string
  readonly authorityKeyId?: string
  /** The certificate itself, one PEM block that ends in a newline. */
  readonly pem: string
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

const extendedKeyUsageNames: Record<string, string> = {
  '1.3.6.1.5.5.7.3.1': 'serverAuth',
  '1.3.6.1.5.5.7.3.2': 'clientAuth',
  '1.3.6.1.5.5.7.3.3': 'codeSigning',
  '1.3.6.1.5.5.7.3.4': 'emailProtection',
  '1.3.6.1.5.5.7.3.8': 'timeStamping',
  '1.3.6.1.5.5.7.3.9': 'ocspSigning',
  '2.5.29.37.0': 'any',
}

const keyUsageNames = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
]

const curveNames: Record<string, string> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' }

/**
 * The PEM blocks of a bundle, in order, each ending in a newline; text around and between them is dropped.
 * An empty list where there is no certificate.
 */
export function splitBundle(pem: string): string[] {
  return (pem.match(certificateBlock) ?? []).map(block => `${block.replaceAll('\r', '')}\n`)
}

/** One trust bundle of all certificates in the given PEM texts: in order, each certificate once. */
export function joinBundle(...pems: string[]): string {
  const blocks = new Map<string, string>()
  for (const block of pems.flatMap(splitBundle)) {
    const { fingerprint256 } = readBlock(block, 'trust bundle')
    if (!blocks.has(fingerprint256)) blocks.set(fingerprint256, block)
  }
  return [...blocks.values()].join('')
}

/**
 * Read every certificate in a PEM text, in order. `source` names the text in errors: a path, or `host:path`.
 * Throws `RekeyError` where there is none, or where one can't be read.
 */
export function parseCertificates(pem: string, source = 'certificate'): CertificateFacts[] {
  const blocks = splitBundle(pem)
  if (blocks.length === 0) {
    throw new RekeyError(`${source}: no certificate in it (no complete PEM block)`, { code: 'pki.no-certificate' })
  }
  return blocks.map(block => rememberedFacts(block, source))
}

/** The first certificate of a PEM text: the leaf, where a chain follows it. Throws as `parseCertificates` does. */
export function parseCertificate(pem: string, source = 'certificate'): CertificateFacts {
  return parseCertificates(pem, source)[0]!
}

/** The day on which it ends, in UTC: `2027-01-31`. Throws as `parseCertificates` does. */
export function dayOfEnd(pem: string): string {
  return parseCertificate(pem).notAfter.toISOString().slice(0, 10)
}

/** Whether a private key (PKCS#8, PKCS#1 or SEC1 PEM, unencrypted) belongs to the first certificate of a PEM text. */
export function keyMatches(certificatePem: string, keyPem: string, source = 'private key'): boolean {
  const certificate = readBlock(parseCertificate(certificatePem).pem, 'certificate')
  return certificate.checkPrivateKey(readPrivateKey(keyPem, source))
}

/**
 * Read an unencrypted private key in PEM. Throws `RekeyError`, without a word of the key, where it can't be read.
 */
export function readPrivateKey(keyPem: string, source = 'private key'): KeyObject {
  try {
    return createPrivateKey(keyPem)
  } catch {
    // The cause is left out: a parser's message may quote its input.
    throw new RekeyError(`${source}: not a private key in PEM that can be read without a passphrase`, {
      code: 'pki.bad-key',
    })
  }
}

/**
 * Verify that the first certificate of `leafPem` leads, over the other certificates in it and in the bundles, to one
 * that the bundles hold. As in Go's verifier every certificate of a bundle is a trust anchor, self-signed or not.
 * Returns the chain, leaf first. Throws `RekeyError` that says at which certificate it breaks.
 */
export function verifyChain(
  leafPem: string,
  bundlePems: string | readonly string[],
  { now = new Date(), source = 'certificate' }: { now?: Date; source?: string } = {},
): CertificateFacts[] {
  const [leaf, ...intermediates] = parseCertificates(leafPem, source)
  const anchors = [bundlePems].flat().flatMap(pem => parseCertificates(pem, 'trust bundle'))
  const candidates = [...anchors, ...intermediates]
  const chain = [leaf!]
  let why = ''
  checkValidity(leaf!, now, source)

  const climb = (certificate: CertificateFacts): boolean => {
    if (anchors.some(anchor => anchor.fingerprint === certificate.fingerprint)) return true
    if (chain.length > 8) return false
    for (const issuer of candidates) {
      if (chain.includes(issuer) || issuer.subject !== certificate.issuer) continue
      const problem = issuerProblem(certificate, issuer, chain.length - 1, now)
      if (problem) {
        why ||= problem
        continue
      }
      chain.push(issuer)
      if (climb(issuer)) return true
      chain.pop()
    }
    return false
  }
  if (!climb(leaf!)) {
    const last = describe(leaf!)
    throw new RekeyError(
      `${source}: ${last} does not verify: ${why || `its issuer "${leaf!.issuer}" is not in the trust bundle`}`,
      { code: 'pki.chain', hint: `The bundle holds ${anchors.map(describe).join(', ')}.` },
    )
  }
  return chain
}

/**
 * What the old certificate has and the new one lacks, in an operator's words (`DNS name "api.example.org"`):
 * its CN, every O, every DNS name and IP address, every extended key usage. Empty where the new one covers it all.
 */
export function notCovered(next: CertificateFacts, old: CertificateFacts): string[] {
  const missing: string[] = []
  if (old.commonName !== next.commonName) missing.push(`CN "${old.commonName}" (the new one has "${next.commonName}")`)
  const lists = [
    ['O', old.organizations, next.organizations],
    ['DNS name', old.dnsNames, next.dnsNames],
    ['IP address', old.ipAddresses, next.ipAddresses],
    ['usage', old.extendedKeyUsages, next.extendedKeyUsages],
  ] as const
  for (const [what, before, after] of lists) {
    for (const value of before) if (!after.includes(value)) missing.push(`${what} "${value}"`)
  }
  return missing
}

/** The same certificates are read again and again: what was issued is looked at, verified, compared. It takes milliseconds each time. */
const remembered = new Map<string, CertificateFacts>()
const mostRemembered = 4096

function rememberedFacts(pem: string, source: string): CertificateFacts {
  const known = remembered.get(pem)
  if (known) return known
  const facts = factsOf(pem, source)
  if (remembered.size >= mostRemembered) remembered.clear()
  remembered.set(pem, facts)
  return facts
}

function factsOf(pem: string, source: string): CertificateFacts {
  const native = readBlock(pem, source)
  const library = x509()
  const parsed = new library.X509Certificate(pem)
  const names = parsed.getExtension(library.SubjectAlternativeNameExtension)?.names.items ?? []
  const namesOf = (type: string) => names.filter(name => name.type === type).map(name => name.value)
  const usages = parsed.getExtension(library.KeyUsagesExtension)?.usages ?? 0
  const constraints = parsed.getExtension(library.BasicConstraintsExtension)
  return {
    subject: parsed.subject,
    commonName: parsed.subjectName.getField('CN')[0] ?? '',
    organizations: parsed.subjectName.getField('O'),
    dnsNames: namesOf('dns'),
    ipAddresses: namesOf('ip').map(canonicalAddress),
    emailAddresses: namesOf('email'),
    uris: namesOf('url'),
    serialNumber: parsed.serialNumber.toLowerCase(),
    notBefore: parsed.notBefore,
    notAfter: parsed.notAfter,
    issuer: parsed.issuer,
    issuerCommonName: parsed.issuerName.getField('CN')[0] ?? '',
    fingerprint: native.fingerprint256,
    isAuthority: constraints?.ca ?? false,
    pathLength: constraints?.pathLength,
    keyType: keyTypeOf(native.publicKey),
    keyUsages: keyUsageNames.filter((_, bit) => usages & (1 << bit)),
    extendedKeyUsages: Array.from(
      parsed.getExtension(library.ExtendedKeyUsageExtension)?.usages ?? [],
      oid => extendedKeyUsageNames[String(oid)] ?? String(oid),
    ),
    subjectKeyId: parsed.getExtension(library.SubjectKeyIdentifierExtension)?.keyId.toLowerCase(),
    authorityKeyId: parsed.getExtension(library.AuthorityKeyIdentifierExtension)?.keyId?.toLowerCase(),
    pem,
  }
}

function readBlock(pem: string, source: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new RekeyError(`${source}: a certificate in it can't be read: ${(cause as Error).message}`, {
      code: 'pki.bad-certificate',
      cause,
    })
  }
}

/** `RSA-2048`, `ECDSA-P-256`, `Ed25519`: how facts name the kind of a public or private key. */
export function keyTypeOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'rsa') return `RSA-${key.asymmetricKeyDetails?.modulusLength}`
  if (key.asymmetricKeyType === 'ed25519') return 'Ed25519'
  if (key.asymmetricKeyType === 'ec') {
    const curve = key.asymmetricKeyDetails?.namedCurve ?? 'unknown curve'
    return `ECDSA-${curveNames[curve] ?? curve}`
  }
  return key.asymmetricKeyType ?? 'unknown'
}

/** One spelling for an address, so that `::1` and `0:0:0:0:0:0:0:1` are the same. */
export function canonicalAddress(address: string): string {
  if (!address.includes(':')) return address
  try {
    return new URL(`http://[${address}]`).hostname.slice(1, -1)
  } catch {
    return address.toLowerCase()
  }
}

function checkValidity(certificate: CertificateFacts, now: Date, source: string): void {
  const problem = validityProblem(certificate, now)
  if (problem) throw new RekeyError(`${source}: ${describe(certificate)} ${problem}`, { code: 'pki.validity' })
}

function validityProblem({ notBefore, notAfter }: CertificateFacts, now: Date): string | undefined {
  if (now < notBefore) return `is not valid before ${notBefore.toISOString()} (now: ${now.toISOString()})`
  if (now > notAfter) return `expired on ${notAfter.toISOString()}`
}

/** Whether the key of `issuer` signed `certificate`, whatever both say of time and of each other's rights. */
export function issuedBy(certificate: CertificateFacts, issuer: CertificateFacts): boolean {
  if (certificate.issuer !== issuer.subject) return false
  return new X509Certificate(certificate.pem).verify(new X509Certificate(issuer.pem).publicKey)
}

/** Why `issuer` can't have issued `certificate`, with `below` certificates between it and the leaf. */
function issuerProblem(
  certificate: CertificateFacts,
  issuer: CertificateFacts,
  below: number,
  now: Date,
): string | undefined {
  const { authorityKeyId } = certificate
  if (authorityKeyId && issuer.subjectKeyId && authorityKeyId !== issuer.subjectKeyId) {
    return `it was issued by another key of "${issuer.subject}" than the one in the trust bundle`
  }
  const parent = new X509Certificate(issuer.pem)
  if (!new X509Certificate(certificate.pem).verify(parent.publicKey)) {
    return `its signature is not from the key of ${describe(issuer)}`
  }
  if (!issuer.isAuthority) return `its issuer ${describe(issuer)} is not a CA`
  if (issuer.keyUsages.length > 0 && !issuer.keyUsages.includes('keyCertSign')) {
    return `its issuer ${describe(issuer)} may not sign certificates (no keyCertSign)`
  }
  const { pathLength } = issuer
  if (pathLength !== undefined && below > pathLength) {
    return `${describe(issuer)} allows ${pathLength} CAs below it, and there are ${below}`
  }
  const invalid = validityProblem(issuer, now)
  return invalid && `its issuer ${describe(issuer)} ${invalid}`
}

function describe({ subject, fingerprint }: CertificateFacts): string {
  return `"${subject}" (${fingerprint.slice(0, 11)}…)`
}
