// What rekey's own CA is asked for, in Vault's parameters; refused where the role does not allow it.
import 'reflect-metadata'
import { createPublicKey, type KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'
import { canonicalAddress, keyTypeOf, parseCertificate } from '../certificates/certificate.ts'
import type { Issued, IssueRequest, RoleSettings } from '../vault/contract.ts'
import { issuerRefuses, roleRefuses } from './issuer.ts'
import { allowsCommonName, matchesGlob, refusedName } from './issuing-rules.ts'

/** What a leaf is asked to be, however it was asked. */
export interface Ask {
  readonly commonName: string
  readonly names: readonly string[]
  readonly addresses: readonly string[]
  readonly uris: readonly string[]
  readonly ttl?: string
  readonly excludeCommonName: boolean
  readonly csr?: string
}

/** A request of the contract. */
export const asked = (request: IssueRequest): Ask => ({
  commonName: request.commonName,
  names: request.dnsNames ?? [],
  addresses: request.ipAddresses ?? [],
  uris: [],
  ttl: request.ttl,
  excludeCommonName: request.excludeCommonName ?? true,
})

const parameters = new Set([
  ...['common_name', 'alt_names', 'ip_sans', 'uri_sans', 'ttl', 'exclude_cn_from_sans', 'csr', 'format'],
])

/** A request in Vault's parameters. One that is not known is refused: left out, it would be missed later. */
export function askOf(data: Readonly<Record<string, unknown>>, path: string): Ask {
  for (const key of Object.keys(data)) {
    if (!parameters.has(key)) throw issuerRefuses(path, `the parameter "${key}" is not offered by rekey's own CA`)
  }
  // Left as it is, another form would be taken for the one that was asked.
  if ((data['format'] ?? 'pem') !== 'pem')
    throw issuerRefuses(path, `the format "${data['format']}" is not offered by rekey's own CA`)
  const list = (key: string) =>
    String(data[key] ?? '')
      .split(',')
      .map(one => one.trim())
      .filter(Boolean)
  return {
    commonName: String(data['common_name'] ?? ''),
    names: list('alt_names'),
    addresses: list('ip_sans'),
    uris: list('uri_sans'),
    ttl: data['ttl'] ? String(data['ttl']) : undefined,
    excludeCommonName: String(data['exclude_cn_from_sans'] ?? 'false') === 'true',
    csr: data['csr'] === undefined ? undefined : String(data['csr']),
  }
}

/** What was issued, as Vault answers. */
export function responseOf({
  certificate,
  issuingCa,
  caChain,
  serialNumber,
  privateKey,
}: Issued): Record<string, unknown> {
  return {
    certificate: certificate.trim(),
    issuing_ca: issuingCa.trim(),
    ca_chain: caChain.map(one => one.trim()),
    serial_number: serialNumber,
    expiration: Math.floor(parseCertificate(certificate).notAfter.getTime() / 1000),
    ...(privateKey ? { private_key: privateKey.trim(), private_key_type: privateKeyType(privateKey) } : {}),
  }
}

/** Whom a certificate is for. */
export interface Names {
  readonly commonName: string
  readonly subject: x509.Name
  readonly names: readonly string[]
  readonly addresses: readonly string[]
  readonly uris: readonly string[]
}

/** The names that a certificate gets, once the role allows each. With a CSR, CN and names are those of the CSR. */
export function namesOf(ask: Ask, role: RoleSettings, path: string): Names {
  const request = ask.csr === undefined ? undefined : readCsr(ask.csr, path)
  const commonName = (role.use_csr_common_name !== false && request?.commonName) || ask.commonName
  if (commonName === '' && role.require_cn !== false) {
    throw issuerRefuses(path, 'the common_name field is required, or must be provided in a CSR')
  }
  if (commonName !== '' && !allowsCommonName(role, commonName)) {
    throw roleRefuses(path, `common name ${commonName} not allowed by this role`)
  }
  const named = (role.use_csr_sans !== false && request) || ask
  const [names, addresses, uris] = [[...named.names], named.addresses, named.uris]
  // A CN that is no name of a host stays in the subject alone.
  const asName = !ask.excludeCommonName && commonName !== '' && refusedName({ allow_any_name: true }, [commonName])
  if (asName === undefined && !names.includes(commonName)) names.unshift(commonName)
  const refused = refusedName(role, names)
  if (refused !== undefined) throw roleRefuses(path, `subject alternate name ${refused} not allowed by this role`)
  if (addresses.length > 0 && role.allow_ip_sans === false) {
    throw roleRefuses(path, `IP Subject Alternative Names are not allowed in this role, but was provided ${addresses}`)
  }
  if (uris.length > 0 && !role.allowed_uri_sans?.length) {
    throw roleRefuses(path, 'URI Subject Alternative Names are not allowed in this role, but were provided')
  }
  const foreign = uris.find(uri => !role.allowed_uri_sans!.some(one => matchesGlob(one, uri)))
  if (foreign !== undefined) throw roleRefuses(path, `the URI ${foreign} is not valid for this role`)
  const bad = addresses.find(address => isIP(address) === 0)
  if (bad !== undefined) throw issuerRefuses(path, `"${bad}" is not an IP address`)
  return {
    commonName,
    names,
    addresses: addresses.map(canonicalAddress),
    uris,
    subject: new x509.Name([
      ...(role.country ?? []).map(one => ({ C: [one] })),
      ...(role.province ?? []).map(one => ({ ST: [one] })),
      ...(role.locality ?? []).map(one => ({ L: [one] })),
      ...(role.organization ?? []).map(one => ({ O: [one] })),
      ...(role.ou ?? []).map(one => ({ OU: [one] })),
      ...(commonName === '' ? [] : [{ CN: [commonName] }]),
    ]),
  }
}

/** A request is signed by the key that it is for: who lacks the key gets no certificate for it. */
export async function checkPossession(csr: string, path: string): Promise<void> {
  const verified = await Promise.resolve()
    .then(() => new x509.Pkcs10CertificateRequest(csr).verify())
    .catch(() => undefined)
  if (verified === undefined) throw issuerRefuses(path, 'the certificate request can not be read')
  if (!verified) throw issuerRefuses(path, 'the signature of the certificate request is not from its key')
}

function readCsr(csr: string, path: string) {
  try {
    const request = new x509.Pkcs10CertificateRequest(csr)
    const extension = request.extensions.find(one => one instanceof x509.SubjectAlternativeNameExtension)
    const names = extension?.names.items ?? []
    return {
      commonName: request.subjectName.getField('CN')[0] ?? '',
      names: names.filter(name => name.type === 'dns').map(name => name.value),
      addresses: names.filter(name => name.type === 'ip').map(name => name.value),
      uris: names.filter(name => name.type === 'url').map(name => name.value),
    }
  } catch {
    throw issuerRefuses(path, 'the certificate request can not be read')
  }
}

/** The key of a request, where it is one that the role takes. */
export function publicKeyOf(csr: string, role: RoleSettings, path: string): KeyObject {
  const request = new x509.Pkcs10CertificateRequest(csr)
  const key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), type: 'spki', format: 'der' })
  const wanted = { rsa: 'RSA', ec: 'ECDSA', ed25519: 'Ed25519', any: '' }[role.key_type ?? 'rsa']
  if (!keyTypeOf(key).startsWith(wanted)) {
    throw roleRefuses(path, `it requires keys of type ${role.key_type ?? 'rsa'}, and the request has ${keyTypeOf(key)}`)
  }
  return key
}

/** `mount/issue/role`, `mount/issuer/reference/issue/role`: a mount may have slashes of its own. */
export function splitPath(path: string): { mount: string; issuer?: string; action: string; name: string } {
  const parts = path.split('/')
  const name = parts.pop() ?? ''
  const action = parts.pop() ?? ''
  const named = parts.length > 2 && parts.at(-2) === 'issuer'
  const issuer = named ? parts.pop() : undefined
  if (named) parts.pop()
  return { mount: parts.join('/'), issuer, action, name }
}

function privateKeyType(pem: string): string {
  if (pem.includes('RSA')) return 'rsa'
  return pem.includes('BEGIN EC') ? 'ec' : 'ed25519'
}
