// What a Vault can be asked, and what it answers: types only.
import type { VaultLogin } from './vault-login.ts'

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
