// A message to a web server: once, over TLS or to this machine, to nowhere else than it was meant for.

import { RekeyError } from '../../errors.ts'
import { isLoopback } from '../../loopback.ts'
import { http, https } from '../../network-modules.ts'

/** Milliseconds for all of it. */
const patience = 10_000

/**
 * Sends JSON. A redirect is not followed: it would hand the message, and an address that is a secret, to somebody else.
 * @throws RekeyError where it was not taken, with nothing of the address but its host
 */
export async function post(
  address: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  const url = new URL(address)
  const { request } = url.protocol === 'https:' ? https() : http()
  const agent = agentFor(url)
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const length = String(Buffer.byteLength(body))
  const outgoing = request(
    url,
    {
      ...{ method: 'POST', agent, signal: AbortSignal.timeout(patience) },
      headers: { 'content-type': 'application/json', 'content-length': length, 'user-agent': 'rekey', ...headers },
    },
    answer => {
      resolve(answer.statusCode ?? 0)
      // What it says is of no use.
      answer.destroy()
    },
  )
  outgoing.on('error', reject)
  outgoing.end(body)
  let status: number
  try {
    status = await promise
  } catch (cause) {
    const { name, message, code } = cause as NodeJS.ErrnoException
    throw new RekeyError(
      name === 'AbortError' || name === 'TimeoutError'
        ? `${url.host} did not answer within ${patience / 1_000} s`
        : // Of a name with several addresses it has none.
          message || `${url.host} can't be reached (${code})`,
      { code: 'fleet.notify', cause },
    )
  } finally {
    agent.destroy()
  }
  if (status >= 200 && status < 300) return
  const why = status >= 300 && status < 400 ? ', and no redirect is followed' : ''
  throw new RekeyError(`${url.host} answers ${status}${why}`, { code: 'fleet.notify' })
}

function agentFor({ protocol, hostname }: URL) {
  const { Agent } = protocol === 'https:' ? https() : http()
  try {
    return new Agent(isLoopback(hostname) ? {} : { proxyEnv: process.env })
  } catch {
    // Node quotes the address that it can't read, password and all.
    throw new RekeyError('HTTPS_PROXY or HTTP_PROXY is not the address of a proxy', { code: 'fleet.notify' })
  }
}
