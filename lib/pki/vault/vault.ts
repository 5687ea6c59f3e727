// Connects to a Vault: its address, its certificate, a token or a login, and requests that are made again where that can do no harm.
import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import { parseCertificate } from '../certificates/certificate.ts'
import { type Send, vaultClient } from './client.ts'
import type { Vault, VaultResponse, VaultSettings } from './contract.ts'
import { explain, worthAnotherTry } from './vault-errors.ts'
import { loginRequest, type VaultLogin } from './vault-login.ts'
import { checkAddress, shownAddress, vaultTransport } from './vault-transport.ts'

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
  const address = settings.address.replace(/(?<!\/)\/+$/, '')
  const shown = shownAddress(address)
  const { serverName, signal, skipVerify, proxies, timeout = 30_000, retries = 3, backoff = defaultBackoff } = settings
  const waits = Array.from({ length: retries }, (_, index) => backoff[Math.min(index, backoff.length - 1)] ?? 0)
  const transport = vaultTransport({
    ...{ address, ca, cert, key, serverName, skipVerify, proxies, timeout, signal },
  })
  // Loaded here, since it takes 60 ms and most commands never speak with Vault.
  const { default: nodeVault } = await import('node-vault')

  const sender = (bearer: string): Send => {
    if (bearer !== '') tellSecret(bearer)
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
          return tellOf(await client.request({ ...request, path: `/${encodePath(request.path)}`, json }))
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

/** An answer, of which what is always a secret was told of: keys, and tokens of any kind. */
function tellOf(response: unknown): unknown {
  const {
    auth,
    data,
    wrap_info: wrapped,
  } = (response ?? {}) as Record<string, Record<string, unknown> | null | undefined>
  for (const value of [auth?.['client_token'], data?.['private_key'], data?.['secret_id'], wrapped?.['token']]) {
    if (typeof value === 'string') tellSecret(value)
  }
  return response
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
