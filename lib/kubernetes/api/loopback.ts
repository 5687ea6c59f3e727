// What a component of a node answers on the node's own loopback: health and metrics.
import type { SecureContextOptions } from 'node:tls'
import { http, tls } from '../../network-modules.ts'
import type { HostSession } from '../../playbook/model.ts'

/** Milliseconds that an answer may take. */
const patience = 3_000

/**
 * The body of an answer, whatever its status; `undefined` where none comes. Costs no process on the host.
 * Rejects with `HostFailedError` where nobody listens on the port.
 * @param address where it listens, if not on loopback
 * @param tls with what it is asked by TLS; plain HTTP where nothing is given. Who answers is not verified: it is asked how it is, no more
 */
export async function getFromLoopback(
  session: HostSession,
  port: number,
  path: string,
  { address = '127.0.0.1', tls: secured }: { address?: string; tls?: SecureContextOptions } = {},
): Promise<string | undefined> {
  const socket = await session.forward(address, port)
  return new Promise(resolve => {
    const open = () =>
      secured ? tls().connect({ ...secured, socket, rejectUnauthorized: false, servername: 'localhost' }) : socket
    const outgoing = http().request({ createConnection: open, path, host: address, timeout: patience }, answer => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
      answer.on('error', () => resolve(undefined))
    })
    outgoing.on('timeout', () => outgoing.destroy())
    outgoing.on('error', () => {
      socket.destroy()
      resolve(undefined)
    })
    outgoing.end()
  })
}
