// Fewer round trips and fewer packets than ssh2 needs by itself. It tells nobody of the parts that this takes, so it is pinned in
// package.json, and whatever is not there as expected is left as it is.
import type { Socket } from 'node:net'
import type { Client, ClientChannel, ParsedKey } from 'ssh2'

/** ssh2's own window and packet size for the channels that it opens. */
const [windowSize, packetSize] = [2 * 1024 * 1024, 32 * 1024]

type Executed = (error: Error | undefined, channel: ClientChannel | InnerChannel) => void
type Opened = (error: Error | undefined, channel?: InnerChannel) => void

interface InnerChannel extends Omit<ClientChannel, 'subtype'> {
  subtype?: string
  readonly outgoing: { readonly id: number; readonly state: string }
  readonly _callbacks: ((failure: Error | true | undefined) => void)[]
}

type Sign = (data: Buffer, done: (signature: Buffer) => void) => void

/** Where an algorithm is not the key's own. */
const hashOf: Readonly<Record<string, string>> = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }

interface InnerClient {
  readonly _sock?: Socket
  readonly _chanMgr?: { add(opened: Opened & { type: string }): number }
  readonly _protocol?: {
    authPK(user: string, key: ParsedKey, algorithm?: string, sign?: Sign): void
    session(id: number, window: number, packet: number): void
    exec(channel: number, command: string, wantReply: boolean): void
  }
}

/**
 * Makes a client that is connecting sign with a key of this machine at once, where ssh2 would first ask whether the host takes it. Of an
 * agent that is still asked: its keys may need somebody's consent.
 */
export function signAtOnce(client: Client): void {
  const { _protocol: protocol } = client as unknown as InnerClient
  if (!protocol) return
  const ask = protocol.authPK.bind(protocol)
  protocol.authPK = (user, key, algorithm, sign) => {
    if (sign || !key.isPrivateKey()) return ask(user, key, algorithm, sign)
    ask(user, key, algorithm, (data, done) => {
      const signature = key.sign(data, hashOf[algorithm ?? ''])
      if (signature instanceof Error) ask(user, key, algorithm)
      else done(signature)
    })
  }
}

/**
 * Makes a client that is logged in open the channel of the next command while nobody waits for it: a command then costs one round
 * trip, not two. sshd starts nothing for a channel without a command. What is written in one turn goes to the kernel at once.
 */
export function saveRoundTrips(client: Client): void {
  const { _sock: socket, _chanMgr: channels, _protocol: protocol } = client as unknown as InnerClient
  if (!socket || !channels || !protocol) return
  gatherWrites(socket)
  let ahead: InnerChannel | undefined
  let opening = false
  const openAhead = () => {
    if (ahead || opening || !socket.writable) return
    opening = true
    const opened: Opened = (_refused, channel) => {
      opening = false
      ahead = channel
    }
    const id = channels.add(Object.assign(opened, { type: 'session' }))
    if (id >= 0) protocol.session(id, windowSize, packetSize)
  }
  const exec = client.exec.bind(client) as (command: string, options: object, callback: Executed) => Client
  const execAhead = (command: string, options: unknown, then?: unknown) => {
    const callback = (then ?? options) as Executed
    const isPlain = then === undefined || Object.values(options as object).every(value => !value)
    // Of a connection that is gone it calls itself open still, and nothing would ever come of what is asked for there.
    const channel = isPlain && socket.writable ? ahead : undefined
    if (isPlain) ahead = undefined
    if (channel?.outgoing.state !== 'open') {
      exec(command, then === undefined ? {} : (options as object), callback)
    } else {
      channel._callbacks.push(failure => {
        if (failure) callback(failure === true ? new Error('Unable to exec') : failure, channel)
        else callback(undefined, channel)
      })
      channel.subtype = 'exec'
      protocol.exec(channel.outgoing.id, command, true)
    }
    if (isPlain) openAhead()
    return client
  }
  client.exec = execAhead as Client['exec']
  openAhead()
}

/** Hands what is written in one turn of the event loop to the kernel at once: the other side then wakes up once. */
function gatherWrites(socket: Socket): void {
  const write = socket.write.bind(socket) as (...words: unknown[]) => boolean
  let gathering = false
  const gathered = (...words: unknown[]) => {
    if (!gathering) {
      gathering = true
      socket.cork()
      process.nextTick(() => {
        gathering = false
        socket.uncork()
      })
    }
    return write(...words)
  }
  socket.write = gathered as Socket['write']
}
