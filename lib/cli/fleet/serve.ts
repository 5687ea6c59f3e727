// `rekey fleet serve`: how a fleet is, as a page and as metrics. It answers GET alone, and changes nothing.
import { createHash, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import { Command } from 'commander'
import { exitCodes, messageOf, RekeyError } from '../../errors.ts'
import { fleetMetrics } from '../../fleet/told/metrics.ts'
import { fleetPage } from '../../fleet/told/page.ts'
import { isLoopback } from '../../loopback.ts'
import { http } from '../../network-modules.ts'
import { say } from '../../output/print.ts'
import { tellSecret } from '../../secrets/index.ts'
import { example } from '../options/help.ts'
import { readOwnFile } from '../options/own-file.ts'
import { positiveInteger } from '../options/whole-number.ts'
import { interruptible } from '../running/interrupt.ts'
import { openSight, type Sight } from './status.ts'
import { type StoreOptions, withStoreOptions } from './store.ts'

interface ServeOptions extends StoreOptions {
  readonly host: string
  readonly port: number
  readonly tokenFile?: string
}

export function serveCommand(): Command {
  return withStoreOptions(
    new Command('serve').description(
      'how a fleet is, as a page for a browser and as metrics for Prometheus; reads only',
    ),
  )
    .option('--host <address>', 'the address that is listened on', '127.0.0.1')
    .option('--port <number>', 'its port', positiveInteger, 7239)
    .option('--token-file <file>', 'a file with the token that whoever looks must have: as a password, or as Bearer')
    .addHelpText('after', example('for everybody on this machine', 'rekey fleet serve -F fleet.yml'))
    .action(async (options: ServeOptions) => {
      process.exitCode = await serve(options)
    })
}

async function serve(options: ServeOptions): Promise<number> {
  const token = options.tokenFile === undefined ? undefined : readOwnFile(options.tokenFile).trim()
  if (token !== undefined) tellSecret(token)
  if (token === '' || (token === undefined && !isLoopback(options.host)))
    throw new RekeyError(`${options.host} is seen from other machines, and whoever looks needs no token`, {
      code: 'fleet.serve',
      hint: 'Give one of at least a few letters by --token-file; or listen on 127.0.0.1.',
    })
  const { seen, close } = await openSight(options)
  const { signal, release } = interruptible()
  const server = http().createServer((request, response) => {
    answer(request, response, { seen, token }).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(503, { 'content-type': 'text/plain; charset=utf-8' })
      response.end(`${messageOf(error)}\n`)
    })
  })
  server.requestTimeout = 10_000
  try {
    server.listen(options.port, options.host)
    await once(server, 'listening').catch((cause: Error) => {
      throw new RekeyError(`${options.host}:${options.port} can't be listened on: ${cause.message}`, {
        code: 'fleet.serve',
        hint: 'Say another port: --port.',
        cause,
      })
    })
    const { port } = server.address() as AddressInfo
    say(`http://${isIP(options.host) === 6 ? `[${options.host}]` : options.host}:${port}/ and /metrics, until Ctrl-C`)
    if (!signal.aborted) await once(signal, 'abort')
    return exitCodes.done
  } finally {
    release()
    server.close()
    server.closeAllConnections()
    await close()
  }
}

/** Nobody needs anything of other places for it, nor may put it into a page of theirs. */
const headers = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' }
const refresh = '5'

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { seen, token }: { seen: Sight['seen']; token: string | undefined },
): Promise<void> {
  const plain = (status: number, text: string, more: Readonly<Record<string, string>> = {}) =>
    response.writeHead(status, { ...headers, 'content-type': 'text/plain; charset=utf-8', ...more }).end(`${text}\n`)
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return void plain(405, 'it only reads', { allow: 'GET, HEAD' })
  if (token === undefined) {
    // A page of somebody else's whose name leads to this machine may not read it.
    const name = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
    if (!isLoopback(name)) return void plain(403, 'another name than this machine has')
  } else if (!isTold(request.headers.authorization ?? '', token))
    return void plain(401, 'a token is needed', { 'www-authenticate': 'Basic realm="rekey fleet"' })
  const { pathname } = new URL(request.url ?? '/', 'http://here')
  if (pathname === '/metrics') {
    const status = await seen()
    response.writeHead(200, { ...headers, 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
    response.end(fleetMetrics(status))
  } else if (pathname === '/') {
    const status = await seen()
    response.writeHead(200, { ...headers, 'content-type': 'text/html; charset=utf-8', refresh })
    response.end(fleetPage(status))
  } else plain(404, 'there is / and /metrics')
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
