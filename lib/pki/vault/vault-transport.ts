// Carries node-vault's requests over node:https. Its own transport (axios) takes VAULT_SKIP_VERIFY from the environment,
// follows redirects with the token in hand, and has no deadline for a whole answer.
import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import type { Agent, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { limiter } from '../../connection/limiter.ts'
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { isLoopback } from '../../loopback.ts'
import { http, https } from '../../network-modules.ts'

/** What the transport needs to know of a Vault. */
export interface TransportSettings {
  readonly address: string
  /** PEM of the CAs that Vault's certificate may come from; without it, those of Node. */
  readonly ca?: string
  /** PEM of what the connection shows to Vault. */
  readonly cert?: string
  readonly key?: string
  readonly skipVerify?: boolean
  /** `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, as Node's agents read them. */
  readonly proxies?: Readonly<Record<string, string | undefined>>
  readonly serverName?: string
  /** Milliseconds that one request may take, from connecting to the last byte. */
  readonly timeout: number
  readonly signal?: AbortSignal
}

/** The part of node-vault's request that the transport reads. */
interface TransportRequest {
  readonly method: string
  readonly uri: string
  readonly headers?: Record<string, string>
  readonly json?: unknown
}

interface TransportResponse {
  readonly statusCode: number
  readonly body: unknown
  readonly request: { readonly path: string }
}

const tlsCodes = /^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|EPROTO$|INVALID_CA$)/
/** Requests under way. More would only wait in Vault, each with a handshake and a deadline of its own running out. */
const mostAtOnce = 16
/** Bytes of one answer: the serials of 200,000 certificates, listed, are fewer. Vault itself takes no more than twice of it. */
const longestAnswer = 16 * 1024 * 1024
/** Whoever is told to stop still gives back the token that it had made for itself. */
const givesBack = /^\/v1\/auth\/token\/revoke/

/** An address as it may be shown: without the name and the password that may stand in it, also where it is no URL. */
export function shownAddress(address: string): string {
  return foreignWords(address.replace(/^([a-z][\w+.-]*:\/\/)?.*@/is, '$1'))
}

/** Check a Vault address. Throws `RekeyError` for one that is no URL or would send the token in clear over a network. */
export function checkAddress(address: string): URL {
  const url = URL.parse(address)
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new RekeyError(`"${shownAddress(address)}" is not the address of a Vault`, {
      code: 'vault.bad-address',
      hint: 'Give it as https://HOST:PORT.',
    })
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw new RekeyError(
      `Vault at ${shownAddress(address)} would get the token in clear text: plain http goes to loopback only`,
      { code: 'vault.bad-address', hint: 'Use the https:// address.' },
    )
  }
  return url
}

/** A drop-in for the `request-promise` option of node-vault. Rejects with `RekeyError` where no whole answer came. */
export function vaultTransport(settings: TransportSettings): { defaults(): unknown; close(): void } {
  const { protocol } = checkAddress(settings.address)
  checkProxies(settings.proxies)
  const { ca, cert, key, skipVerify, serverName: servername } = settings
  const pooled = { keepAlive: true, proxyEnv: settings.proxies ?? {} }
  const agent =
    protocol === 'https:'
      ? new (https().Agent)({
          ...pooled,
          ca,
          cert,
          key,
          servername,
          minVersion: 'TLSv1.2',
          rejectUnauthorized: !skipVerify,
        })
      : new (http().Agent)(pooled)
  const limit = limiter(mostAtOnce)
  return {
    defaults: () => (request: TransportRequest) => limit(() => send(request, settings, agent)),
    close: () => agent.destroy(),
  }
}

/** Node quotes a proxy's address that it can't read, password and all. */
function checkProxies(proxies: TransportSettings['proxies'] = {}): void {
  for (const [name, address] of Object.entries(proxies)) {
    if (!address || name === 'NO_PROXY' || URL.canParse(address)) continue
    throw new RekeyError(`"${shownAddress(address)}" is not the address of a proxy`, {
      code: 'vault.bad-address',
      hint: 'Give it as http://HOST:PORT; a name and a password before the host need %23 for #, %2F for / and %40 for @.',
    })
  }
}

function send(request: TransportRequest, settings: TransportSettings, agent: Agent): Promise<TransportResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<TransportResponse>()
  const url = new URL(request.uri)
  const vault = shownAddress(settings.address)
  const what = `${request.method} ${url.pathname.replace(/^\/v1\//, '')}`
  const payload = request.json === undefined ? undefined : JSON.stringify(request.json)
  const deadline = AbortSignal.timeout(Math.min(settings.timeout, 2 ** 31 - 1))
  const stop = givesBack.test(url.pathname) ? undefined : settings.signal
  const signal = stop ? AbortSignal.any([deadline, stop]) : deadline
  const fail = (cause: Error) => reject(stop?.aborted ? cause : translate(cause, what, vault, settings, deadline))

  const headers = {
    ...request.headers,
    'X-Vault-Request': 'true',
    ...(payload === undefined
      ? {}
      : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }),
  }
  const answered = (incoming: IncomingMessage) => {
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= longestAnswer) chunks.push(chunk)
      else incoming.destroy(tooLong(what, vault))
    })
    incoming.on('error', fail)
    incoming.on('end', () => {
      try {
        const statusCode = incoming.statusCode ?? 0
        refuseRedirect(statusCode, incoming.headers.location, settings.address)
        const body = readBody(Buffer.concat(chunks).toString('utf8'), statusCode, what, vault)
        resolve({ statusCode, body, request: { path: url.pathname } })
      } catch (error) {
        reject(error)
      }
    })
  }
  const { request: open } = url.protocol === 'https:' ? https() : http()
  const { made: outgoing, sockets } = watchingSockets(() =>
    open(url, { method: request.method, headers, agent, signal }, answered),
  )
  outgoing.on('error', fail)
  outgoing.end(payload)
  // A request that still waits for its proxy does not hear of the signal, and its socket would keep the process alive.
  const giveUp = () => {
    for (const socket of sockets) if (socket.connecting || !outgoing.socket) socket.destroy()
    fail(signal.reason)
  }
  signal.addEventListener('abort', giveUp, { once: true })
  return promise.finally(() => signal.removeEventListener('abort', giveUp))
}

/** Does something, and gives the sockets that were made for it beside what it returns. */
function watchingSockets<T>(make: () => T): { made: T; sockets: Socket[] } {
  const sockets: Socket[] = []
  const channel = diagnosticsChannel('net.client.socket')
  const note = (message: unknown) => void sockets.push((message as { socket: Socket }).socket)
  channel.subscribe(note)
  try {
    return { made: make(), sockets }
  } finally {
    channel.unsubscribe(note)
  }
}

function tooLong(what: string, vault: string): RekeyError {
  return new RekeyError(`Vault at ${vault}: the answer to ${what} is longer than ${longestAnswer / 1024 ** 2} MiB`, {
    code: 'vault.too-long',
    hint: 'Is there a Vault at this address? None answers so much at once.',
  })
}

function refuseRedirect(statusCode: number, location: string | undefined, address: string): void {
  if (statusCode < 300 || statusCode > 399) return
  const target = location ? URL.parse(location, address)?.origin : undefined
  throw new RekeyError(
    `Vault at ${shownAddress(address)} redirects to ${foreignWords(target ?? 'nowhere')}, and the token is not sent there`,
    {
      code: 'vault.redirected',
      hint: 'It is probably a standby: give the address of the active Vault, or of a load balancer in front of it.',
    },
  )
}

function readBody(text: string, statusCode: number, what: string, vault: string): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch {
    // Not quoted: a broken answer to `issue` holds a private key.
    if (text.startsWith('Client sent an HTTP request to an HTTPS server')) {
      throw new RekeyError(`Vault at ${vault} speaks TLS only`, {
        code: 'vault.tls',
        hint: 'Use its https:// address.',
      })
    }
    throw new RekeyError(`${vault} answered ${what} with status ${statusCode} and something that is not JSON`, {
      code: 'vault.bad-response',
      hint: 'Is there a Vault at this address, and no proxy or login page before it?',
    })
  }
}

function translate(
  cause: Error,
  what: string,
  vault: string,
  { timeout }: TransportSettings,
  deadline: AbortSignal,
): Error {
  if (cause instanceof RekeyError) return cause
  const code = (cause as NodeJS.ErrnoException).code ?? ''
  if (deadline.aborted) {
    return new RekeyError(`Vault at ${vault} did not answer ${what} within ${timeout / 1000} s`, {
      code: 'vault.timeout',
      cause,
    })
  }
  if (tlsCodes.test(code)) {
    return new RekeyError(`Vault at ${vault}: its TLS certificate is not trusted: ${foreignWords(cause.message)}`, {
      code: 'vault.tls',
      hint: "Check the CA file that is given for Vault, and that the certificate holds the address's name.",
      cause,
    })
  }
  if (code === 'ECONNRESET' && cause.message === 'aborted') {
    return new RekeyError(`Vault at ${vault}: the answer to ${what} was cut short`, {
      code: 'vault.cut-short',
      hint: 'Whether Vault did what was asked is not known.',
      cause,
    })
  }
  return new RekeyError(
    `Vault at ${vault} is unreachable (${code || foreignWords(cause.message)}), asked for ${what}`,
    {
      code: 'vault.unreachable',
      hint: 'Is it running, and is the address right?',
      cause,
    },
  )
}
