// A link that can fail: TCP between a test and its sshd, to be cut, frozen, thawed or slowed at will.
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { freePort, type TestSshd } from './sshd.ts'

/** The way to one sshd. */
export interface Link {
  /** The sshd as it is reached through the link. */
  readonly sshd: TestSshd
  /** How many connections were made over it so far. */
  readonly connections: number
  /** How many bytes on their way to the host were lost since it was frozen last. */
  readonly swallowed: number
  /** Ends every connection at both ends. */
  cut(): void
  /** Refuses new connections, or takes them again. */
  down(): Promise<void>
  up(): Promise<void>
  /** Swallows everything in both directions from now on, without ending anything; new connections are not answered either. */
  freeze(): void
  /** Lets new connections through; those that were frozen stay so. */
  thaw(): void
  stop(): void
}

/** Opens a link. Everything in it takes `milliseconds` in each direction. */
export async function openLink(sshd: TestSshd, milliseconds = 0): Promise<Link> {
  const pairs = new Set<readonly [Socket, Socket]>()
  let [connections, frozen, swallowed] = [0, false, 0]
  const server = createServer(near => {
    connections++
    const far = connect(sshd.port, '127.0.0.1')
    const pair = [near, far] as const
    pairs.add(pair)
    // What is frozen once is not heard of again, also when the link works for others.
    let dead = frozen
    const pass = (from: Socket, to: Socket) => {
      from.setNoDelay(true)
      from.on('error', () => {})
      from.on('data', (chunk: Buffer) => {
        dead ||= frozen
        if (dead && from === near) swallowed += chunk.length
        if (dead) return
        if (milliseconds === 0) to.write(chunk)
        else setTimeout(() => to.writable && to.write(chunk), milliseconds)
      })
      from.on('close', () => {
        dead ||= frozen
        pairs.delete(pair)
        if (!dead) setTimeout(() => to.destroy(), milliseconds)
      })
    }
    pass(near, far)
    pass(far, near)
  })
  const port = await freePort()
  const listen = async () => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen()
  const knownHosts = join(sshd.folder, `known_hosts-${port}`)
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${readFileSync(join(sshd.folder, 'host.pub'), 'utf8')}`)
  const endAll = () => {
    for (const [near, far] of pairs) {
      near.destroy()
      far.destroy()
    }
  }
  return {
    sshd: { ...sshd, port, settings: { ...sshd.settings, port, knownHostsFiles: [knownHosts] } },
    get connections() {
      return connections
    },
    get swallowed() {
      return swallowed
    },
    cut: endAll,
    down: async () => {
      server.close()
      endAll()
      await once(server, 'close')
    },
    up: listen,
    freeze: () => {
      frozen = true
      swallowed = 0
    },
    thaw: () => {
      frozen = false
    },
    stop: () => {
      server.close()
      endAll()
    },
  }
}
