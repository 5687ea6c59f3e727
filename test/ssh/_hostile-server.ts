// SSH servers that mean no good, on loopback, in the process of the test: they never answer, never stop, hang up, or lie.
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import ssh2, { type AuthContext, type ServerChannel, type ServerConfig } from 'ssh2'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { eventually } from '../_eventually.ts'

/** What a terminal obeys, and nobody may see. */
export const escapes = '\x1b]0;PWNED\x07\x1b[31m\u202e'

/** A server that runs, and how to reach it. */
export interface HostileServer {
  readonly settings: ConnectionSettings
  /** Resolves once nobody is connected to it. @throws Error where somebody stays */
  deserted(): Promise<void>
}

/** What a server does that lets everybody in. */
export interface Behaviour {
  readonly config?: Partial<ServerConfig>
  /** Lets in whoever asks, where nothing is said. */
  authenticate?(context: AuthContext): void
  /** Answers a request to run a command. */
  exec?(accept: () => ServerChannel, command: string): void
}

/** Starts a server that speaks SSH. It ends with the test. */
export async function hostileServer(t: ExecutionContext, behaviour: Behaviour): Promise<HostileServer> {
  const key = newKey()
  const server = new ssh2.Server({ hostKeys: [key], ...behaviour.config }, client => {
    client.on('error', () => {})
    client.on('authentication', context =>
      behaviour.authenticate ? behaviour.authenticate(context) : context.accept(),
    )
    client.on('ready', () => {
      client.on('session', acceptSession => {
        acceptSession().on('exec', (accept, _reject, { command }) => {
          behaviour.exec?.(() => {
            const channel = accept()
            channel.on('error', () => {})
            channel.stderr.on('error', () => {})
            return channel
          }, command)
        })
      })
    })
  })
  const inner = (server as unknown as { _srv: NetServer })._srv
  return started(t, inner, publicHalf(key))
}

/** Starts a server that does as told with whoever connects. */
export function rawServer(t: ExecutionContext, talk: (socket: Socket) => void): Promise<HostileServer> {
  return started(
    t,
    createServer(socket => talk(socket.resume())),
  )
}

const newKey = () =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'sec1', format: 'pem' })

function publicHalf(key: string | Buffer): string {
  const parsed = ssh2.utils.parseKey(key)
  if (parsed instanceof Error) throw parsed
  return `${parsed.type} ${parsed.getPublicSSH().toString('base64')}`
}

async function started(t: ExecutionContext, server: NetServer, hostKey = ''): Promise<HostileServer> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-hostile-'))
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  writeFileSync(join(folder, 'user'), newKey(), { mode: 0o600 })
  writeFileSync(join(folder, 'known_hosts'), hostKey === '' ? '' : `[127.0.0.1]:${port} ${hostKey}\n`)
  return {
    settings: {
      kind: 'ssh',
      address: '127.0.0.1',
      port,
      user: 'me',
      privateKeyFile: join(folder, 'user'),
      knownHostsFiles: [join(folder, 'known_hosts')],
      hostKeyChecking: 'yes',
      connectTimeout: 2,
      openssh: { destination: '127.0.0.1', options: [], configurationFile: '/dev/null' },
    },
    deserted: () => eventually(() => sockets.size === 0, 'that nobody is connected any more'),
  }
}

/** Writes the same again and again, as fast as it is taken. */
export function pour(to: { write(bytes: Buffer): boolean; readonly destroyed?: boolean }, text: string): void {
  const stream = to as unknown as Socket
  const bytes = Buffer.from(text)
  const go = () => {
    for (let count = 0; count < 100 && !stream.destroyed && stream.writable; count++) {
      if (!stream.write(bytes)) return void stream.once('drain', go)
    }
    // It shares its process with those who must stand it.
    if (!stream.destroyed) setImmediate(go)
  }
  go()
}
