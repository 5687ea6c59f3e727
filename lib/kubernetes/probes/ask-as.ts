// One question to one server as somebody in particular, and its whole answer: what shows whether it knows who asks.
import type { Duplex } from 'node:stream'
import { HostFailedError } from '../../errors.ts'
import { https, tls } from '../../network-modules.ts'

/** Who asks: a client certificate with its key, PEM. */
export interface Credential {
  readonly certificate: string
  readonly key: string
}

/** What is asked. */
export interface AskedAs {
  readonly method?: 'GET' | 'POST'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

export interface AnswerAs {
  readonly status: number
  readonly text: string
}

/** Milliseconds that an answer may take, and the most characters that are read of it: who is known is said at its beginning. */
const patience = 10_000
const most = 64 * 1024

/**
 * Asks over a connection of its own: an answer is about who asks now, and never about an earlier handshake. What the server presents is not
 * verified: it may be what is being changed, or signed by the server itself.
 * @param open a TCP stream to the server
 * @param where for messages: `m1:6443`
 * @throws HostFailedError where no answer comes; a server that takes no certificate of this kind may hang up in the handshake
 */
export async function askAs(
  open: () => Promise<Duplex>,
  where: string,
  { certificate, key }: Partial<Credential>,
  { method = 'GET', path, headers = {}, body }: AskedAs,
): Promise<AnswerAs> {
  const socket = await open()
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise<AnswerAs>((resolve, reject) => {
    const secured = tls().connect({
      ...{ socket, cert: certificate, key, servername: 'localhost' },
      rejectUnauthorized: false,
    })
    const outgoing = https().request({
      ...{ method, path, host: 'localhost', createConnection: () => secured },
      headers: {
        accept: 'application/json',
        connection: 'close',
        ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        ...headers,
      },
    })
    const end = () => {
      clearTimeout(timer)
      outgoing.destroy()
      secured.destroy()
      socket.destroy()
    }
    const fail = (error: Error) => {
      end()
      reject(new HostFailedError(`${where} does not answer: ${error.message}`, { code: 'ask.no-answer', cause: error }))
    }
    const timer = setTimeout(() => fail(new Error(`nothing within ${patience / 1_000} s`)), patience)
    outgoing.on('response', answer => {
      let said = ''
      const done = () => {
        end()
        resolve({ status: answer.statusCode ?? 0, text: said })
      }
      answer.setEncoding('utf8')
      answer.on('data', (chunk: string) => {
        said += chunk
        if (said.length > most) done()
      })
      answer.on('end', done)
      answer.on('error', fail)
    })
    outgoing.on('error', fail)
    secured.on('error', fail)
    outgoing.end(text)
  })
}
