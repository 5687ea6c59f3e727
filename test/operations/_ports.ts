// Ports in the states that waiting is about: one that answers, one that does not, some that clients are connected to.
import { connect, createServer, type Server, type Socket } from 'node:net'

/** A case: what is asked of which port, and whether ansible-core's `wait_for` comes to its end within a second. */
export interface PortCase {
  readonly about: string
  readonly port: keyof Ports['numbers']
  readonly options: Readonly<Record<string, unknown>>
  readonly ansible?: boolean
}

export interface Ports {
  readonly numbers: {
    readonly open: number
    readonly closed: number
    /** Over IPv6 alone. */
    readonly open6: number
    /** A client of 127.0.0.1 is connected. */
    readonly busy: number
    /** The same, to a server that takes IPv4 and IPv6. */
    readonly both: number
  }
  close(): void
}

/** Opens them. */
export async function openPorts(): Promise<Ports> {
  const servers: Server[] = []
  const sockets: Socket[] = []
  const listen = async (host: string): Promise<number> => {
    const server = createServer(socket => void sockets.push(socket.on('error', () => {})))
    servers.push(server)
    await new Promise<void>(resolve => server.listen(0, host, () => resolve()))
    return (server.address() as { port: number }).port
  }
  const client = async (port: number) => {
    const socket = connect(port, '127.0.0.1')
    sockets.push(socket.on('error', () => {}))
    await new Promise(resolve => socket.once('connect', resolve))
  }
  const [open, closed, open6, busy, both] = [
    await listen('127.0.0.1'),
    await listen('127.0.0.1'),
    await listen('::1'),
    await listen('127.0.0.1'),
    await listen('::'),
  ]
  await client(busy)
  await client(both)
  await new Promise(resolve => servers[1]!.close(resolve))
  return {
    numbers: { open, closed, open6, busy, both },
    close: () => {
      for (const socket of sockets) socket.destroy()
      for (const server of servers) server.close()
    },
  }
}
