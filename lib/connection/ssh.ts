// Connections over SSH, by node-ssh: one a host, every command a channel of it.
import { spawn as spawnProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Duplex, PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { NodeSSH } from 'node-ssh'
import type { Client, ClientChannel, ConnectConfig } from 'ssh2'
import { CancelledError, HostFailedError, UnknownOutcomeError, UnreachableError } from '../errors.ts'
import { type BecomeCommand, become, endCommand } from './become.ts'
import type { Connection, RemoteProcess, SpawnOptions } from './connection.ts'
import { watchForEnd } from './ending.ts'
import {
  defaultKnownHostsFiles,
  entriesFor,
  fingerprint,
  judgeHostKey,
  keyTypeOf,
  readKnownHosts,
  recordHostKey,
} from './host-keys.ts'
import { limiter } from './limiter.ts'
import type { ConnectionSettings } from './settings.ts'

/** sshd allows 10 channels a connection (`MaxSessions`); two are left for what must always get through, such as a kill. */
const channelsPerConnection = 8
/** Milliseconds between a TERM and the KILL that follows it. */
const graceBeforeKill = 3_000
const keepalive = { keepaliveInterval: 5_000, keepaliveCountMax: 3 }

/** What a server of the last ten years offers, and nothing with SHA-1 in it. */
const algorithms = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'ecdh-sha2-nistp384',
    'ecdh-sha2-nistp521',
    'diffie-hellman-group16-sha512',
    'diffie-hellman-group18-sha512',
    'diffie-hellman-group14-sha256',
  ],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  serverHostKey: [
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'rsa-sha2-512',
    'rsa-sha2-256',
  ],
}

/**
 * Connects to a host over SSH, its host key checked before anything is sent to it.
 * @param name the inventory name, for messages
 * @param signal gives up the attempt
 * @throws UnreachableError when it can't be reached, its key is not the known one, or it does not let us in
 */
export async function connectSsh(
  name: string,
  settings: ConnectionSettings,
  signal?: AbortSignal,
): Promise<Connection> {
  signal?.throwIfAborted()
  const closers: (() => void)[] = []
  try {
    let sock: Duplex | undefined
    for (const hop of settings.proxyJump ?? []) {
      const bastion = await openClient(`${name} (through ${hop})`, hopSettings(hop, settings), sock, signal)
      closers.unshift(() => bastion.dispose())
      const next = nextAddress(settings, hop)
      sock = await bastion.forwardOut('127.0.0.1', 0, next.address, next.port)
    }
    if (settings.proxyCommand !== undefined) {
      const proxy = startProxy(settings, settings.proxyCommand)
      closers.unshift(proxy.end)
      sock = proxy.stream
    }
    const ssh = await openClient(name, settings, sock, signal)
    closers.unshift(() => ssh.dispose())
    return sshConnection(name, ssh.connection as Client, settings, () => {
      for (const close of closers) close()
    })
  } catch (error) {
    for (const close of closers) close()
    throw error
  }
}

/** Starts a ProxyCommand as ssh_config(5) describes it; its stdin and stdout are the way to the host. */
function startProxy({ address, port, user }: ConnectionSettings, command: string): { stream: Duplex; end: () => void } {
  const tokens: Record<string, string> = { '%h': address, '%p': String(port), '%r': user, '%n': address, '%%': '%' }
  const line = command.replace(/%[hprn%]/g, token => tokens[token] ?? token)
  const child = spawnProcess('/bin/sh', ['-c', `exec ${line}`], { stdio: ['pipe', 'pipe', 'inherit'] })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout })
  // Whoever reads the stream sees its end; that the program could not be started is the same to it.
  child.on('error', error => stream.destroy(error))
  stream.on('error', () => {})
  return { stream, end: () => void child.kill() }
}

async function openClient(name: string, settings: ConnectionSettings, sock: Duplex | undefined, signal?: AbortSignal) {
  const ssh = new NodeSSH()
  const where = `${settings.user}@${settings.address}${settings.port === 22 ? '' : `:${settings.port}`}`
  const files = settings.knownHostsFiles ?? defaultKnownHostsFiles()
  const entries = entriesFor(readKnownHosts(files), settings.address, settings.port)
  let refusal: UnreachableError | undefined
  const config: ConnectConfig = {
    host: settings.address,
    port: settings.port,
    username: settings.user,
    readyTimeout: settings.connectTimeout * 1_000,
    ...keepalive,
    algorithms: {
      ...algorithms,
      serverHostKey: preferKnown(entries.map(entry => entry.keyType)),
    } as ConnectConfig['algorithms'],
    ...credentials(name, settings),
    ...(sock ? { sock: sock as ConnectConfig['sock'] } : {}),
    hostVerifier: (key: Buffer) => {
      const verdict = judgeHostKey(entries, key)
      if (verdict.is === 'known') return true
      if (verdict.is === 'unknown' && settings.hostKeyChecking === 'accept-new' && files[0] !== undefined) {
        recordHostKey(files[0], settings.address, settings.port, key)
        return true
      }
      refusal = hostKeyRefusal(name, settings, key, verdict, files)
      return false
    },
  }
  const abort = () => ssh.connection?.end()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    await ssh.connect({ ...config, keepaliveInterval: keepalive.keepaliveInterval } as Parameters<
      NodeSSH['connect']
    >[0])
    // Nagle's algorithm makes every command wait for a delayed ACK: 7× slower.
    ;(ssh.connection as Client).setNoDelay(true)
    return ssh
  } catch (error) {
    ssh.connection?.on('error', () => {})
    ssh.connection?.end()
    if (refusal) throw refusal
    if (signal?.aborted)
      throw new CancelledError(`connecting to ${name} was cancelled`, { code: 'run.cancelled', host: name })
    throw connectError(name, where, settings, error as Error & { level?: string; code?: string })
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** A command that the host has begun. */
interface Started {
  readonly channel: ClientChannel
  readonly closed: Promise<unknown>
  exit?: { readonly code: number | null; readonly killedBy: string | null }
}

function sshConnection(name: string, client: Client, settings: ConnectionSettings, closeAll: () => void): Connection {
  const limit = limiter(channelsPerConnection)
  let lost: Error | undefined
  // Without a listener, a keepalive time-out would end the whole process.
  client.on('error', error => {
    lost ??= error
  })
  client.on('close', () => {
    lost ??= new Error('the connection was closed')
  })

  // Listens before anything else can happen: the reply, the exit status and the close may all come in one packet.
  const start = (command: string) =>
    new Promise<Started>((resolve, reject) => {
      client.exec(command, (error, channel) => {
        if (error) return reject(error)
        const started: Started = { channel, closed: once(channel, 'close') }
        channel.on('exit', (code: number | null, killedBy?: string) => {
          started.exit = { code, killedBy: killedBy ?? null }
        })
        channel.on('error', () => {})
        started.closed.catch(() => {})
        resolve(started)
      })
    })

  /** Past the limit on channels: what is to be ended may be what fills it. */
  const endAll = async (id: string, signal: 'TERM' | 'KILL') => {
    const { command, firstInput } = become(settings, endCommand(id, signal), randomUUID())
    const started = await start(command).catch(() => undefined)
    if (!started) return
    started.channel.end(firstInput)
    started.channel.resume()
    started.channel.stderr.resume()
    await Promise.race([started.closed, delay(graceBeforeKill, undefined, { ref: false })])
  }

  const spawn = (command: string, options: SpawnOptions = {}): RemoteProcess => {
    const stdin = new PassThrough()
    const stdout = new PassThrough()
    const stderr = new PassThrough()
    const remote: RemoteProcess = Object.assign(new EventEmitter(), { stdin, stdout, stderr })
    const id = randomUUID()
    void limit(() => runChannel(remote, { stdin, stdout, stderr }, { ...become(settings, command, id), id }, options))
    return remote
  }

  const runChannel = async (
    remote: RemoteProcess,
    { stdin, stdout, stderr }: { stdin: PassThrough; stdout: PassThrough; stderr: PassThrough },
    { command, firstInput, id }: BecomeCommand & { id: string },
    options: SpawnOptions,
  ): Promise<void> => {
    const finish = async (error: Error | undefined, code: number | null, killedBy: string | null) => {
      stdout.end()
      stderr.end()
      if (error) remote.emit('error', error)
      remote.emit('exit', code, killedBy)
      // Whoever listens reads what is still in the streams before it hears that all is over.
      await Promise.allSettled([drained(stdout), drained(stderr)])
      remote.emit('close', code, killedBy)
    }
    if (options.signal?.aborted) {
      return finish(
        new CancelledError(`${name}: cancelled before it started`, { code: 'run.cancelled', host: name }),
        null,
        null,
      )
    }
    let started: Started
    try {
      started = await start(command)
    } catch (error) {
      const reason = lost ? lost.message : (error as Error).message
      // The request may have reached the host before the link went: only a refusal that came back is certain.
      return finish(
        lost
          ? new UnknownOutcomeError(`the connection to ${name} was lost while a command was being started: ${reason}`, {
              code: 'connection.lost',
              host: name,
              cause: error,
            })
          : new HostFailedError(`${name} refused to start a command: ${reason}`, {
              code: 'connection.channel-refused',
              host: name,
              hint: "Look at MaxSessions in the host's sshd_config.",
              cause: error,
            }),
        null,
        null,
      )
    }
    const { channel } = started
    let ended: Error | undefined
    const end = async (reason: Error) => {
      if (ended || started.exit) return
      ended = reason
      await endAll(id, 'TERM')
      await delay(graceBeforeKill, undefined, { ref: false })
      if (!started.exit) await endAll(id, 'KILL')
      await delay(graceBeforeKill, undefined, { ref: false })
      if (!started.exit) channel.close()
    }
    const unwatch = watchForEnd(name, options, reason => void end(reason))
    stdin.on('error', () => {})
    if (firstInput !== undefined) channel.write(firstInput)
    stdin.pipe(channel)
    channel.pipe(stdout, { end: false })
    channel.stderr.pipe(stderr, { end: false })
    await started.closed
    unwatch()
    stdin.unpipe(channel)
    stdin.resume()
    if (started.exit) return finish(ended, started.exit.code, started.exit.killedBy)
    return finish(
      ended ??
        new UnknownOutcomeError(
          `the connection to ${name} was lost while a command ran (${lost?.message ?? 'the channel closed without an exit status'}): nobody knows whether it finished`,
          { code: 'connection.lost', host: name, hint: 'Look at the host before you run it again.', cause: lost },
        ),
      null,
      null,
    )
  }

  return {
    name,
    get lost() {
      return lost
    },
    spawn,
    forward: (address, port) =>
      limit(
        () =>
          new Promise<Duplex>((resolve, reject) => {
            client.forwardOut('127.0.0.1', 0, address, port, (error, channel) => {
              if (!error) return resolve(channel)
              reject(
                new HostFailedError(`${name} could not open a connection to ${address}:${port}: ${error.message}`, {
                  code: 'connection.forward',
                  host: name,
                  cause: error,
                }),
              )
            })
          }),
      ),
    close: () => {
      lost ??= new Error('closed by rekey')
      closeAll()
    },
  }
}

function drained(stream: PassThrough): Promise<unknown> {
  if (stream.readableEnded || !stream.readable) return Promise.resolve()
  if (stream.readableFlowing === null) stream.resume()
  return once(stream, 'end')
}

function credentials(name: string, settings: ConnectionSettings): Partial<ConnectConfig> {
  const agent = process.env['SSH_AUTH_SOCK']
  const password = settings.password === undefined ? {} : { password: settings.password, tryKeyboard: true }
  if (settings.privateKeyFile !== undefined) {
    return { privateKey: readKey(name, settings.privateKeyFile), ...password }
  }
  if (settings.password !== undefined) return password
  if (agent) return { agent }
  for (const file of ['id_ed25519', 'id_ecdsa', 'id_rsa']) {
    try {
      return { privateKey: readFileSync(join(homedir(), '.ssh', file), 'utf8') }
    } catch {
      // The next one, as ssh does.
    }
  }
  return {}
}

function readKey(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UnreachableError(`the private key for ${name} can't be read: ${(error as Error).message}`, {
      code: 'connection.private-key',
      host: name,
      hint: 'Set ansible_ssh_private_key_file to a key that you may read.',
      cause: error,
    })
  }
}

function preferKnown(types: readonly string[]): string[] {
  const wanted = types.flatMap(type => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]))
  const first = algorithms.serverHostKey.filter(type => wanted.includes(type))
  return [...first, ...algorithms.serverHostKey.filter(type => !first.includes(type))]
}

function hostKeyRefusal(
  name: string,
  { address, port }: ConnectionSettings,
  key: Buffer,
  verdict: ReturnType<typeof judgeHostKey>,
  files: readonly string[],
): UnreachableError {
  const shown = `${keyTypeOf(key)} ${fingerprint(key)}`
  const scan = `ssh-keyscan ${port === 22 ? '' : `-p ${port} `}${address}`
  if (verdict.is === 'changed' || verdict.is === 'revoked') {
    const { file, line } = verdict.recorded
    return new UnreachableError(
      verdict.is === 'revoked'
        ? `${name} presented a host key that is revoked at ${file}:${line}: ${shown}`
        : `the host key of ${name} is not the one at ${file}:${line}: it presented ${shown}`,
      {
        code: `connection.host-key-${verdict.is}`,
        host: name,
        hint: `Somebody may be in between, or the host was reinstalled. Once you are sure of it, remove line ${line} and record the new key.`,
      },
    )
  }
  return new UnreachableError(`the host key of ${name} is not known: ${shown}`, {
    code: 'connection.host-key-unknown',
    host: name,
    hint: `Compare the fingerprint with the host's, then accept it with: ${scan} >> ${files[0] ?? '~/.ssh/known_hosts'}`,
  })
}

function connectError(
  name: string,
  where: string,
  settings: ConnectionSettings,
  error: Error & { level?: string; code?: string },
): UnreachableError {
  const { message } = error
  const make = (text: string, code: string, hint: string) =>
    new UnreachableError(text, { code, host: name, hint, cause: error })
  if (error.level === 'client-authentication') {
    const tried = settings.privateKeyFile
      ? `the key ${settings.privateKeyFile}`
      : settings.password
        ? 'the password'
        : 'the agent or default keys'
    return make(
      `${name} did not let us in as ${where} with ${tried}`,
      'connection.authentication',
      'Check ansible_user and ansible_ssh_private_key_file, and the host’s authorized_keys.',
    )
  }
  if (/no matching/i.test(message)) {
    return make(
      `${name} offers no algorithm that rekey accepts: ${message}`,
      'connection.algorithms',
      'Update its SSH server: only algorithms without SHA-1 are accepted.',
    )
  }
  if (/encrypted|passphrase/i.test(message)) {
    return make(
      `the private key ${settings.privateKeyFile ?? ''} is encrypted`,
      'connection.key-encrypted',
      'Load it into an agent with ssh-add.',
    )
  }
  const reason =
    error.level === 'client-timeout'
      ? `no answer within ${settings.connectTimeout} s`
      : ({
          ECONNREFUSED: 'connection refused',
          EHOSTUNREACH: 'no route to host',
          ENETUNREACH: 'network unreachable',
          ENOTFOUND: 'name not found',
          ETIMEDOUT: 'no answer',
        }[error.code ?? ''] ?? message)
  return make(
    `${name} can't be reached at ${where}: ${reason}`,
    'connection.unreachable',
    'Is the host up, and its address in the inventory right?',
  )
}

function hopSettings(hop: string, target: ConnectionSettings): ConnectionSettings {
  const { user, address, port } = parseHop(hop)
  return { ...target, user: user ?? target.user, address, port, proxyJump: [], become: undefined }
}

function nextAddress(target: ConnectionSettings, hop: string): { address: string; port: number } {
  const hops = target.proxyJump ?? []
  const next = hops[hops.indexOf(hop) + 1]
  return next === undefined ? target : parseHop(next)
}

function parseHop(hop: string): { user?: string; address: string; port: number } {
  const match = /^(?:([^@]+)@)?(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(hop)
  return { user: match?.[1], address: (match?.[2] ?? hop).replace(/^\[|\]$/g, ''), port: Number(match?.[3] ?? 22) }
}
