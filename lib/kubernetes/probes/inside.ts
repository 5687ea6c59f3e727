// A place that only hosts of the cluster reach, such as the Service of the API, made reachable for probes: a port of this machine that leads
// through a host's connection to it.
import { createServer, type Socket } from 'node:net'
import { pipeline } from 'node:stream'
import type { HostSession } from '../../playbook/model.ts'

/** Such a way. */
export interface WayInside {
  /** `https://host:port`, as this machine reaches it. */
  readonly address: string
  /** Ends it, and what still goes through it. */
  close(): void
}

/** Opens a way to `address:port` as the host reaches it. Who can't be brought there is cut off, as by a server that is not there. */
export async function wayInside(session: HostSession, address: string, port: number): Promise<WayInside> {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    session.forward(address, port).then(
      there => {
        // Who asked may have gone by now.
        if (socket.destroyed) there.destroy()
        else pipeline(socket, there, socket, () => there.destroy())
      },
      () => socket.resetAndDestroy(),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  server.unref()
  const at = server.address()
  return {
    address: `https://127.0.0.1:${at !== null && typeof at === 'object' ? at.port : 0}`,
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
