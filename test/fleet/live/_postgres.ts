// A PostgreSQL of Debian's for the tests of a file, on loopback, with a folder of its own.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, globSync, mkdirSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { temporaryFolder } from '../../_temporary.ts'

/** Where Debian has its programs: they are in no PATH. */
const programs = globSync('/usr/lib/postgresql/*/bin').sort().at(-1)

/** Why there is none to test with, or `undefined` where there is. */
export function postgresMissing(): string | undefined {
  return programs === undefined ? 'no PostgreSQL on this machine (Debian: apt-get install postgresql)' : undefined
}

export interface TestPostgres {
  /** Its address, without a password. */
  readonly address: string
  readonly port: number
  /** Ends it as a machine does that is shut down, and starts it again. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** Starts one. It refuses to run as root: then it is the user of Debian's package. */
export async function startPostgres(): Promise<TestPostgres> {
  const folder = temporaryFolder('postgres')
  const data = join(folder, 'data')
  mkdirSync(data, { mode: 0o700 })
  const isRoot = process.getuid?.() === 0
  const [uid, gid] = ['-u', '-g'].map(which => (isRoot ? Number(execFileSync('id', [which, 'postgres'])) : undefined))
  if (uid !== undefined && gid !== undefined) for (const path of [folder, data]) chownSync(path, uid, gid)
  const as = { uid, gid, cwd: folder, env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' } }
  const initdb = ['-D', data, '-A', 'trust', '-U', 'rekey', '--no-sync', '-E', 'UTF8', '--locale=C.UTF-8']
  execFileSync(join(programs!, 'initdb'), initdb, { ...as, stdio: 'pipe' })
  const port = await freePort()
  // What is lost with the machine is no matter here: what is lost with the process is.
  const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'max_connections=200'].flatMap(one => ['-c', one])
  let server: ChildProcess
  const start = async () => {
    const words = ['-D', data, '-p', String(port), '-k', folder, ...settings]
    server = spawn(join(programs!, 'postgres'), words, { ...as, stdio: 'ignore' })
    for (const until = performance.now() + 60_000; performance.now() < until; await delay(100)) {
      try {
        const words = ['-h', '127.0.0.1', '-p', String(port), '-U', 'rekey', '-d', 'postgres', '-q']
        execFileSync(join(programs!, 'pg_isready'), words, { stdio: 'ignore' })
        return
      } catch {
        // Not yet.
      }
    }
    throw new Error('PostgreSQL does not start')
  }
  const end = async () => {
    server.kill('SIGINT')
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
  }
  await start()
  return {
    ...{ address: `postgres://rekey@127.0.0.1:${port}/postgres`, port, stop: end },
    restart: async () => {
      await end()
      await start()
    },
  }
}

/** A port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
