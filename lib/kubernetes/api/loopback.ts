// What a component of a node answers on the node's own loopback, over plain HTTP: health and metrics.
import { http } from '../../network-modules.ts'
import type { HostSession } from '../../playbook/model.ts'

/** Milliseconds that an answer may take. */
const patience = 3_000

/**
 * The body of an answer, whatever its status; `undefined` where none comes. Costs no process on the host.
 * Rejects with `HostFailedError` where nobody listens on the port.
 */
export async function getFromLoopback(session: HostSession, port: number, path: string): Promise<string | undefined> {
  const socket = await session.forward('127.0.0.1', port)
  return new Promise(resolve => {
    const outgoing = http().request(
      { createConnection: () => socket, path, host: '127.0.0.1', timeout: patience },
      answer => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
        answer.on('error', () => resolve(undefined))
      },
    )
    outgoing.on('timeout', () => outgoing.destroy())
    outgoing.on('error', () => resolve(undefined))
    outgoing.end()
  })
}
