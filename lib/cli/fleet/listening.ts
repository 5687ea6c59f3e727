// A small server that answers GET alone and changes nothing: for this machine, or for whoever has a token.
import { createHash, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import { type Command, InvalidArgumentError } from 'commander'
import { messageOf, RekeyError } from '../../errors.ts'
import { isLoopback } from '../../loopback.ts'
import { http } from '../../network-modules.ts'
import { tellSecret } from '../../secrets/index.ts'
import { readOwnFile } from '../options/own-file.ts'

/** Where it listens. */
export interface Place {
  readonly host: string
  readonly port: number
}

/** What it answers. */
export interface Page {
  readonly type: string
  readonly body: string
  /** Seconds after which a browser asks again. */
  readonly refresh?: string
}

/** The type of metrics in the text format of Prometheus. */
export const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

export const withTokenFile = (command: Command): Command =>
  command.option(
    '--token-file <file>',
    'a file with the token that whoever looks must have: as a password, or as Bearer',
  )

/** Reads `PORT`, `HOST:PORT` or `[HOST]:PORT`; on this machine alone where there is no host. Throws commander's error where it is none of them. */
export function readPlace(value: string): Place {
  const [, bracketed, named, digits = ''] = /^(?:\[([^\]]+)\]:|([^:]+):)?(\d{1,5})$/.exec(value) ?? []
  const port = Number(digits)
  if (digits === '' || port < 1 || port > 65_535) throw new InvalidArgumentError('It must be a port, or HOST:PORT.')
  return { host: bracketed ?? named ?? '127.0.0.1', port }
}

/**
 * Begins to listen.
 * @param pages the page at a path; `undefined` where there is none
 * @returns the address for a browser
 * @throws RekeyError where the place is seen from other machines without a token, or can't be listened on
 */
export async function listen(
  { host, port }: Place,
  tokenFile: string | undefined,
  pages: (path: string) => Promise<Page | undefined>,
): Promise<{ address: string; close(): void }> {
  const token = tokenFile === undefined ? undefined : readOwnFile(tokenFile).trim()
  if (token !== undefined) tellSecret(token)
  if (token === '' || (token === undefined && !isLoopback(host)))
    throw new RekeyError(`${host} is seen from other machines, and whoever looks needs no token`, {
      code: 'fleet.serve',
      hint: 'Give one of at least a few letters by --token-file; or listen on 127.0.0.1.',
    })
  const server = http().createServer((request, response) => {
    answer(request, response, token, pages).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(503, { 'content-type': 'text/plain; charset=utf-8' })
      response.end(`${messageOf(error)}\n`)
    })
  })
  server.requestTimeout = 10_000
  server.listen(port, host)
  await once(server, 'listening').catch((cause: Error) => {
    throw new RekeyError(`${host}:${port} can't be listened on: ${cause.message}`, {
      code: 'fleet.serve',
      hint: 'Say another port.',
      cause,
    })
  })
  const { port: open } = server.address() as AddressInfo
  return {
    address: `http://${isIP(host) === 6 ? `[${host}]` : host}:${open}/`,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Nobody needs anything of other places for it, nor may put it into a page of theirs. */
const headers = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' }

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  token: string | undefined,
  pages: (path: string) => Promise<Page | undefined>,
): Promise<void> {
  const plain = (status: number, text: string, more: Readonly<Record<string, string>> = {}) =>
    response.writeHead(status, { ...headers, 'content-type': 'text/plain; charset=utf-8', ...more }).end(`${text}\n`)
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return void plain(405, 'it only reads', { allow: 'GET, HEAD' })
  if (token === undefined) {
    // A page of somebody else's whose name leads to this machine may not read it.
    const name = (request.headers.host ?? '').replace(/:\d+$/, '')
    if (!isLoopback(name)) return void plain(403, 'another name than this machine has')
  } else if (!isTold(request.headers.authorization ?? '', token))
    return void plain(401, 'a token is needed', { 'www-authenticate': 'Basic realm="rekey fleet"' })
  const page = await pages(new URL(request.url ?? '/', 'http://here').pathname)
  if (!page) return void plain(404, 'there is no such page')
  const { type, body, refresh } = page
  response.writeHead(200, { ...headers, 'content-type': type, ...(refresh === undefined ? {} : { refresh }) }).end(body)
}

/** Whether a request has the token: `Bearer TOKEN`, or as the password of anybody. */
function isTold(said: string, token: string): boolean {
  const [, kind = '', value = ''] = /^(\w+) +(.*)$/.exec(said) ?? []
  const given =
    kind.toLowerCase() === 'basic'
      ? Buffer.from(value, 'base64')
          .toString('utf8')
          .replace(/^[^:]*:/, '')
      : value
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(token))
}
