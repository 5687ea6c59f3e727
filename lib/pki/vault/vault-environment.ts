// Which Vault, and who asks: from the VAULT_… variables and ~/.vault-token, as Vault's own client reads them.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { parseCertificates, splitBundle } from '../certificates/certificate.ts'
import type { VaultSettings } from './contract.ts'
import { durationSeconds } from './duration.ts'
import type { VaultLogin } from './vault-login.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** What Vault's client would take from here and rekey does not. */
const refused: Record<string, string> = {
  VAULT_WRAP_TTL: 'answers must not be wrapped',
  VAULT_SRV_LOOKUP: 'give the host and port in VAULT_ADDR',
  VAULT_RATE_LIMIT: 'run with fewer forks',
  VAULT_HEADERS: 'no headers are added',
  VAULT_MFA: 'log in first, and give the token',
}

const truthy = new Set(['1', 't', 'T', 'true', 'TRUE', 'True'])
const falsy = new Set(['', '0', 'f', 'F', 'false', 'FALSE', 'False'])

/** The second half of leaving Vault's certificate unverified. */
const skipVerifyVariable = 'REKEY_VAULT_SKIP_VERIFY'

/**
 * The settings of the environment; what `given` has wins. Who asks is looked for in this order: `given`, `VAULT_TOKEN`,
 * a login (`VAULT_AUTH_METHOD`), `~/.vault-token`.
 * Throws `RekeyError` where no address is set, and for variables that ask for something that rekey does not do.
 */
export function vaultSettings(given: Partial<VaultSettings>, environment: Environment, home?: string): VaultSettings {
  const address = given.address ?? (environment['VAULT_AGENT_ADDR'] || environment['VAULT_ADDR'])
  if (!address) {
    throw new RekeyError('No Vault is named', {
      code: 'vault.no-address',
      hint: 'Set VAULT_ADDR, or vault { address }.',
    })
  }
  for (const [name, instead] of Object.entries(refused)) {
    if (environment[name]) throw new RekeyError(`${name} is not offered: ${instead}`, { code: 'vault.unsupported' })
  }
  const timeout = environment['VAULT_CLIENT_TIMEOUT']
  const named = {
    address,
    ...authoritiesOf(given, environment),
    clientCertificateFile: given.clientCertificateFile ?? (environment['VAULT_CLIENT_CERT'] || undefined),
    clientKeyFile: given.clientKeyFile ?? (environment['VAULT_CLIENT_KEY'] || undefined),
    skipVerify: skipsVerify(given, environment, address),
    proxies: given.proxies ?? proxiesOf(environment),
    retries: given.retries ?? retriesOf(environment['VAULT_MAX_RETRIES']),
    namespace: given.namespace ?? (environment['VAULT_NAMESPACE'] || undefined),
    serverName: given.serverName ?? (environment['VAULT_TLS_SERVER_NAME'] || undefined),
    timeout: given.timeout ?? (timeout ? durationSeconds(timeout) * 1000 : undefined),
    signal: given.signal,
  }
  const { unwrapToken } = given
  if (given.token) return { ...named, token: given.token, unwrapToken }
  if (given.tokenFile) return { ...named, tokenFile: given.tokenFile, unwrapToken }
  if (given.login) return { ...named, login: given.login }
  if (environment['VAULT_TOKEN']) return { ...named, token: environment['VAULT_TOKEN'], unwrapToken }
  const login = loginOf(environment)
  if (login) return { ...named, login }
  const file = home && join(home, '.vault-token')
  if (file && existsSync(file)) return { ...named, tokenFile: file }
  throw new RekeyError('No Vault token is given', {
    code: 'vault.no-token',
    hint: 'Set VAULT_TOKEN or VAULT_AUTH_METHOD, or log in with `vault login`, which writes ~/.vault-token.',
  })
}

/** The first that is there counts: a file, the CAs themselves, a folder of them. */
function authoritiesOf(given: Partial<VaultSettings>, environment: Environment) {
  const caFile = given.caFile ?? (environment['VAULT_CACERT'] || undefined)
  if (caFile !== undefined) return { caFile }
  if (given.authorities !== undefined) return { authorities: given.authorities }
  const text = environment['VAULT_CACERT_BYTES']
  if (text) {
    parseCertificates(text, 'VAULT_CACERT_BYTES')
    return { authorities: text }
  }
  const folder = environment['VAULT_CAPATH']
  return folder ? { authorities: authoritiesIn(folder) } : {}
}

/** Every certificate in the files of a folder. Throws `RekeyError` where there is none. */
export function authoritiesIn(folder: string): string {
  const found = filesOf(folder).flatMap(name => splitBundle(readFileSync(join(folder, name), 'utf8')))
  if (found.length > 0) return found.join('')
  throw new RekeyError(`${folder}: there is no certificate in the files of this folder`, { code: 'vault.file' })
}

function filesOf(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true })
    return entries.flatMap(entry => (entry.isDirectory() ? [] : entry.name)).sort()
  } catch (cause) {
    throw new RekeyError(`${folder}: can't read the CAs of Vault's certificate`, { code: 'vault.file', cause })
  }
}

/** Asked twice: once as for every client of Vault, once for rekey alone. */
function skipsVerify(given: Partial<VaultSettings>, environment: Environment, address: string): boolean {
  const asked = environment['VAULT_SKIP_VERIFY'] ?? ''
  if (!truthy.has(asked) && !falsy.has(asked)) {
    throw new RekeyError('VAULT_SKIP_VERIFY must be true or false', { code: 'vault.insecure' })
  }
  if (!given.skipVerify && !truthy.has(asked)) return false
  // Nothing is verified there; who may be asked without TLS is decided elsewhere.
  if (/^http:/i.test(address)) return false
  if (truthy.has(environment[skipVerifyVariable] ?? '')) return true
  const what = given.skipVerify ? 'ssl.verify = false' : 'VAULT_SKIP_VERIFY'
  throw new RekeyError(`${what} is set, and Vault's certificate is not left unverified by that alone`, {
    code: 'vault.insecure',
    hint: `Unset it, and name the CA of its certificate in VAULT_CACERT. Who must, says so twice: ${skipVerifyVariable}=true.`,
  })
}

/** `VAULT_PROXY_ADDR` and `VAULT_HTTP_PROXY` are for every request; else what the system's variables say. */
function proxiesOf(environment: Environment): Record<string, string | undefined> {
  const all = environment['VAULT_PROXY_ADDR'] || environment['VAULT_HTTP_PROXY']
  if (all) return { HTTP_PROXY: all, HTTPS_PROXY: all }
  const of = (name: string) => environment[name] || environment[name.toLowerCase()] || undefined
  // As in Go: nothing on this machine itself is asked through a proxy of the system.
  const direct = [of('NO_PROXY'), 'localhost', '127.0.0.1', '::1'].filter(Boolean).join(',')
  return { HTTP_PROXY: of('HTTP_PROXY'), HTTPS_PROXY: of('HTTPS_PROXY'), NO_PROXY: direct }
}

function retriesOf(value: string | undefined): number | undefined {
  if (!value) return undefined
  if (/^\d{1,3}$/.test(value)) return Number(value)
  throw new RekeyError(`VAULT_MAX_RETRIES must be a number, not "${value}"`, { code: 'vault.unsupported' })
}

/** Vault's own client leaves logins to `vault login`; what a method needs is named here as its agent's settings are. */
function loginOf(environment: Environment): VaultLogin | undefined {
  const method = environment['VAULT_AUTH_METHOD']
  if (!method) return undefined
  const mount = environment['VAULT_AUTH_PATH'] || undefined
  const role = environment['VAULT_AUTH_ROLE'] || undefined
  const need = (name: string) => {
    const value = environment[name]
    if (value) return value
    throw new RekeyError(`VAULT_AUTH_METHOD=${method} needs ${name}`, { code: 'vault.login' })
  }
  if (method === 'approle') {
    const secretId = environment['VAULT_SECRET_ID'] || undefined
    const secretIdFile = environment['VAULT_SECRET_ID_FILE'] || undefined
    return { method, mount, roleId: need('VAULT_ROLE_ID'), secretId, secretIdFile }
  }
  if (method === 'kubernetes') {
    return { method, mount, role: need('VAULT_AUTH_ROLE'), tokenFile: environment['VAULT_K8S_TOKEN_FILE'] || undefined }
  }
  if (method === 'cert') return { method, mount, role }
  throw new RekeyError(`VAULT_AUTH_METHOD=${method} is not known`, {
    code: 'vault.login',
    hint: 'Known are approle, kubernetes and cert.',
  })
}
