// A real sshd on loopback, for one test: unprivileged, on a free port, with keys of its own that are gone afterwards.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'

/** Why there is no sshd to test against, or `undefined` where there is. */
export function sshdMissing(): string | undefined {
  return sshdPath() && existsSync('/usr/bin/ssh-keygen')
    ? undefined
    : 'no sshd on this machine (Debian: apt-get install openssh-server)'
}

/**
 * Why an sshd of ours can't give terminals, or `undefined` where it can: whoever is not root can't give a terminal to the group `tty`,
 * and sshd ends a connection over that where the kernel has not done it already.
 */
export function terminalMissing(): string | undefined {
  if (process.getuid?.() === 0 || !existsSync('/proc/mounts')) return undefined
  const mount = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .find(line => line.includes(' /dev/pts devpts '))
  return mount && !/\bgid=/.test(mount)
    ? '/dev/pts is mounted without gid=, so only root can give terminals'
    : undefined
}

/** A running sshd. */
export interface TestSshd {
  readonly port: number
  /** All that it listens on, `port` first. */
  readonly ports: readonly number[]
  readonly folder: string
  readonly settings: ConnectionSettings
  readonly pid: number
  /** What it has logged so far. */
  said(): string
  /** How many connections it has, also those that have not logged in yet. */
  open(): number
  /** Ends every open connection. */
  cut(): void
  /** Stops every open connection from answering. */
  freeze(): void
  /** Stops it and all its connections from answering, as a host does that hangs. */
  hang(): void
  /** Ends it with all its connections, and starts it again; what they ran goes on. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** How sshd is to be started otherwise than usual. */
export interface SshdOptions {
  /** The address that it listens on; loopback's first where nothing is said. */
  readonly listen?: string
  /** On how many ports it listens, 16 at most; one where nothing is said. */
  readonly portCount?: number
  /** The user that it lets in; whoever runs it where nothing is said. */
  readonly user?: string
  /** Makes its command another one, such as one that changes the user first. Is given its folder, with all its keys. */
  wrap?(command: readonly string[], folder: string): readonly string[]
}

/** Starts sshd. More lines for its configuration may be given, which win over the usual ones. */
export async function startSshd(
  configuration: readonly string[] = [],
  { listen = '127.0.0.1', portCount = 1, user = userInfo().username, wrap = command => command }: SshdOptions = {},
): Promise<TestSshd> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-sshd-'))
  const ports = await freePorts(portCount)
  const port = ports[0]!
  for (const name of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  }
  writeFileSync(join(folder, 'authorized_keys'), readFileSync(join(folder, 'user.pub')), { mode: 0o600 })
  writeFileSync(join(folder, 'known_hosts'), `[127.0.0.1]:${port} ${readFileSync(join(folder, 'host.pub'), 'utf8')}`)
  const lines = [
    ...configuration,
    ...ports.map(one => `Port ${one}`),
    `ListenAddress ${listen}`,
    `HostKey ${join(folder, 'host')}`,
    `AuthorizedKeysFile ${join(folder, 'authorized_keys')}`,
    `PidFile ${join(folder, 'pid')}`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    // Of these, sshd 9.2 takes the last one, not the first.
    ...(configuration.some(line => /^MaxStartups /i.test(line)) ? [] : ['MaxStartups 100']),
    // What this machine's .bashrc does is not to be measured: bash reads it for sshd, but not at this depth.
    'SetEnv SHLVL=2',
  ]
  writeFileSync(join(folder, 'sshd_config'), `${lines.join('\n')}\n`)
  if (process.getuid?.() === 0 && !existsSync('/run/sshd')) execFileSync('mkdir', ['-p', '-m', '0755', '/run/sshd'])
  const usual = [sshdPath() ?? 'sshd', '-D', '-e', '-f', join(folder, 'sshd_config')]
  const [program = '', ...words] = wrap(usual, folder)
  let said = ''
  const launch = async (): Promise<ChildProcess> => {
    const started = spawn(program, words, {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    })
    started.stderr?.on('data', chunk => {
      said += chunk
    })
    for (const one of ports) await listening(one, started, () => said)
    return started
  }
  let sshd = await launch()
  const settings: ConnectionSettings = {
    kind: 'ssh',
    address: '127.0.0.1',
    port,
    user,
    privateKeyFile: join(folder, 'user'),
    knownHostsFiles: [join(folder, 'known_hosts')],
    hostKeyChecking: 'yes',
    // A machine that is busy with other tests is slow.
    connectTimeout: 30,
  }
  const killListener = () => {
    if (sshd.pid !== undefined && sshd.exitCode === null) killAll([-sshd.pid])
  }
  return {
    port,
    ports,
    folder,
    settings,
    get pid() {
      return sshd.pid ?? 0
    },
    said: () => said,
    open: () => childrenOf(sshd.pid ?? 0).length,
    cut: () => {
      killAll(sessionsOf(sshd.pid ?? 0))
    },
    freeze: () => {
      killAll(sessionsOf(sshd.pid ?? 0), 'SIGSTOP')
    },
    hang: () => {
      killAll([sshd.pid ?? 0, ...sessionsOf(sshd.pid ?? 0)], 'SIGSTOP')
    },
    restart: async () => {
      killAll(sessionsOf(sshd.pid ?? 0))
      const ended = once(sshd, 'exit')
      killListener()
      await ended
      sshd = await launch()
    },
    stop: async () => {
      killAll(sessionsOf(sshd.pid ?? 0))
      killListener()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function killAll(pids: readonly number[], signal: NodeJS.Signals = 'SIGKILL'): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch {
      // It has ended by itself.
    }
  }
}

/** The processes of its connections, innermost first. For who is not root each has two: the inner one holds the socket. */
function sessionsOf(parent: number): number[] {
  return childrenOf(parent).flatMap(pid => [...sessionsOf(pid), pid])
}

/** The processes of sshd right below another. */
function childrenOf(parent: number): number[] {
  const listed = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,comm='], { encoding: 'utf8' })
  const rows = listed.split('\n').map(line => line.trim().split(/\s+/))
  return rows.filter(([, ppid, name]) => Number(ppid) === parent && name?.includes('sshd')).map(([pid]) => Number(pid))
}

function sshdPath(): string | undefined {
  return ['/usr/sbin/sshd', '/usr/local/sbin/sshd', '/opt/homebrew/sbin/sshd'].find(existsSync)
}

/** A port on loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

/**
 * So many of them, no two alike. Below those that systems give to connections: what stops listening for a moment, as a host that is
 * restarted, must find its port free again.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>()
  for (let tries = 0; ports.size < count; tries++) {
    if (tries > 1_000) throw new Error('there are no free ports')
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    if (await isFree(port)) ports.add(port)
  }
  return [...ports]
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

async function listening(port: number, sshd: ChildProcess, said: () => string): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    if (sshd.exitCode !== null) throw new Error(`sshd ended: ${said()}`)
    const open = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => {
        socket.destroy()
        resolve(true)
      })
      socket.once('error', () => resolve(false))
    })
    if (open) return
    await delay(50)
  }
  throw new Error(`sshd does not listen on ${port}: ${said()}`)
}
