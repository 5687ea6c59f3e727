// One SSH client: reaching an address, checking its host key before anything is sent to it, and logging in.
import type { Duplex } from 'node:stream'
import { NodeSSH } from 'node-ssh'
import type { Client, ConnectConfig } from 'ssh2'
import { CancelledError, type RekeyError, type UnreachableError } from '../../errors.ts'
import { cannotReach, closedEarly, hostKeyUnknown, hostKeyWrong, notLetIn, tooOld } from '../connect-errors.ts'
import { type Credentials, credentials } from '../login/credentials.ts'
import {
  defaultKnownHostsFiles,
  entriesFor,
  fingerprint,
  judgeHostKey,
  keyTypeOf,
  recordHostKey,
} from '../login/host-keys.ts'
import type { ConnectionSettings } from '../settings.ts'
import { takeTurns, turnWithTime } from '../turns.ts'
import { saveRoundTrips, signAtOnce } from './round-trips.ts'
import { guardWindows } from './window-guard.ts'

const usualKeepalive = { seconds: 5, count: 3 }

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
 * Opens a client.
 * @param name for messages: the inventory name, or that of a bastion
 * @param sock the way there, where it is not straight
 * @param signal gives up the attempt
 * @throws UnreachableError when it can't be reached, its key is not the known one, or it does not let us in
 * @throws RekeyError when a known_hosts file can't be read, or an accepted key can't be recorded
 */
export async function openClient(
  name: string,
  settings: ConnectionSettings,
  sock?: Duplex,
  signal?: AbortSignal,
): Promise<Client> {
  const ssh = new NodeSSH()
  const proof = await credentials(name, settings)
  const keepalive = settings.keepalive ?? usualKeepalive
  const files = settings.knownHostsFiles ?? defaultKnownHostsFiles()
  const entries = entriesFor(files, settings.address, settings.port)
  let refusal: RekeyError | undefined
  const config: ConnectConfig = {
    host: settings.address,
    port: settings.port,
    username: settings.user,
    readyTimeout: settings.connectTimeout * 1_000,
    keepaliveInterval: keepalive.seconds * 1_000,
    keepaliveCountMax: keepalive.count,
    algorithms: {
      ...algorithms,
      serverHostKey: preferKnown(entries.map(entry => entry.keyType)),
    } as ConnectConfig['algorithms'],
    authHandler: proof.authHandler,
    ...(sock ? { sock: sock as ConnectConfig['sock'] } : {}),
    hostVerifier: (key: Buffer) => {
      const verdict = judgeHostKey(entries, key)
      if (verdict.is === 'known') return true
      if (verdict.is === 'unknown' && settings.hostKeyChecking === 'accept-new' && files[0] !== undefined) {
        try {
          recordHostKey(files[0], settings.address, settings.port, key)
          return true
        } catch (error) {
          refusal = error as RekeyError
          return false
        }
      }
      const shown = `${keyTypeOf(key)} ${fingerprint(key)}`
      refusal =
        verdict.is === 'unknown'
          ? hostKeyUnknown(name, settings, shown, files[0] ?? '~/.ssh/known_hosts')
          : hostKeyWrong(name, verdict.is, shown, `${verdict.recorded.file}:${verdict.recorded.line}`)
      return false
    },
  }
  const abort = () => ssh.connection && hangUp(ssh.connection)
  signal?.addEventListener('abort', abort, { once: true })
  try {
    const turn = turnWithTime()
    if (turn) await turn
    const connecting = ssh.connect(config as Parameters<NodeSSH['connect']>[0])
    if (ssh.connection) {
      takeTurns(ssh.connection)
      signAtOnce(ssh.connection)
    }
    await connecting
    const client = ssh.connection as Client
    // Nagle's algorithm makes every command wait for a delayed ACK: 7× slower.
    client.setNoDelay(true)
    saveRoundTrips(client)
    guardWindows(client)
    return client
  } catch (error) {
    ssh.connection?.on('error', () => {})
    if (ssh.connection) hangUp(ssh.connection)
    if (refusal) throw refusal
    if (signal?.aborted)
      throw new CancelledError(`connecting to ${name} was cancelled`, { code: 'run.cancelled', host: name })
    throw connectError(name, settings, proof, error as Error & { level?: string; code?: string })
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Milliseconds for a host to hang up once it was told good-bye. */
const patienceForGoodbye = 1_000

/** Ends the connection of a client in good order, and in any case. */
export function leaveClient(client: Client): void {
  client.end()
  // An open socket keeps the process alive for it.
  setTimeout(hangUp, patienceForGoodbye, client).unref()
}

/** ssh2 destroys no socket that it can't write to any more, and a host that sends and sends would keep it open for ever. */
function hangUp(client: Client): void {
  const { _sock: socket } = client as unknown as { _sock?: Duplex }
  socket?.destroy()
}

function preferKnown(types: readonly string[]): string[] {
  const wanted = types.flatMap(type => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]))
  const first = algorithms.serverHostKey.filter(type => wanted.includes(type))
  return [...first, ...algorithms.serverHostKey.filter(type => !first.includes(type))]
}

function connectError(
  name: string,
  settings: ConnectionSettings,
  proof: Credentials,
  error: Error & { level?: string; code?: string },
): UnreachableError {
  const { message } = error
  if (error.level === 'client-authentication' || /too many authentication failures/i.test(message)) {
    return notLetIn(name, settings, {
      tried: proof.tried() || 'nothing to show',
      takes: proof.accepted().join(', '),
      asked: proof.unanswered()[0],
      cause: error,
    })
  }
  if (error.level === 'agent') return cannotReach(name, settings, `the agent did not sign: ${message}`, error)
  const missing = /no matching (.*)/i.exec(message)?.[1]
  if (missing !== undefined) return tooOld(name, missing, error)
  if (/before handshake|ECONNRESET/i.test(message)) return closedEarly(name, settings, error)
  const reasons: Record<string, string> = {
    ECONNREFUSED: 'connection refused',
    EHOSTUNREACH: 'no route to host',
    ENETUNREACH: 'network unreachable',
    ENOTFOUND: 'name not found',
    ETIMEDOUT: 'no answer',
  }
  const late = error.level === 'client-timeout' ? `no answer within ${settings.connectTimeout} s` : undefined
  return cannotReach(name, settings, late ?? reasons[error.code ?? ''] ?? message, error)
}
