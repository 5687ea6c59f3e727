// A CA in an encrypted file, for teams without Vault and for the first five minutes: the same mounts, roles and limits as
// Vault's PKI engine, serial numbers of its own, and an index of what it issued.
import 'reflect-metadata'
import { createPrivateKey, createPublicKey, type KeyObject, randomUUID, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { issuedBy, parseCertificate, parseCertificates } from '../certificates/certificate.ts'
import { usageName } from '../certificates/reuse.ts'
import type { Issued, IssuerUrls, RoleSettings, VaultResponse } from '../vault/contract.ts'
import { durationSeconds } from '../vault/duration.ts'
import { type Ask, asked, askOf, checkPossession, responseOf, splitPath } from './asked.ts'
import { type Issuer, issuerPart, issuerRefuses, noSuchMount, noSuchRole } from './issuer.ts'
import { lifetimeOf, requireWhole, signLeaf } from './leaf.ts'
import { openSealedFile, type SealedFileKey } from './sealed-file.ts'
import { generateKeys, makeRequest, privateKeyPem, purposesByName, signCertificate, urlExtensions } from './signing.ts'

/** One certificate that was issued. */
export interface IndexEntry {
  /** Lower-case hexadecimal. */
  readonly serialNumber: string
  readonly mount: string
  readonly role: string
  readonly issuerId: string
  readonly commonName: string
  readonly notAfter: string
  readonly issuedAt: string
}

/** An issuer, and the index that only rekey's own has. */
export type EmbeddedIssuer = Issuer & {
  /** Everything that it ever issued, roots left out, oldest first. */
  index(): readonly IndexEntry[]
  /**
   * Take over a CA with its key, and what stands above it; it becomes the default of the mount, which is made where it is
   * missing. Resolves with its certificate. Rejects with `RekeyError` where none of the certificates is a CA with this key.
   */
  importKeyPair(
    path: string,
    pair: { certificates: readonly string[]; privateKey: KeyObject },
    settings: { maxLeaseTtl: string },
  ): Promise<string>
}

interface Authority {
  readonly id: string
  readonly keyId: string
  readonly name?: string
  readonly certificate: string
}

interface Mount {
  maxLeaseTtl: string
  defaultIssuer?: string
  readonly authorities: Authority[]
  /** Private keys by id, PKCS#8. */
  readonly keys: Record<string, string>
  readonly roles: Record<string, RoleSettings>
  urls?: IssuerUrls
}

interface State {
  readonly mounts: Record<string, Mount>
  readonly index: IndexEntry[]
}

/**
 * Open the CA in a sealed file, or begin a new one there. Nobody else may open it until `close`.
 * Throws `RekeyError` for a wrong passphrase, a damaged file, and a file in use.
 */
export async function openEmbeddedIssuer(path: string, key: SealedFileKey): Promise<EmbeddedIssuer> {
  const file = await openSealedFile(path, key)
  const state: State = file.content === undefined ? { mounts: {}, index: [] } : JSON.parse(file.content)
  const save = () => file.replace(JSON.stringify(state))

  const mountAt = (mount: string, path: string): Mount => {
    const found = Object.hasOwn(state.mounts, mount) ? state.mounts[mount] : undefined
    if (!found) throw noSuchMount(path)
    return found
  }
  const authorityAt = (mount: Mount, reference: string): Authority | undefined => {
    const wanted = reference === 'default' ? mount.defaultIssuer : reference
    return mount.authorities.find(one => one.id === wanted || (wanted !== undefined && one.name === wanted))
  }

  const ensureMount: Issuer['ensureMount'] = async (path, { maxLeaseTtl }) => {
    durationSeconds(maxLeaseTtl)
    const mount = Object.hasOwn(state.mounts, path) ? state.mounts[path] : undefined
    if (mount && durationSeconds(mount.maxLeaseTtl) === durationSeconds(maxLeaseTtl)) return { changed: false }
    if (mount) mount.maxLeaseTtl = maxLeaseTtl
    else state.mounts[path] = { maxLeaseTtl, authorities: [], keys: {}, roles: {} }
    save()
    return { changed: true }
  }

  /** The ids of the authorities in a bundle, those that the mount lacks added to it. */
  const addIssuers = (mount: Mount, pem: string, where: string): string[] => {
    return parseCertificates(pem, 'issuers to import').map(facts => {
      if (!facts.isAuthority) throw issuerRefuses(where, `"${facts.subject}" is not a CA`)
      const known = mount.authorities.find(one => parseCertificate(one.certificate).fingerprint === facts.fingerprint)
      const certificate = new X509Certificate(facts.pem)
      const key = Object.entries(mount.keys).find(([, one]) => certificate.checkPrivateKey(createPrivateKey(one)))
      const authority = known ?? { id: randomUUID(), keyId: key?.[0] ?? '', certificate: facts.pem }
      if (!known) mount.authorities.push(authority)
      if (key) mount.defaultIssuer ??= authority.id
      return authority.id
    })
  }

  const makeLeaf = async (path: string, ask: Ask): Promise<Issued> => {
    const { mount: mountName, issuer, name: roleName } = splitPath(path)
    const mount = mountAt(mountName, path)
    const role = Object.hasOwn(mount.roles, roleName) ? mount.roles[roleName] : undefined
    if (!role) throw noSuchRole(mountName, roleName)
    const authority = authorityAt(mount, issuer ?? role.issuer_ref ?? 'default')
    if (!authority)
      throw issuerRefuses(path, issuer ? `there is no issuer ${issuer}` : 'no default issuer currently configured')
    const signingKey = mount.keys[authority.keyId]
    if (!signingKey) throw issuerRefuses(path, 'the key of its issuer is not here')

    const chain = chainOf(authority, mount)
    const { maxLeaseTtl, urls } = mount
    const issued = await signLeaf(
      { certificate: authority.certificate, key: signingKey, chain, urls, maxLeaseTtl },
      role,
      ask,
      path,
    )
    const { commonName, notAfter } = parseCertificate(issued.certificate)
    state.index.push({
      ...{ serialNumber: issued.serialNumber.replaceAll(':', ''), mount: mountName, role: roleName },
      ...{ issuerId: authority.id, commonName, notAfter: notAfter.toISOString(), issuedAt: new Date().toISOString() },
    })
    save()
    if (ask.ttl) requireWhole(issued.certificate, ask.ttl, path)
    return issued
  }

  const write = async (path: string, data: Readonly<Record<string, unknown>> = {}): Promise<VaultResponse> => {
    const { action } = splitPath(path)
    if (action !== 'issue' && action !== 'sign') throw noSuchMount(path)
    const issued = await makeLeaf(path, askOf(data, path))
    return { lease_id: '', lease_duration: 0, renewable: false, data: responseOf(issued) }
  }

  const read = async (path: string): Promise<VaultResponse | undefined> => {
    const { mount: mountName, action: kind, name } = splitPath(path.replace(/\/json$/, ''))
    const mount = Object.hasOwn(state.mounts, mountName) ? state.mounts[mountName] : undefined
    if (!mount) return undefined
    if ((kind === 'cert' && name === 'ca') || kind === 'issuer') {
      const authority = authorityAt(mount, kind === 'cert' ? 'default' : name)
      if (!authority && kind === 'issuer') return undefined
      if (!authority) throw issuerRefuses(path, 'no default issuer currently configured')
      const chain = chainOf(authority, mount).map(one => one.trim())
      return { data: { certificate: authority.certificate.trim(), ca_chain: chain, revocation_time: 0 } }
    }
    if (kind === 'roles' && Object.hasOwn(mount.roles, name)) return { data: { ...mount.roles[name] } }
  }

  return {
    ensureMount,
    generateRoot: async (path, request) => {
      const where = `${path}/issuers/generate/root/${request.type}`
      const mount = mountAt(path, where)
      const { publicKey, privateKey } = await generateKeys(request.keyType ?? 'rsa', request.keyBits)
      const signingKey = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
      const seconds = Math.min(durationSeconds(request.ttl), durationSeconds(mount.maxLeaseTtl))
      const now = Date.now()
      const { certificate } = await signCertificate({
        subject: new x509.Name([{ CN: [request.commonName] }]),
        publicKey,
        signingKey,
        notBefore: new Date(now - durationSeconds(request.notBeforeDuration ?? '30s') * 1000),
        notAfter: new Date(now + seconds * 1000),
        extensions: [
          new x509.BasicConstraintsExtension(true, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        ],
      })
      requireWhole(certificate, request.ttl, where)
      const authority = { id: randomUUID(), keyId: randomUUID(), name: request.issuerName, certificate }
      mount.authorities.push(authority)
      mount.keys[authority.keyId] = signingKey
      // As in Vault: the first becomes the default, later ones by setDefaultIssuer.
      mount.defaultIssuer ??= authority.id
      save()
      return {
        certificate,
        issuerId: authority.id,
        keyId: authority.keyId,
        privateKey: request.type === 'exported' ? privateKeyPem(privateKey) : undefined,
      }
    },
    generateIntermediate: async (path, request) => {
      const type = request.existingKey === undefined ? request.type : 'existing'
      const where = `${path}/issuers/generate/intermediate/${type}`
      const mount = mountAt(path, where)
      const existing = request.existingKey === undefined ? undefined : mount.keys[request.existingKey]
      if (request.existingKey !== undefined && !existing) {
        throw issuerRefuses(where, `there is no key ${request.existingKey}`)
      }
      const made = existing ? undefined : await generateKeys(request.keyType ?? 'rsa', request.keyBits)
      const privateKey = existing ? createPrivateKey(existing) : made!.privateKey
      const keyId = request.existingKey ?? randomUUID()
      mount.keys[keyId] = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
      save()
      return {
        csr: await makeRequest(request.commonName, privateKey),
        keyId,
        privateKey: type === 'exported' ? privateKeyPem(privateKey) : undefined,
      }
    },
    signIntermediate: async (path, csr, request) => {
      const { issuer = 'default', ttl } = request
      const where = `${path}/issuer/${issuer}/sign-intermediate`
      const mount = mountAt(path, where)
      await checkPossession(csr, where)
      const authority = authorityAt(mount, issuer)
      if (!authority) throw issuerRefuses(where, 'no default issuer currently configured')
      const signingKey = mount.keys[authority.keyId]
      if (!signingKey) throw issuerRefuses(where, 'the key of its issuer is not here')
      const lifetime = lifetimeOf(ttl, {}, mount.maxLeaseTtl, where)
      if (lifetime.notAfter > parseCertificate(authority.certificate).notAfter) {
        throw issuerRefuses(where, 'it would end after its CA: beyond the expiration of the CA')
      }
      const asked = new x509.Pkcs10CertificateRequest(csr)
      const publicKey = createPublicKey({ key: Buffer.from(asked.publicKey.rawData), type: 'spki', format: 'der' })
      const { certificate } = await signCertificate({
        ...{ subject: asked.subjectName, ...lifetime, publicKey, signingKey, issuer: authority.certificate },
        extensions: [
          new x509.BasicConstraintsExtension(true, request.maxPathLength, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
          ...urlExtensions(mount.urls),
        ],
      })
      requireWhole(certificate, ttl, where)
      return { certificate, caChain: chainOf(authority, mount) }
    },
    importIssuers: async (path, pem) => {
      const where = `${path}/issuers/import/cert`
      const ids = addIssuers(mountAt(path, where), pem, where)
      save()
      return ids
    },
    importKeyPair: async (path, { certificates, privateKey }, settings) => {
      const where = `${path}/issuers/import/bundle`
      const own = certificates.find(one => new X509Certificate(one).checkPrivateKey(privateKey))
      if (!own || !parseCertificate(own).isAuthority) throw issuerRefuses(where, 'the key belongs to no CA certificate')
      await ensureMount(path, settings)
      const mount = mountAt(path, where)
      mount.keys[randomUUID()] = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
      const others = certificates.filter(one => one !== own && parseCertificate(one).isAuthority)
      const [id] = addIssuers(mount, [own, ...others].join(''), where)
      mount.defaultIssuer = id
      save()
      return own
    },
    setUrls: async (path, urls) => {
      mountAt(path, `${path}/config/urls`).urls = urls
      save()
    },
    listIssuers: async path => mountAt(path, `${path}/issuers`).authorities.map(one => one.id),
    readIssuer: async (path, reference) => {
      const authority = authorityAt(mountAt(path, `${path}/issuer/${reference}`), reference)
      return authority && { id: authority.id, keyId: authority.keyId, certificate: authority.certificate }
    },
    setDefaultIssuer: async (path, issuerId) => {
      const mount = mountAt(path, `${path}/config/issuers`)
      const authority = authorityAt(mount, issuerId)
      if (!authority) throw issuerRefuses(`${path}/config/issuers`, `there is no issuer ${issuerId}`)
      mount.defaultIssuer = authority.id
      save()
    },
    deleteIssuer: async (path, reference) => {
      const mount = mountAt(path, `${path}/issuer/${reference}`)
      const authority = authorityAt(mount, reference)
      if (!authority) return
      mount.authorities.splice(mount.authorities.indexOf(authority), 1)
      if (mount.defaultIssuer === authority.id) mount.defaultIssuer = undefined
      save()
    },
    deleteKey: async (path, reference) => {
      const mount = mountAt(path, `${path}/key/${reference}`)
      const user = mount.authorities.find(one => one.keyId === reference)
      if (user) throw issuerRefuses(`${path}/key/${reference}`, `the key is in use by issuer ${user.id}`)
      delete mount.keys[reference]
      save()
    },
    ensureRole: async (path, name, settings) => {
      const mount = mountAt(path, `${path}/roles/${name}`)
      const wanted = JSON.parse(JSON.stringify(settings)) as RoleSettings
      for (const one of [settings.ttl, settings.max_ttl, settings.not_before_duration]) if (one) durationSeconds(one)
      const unknown = settings.ext_key_usage?.find(one => !purposesByName[usageName(one)])
      if (unknown !== undefined) throw issuerRefuses(`${path}/roles/${name}`, `the usage "${unknown}" is not known`)
      if (JSON.stringify(mount.roles[name]) === JSON.stringify(wanted)) return { changed: false }
      mount.roles[name] = wanted
      save()
      return { changed: true }
    },
    readRole: async (path, name) => (await read(`${path}/roles/${name}`))?.data,
    issue: (path, role, request) => makeLeaf(`${path}${issuerPart(request)}/issue/${role}`, { ...asked(request) }),
    signCsr: (path, role, csr, request) =>
      makeLeaf(`${path}${issuerPart(request)}/sign/${role}`, { ...asked(request), csr }),
    read,
    write,
    index: () => [...state.index],
    close: file.close,
  }
}

/** An authority, and those above it as far as the mount has them. */
function chainOf(authority: Authority, { authorities }: Mount): string[] {
  const chain = [authority]
  for (let depth = 0; depth < 8; depth++) {
    const last = parseCertificate(chain.at(-1)!.certificate)
    const above = authorities.find(one => !chain.includes(one) && issuedBy(last, parseCertificate(one.certificate)))
    if (last.subject === last.issuer || !above) break
    chain.push(above)
  }
  return chain.map(one => one.certificate)
}
