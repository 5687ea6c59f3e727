// A typed Vault client for what rotations need: health, tokens, policies, and the PKI engine's roots, roles and issuing.
import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { RekeyError } from '../errors.ts'
import { foreignWords } from '../foreign-words.ts'
import { type CertificateFacts, parseCertificate, parseCertificates } from './certificate.ts'
import {
  issuerPart,
  issuerRefuses,
  noSuchMount,
  noSuchRole,
  requireNames,
  roleRefuses,
  ttlShortened,
} from './issuer.ts'
import { loginRequest, type VaultLogin } from './vault-login.ts'
import { checkAddress, shownAddress, vaultTransport } from './vault-transport.ts'

/** Where Vault is and who is asking. */
export interface VaultSettings {
  /** `https://HOST:PORT`; plain http on loopback only. */
  readonly address: string
  /** A PEM file with the CAs of Vault's own certificate; without it, those of Node. */
  readonly caFile?: string
  /** The same, for CAs that lie in a folder or in a variable: PEM texts, beside those of `caFile`. */
  readonly authorities?: string
  /** What the connection itself shows, for servers that ask for it and for logins by certificate. */
  readonly clientCertificateFile?: string
  readonly clientKeyFile?: string
  /** Leave Vault's certificate unverified. For a first look at a new Vault, never for production. */
  readonly skipVerify?: boolean
  /** `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`: which proxy is asked for which address. Default: none. */
  readonly proxies?: Readonly<Record<string, string | undefined>>
  /** How often a request that Vault turned away, or lost in a restart, is made again (default 3). */
  readonly retries?: number
  /** How to get a token where none is given. */
  readonly login?: VaultLogin
  /** The token itself, or the file that holds it. */
  readonly token?: string
  readonly tokenFile?: string
  /** The token is wrapped: it is exchanged, once, against the one that it stands for. */
  readonly unwrapToken?: boolean
  readonly namespace?: string
  /** The name that Vault's certificate must hold, where it is not that of the address. */
  readonly serverName?: string
  /** Milliseconds that one request may take (default 30 s). */
  readonly timeout?: number
  /** Ends requests under way; they reject with its reason. */
  readonly signal?: AbortSignal
  /** Milliseconds before each further try of a request; the last counts for all after it. */
  readonly backoff?: readonly number[]
}

/** A response of Vault as it comes. */
export interface VaultResponse {
  readonly request_id?: string
  readonly lease_id?: string
  readonly lease_duration?: number
  readonly renewable?: boolean
  readonly data: Record<string, unknown>
  readonly warnings?: readonly string[] | null
  readonly auth?: Record<string, unknown> | null
}

export interface VaultHealth {
  readonly initialized: boolean
  readonly sealed: boolean
  readonly standby: boolean
  readonly version: string
  /** Vault's clock, to the second. */
  readonly serverTime: Date
}

export interface TokenFacts {
  readonly policies: readonly string[]
  readonly displayName: string
  /** Seconds left; undefined for a token that never expires. */
  readonly ttl?: number
  readonly renewable: boolean
}

export interface RootRequest {
  readonly commonName: string
  /** `exported` hands the key out once, in this answer; `internal` never. */
  readonly type: 'internal' | 'exported'
  /** A duration as Vault writes it, e.g. `43800h`. */
  readonly ttl: string
  readonly keyType?: 'rsa' | 'ec' | 'ed25519'
  readonly keyBits?: number
  /** How far it is dated back, for machines whose clocks are behind (Vault's default: 30s). */
  readonly notBeforeDuration?: string
  /** A name for the issuer within its mount. */
  readonly issuerName?: string
}

export interface Root {
  readonly certificate: string
  readonly issuerId: string
  readonly keyId: string
  /** Only of an `exported` root. */
  readonly privateKey?: string
}

export interface IntermediateRequest {
  readonly commonName: string
  /** `exported` hands the key out once, in this answer; `internal` never. */
  readonly type: 'internal' | 'exported'
  readonly keyType?: 'rsa' | 'ec' | 'ed25519'
  readonly keyBits?: number
  /** A key of the mount, by id, instead of a new one: to have an authority signed by another one too. */
  readonly existingKey?: string
}

export interface SignIntermediateRequest {
  readonly ttl: string
  /** The issuer that signs, by id or name; without it, the mount's default. */
  readonly issuer?: string
  /** How many CAs may stand below it. */
  readonly maxPathLength?: number
}

/** What the certificates of a mount say of where their issuer, its CRL and its OCSP server are. */
export interface IssuerUrls {
  readonly issuing?: readonly string[]
  readonly crl?: readonly string[]
  readonly ocsp?: readonly string[]
}

/** A role of the PKI engine, in the engine's own words; what is left out gets Vault's default. */
export interface RoleSettings {
  readonly issuer_ref?: string
  readonly allowed_domains?: readonly string[]
  readonly allow_bare_domains?: boolean
  readonly allow_subdomains?: boolean
  readonly allow_glob_domains?: boolean
  readonly allow_wildcard_certificates?: boolean
  readonly allow_any_name?: boolean
  readonly enforce_hostnames?: boolean
  readonly allow_localhost?: boolean
  readonly allow_ip_sans?: boolean
  readonly cn_validations?: readonly string[]
  readonly require_cn?: boolean
  readonly allowed_uri_sans?: readonly string[]
  readonly use_csr_common_name?: boolean
  readonly use_csr_sans?: boolean
  readonly server_flag?: boolean
  readonly client_flag?: boolean
  readonly code_signing_flag?: boolean
  readonly email_protection_flag?: boolean
  /** `ServerAuth`, `OCSPSigning` …, beside those of the flags. */
  readonly ext_key_usage?: readonly string[]
  readonly key_type?: 'rsa' | 'ec' | 'ed25519' | 'any'
  readonly key_bits?: number
  readonly key_usage?: readonly string[]
  readonly organization?: readonly string[]
  readonly ou?: readonly string[]
  readonly country?: readonly string[]
  readonly province?: readonly string[]
  readonly locality?: readonly string[]
  readonly ttl?: string
  readonly max_ttl?: string
  readonly not_before_duration?: string
}

/** What an `issue` or `sign` may ask for; lists are given to Vault with commas. */
export interface IssueRequest {
  readonly commonName: string
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
  readonly ttl?: string
  /** The issuer that signs, by id or name; without it, the one that the role names. */
  readonly issuer?: string
  /** Keep the CN out of the DNS names (`exclude_cn_from_sans`). Default true. */
  readonly excludeCommonName?: boolean
}

export interface Issued {
  readonly certificate: string
  readonly issuingCa: string
  readonly caChain: readonly string[]
  readonly serialNumber: string
  /** Missing where a CSR was signed: the key never left its host. */
  readonly privateKey?: string
}

export interface PolicyLine {
  readonly path: string
  readonly capabilities: readonly string[]
}

/** Everything below rejects with `RekeyError`; messages name the path and never hold a secret. */
export interface Vault {
  /** For people: without a password that may stand in it. */
  readonly address: string
  /** The token was made by a login of this client: whoever connected revokes it at the end (`revokeSelf`). */
  readonly loggedIn: boolean
  health(): Promise<VaultHealth>
  /** Health, or an error where Vault is sealed, uninitialised or a standby. */
  requireUnsealed(): Promise<VaultHealth>
  lookupSelf(): Promise<TokenFacts>
  /** What the token may do on each path. */
  capabilities(paths: readonly string[]): Promise<Map<string, string[]>>
  /** Reject with the policy lines that are missing, all at once, where the token may not do all of this. */
  requireCapabilities(lines: readonly PolicyLine[]): Promise<void>
  /** Enable the PKI engine at a path unless it is there, and raise or lower its maximum TTL to what is asked. */
  ensureMount(path: string, settings: { maxLeaseTtl: string; description?: string }): Promise<{ changed: boolean }>
  /** Add a root CA to a mount, beside those that it has. It becomes the default only by `setDefaultIssuer`. */
  generateRoot(path: string, request: RootRequest): Promise<Root>
  /** A request for a CA certificate, for a key that stays in the mount: sign it elsewhere, then `importIssuers`. */
  generateIntermediate(
    path: string,
    request: IntermediateRequest,
  ): Promise<{ csr: string; keyId: string; privateKey?: string }>
  /** Sign the request of a CA with an issuer of this mount. `caChain`: who signed, up to the root where it is known. */
  signIntermediate(
    path: string,
    csrPem: string,
    request: SignIntermediateRequest,
  ): Promise<{ certificate: string; caChain: readonly string[] }>
  /**
   * Add CA certificates to a mount: an intermediate whose key it has, and those above it, whose keys may lie offline.
   * Resolves with the ids of their issuers, in order.
   */
  importIssuers(path: string, pem: string): Promise<string[]>
  setUrls(path: string, urls: IssuerUrls): Promise<void>
  /** Ids of the issuers of a mount. */
  listIssuers(path: string): Promise<string[]>
  /** An issuer by id, name or `default`; undefined where there is none. */
  readIssuer(path: string, reference: string): Promise<{ id: string; keyId: string; certificate: string } | undefined>
  setDefaultIssuer(path: string, issuerId: string): Promise<void>
  deleteIssuer(path: string, reference: string): Promise<void>
  /** Delete a CA key that no issuer of the mount needs any more: delete its issuer first. */
  deleteKey(path: string, reference: string): Promise<void>
  /** Write a role, whole, where it is missing or differs in a setting that is given here. */
  ensureRole(path: string, name: string, settings: RoleSettings): Promise<{ changed: boolean }>
  readRole(path: string, name: string): Promise<Record<string, unknown> | undefined>
  /** Write an ACL policy of these lines. */
  writePolicy(name: string, lines: readonly PolicyLine[]): Promise<void>
  deletePolicy(name: string): Promise<void>
  createChildToken(request: {
    policies: readonly string[]
    ttl: string
    renewable?: boolean
    displayName?: string
    numUses?: number
    /** Its end, however often it is renewed. */
    longest?: string
  }): Promise<{ token: string; accessor: string }>
  /** Renew the token itself. Resolves with the seconds that it has now. */
  renewSelf(): Promise<number>
  revokeSelf(): Promise<void>
  revokeAccessor(accessor: string): Promise<void>
  issue(path: string, role: string, request: IssueRequest): Promise<Issued>
  signCsr(path: string, role: string, csrPem: string, request: IssueRequest): Promise<Issued>
  /** The names below a path, as Vault gives them; undefined where there are none. */
  list(path: string): Promise<string[] | undefined>
  /** Read any path, with a query if it has one; undefined where there is nothing. */
  read(path: string): Promise<VaultResponse | undefined>
  write(path: string, data?: Readonly<Record<string, unknown>>): Promise<VaultResponse>
  /** The same Vault with another token. */
  withToken(token: string): Vault
  /** Close idle connections, those of `withToken` too. */
  close(): void
}

type Send = (method: string, path: string, json?: unknown) => Promise<unknown>

/** How long to wait before the second, third and fourth try of a request that Vault turned away. */
const defaultBackoff = [250, 1000, 2500]

/**
 * A client for one Vault. Nothing is sent before the first call, unless there is a login to make first.
 * Throws `RekeyError` for a bad address, for files that can't be read, and for a login that is refused.
 */
export async function connectVault(settings: VaultSettings): Promise<Vault> {
  checkAddress(settings.address)
  const named = settings.caFile === undefined ? '' : readSmallFile(settings.caFile, "the CA of Vault's certificate")
  if (settings.caFile !== undefined) parseCertificate(named, settings.caFile)
  const ca = `${named}${settings.authorities ?? ''}` || undefined
  const read = (file: string | undefined, what: string) => (file === undefined ? undefined : readSmallFile(file, what))
  const cert = read(settings.clientCertificateFile, 'the certificate to show to Vault')
  const key = read(settings.clientKeyFile, 'the key of the certificate to show to Vault')
  if (settings.login?.method === 'cert' && (cert === undefined || key === undefined)) {
    throw new RekeyError('A login by certificate needs a certificate and its key', {
      code: 'vault.no-token',
      hint: 'Name their files in VAULT_CLIENT_CERT and VAULT_CLIENT_KEY.',
    })
  }
  // One file may hold both, and is then named twice.
  if ((cert === undefined) !== (key === undefined)) {
    const [has, lacks] = key === undefined ? ['certificate', 'key'] : ['key', 'certificate']
    throw new RekeyError(`Vault is to be shown a client ${has}, and no ${lacks} for it is named`, {
      code: 'vault.file',
      hint: 'VAULT_CLIENT_CERT and VAULT_CLIENT_KEY go together.',
    })
  }
  const noToken = settings.token === undefined && settings.tokenFile === undefined && settings.login !== undefined
  const token = noToken ? '' : (settings.token ?? readToken(settings.tokenFile))
  const address = settings.address.replace(/\/+$/, '')
  const shown = shownAddress(address)
  const { serverName, signal, skipVerify, proxies, timeout = 30_000, retries = 3, backoff = defaultBackoff } = settings
  const waits = Array.from({ length: retries }, (_, index) => backoff[Math.min(index, backoff.length - 1)] ?? 0)
  const transport = vaultTransport({
    ...{ address, ca, cert, key, serverName, skipVerify, proxies, timeout, signal },
  })
  // Loaded here, since it takes 60 ms and most commands never speak with Vault.
  const { default: nodeVault } = await import('node-vault')

  const sender = (bearer: string): Send => {
    const client = nodeVault({
      endpoint: address,
      'request-promise': transport,
      // Its own logging prints what is written, secrets among it.
      debug: () => undefined,
    })
    // Set here and not as options, for which it falls back to the environment.
    Object.assign(client, { token: bearer, namespace: settings.namespace, pathPrefix: '' })
    return async (method, path, json) => {
      for (const delay of [...waits, undefined]) {
        try {
          // Not every proxy, nor Node, knows the method LIST.
          const request = method === 'LIST' ? { method: 'GET', path: `${path}?list=true` } : { method, path }
          return await client.request({ ...request, path: `/${encodePath(request.path)}`, json })
        } catch (error) {
          const told = explain(error, method, path, shown)
          if (delay === undefined || !worthAnotherTry(error, told, method, path)) throw told
          await wait(delay, undefined, { signal })
        }
      }
    }
  }
  const clientFor = (bearer: string, loggedIn = false): Vault =>
    vaultClient({ address: shown, loggedIn, send: sender(bearer), withToken: clientFor, close: transport.close })
  if (!noToken && !settings.unwrapToken) return clientFor(token)
  try {
    if (noToken) return clientFor(await logIn(sender(''), settings.login!), true)
    return clientFor(await unwrap(sender(token)))
  } catch (error) {
    transport.close()
    throw error
  }
}

async function logIn(send: Send, login: VaultLogin): Promise<string> {
  const { path, data } = loginRequest(login)
  const refused = (said: string) =>
    new RekeyError(`Vault refuses the login at ${path}: ${said}`, {
      code: 'vault.login',
      hint: 'Check the mount of the method, the role, and what proves who asks.',
    })
  try {
    const { auth } = (await send('POST', path, data)) as VaultResponse
    if (auth?.['client_token']) return String(auth['client_token'])
  } catch (error) {
    const { code, message } = error as RekeyError
    if (code === 'vault.refused' || code === 'vault.nothing-there') throw refused(message)
    if (code === 'vault.permission-denied' || code === 'issuer.no-such-mount') throw refused('permission denied')
    throw error
  }
  throw refused('it answers without a token (does it ask for a second factor?)')
}

async function unwrap(send: Send): Promise<string> {
  const hint =
    'A wrapped token can be exchanged once. If nobody here did that, somebody else has it: have its token revoked.'
  try {
    const { auth } = (await send('POST', 'sys/wrapping/unwrap')) as VaultResponse
    if (auth?.['client_token']) return String(auth['client_token'])
  } catch (error) {
    const { code = '' } = error as RekeyError
    if (!['vault.refused', 'vault.bad-token', 'vault.permission-denied'].includes(code)) throw error
    throw new RekeyError('Vault does not exchange the wrapped token: it expired, or was exchanged before', {
      ...{ code: 'vault.wrapped-token', hint },
    })
  }
  throw new RekeyError('what was wrapped is no token', { code: 'vault.wrapped-token' })
}

/** Read a token from a file. Throws `RekeyError` where it is missing or empty. */
export function readToken(file: string | undefined): string {
  if (file === undefined) {
    throw new RekeyError('No Vault token is given', { code: 'vault.no-token', hint: 'Name the file that holds it.' })
  }
  const token = readSmallFile(file, 'the Vault token').trim()
  if (token === '' || /\s/.test(token)) {
    throw new RekeyError(`${file}: does not hold one Vault token and nothing else`, { code: 'vault.no-token' })
  }
  return token
}

/** An ACL policy in Vault's HCL. */
export function policyText(lines: readonly PolicyLine[]): string {
  return lines.map(policyLine).join('\n')
}

/**
 * Seconds of a duration as Vault takes it: `90`, `90s`, `30m`, `1h30m`, `1.5h`, `30d`; a part of a second counts as a whole one.
 * Throws `RekeyError` for others.
 */
export function durationSeconds(duration: string): number {
  const seconds: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 }
  if (/^\d+$/.test(duration)) return Number(duration)
  if (!isDuration(duration)) {
    throw new RekeyError(`"${duration}" is not a duration`, {
      code: 'vault.bad-duration',
      hint: 'Write it like 17520h, 30m or 1h30m.',
    })
  }
  const parts = [...duration.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)]
  return Math.ceil(parts.reduce((sum, [, n, unit]) => sum + Number(n) * seconds[unit!]!, 0))
}

const isDuration = (text: string) => /^(\d+|(\d+(\.\d+)?(ms|[smhd]))+)$/.test(text)

interface Client {
  readonly address: string
  readonly loggedIn: boolean
  readonly send: Send
  withToken(token: string): Vault
  close(): void
}

function vaultClient({ address, loggedIn, send, withToken, close }: Client): Vault {
  const read = async (path: string) => (await orUndefined(send('GET', path))) as VaultResponse | undefined
  const write = async (path: string, data: Readonly<Record<string, unknown>> = {}) =>
    ((await send('POST', path, data)) ?? { data: {} }) as VaultResponse
  const list = async (path: string) => {
    const answer = (await orUndefined(send('LIST', path))) as VaultResponse | undefined
    return answer?.data['keys'] as string[] | undefined
  }
  const remove = async (path: string) => void (await send('DELETE', path))

  const health = async () => {
    const body = (await send('GET', 'sys/health')) as Record<string, unknown> | undefined
    if (typeof body?.['sealed'] !== 'boolean') {
      throw new RekeyError(`${address} does not answer as a Vault does`, { code: 'vault.bad-response' })
    }
    return {
      initialized: body['initialized'] === true,
      sealed: body['sealed'],
      standby: body['standby'] === true,
      version: foreignWords(String(body['version']), 60),
      serverTime: new Date(Number(body['server_time_utc']) * 1000),
    }
  }

  const capabilities = async (paths: readonly string[]) => {
    const { data } = await write('sys/capabilities-self', { paths })
    return new Map(paths.map(path => [path, (data[path] as string[] | undefined) ?? ['deny']]))
  }

  const readIssuer = async (path: string, reference: string) => {
    const data = (await read(`${path}/issuer/${reference}`).catch(noDefaultIssuer))?.data
    if (!data) return undefined
    return {
      id: String(data['issuer_id']),
      keyId: String(data['key_id']),
      certificate: String(data['certificate']),
    }
  }

  const readRole = async (path: string, name: string) => (await read(`${path}/roles/${name}`))?.data

  const ask = async (path: string, request: IssueRequest, more: Record<string, unknown> = {}) => {
    const { data, warnings } = await write(path, {
      common_name: request.commonName,
      alt_names: request.dnsNames?.join(','),
      ip_sans: request.ipAddresses?.join(','),
      ttl: request.ttl,
      exclude_cn_from_sans: request.excludeCommonName ?? true,
      ...more,
    })
    const issued = {
      certificate: pem(data['certificate'], path),
      issuingCa: pem(data['issuing_ca'], path),
      caChain: ((data['ca_chain'] as string[] | undefined) ?? []).map(one => pem(one, path)),
      serialNumber: String(data['serial_number']),
      privateKey: data['private_key'] === undefined ? undefined : pem(data['private_key'], path),
    }
    const facts = parseCertificate(issued.certificate, `answer of ${path}`)
    if (request.ttl) requireLifetime(facts, request.ttl, path, warnings)
    // A request for signing brings names of its own.
    if (!more['csr']) {
      const { commonName, dnsNames = [], ipAddresses = [] } = request
      requireNames(facts, { commonName, dnsNames, ipAddresses }, path)
    }
    return issued
  }

  return {
    address,
    loggedIn,
    health,
    requireUnsealed: async () => {
      const state = await health()
      if (!state.initialized) {
        throw new RekeyError(`Vault at ${address} is not initialised`, { code: 'vault.not-initialised' })
      }
      if (state.sealed) throw sealed(address)
      if (state.standby) throw standby(address)
      return state
    },
    lookupSelf: async () => {
      const data = (await read('auth/token/lookup-self'))?.data ?? {}
      const ttl = Number(data['ttl'])
      return {
        policies: (data['policies'] as string[] | undefined) ?? [],
        displayName: String(data['display_name'] ?? ''),
        ttl: ttl > 0 ? ttl : undefined,
        renewable: data['renewable'] === true,
      }
    },
    capabilities,
    requireCapabilities: async lines => {
      const has = await capabilities(lines.map(line => line.path))
      const missing = lines
        .map(line => ({
          path: line.path,
          capabilities: line.capabilities.filter(one => !may(has.get(line.path), one)),
        }))
        .filter(line => line.capabilities.length > 0)
      if (missing.length === 0) return
      const paths = missing.map(line => `${line.path} (${line.capabilities.join(', ')})`).join('; ')
      throw new RekeyError(`The Vault token may not do what this needs: ${paths}`, {
        code: 'vault.permission-denied',
        hint: `Add to its policy:\n${policyText(missing)}`,
      })
    },
    ensureMount: async (path, { maxLeaseTtl, description }) => {
      const mounts = (await read('sys/mounts'))?.data ?? {}
      const mount = mounts[`${path}/`] as { type?: string; config?: { max_lease_ttl?: number } } | undefined
      if (!mount) {
        await write(`sys/mounts/${path}`, { type: 'pki', description, config: { max_lease_ttl: maxLeaseTtl } })
        return { changed: true }
      }
      if (mount.type !== 'pki') {
        throw new RekeyError(`The mount ${path}/ in Vault is a "${mount.type}" engine, not "pki"`, {
          code: 'issuer.wrong-mount',
          hint: 'Choose another path for the PKI engine.',
        })
      }
      if (mount.config?.max_lease_ttl === durationSeconds(maxLeaseTtl)) return { changed: false }
      await write(`sys/mounts/${path}/tune`, { max_lease_ttl: maxLeaseTtl })
      return { changed: true }
    },
    generateRoot: async (path, request) => {
      const where = `${path}/issuers/generate/root/${request.type}`
      const { data, warnings } = await write(where, {
        common_name: request.commonName,
        ttl: request.ttl,
        key_type: request.keyType,
        key_bits: request.keyBits,
        issuer_name: request.issuerName,
        exclude_cn_from_sans: true,
        not_before_duration: request.notBeforeDuration,
      })
      const certificate = pem(data['certificate'], where)
      requireLifetime(parseCertificate(certificate, `answer of ${where}`), request.ttl, where, warnings)
      return {
        certificate,
        issuerId: String(data['issuer_id']),
        keyId: String(data['key_id']),
        privateKey: request.type === 'exported' ? pem(data['private_key'], where) : undefined,
      }
    },
    generateIntermediate: async (path, request) => {
      const type = request.existingKey === undefined ? request.type : 'existing'
      const where = `${path}/issuers/generate/intermediate/${type}`
      const { data } = await write(where, {
        common_name: request.commonName,
        exclude_cn_from_sans: true,
        key_type: request.existingKey === undefined ? request.keyType : undefined,
        key_bits: request.existingKey === undefined ? request.keyBits : undefined,
        key_ref: request.existingKey,
      })
      return {
        csr: pem(data['csr'], where),
        keyId: String(data['key_id']),
        privateKey: type === 'exported' ? pem(data['private_key'], where) : undefined,
      }
    },
    signIntermediate: async (path, csr, { ttl, issuer = 'default', maxPathLength }) => {
      const where = `${path}/issuer/${issuer}/sign-intermediate`
      const { data, warnings } = await write(where, {
        ...{ csr, ttl, format: 'pem', use_csr_values: true, exclude_cn_from_sans: true },
        max_path_length: maxPathLength,
      })
      const certificate = pem(data['certificate'], where)
      requireLifetime(parseCertificate(certificate, `answer of ${where}`), ttl, where, warnings)
      const chain = (data['ca_chain'] as string[] | undefined) ?? [String(data['issuing_ca'])]
      return { certificate, caChain: chain.map(one => pem(one, where)).filter(one => one !== certificate) }
    },
    importIssuers: async (path, bundle) => {
      const where = `${path}/issuers/import/cert`
      await write(where, { pem_bundle: bundle })
      // Vault tells what is new, not what it had: the ids are looked up by what was given.
      const ids = (await list(`${path}/issuers`)) ?? []
      const issuers = await Promise.all(ids.map(id => readIssuer(path, id)))
      const known = new Map(
        issuers.flatMap(one => (one ? [[parseCertificate(one.certificate).fingerprint, one.id]] : [])),
      )
      return parseCertificates(bundle, 'issuers to import').map(({ fingerprint, subject }) => {
        const id = known.get(fingerprint)
        if (id) return id
        throw new RekeyError(`Vault did not take "${subject}" for an issuer`, { code: 'vault.bad-response' })
      })
    },
    setUrls: async (path, { issuing = [], crl = [], ocsp = [] }) =>
      void (await write(`${path}/config/urls`, {
        issuing_certificates: issuing.join(','),
        crl_distribution_points: crl.join(','),
        ocsp_servers: ocsp.join(','),
      })),
    listIssuers: async path => (await list(`${path}/issuers`)) ?? [],
    readIssuer,
    setDefaultIssuer: async (path, issuerId) => void (await write(`${path}/config/issuers`, { default: issuerId })),
    deleteIssuer: (path, reference) => remove(`${path}/issuer/${reference}`),
    deleteKey: (path, reference) => remove(`${path}/key/${reference}`),
    ensureRole: async (path, name, settings) => {
      const role = await readRole(path, name)
      if (role && Object.entries(settings).every(([key, value]) => sameSetting(role[key], value))) {
        return { changed: false }
      }
      await write(`${path}/roles/${name}`, { ...settings })
      return { changed: true }
    },
    readRole,
    writePolicy: async (name, lines) => void (await write(`sys/policies/acl/${name}`, { policy: policyText(lines) })),
    deletePolicy: name => remove(`sys/policies/acl/${name}`),
    createChildToken: async ({ policies, ttl, renewable = false, displayName = 'rekey', numUses = 0, longest }) => {
      const { auth } = await write('auth/token/create', {
        policies,
        ttl,
        explicit_max_ttl: longest ?? (renewable ? undefined : ttl),
        renewable,
        display_name: displayName,
        num_uses: numUses,
      })
      return { token: String(auth?.['client_token']), accessor: String(auth?.['accessor']) }
    },
    renewSelf: async () => Number((await write('auth/token/renew-self')).auth?.['lease_duration'] ?? 0),
    revokeSelf: async () => void (await write('auth/token/revoke-self')),
    revokeAccessor: async accessor => void (await write('auth/token/revoke-accessor', { accessor })),
    issue: (path, role, request) => ask(`${path}${issuerPart(request)}/issue/${role}`, request),
    signCsr: (path, role, csr, request) => ask(`${path}${issuerPart(request)}/sign/${role}`, request, { csr }),
    list,
    read,
    write,
    withToken: token => withToken(token),
    close,
  }
}

/** 404 means that there is nothing; whatever else went wrong stays an error. */
async function orUndefined(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof RekeyError && error.code === 'vault.nothing-there') return undefined
    throw error
  }
}

/** A mount without any issuer answers 500 when asked for its default one: to us there is none. */
function noDefaultIssuer(error: unknown): undefined {
  if (error instanceof RekeyError && /no default issuer/.test(error.message)) return undefined
  throw error
}

interface ApiError extends Error {
  response?: { statusCode: number; body?: { errors?: unknown } }
}

/** What would be there twice if it was done, although its answer says otherwise. */
const makesAnother = /(^|\/)(generate|rotate|import)\/|^auth\/.*(create|login)|^sys\/wrapping\/|cross-sign$/

/**
 * Whether to ask again. 412 (not yet replicated), 429 (rate limit) and a refused connection were turned away before
 * anything was done. After any other 5xx, and where the connection ended without an answer (a restart), a request may have
 * been done: it is made again unless that would leave something twice. What Vault explains (sealed, no such role, …) stays as it
 * is, however often one asks.
 */
function worthAnotherTry(
  error: unknown,
  told: { code?: string; cause?: unknown },
  method: string,
  path: string,
): boolean {
  if (path === 'sys/health') return false
  const repeatable = method === 'GET' || method === 'LIST' || !makesAnother.test(path)
  if (told.code === 'vault.unreachable') {
    const reason = (told.cause as NodeJS.ErrnoException).code
    return reason === 'ECONNREFUSED' || (repeatable && (reason === 'ECONNRESET' || reason === 'EPIPE'))
  }
  const status = (error as ApiError).response?.statusCode ?? 0
  // While another Vault takes over, a standby does nothing.
  if (status === 412 || status === 429 || told.code === 'vault.standby') return true
  return status >= 500 && status !== 501 && told.code === 'vault.refused' && repeatable
}

/** Turn what came back into one error of ours: what was asked, what Vault said, what to do. */
function explain(error: unknown, method: string, path: string, address: string): Error & { code?: string } {
  // node-vault's error holds the whole response, so it is never passed on as a cause.
  const { response, message } = error as ApiError
  if (error instanceof RekeyError || !response) return error as Error
  const status = response.statusCode
  const list = Array.isArray(response.body?.errors) ? response.body.errors.map(String) : []
  const said = foreignWords(list.join('; ') || message, 1_000)

  if (status === 503 && said.includes('Vault is sealed')) return sealed(address)
  if (said.includes('local node not active')) return standby(address)
  if (status === 403) return forbidden(said, method, path)
  if (said.startsWith('no handler for route') || said.includes('No secret engine mount')) {
    return noSuchMount(path)
  }
  const role = /^unknown role:? ?(.*)$/.exec(said)
  if (role) {
    return noSuchRole(path.split('/').slice(0, -2).join('/'), role[1] || path.split('/').at(-1)!)
  }
  if (/ not allowed (by|in) this role|not valid for this role/.test(said)) {
    return roleRefuses(path, said)
  }
  if (said.includes('child policies must be subset of parent')) {
    return new RekeyError("Vault: the token may not make a child token with a policy that it doesn't have itself", {
      code: 'vault.permission-denied',
      hint: `Add to the token's policy: ${policyLine({ path, capabilities: ['update', 'sudo'] })}`,
    })
  }
  if (/no default issuer currently configured|beyond the expiration of the CA|[Kk]ey in [Uu]se by/.test(said)) {
    return issuerRefuses(path, said)
  }
  if (status === 404 || said.includes('unable to find PKI issuer for reference'))
    return new RekeyError(`Vault has nothing at ${path}`, { code: 'vault.nothing-there' })
  return new RekeyError(`Vault refused ${method} ${path} (status ${status}): ${said}`, { code: 'vault.refused' })
}

function sealed(address: string): RekeyError {
  return new RekeyError(`Vault at ${address} is sealed`, {
    code: 'vault.sealed',
    hint: 'Unseal it (vault operator unseal), then start again.',
  })
}

function standby(address: string): RekeyError {
  return new RekeyError(`Vault at ${address} is a standby`, {
    code: 'vault.standby',
    hint: 'Give the address of the active Vault, or of a load balancer in front of it.',
  })
}

function forbidden(said: string, method: string, asked: string): RekeyError {
  // A policy knows nothing of queries.
  const [path = ''] = asked.split('?')
  if (said.includes('invalid token') || said.includes('bad token')) {
    return new RekeyError('Vault does not know the token: it expired, was revoked, or belongs to another Vault', {
      code: 'vault.bad-token',
      hint: 'Log in again, and give the new token.',
    })
  }
  const capabilities = capabilitiesFor(method, path)
  return new RekeyError(`Vault: permission denied for ${capabilities.at(-1)} on ${path}`, {
    code: 'vault.permission-denied',
    hint: `Add to the token's policy: ${policyLine({ path, capabilities })}`,
  })
}

/** What a request needs. Where engines keep values, a write to a path that is not there yet is a `create`. */
function capabilitiesFor(method: string, path: string): string[] {
  const other = { GET: ['read'], LIST: ['list'], DELETE: ['delete'] }[method]
  if (other) return other
  const isCall =
    /^(sys|auth|identity)\/|\/(issue|sign|sign-verbatim|sign-intermediate|roles|issuers?|keys?|config|generate|tune)(\/|$)/
  return isCall.test(path) ? ['update'] : ['create', 'update']
}

function policyLine({ path, capabilities }: PolicyLine): string {
  return `path "${path}" { capabilities = [${capabilities.map(one => `"${one}"`).join(', ')}] }`
}

function may(granted: readonly string[] | undefined, capability: string): boolean {
  return granted?.includes('root') || granted?.includes(capability) || false
}

/** The PKI engine shortens what outlives its mount or issuer, and only warns. Here that is an error. */
function requireLifetime(
  { notAfter }: CertificateFacts,
  ttl: string,
  path: string,
  warnings: readonly string[] | null | undefined,
): void {
  const short = durationSeconds(ttl) - (notAfter.getTime() - Date.now()) / 1000
  if (short <= 120) return
  throw ttlShortened(path, notAfter, ttl, foreignWords(warnings?.join(' ') ?? '') || undefined)
}

/** Whatever else has a lease: a token, a login, credentials of a cloud. */
function requireLease({ auth, lease_duration: lease }: VaultResponse, ttl: string | undefined, path: string): void {
  const seconds = Number(auth?.['lease_duration'] ?? lease ?? 0)
  // A path of its own may mean something else by `ttl`, and has no lease then.
  if (!ttl || seconds === 0 || !isDuration(ttl) || durationSeconds(ttl) - seconds <= 1) return
  throw new RekeyError(`${path} answered with a lease of ${seconds} s, shorter than the ttl of ${ttl} that was asked`, {
    code: 'vault.lease-shortened',
    hint: 'Raise the maximum TTL of the mount or the role, or ask for less.',
  })
}

function pem(value: unknown, path: string): string {
  if (typeof value === 'string' && value.includes('-----BEGIN ')) return `${value.trim()}\n`
  throw new RekeyError(`Vault's answer of ${path} lacks what was asked of it`, { code: 'vault.bad-response' })
}

/** Whether a role's setting, as Vault gives it back, is what was written: durations come back in seconds. */
function sameSetting(has: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true
  if (typeof has === 'number' && typeof wanted === 'string') return has === durationSeconds(wanted)
  return JSON.stringify(has) === JSON.stringify(wanted)
}

/** Each part of a path is escaped, a query behind it is left as it is. */
function encodePath(path: string): string {
  const [plain, ...query] = path.split('?')
  return [plain!.split('/').map(encodeURIComponent).join('/'), ...query].join('?')
}

function readSmallFile(file: string, what: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new RekeyError(`${file}: can't read ${what} (${(cause as NodeJS.ErrnoException).code})`, {
      code: 'vault.file',
      cause,
    })
  }
}

/**
 * Vault as the source of a template's `secret`: reads, and writes with the template's `k=v` data. What a template would
 * put into a file without anyone noticing is an error: an empty certificate or key, one that holds shorter than was asked, as any
 * lease that does, and one that lacks a name.
 * Paths into a key-value engine of version 2 may leave out `data/`, as consul-template's may; what is written there is wrapped as that
 * engine wants it.
 */
export function vaultSecrets(vault: Pick<Vault, 'read' | 'write'>) {
  return async (path: string, data?: Readonly<Record<string, string>>): Promise<VaultResponse | undefined> => {
    if (!data) {
      const response = await vault.read((await pathWithin(vault, path, valueParts)) ?? path)
      return checked(isDeleted(response) ? undefined : response, path)
    }
    const isIssuing = /\/(issue|sign|sign-verbatim)\//.test(path)
    const valuePath = isIssuing ? undefined : await pathWithin(vault, path, valueParts)
    const response = await (valuePath === undefined ? vault.write(path, data) : vault.write(valuePath, { data }))
    const { certificate } = checked(response, path)!.data ?? {}
    if (!isIssuing) requireLease(response, data['ttl'], path)
    if (typeof certificate === 'string' && isIssuing) {
      const facts = parseCertificate(certificate, `answer of ${path}`)
      if (data['ttl']) requireLifetime(facts, data['ttl'], path, response.warnings)
      // A request for signing brings names of its own.
      if (data['csr']) return response
      const list = (names = '') => names.split(',').flatMap(name => name.trim() || [])
      const asked = {
        dnsNames: list(data['alt_names']),
        ipAddresses: list(data['ip_sans']),
        uris: list(data['uri_sans']),
      }
      requireNames(facts, { commonName: data['common_name'], ...asked }, path)
    }
    return response
  }
}

/** Vault as the source of a template's `secrets`: the names below a path, in order. Undefined where there are none. */
export function vaultLists(vault: Pick<Vault, 'read' | 'list'>) {
  return async (path: string): Promise<string[] | undefined> =>
    (await vault.list((await pathWithin(vault, path, ['metadata'])) ?? path))?.sort()
}

/** What may stand after the mount of a key-value engine of version 2; the first of them where none does. */
const valueParts = ['data', 'metadata', 'subkeys']

/** The path with the part that version 2 of the key-value engine has after its mount; undefined where there is no such engine. */
async function pathWithin(
  vault: Pick<Vault, 'read'>,
  path: string,
  parts: readonly string[],
): Promise<string | undefined> {
  const [plain] = path.split('?')
  const mount = await vault.read(`sys/internal/ui/mounts/${plain}`).catch((error: RekeyError) => {
    // Not every token may ask; then the path is taken as it stands.
    if (error.code === 'vault.permission-denied' || error.code === 'issuer.no-such-mount') return undefined
    throw error
  })
  const { path: told = '', options } = (mount?.data ?? {}) as { path?: string; options?: { version?: string } | null }
  if (options?.version !== '2') return undefined
  // The mount is told with the namespace before it, which the request has in its header.
  let prefix = told
  while (prefix && !`${path}/`.startsWith(prefix)) prefix = prefix.slice(prefix.indexOf('/') + 1)
  if (!prefix) return undefined
  const rest = path.slice(prefix.length)
  return parts.some(part => rest.startsWith(`${part}/`)) ? path : `${prefix}${parts[0]}${rest && '/'}${rest}`
}

/** A version of a secret that was deleted still answers, with metadata alone. */
function isDeleted(response: VaultResponse | undefined): boolean {
  const { deletion_time: time } = (response?.data?.['metadata'] ?? {}) as { deletion_time?: string }
  return Boolean(time) && new Date(time!) < new Date()
}

function checked(response: VaultResponse | undefined, path: string): VaultResponse | undefined {
  for (const field of ['certificate', 'private_key', 'issuing_ca']) {
    // Version 2 of the key-value engine has what was written one level deeper.
    const { data: within } = (response?.data ?? {}) as { data?: Record<string, unknown> | null }
    if (response?.data?.[field] === '' || within?.[field] === '') {
      throw new RekeyError(`the answer of ${path} has an empty ${field}`, {
        code: 'vault.bad-response',
        hint: 'A PKI mount without a root CA answers like this: generate or import one first.',
      })
    }
  }
  return response
}
