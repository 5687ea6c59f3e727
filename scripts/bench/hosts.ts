// The hosts of the bench: one sshd of its own that answers on as many loopback addresses as there are hosts, for a user of its
// own with /bin/sh, and what every runner needs to reach them.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { freePorts, startSshd, type TestSshd } from '../../test/ssh/sshd.ts'

/** One address of the sshd, at one of its ports, with a folder of its own as its disk. */
export interface BenchHost {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly folder: string
}

/** What it takes to reach the hosts of a case. */
export interface Reach {
  readonly hosts: readonly BenchHost[]
  readonly user: string
  readonly privateKey: string
  readonly knownHosts: string
}

/** A place to run cases in. */
export interface BenchHosts {
  /** For files of the control side. */
  readonly folder: string
  /** The file that every step on every host adds a line to. */
  readonly log: string
  /** Who the hosts let in, for the record. */
  readonly login: string
  /** So many hosts, their folders empty; with `delay`, behind a proxy that holds everything back so many ms each way. */
  reach(count: number, delay: number): Promise<Reach>
  /** Empties the folders of the hosts and the log. */
  clear(hosts: readonly BenchHost[]): void
  /** Writes a file of a host as its user would, in a folder that is made where it is missing. */
  write(path: string, content: string | Buffer): void
  close(): Promise<void>
}

/** Above the users that Debian hands out, below those of containers. */
const benchUser = { name: 'rekey-bench', id: 61_999 }

/**
 * At each, sshd lets 128 connections wait; the kernel drops more, and they are tried again a second later: for 500 hosts at once, one
 * is too few on a slow machine. sshd takes no more ports than these.
 */
const portCount = 16

/** Beyond what connects at once: the runners are to be compared, not what sshd refuses. */
const configuration = ['MaxStartups 2000', 'Subsystem sftp internal-sftp', 'LogLevel ERROR']

/** Starts the sshd. */
export async function openHosts(): Promise<BenchHosts> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-bench-'))
  // Memory where there is some: the runners are to be compared, not the disk below them.
  const disk = mkdtempSync(join(isWritable('/dev/shm') ? '/dev/shm' : tmpdir(), 'rekey-bench-'))
  const other = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0
  const own = (path: string) => other && chownSync(path, benchUser.id, benchUser.id)
  const home = join(disk, 'home')
  mkdirSync(home)
  for (const path of [disk, home]) own(path)
  const sshd = await startSshd(configuration, {
    listen: '0.0.0.0',
    portCount,
    ...(other && { user: benchUser.name, wrap: asBenchUser(home) }),
  })
  const proxies = new Map<number, DelayProxy>()
  const log = join(disk, 'log')

  const clear = (hosts: readonly BenchHost[]) => {
    rmSync(join(disk, 'hosts'), { recursive: true, force: true })
    for (const path of [join(disk, 'hosts'), ...hosts.map(host => host.folder)]) {
      mkdirSync(path)
      own(path)
    }
    writeFileSync(log, '')
    own(log)
  }
  const write = (path: string, content: string | Buffer) => {
    const folder = dirname(path)
    if (!existsSync(folder)) {
      mkdirSync(folder)
      own(folder)
    }
    writeFileSync(path, content)
    own(path)
  }
  const portsFor = async (delay: number): Promise<readonly number[]> => {
    if (delay === 0) return sshd.ports
    const proxy = proxies.get(delay) ?? (await startProxy(sshd.ports, delay))
    proxies.set(delay, proxy)
    return proxy.ports
  }
  return {
    folder,
    log,
    login: sshd.settings.user,
    reach: async (count, delay) => {
      const ports = await portsFor(delay)
      const hosts = Array.from({ length: count }, (_, index): BenchHost => {
        const name = `h${String(index + 1).padStart(3, '0')}`
        const port = ports[index % ports.length]!
        return { name, address: addressOf(index), port, folder: join(disk, 'hosts', name) }
      })
      clear(hosts)
      const knownHosts = join(folder, 'known_hosts')
      const hostKey = readFileSync(join(sshd.folder, 'host.pub'), 'utf8')
      writeFileSync(knownHosts, hosts.map(({ address, port }) => `[${address}]:${port} ${hostKey}`).join(''))
      return { hosts, user: sshd.settings.user, privateKey: privateKeyFor(sshd, folder), knownHosts }
    },
    clear,
    write,
    close: async () => {
      for (const { stop } of proxies.values()) stop()
      await sshd.stop()
      for (const path of [folder, disk]) rmSync(path, { recursive: true, force: true })
    },
  }
}

function addressOf(index: number): string {
  return `127.1.${1 + Math.floor(index / 250)}.${1 + (index % 250)}`
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** The key of the one who runs the bench: sshd's folder belongs to the user of the hosts. */
function privateKeyFor(sshd: TestSshd, folder: string): string {
  const path = join(folder, 'key')
  writeFileSync(path, readFileSync(sshd.settings.privateKeyFile ?? ''), { mode: 0o600 })
  return path
}

/** sshd as a user that only a mount of its own knows of: the machine's /etc/passwd stays as it is. */
function asBenchUser(home: string) {
  return (command: readonly string[], folder: string): readonly string[] => {
    const { name, id } = benchUser
    const passwd = join(folder, 'passwd')
    writeFileSync(passwd, `${readFileSync('/etc/passwd', 'utf8')}${name}:x:${id}:${id}::${home}:/bin/sh\n`)
    execFileSync('chown', ['-R', `${id}:${id}`, folder])
    const script = `mount --bind "$0" /etc/passwd && exec setpriv --reuid=${id} --regid=${id} --clear-groups -- "$@"`
    return ['unshare', '--mount', 'sh', '-c', script, passwd, ...command]
  }
}

/** The delaying proxy, with a port for each of sshd's. */
interface DelayProxy {
  readonly ports: readonly number[]
  stop(): void
}

async function startProxy(targets: readonly number[], delay: number): Promise<DelayProxy> {
  const ports = await freePorts(targets.length)
  const pairs = ports.map((port, index) => `${port}:${targets[index]}`)
  const words = [join(import.meta.dirname, 'delay-proxy.ts'), String(delay), ...pairs]
  // A process of its own, so that what the bench does cannot hold it up.
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return { ports, stop: () => void child.kill() }
}
