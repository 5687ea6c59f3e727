// Leaves a certificate alone that is as it would be issued now: same issuer, names, usages and kind of key, and not due.
// An issuer's answer is then made from what lies on the host, so that whatever asked gets the same bytes again.
import { X509Certificate } from 'node:crypto'
import { domainToASCII } from 'node:url'
import type { RekeyError } from '../../errors.ts'
import { refusedName } from '../issuer/issuing-rules.ts'
import type { RoleSettings, VaultResponse } from '../vault/contract.ts'
import { durationSeconds } from '../vault/duration.ts'
import { certificatesWithin, privateKeysWithin } from './bundle-text.ts'
import { type CertificateFacts, canonicalAddress, issuedBy, keyMatches, parseCertificate } from './certificate.ts'
import { x509 } from './x509.ts'

type Data = Readonly<Record<string, string>>
type Source = (path: string, data?: Data) => Promise<VaultResponse | undefined>

/** A certificate that lies on a host, with its key where that lies there too. */
export interface PresentCertificate {
  readonly facts: CertificateFacts
  readonly key?: string
}

/** What a certificate has to be, from the role, the issuer and what is asked of them. */
export interface Expected
  extends Pick<
    CertificateFacts,
    'commonName' | 'organizations' | 'dnsNames' | 'ipAddresses' | 'emailAddresses' | 'uris'
  > {
  readonly issuer: CertificateFacts
  /** `serverAuth`, …; undefined where a role's own list of OIDs decides. */
  readonly extendedKeyUsages: readonly string[]
  readonly keyUsages: readonly string[]
  /** `RSA-2048`, …; undefined where any will do. */
  readonly keyType?: string
  /** Seconds that were asked for. */
  readonly ttl?: number
}

export interface ReuseSettings {
  /** Reads role and issuer. */
  readonly read: (path: string) => Promise<VaultResponse | undefined>
  /** The texts of the files that will be replaced; asked for once, when the first certificate is asked for. */
  readonly texts: () => Promise<readonly string[]>
  /** Nobody will look for the key in an answer: a certificate fits also where its key is nowhere. */
  readonly withoutKeys?: boolean
  /** Gets a sentence for each certificate that is not left alone, and why. */
  readonly notice?: (text: string) => void
  readonly now?: () => Date
}

/** What is asked for with these is not compared, so it is issued anew. */
const notCompared = ['other_sans', 'user_ids', 'serial_number', 'not_after']

/**
 * A source that answers `…/issue/ROLE` and `…/sign/ROLE` from what is there, where that fits, and passes everything else on.
 * Where role or issuer can't be read, the certificate is issued anew, and the notice says which policy line would help.
 */
export function reusingIssued(source: Source, settings: ReuseSettings): Source {
  let reading: Promise<readonly string[]> | undefined
  let present: Promise<PresentCertificate[]> | undefined
  return async (path, data) => {
    const [, mount, named, action, roleName] = /^(.+?)(?:\/issuer\/([^/]+))?\/(issue|sign)\/([^/]+)$/.exec(path) ?? []
    if (!data || !action) return source(path, data)
    const request = action === 'sign' ? readRequest(data['csr'] ?? '') : undefined
    if (action === 'sign' && !request) return source(path, data)
    reading ??= settings.texts()
    present ??= reading.then(presentCertificates)
    const like = (await present).filter(({ facts }) =>
      request ? publicKeyOf(facts) === request.publicKey : facts.commonName === (data['common_name'] ?? ''),
    )
    if (like.length === 0) return source(path, data)
    const renewed = (reason: string) => {
      settings.notice?.(`"${data['common_name'] || request?.commonName || path}" is issued anew: ${reason}`)
      return source(path, data)
    }
    const mine = like.filter(({ key }) => request || key || settings.withoutKeys)
    if (mine.length === 0) return renewed('its private key lies in none of the files that are rendered')
    const other = notCompared.find(name => data[name]) ?? request?.other
    if (other) return renewed(`it asks for ${other}, which is not compared`)
    if ((data['format'] ?? 'pem') !== 'pem') return renewed(`it asks for the format ${data['format']}`)

    const role = await attempt(settings.read(`${mount}/roles/${roleName}`))
    if ('problem' in role) return renewed(role.problem)
    if (!role.response) return source(path, data)
    const reference = named ?? String(role.response.data['issuer_ref'] || 'default')
    const issuer = await attempt(settings.read(`${mount}/issuer/${reference}/json`))
    if ('problem' in issuer) return renewed(issuer.problem)
    const authority = issuer.response?.data['certificate']
    if (typeof authority !== 'string' || authority === '') return source(path, data)

    const expected = expectedOf(role.response.data, parseCertificate(authority), data, request)
    const now = settings.now?.() ?? new Date()
    const differences = mine.map(one => differencesFrom(expected, one.facts, now))
    const found = differences.findIndex(one => one.length === 0)
    if (found < 0) return renewed(differences[0]!.join(', '))
    const { facts, key } = mine[found]!
    const lease_id = leaseIn(await reading, path)
    return {
      lease_id,
      data: {
        ...answerOf({ facts, key: request ? undefined : key }, authority, issuer.response!.data['ca_chain']),
        // Who signs a request knows nothing of its key.
        ...(request ? {} : { private_key_type: keyTypeOf(facts) }),
      },
    }
  }
}

/** What keeps a certificate from being left alone, in words. Empty where nothing does. */
function differencesFrom(expected: Expected, facts: CertificateFacts, now = new Date()): string[] {
  const differences: string[] = []
  if (!issuedBy(facts, expected.issuer)) {
    const { subject, fingerprint } = expected.issuer
    differences.push(`its issuer is not "${subject}" (${fingerprint.slice(0, 11)}…)`)
  }
  if (facts.commonName !== expected.commonName) {
    differences.push(`its CN is "${facts.commonName}", not "${expected.commonName}"`)
  }
  const lists: [what: string, has: readonly string[], wants: readonly string[]][] = [
    ['O', facts.organizations, expected.organizations],
    ['DNS names', facts.dnsNames.map(asciiName), expected.dnsNames.map(asciiName)],
    ['IP addresses', facts.ipAddresses, expected.ipAddresses],
    ['mail addresses', facts.emailAddresses, expected.emailAddresses],
    ['URIs', facts.uris, expected.uris],
    ['usages', facts.extendedKeyUsages, expected.extendedKeyUsages],
    ['key usages', facts.keyUsages, expected.keyUsages],
  ]
  for (const [what, has, wants] of lists) {
    if (!sameSet(has, wants)) differences.push(`${what} are [${has.join(', ')}], not [${wants.join(', ')}]`)
  }
  if (expected.keyType !== undefined && facts.keyType !== expected.keyType) {
    differences.push(`its key is ${facts.keyType}, not ${expected.keyType}`)
  }
  const left = (facts.notAfter.getTime() - now.getTime()) / 1000
  const whole = (facts.notAfter.getTime() - facts.notBefore.getTime()) / 1000
  const asked = expected.ttl ?? whole
  if (facts.notBefore > now) differences.push(`it does not hold before ${facts.notBefore.toISOString()}`)
  // A third of its time is left for trying again when the issuer is away.
  if (left < Math.max(whole, asked) / 3) differences.push(`it ends on ${facts.notAfter.toISOString()}`)
  if (left > asked + 120) differences.push(`it holds longer than asked, until ${facts.notAfter.toISOString()}`)
  return differences
}

/** The lease that a certificate of this path was issued under, where a file names it: only Vault could tell otherwise. */
function leaseIn(texts: readonly string[], path: string): string | undefined {
  const lease = /^\/[A-Za-z0-9]{24}(?:\.[A-Za-z0-9]{1,20})?(?![A-Za-z0-9])/
  for (const text of texts) {
    for (let at = text.indexOf(path); at >= 0; at = text.indexOf(path, at + 1)) {
      const [end] = lease.exec(text.slice(at + path.length, at + path.length + 60)) ?? []
      if (end) return path + end
    }
  }
  return undefined
}

/** Every leaf certificate in the texts, with its key where that is in them too, however they are written there. */
export function presentCertificates(texts: readonly string[]): PresentCertificate[] {
  const keys = texts.flatMap(privateKeysWithin)
  const leaves = texts.flatMap(text => certificatesWithin(text).flatMap(readable)).filter(facts => !facts.isAuthority)
  return leaves.map(facts => ({ facts, key: keys.find(one => belongs(facts, one)) }))
}

/** What lies on a host may be anything: what can't be read is not there. */
function readable(pem: string): CertificateFacts[] {
  try {
    return [parseCertificate(pem)]
  } catch {
    return []
  }
}

function belongs(facts: CertificateFacts, key: string): boolean {
  try {
    return keyMatches(facts.pem, key)
  } catch {
    return false
  }
}

const publicKeyOf = ({ pem }: CertificateFacts) =>
  new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' }).toString('base64')

/** What a certificate request asks for. */
interface SigningRequest {
  readonly publicKey: string
  readonly commonName: string
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
  readonly emailAddresses: readonly string[]
  readonly uris: readonly string[]
  /** A kind of name that is not compared. */
  readonly other?: string
}

/** Undefined where it can't be read: whoever signs will say so. */
function readRequest(csr: string): SigningRequest | undefined {
  try {
    const library = x509()
    const request = new library.Pkcs10CertificateRequest(csr)
    const extension = request.extensions.find(one => one instanceof library.SubjectAlternativeNameExtension)
    const names = extension?.names.items ?? []
    const of = (type: string) => names.filter(name => name.type === type).map(name => name.value)
    return {
      publicKey: Buffer.from(request.publicKey.rawData).toString('base64'),
      commonName: request.subjectName.getField('CN')[0] ?? '',
      dnsNames: of('dns'),
      ipAddresses: of('ip'),
      emailAddresses: of('email'),
      uris: of('url'),
      other: names.find(({ type }) => !['dns', 'ip', 'email', 'url'].includes(type))?.type,
    }
  } catch {
    return undefined
  }
}

type Attempt = { readonly response?: VaultResponse } | { readonly problem: string }

/** Without the right to look, nothing is reused; every other failure would come again at issuing. */
async function attempt(reading: Promise<VaultResponse | undefined>): Promise<Attempt> {
  try {
    return { response: await reading }
  } catch (error) {
    const { code, message, hint } = error as RekeyError
    if (code !== 'vault.permission-denied') throw error
    return { problem: `${message}. ${hint ?? ''}` }
  }
}

function expectedOf(
  role: Readonly<Record<string, unknown>>,
  issuer: CertificateFacts,
  data: Data,
  request?: SigningRequest,
): Expected {
  const settings = role as RoleSettings
  const list = (text = '') => text.split(',').flatMap(one => one.trim() || [])
  const ofRequest = settings.use_csr_common_name === false ? '' : request?.commonName
  const commonName = ofRequest || (data['common_name'] ?? '')
  // A role takes the names of a request, unless it says otherwise.
  const named = settings.use_csr_sans === false ? undefined : request
  const [mails, hosts] = [true, false].map(isMail =>
    list(data['alt_names']).filter(name => name.includes('@') === isMail),
  ) as [string[], string[]]
  const names = named?.dnsNames ?? hosts
  const emails = named?.emailAddresses ?? mails
  const excluded = /^(1|t|true)$/i.test(data['exclude_cn_from_sans'] ?? '')
  const asName = !excluded && !commonName.includes('@') && refusedName({ allow_any_name: true }, [commonName])
  const ttl = data['ttl'] || undefined
  const { key_type: type = 'rsa', key_bits: bits } = settings
  return {
    issuer,
    commonName,
    organizations: settings.organization ?? [],
    dnsNames: asName === undefined && commonName !== '' ? [...new Set([...names, commonName])] : names,
    ipAddresses: (named?.ipAddresses ?? list(data['ip_sans'])).map(canonicalAddress),
    emailAddresses: !excluded && commonName.includes('@') ? [...emails, commonName] : emails,
    uris: named?.uris ?? list(data['uri_sans']),
    extendedKeyUsages: [
      ...(settings.server_flag === false ? [] : ['serverAuth']),
      ...(settings.client_flag === false ? [] : ['clientAuth']),
      ...(settings.code_signing_flag ? ['codeSigning'] : []),
      ...(settings.email_protection_flag ? ['emailProtection'] : []),
      ...(settings.ext_key_usage ?? []).map(usageName),
    ],
    keyUsages: (settings.key_usage ?? ['DigitalSignature', 'KeyAgreement', 'KeyEncipherment']).map(usageName),
    // That of a request is in the certificate, or it is none of this request.
    keyType: request
      ? undefined
      : { rsa: `RSA-${bits || 2048}`, ec: `ECDSA-P-${bits || 256}`, ed25519: 'Ed25519', any: undefined }[type],
    ttl: ttl === undefined ? undefined : durationSeconds(ttl),
  }
}

/** `KeyUsageDigitalSignature` and `DigitalSignature` are `digitalSignature`. */
export function usageName(name: string): string {
  const plain = name.replace(/^(Ext)?KeyUsage/, '')
  const first = plain.slice(0, 1).toLowerCase() + plain.slice(1)
  return (
    { contentCommitment: 'nonRepudiation', crlSign: 'cRLSign', certSign: 'keyCertSign', oCSPSigning: 'ocspSigning' }[
      first
    ] ?? first
  )
}

/** What kind of key a certificate has, as Vault says it. */
function keyTypeOf({ keyType }: CertificateFacts): string {
  if (keyType === 'Ed25519') return 'ed25519'
  return keyType.startsWith('RSA') ? 'rsa' : 'ec'
}

function answerOf({ facts, key }: PresentCertificate, authority: string, chain: unknown): Record<string, unknown> {
  return {
    certificate: facts.pem.trim(),
    issuing_ca: authority.trim(),
    ca_chain: Array.isArray(chain) ? chain.map(one => String(one).trim()) : [authority.trim()],
    ...(key && { private_key: key.trim() }),
    serial_number: facts.serialNumber.match(/../g)?.join(':') ?? '',
    expiration: Math.floor(facts.notAfter.getTime() / 1000),
  }
}

const asciiName = (name: string) => domainToASCII(name).toLowerCase() || name.toLowerCase()

function sameSet(one: readonly string[], other: readonly string[]): boolean {
  const [a, b] = [new Set(one), new Set(other)]
  return a.size === b.size && [...a].every(value => b.has(value))
}
