// Connections over SSH, by node-ssh: one a host, every command a channel of it.
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { type Duplex, PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'ssh2'
import { CancelledError, HostFailedError, UnknownOutcomeError, type UnreachableError } from '../errors.ts'
import { type Hop, sharedBastions } from './bastions.ts'
import { type BecomeCommand, become, endCommand } from './become.ts'
import { openClient } from './client.ts'
import { cannotForward, cannotReach } from './connect-errors.ts'
import type { Connection, RemoteProcess, SpawnOptions } from './connection.ts'
import { type CommandStreams, createElevator } from './elevation.ts'
import { watchForEnd } from './ending.ts'
import { runScript } from './files.ts'
import { type HostShell, mayShareShell, openHostShell } from './host-shell.ts'
import { limiter } from './limiter.ts'
import { underMarker } from './marker.ts'
import { patientStart } from './patient-start.ts'
import { startProxy } from './proxy-command.ts'
import type { ConnectionSettings } from './settings.ts'
import { quote } from './shell.ts'
import { type CommandChannel, type Start, type Started, type StartOptions, startOnTerminal } from './terminal.ts'
import { turnWithTime } from './turns.ts'

/**
 * sshd allows 10 channels a connection (`MaxSessions`); one is the long-lived shell's, and two are left for what must always get through,
 * such as a kill.
 */
const channelsPerConnection = 7
/** Milliseconds between a TERM and the KILL that follows it. */
const graceBeforeKill = 3_000

/** Whatever opens channels to a host: an SSH client, or a part of one. */
export interface ChannelSource {
  exec(
    command: string,
    options: { readonly pty?: boolean },
    callback: (error: Error | undefined, channel: CommandChannel) => void,
  ): unknown
  forwardOut(
    fromAddress: string,
    fromPort: number,
    address: string,
    port: number,
    callback: (error: Error | undefined, channel: Duplex) => void,
  ): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'close', listener: () => void): unknown
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
  const { proxyJump = [], proxyCommand } = settings
  const connected = (client: Client, leave?: () => void) => {
    const close = () => {
      client.end()
      leave?.()
    }
    return sshConnection(name, client, settings, close, () => connectSsh(name, settings))
  }
  if (proxyCommand !== undefined) {
    const proxy = startProxy(settings, proxyCommand)
    try {
      return connected(await openClient(name, settings, proxy.stream, signal), proxy.end)
    } catch (error) {
      proxy.end()
      throw error
    }
  }
  if (proxyJump.length === 0) {
    return connected(await patiently(settings, signal, () => openClient(name, settings, undefined, signal)))
  }
  const bastion = await enterBastion(name, settings, proxyJump, signal)
  try {
    const open = async (hop: ClientHop) => openClient(name, settings, await hop.way(name, settings), signal)
    return connected(await patiently(settings, signal, () => bastion.turn(open)), bastion.leave)
  } catch (error) {
    bastion.leave()
    throw error
  }
}

interface ClientHop extends Hop {
  /** A stream to a host behind it. Rejects with `UnreachableError`. */
  way(name: string, to: ConnectionSettings): Promise<Duplex>
}

const enterBastion = sharedBastions<ClientHop>(async (hopName, hop, before, signal) => {
  const client = await openClient(hopName, hop, await before?.way(hopName, hop), signal)
  client.on('error', () => {})
  return {
    close: () => void client.end(),
    onClose: listener => void client.once('close', listener),
    way: (name, to) => wayThrough(client, hopName, name, to),
  }
})

/** A host that swallows what is sent to it must not keep the others from their turn. */
function wayThrough(client: Client, hopName: string, name: string, to: ConnectionSettings): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string, cause?: Error) => reject(cannotReach(name, to, `${reason} (from ${hopName})`, cause))
    const timer = setTimeout(fail, to.connectTimeout * 1_000, `no answer within ${to.connectTimeout} s`)
    try {
      client.forwardOut('127.0.0.1', 0, to.address, to.port, (error, channel) => {
        clearTimeout(timer)
        if (!error) return resolve(channel)
        fail(error.message.replace(/^\(SSH\) Channel open failure: /, ''), error)
      })
    } catch (error) {
      clearTimeout(timer)
      fail('the connection to it was lost', error as Error)
    }
  })
}

/**
 * An sshd drops what is over its MaxStartups before it says a word: that is worth another try, a little later. Whatever else
 * it says no to is not.
 */
export async function patiently<T>(
  { connectTimeout }: ConnectionSettings,
  signal: AbortSignal | undefined,
  open: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + connectTimeout * 1_000
  for (let pause = 200; ; pause = Math.min(2 * pause, 1_000)) {
    try {
      return await open()
    } catch (error) {
      const early = (error as UnreachableError).code === 'connection.closed-early'
      if (!early || signal?.aborted || performance.now() > until) throw error
    }
    // Not all at the same moment again.
    await delay(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
  }
}

/**
 * The connection over whatever opens channels to its host.
 * @param closeAll ends it, and the way there
 * @param another makes a second one, for what must get through where the host allows one channel only
 */
export function sshConnection(
  name: string,
  client: ChannelSource,
  settings: ConnectionSettings,
  closeAll: () => void,
  another?: () => Promise<Connection>,
): Connection {
  const elevator = createElevator(name, settings)
  // Who needs a terminal takes two channels.
  const limit = limiter(elevator.wrap('', '').onTerminal ? channelsPerConnection / 2 : channelsPerConnection)
  let lost: Error | undefined
  // Without a listener, a keepalive time-out would end the whole process.
  client.on('error', error => {
    lost ??= error
  })
  client.on('close', () => {
    lost ??= new Error('the connection was closed')
  })

  // Listens before anything else can happen: the reply, the exit status and the close may all come in one packet.
  const startOnce = (command: string, { pty = false }: { pty?: boolean } = {}) =>
    new Promise<Started>((resolve, reject) => {
      client.exec(command, { pty }, (error, channel) => {
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
  const shell = sharedShell((command, options) => startOnce(command, options))
  const startChannel = patientStart(
    (command, options) =>
      startOnce(command, options).catch((refusal: Error) => {
        // The host allows few sessions: the shell must not hold one that something else waits for.
        shell.giveUp()
        throw refusal
      }),
    () => lost !== undefined,
  )
  const start = ({ command, onTerminal }: BecomeCommand, options: StartOptions) =>
    onTerminal ? startOnTerminal(startChannel, command, options) : startChannel(command, options)

  /** Past the limit on channels: what is to be ended may be what fills it. Where the host has its own, over another connection. */
  const endAll = async (id: string, signal: 'TERM' | 'KILL', waiting?: number) => {
    const command = endCommand(id, signal, waiting)
    const wrapped = elevator.wrap(command, randomUUID())
    const started = await start(wrapped, { patience: 5 }).catch(() => undefined)
    if (!started) {
      const other = lost ? undefined : await another?.().catch(() => undefined)
      await (other && runScript(other, command, { timeout: graceBeforeKill }).catch(() => {}))
      return other?.close()
    }
    const nowhere = { stdout: new PassThrough().resume(), stderr: new PassThrough().resume() }
    elevator.attach(wrapped, streamsOf(started), nowhere).then(
      () => started.channel.end(),
      () => started.channel.close(),
    )
    await Promise.race([started.closed, delay(graceBeforeKill, undefined, { ref: false })])
  }

  const { become: other, user } = settings
  /** Whether a command runs as the user who logs in. */
  const isOwn = ({ asLogin }: SpawnOptions) => asLogin || !other || other.user === user
  const wrap = (command: string, id: string, { asLogin, recovery }: SpawnOptions): BecomeCommand => {
    if (asLogin) return become({ ...settings, become: undefined }, command, id)
    const wrapped = elevator.wrap(command, id)
    // Whoever comes back finds no terminal again.
    if (!recovery || wrapped.onTerminal) return wrapped
    if (wrapped.announced === undefined) return elevator.wrap(underMarker(command, recovery.folder, id), id)
    // The marker is of the user who logs in, around sudo and the like.
    return { ...wrapped, command: `exec /bin/sh -c ${quote(underMarker(wrapped.command, recovery.folder, id))}` }
  }

  const spawn = (command: string, options: SpawnOptions = {}): RemoteProcess => {
    const stdin = new PassThrough()
    const stdout = new PassThrough()
    const stderr = new PassThrough()
    const remote: RemoteProcess = Object.assign(new EventEmitter(), { stdin, stdout, stderr })
    const id = randomUUID()
    const wrapped = { ...wrap(command, id, options), id, asked: command }
    void limit(() => runChannel(remote, { stdin, stdout, stderr }, wrapped, options))
    return remote
  }

  const runChannel = async (
    remote: RemoteProcess,
    { stdin, stdout, stderr }: { stdin: PassThrough; stdout: PassThrough; stderr: PassThrough },
    { id, asked, ...wrapped }: BecomeCommand & { id: string; asked: string },
    options: SpawnOptions,
  ): Promise<void> => {
    let fed = false
    const finish = async (error: Error | undefined, code: number | null, killedBy: string | null) => {
      stdout.end()
      stderr.end()
      // What is over before it began ends while `spawn` is still on its way back to those who will listen.
      await Promise.resolve()
      if (error) remote.emit('error', error)
      remote.emit('exit', code, killedBy)
      // Whoever listens reads what is still in the streams before it hears that all is over.
      await Promise.allSettled([drained(stdout), drained(stderr)])
      remote.emit('close', code, killedBy)
    }
    /** Nobody heard how it ended: whoever can is asked. */
    const finishLost = async (cause: UnknownOutcomeError) => {
      if (!options.recovery || wrapped.onTerminal) return finish(cause, null, null)
      const { folder, recover } = options.recovery
      const stop = new AbortController()
      const unwatch = watchForEnd(name, options, reason => stop.abort(reason))
      try {
        const lostCommand = { command: asked, id, folder, stdin, fed, stdout, stderr, cause, signal: stop.signal }
        const { code, killedBy, whole } = await recover(lostCommand)
        if (!whole) remote.emit('gap', outputCut(name))
        return await finish(undefined, code, killedBy)
      } catch (error) {
        return await finish(error as Error, null, null)
      } finally {
        unwatch()
      }
    }
    if (options.signal?.aborted) {
      return finish(
        new CancelledError(`${name}: cancelled before it started`, { code: 'run.cancelled', host: name }),
        null,
        null,
      )
    }
    if (elevator.refused) return finish(elevator.refused, null, null)
    let started: Started
    /** The process id of the long-lived shell that waits for it, where it is that one's. */
    let waiting: number | undefined
    try {
      const mayShare = isOwn(options) && mayShareShell(asked) && (await isEmpty(stdin))
      // Commands begin on many hosts at once: on so many as there is time for in this turn of the event loop.
      const turn = turnWithTime()
      if (turn) await turn
      const given = mayShare ? await shell.start(asked, id, options.recovery?.folder) : undefined
      waiting = given?.pid
      started = given?.started ?? (await start(wrapped, { signal: options.signal }))
    } catch (error) {
      const reason = lost ? lost.message : (error as Error).message
      if (lost) {
        // The request may have reached the host before the link went: only a refusal that came back is certain.
        return finishLost(
          new UnknownOutcomeError(`the connection to ${name} was lost while a command was being started: ${reason}`, {
            code: 'connection.lost',
            host: name,
            cause: error,
          }),
        )
      }
      return finish(
        new HostFailedError(`${name} refused to start a command: ${reason}`, {
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
      // What it leaves behind when it is killed may still print.
      if (waiting !== undefined) shell.giveWay()
      await endAll(id, 'TERM', waiting)
      await delay(graceBeforeKill, undefined, { ref: false })
      if (!started.exit) await endAll(id, 'KILL', waiting)
      await delay(graceBeforeKill, undefined, { ref: false })
      if (!started.exit) closeAllOf(started)
    }
    const unwatch = watchForEnd(name, options, reason => void end(reason))
    stdin.on('error', () => {})
    const attached = elevator.attach(wrapped, streamsOf(started), { stdout, stderr }).then(
      () => {
        stdin.once('data', () => {
          fed = true
        })
        stdin.pipe(channel)
      },
      (refusal: Error) => {
        if (!lost) ended ??= refusal
        closeAllOf(started)
      },
    )
    await started.closed
    await attached
    unwatch()
    stdin.unpipe(channel)
    if (started.exit) {
      stdin.resume()
      return finish(ended, started.exit.code, started.exit.killedBy)
    }
    if (ended) return finish(ended, null, null)
    return finishLost(
      new UnknownOutcomeError(
        `the connection to ${name} was lost while a command ran (${lost?.message ?? 'the channel closed without an exit status'}): nobody knows whether it finished`,
        { code: 'connection.lost', host: name, hint: 'Look at the host before you run it again.', cause: lost },
      ),
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
              if (error) reject(cannotForward(name, address, port, error))
              else resolve(channel)
            })
          }),
      ),
    close: () => {
      lost ??= new Error('closed by rekey')
      closeAll()
    },
  }
}

/** The shell of a connection, opened when it is first needed. */
interface SharedShell {
  /** Gives it a command, if there is one that takes it now; as `HostShell.start`. */
  start(command: string, id: string, folder?: string): Promise<{ started: Started; pid: number } | undefined>
  /** Ends it, and lets another be opened. */
  giveWay(): void
  /** Ends it for good. */
  giveUp(): void
}

/** Milliseconds for a shell to say that it is there. */
const patienceForShell = 10_000

function sharedShell(start: Start): SharedShell {
  let shell: HostShell | undefined
  let opening = false
  let wanted = true
  const giveWay = () => {
    shell?.retire()
    shell = undefined
  }
  const open = async () => {
    opening = true
    try {
      const opened = await openHostShell(start, patienceForShell)
      if (wanted) shell = opened
      else opened.retire()
    } catch {
      // Commands get channels of their own then.
      wanted = false
    }
    opening = false
  }
  return {
    start: async (command, id, folder) => {
      if (shell?.ended) shell = undefined
      if (!shell && !opening && wanted) await open()
      return shell?.idle ? { started: shell.start(command, id, folder), pid: shell.pid } : undefined
    },
    giveWay,
    giveUp: () => {
      wanted = false
      giveWay()
    },
  }
}

/** Whether nothing will be written to a stdin. Who started the command says so at once, or in the next turn of the event loop. */
async function isEmpty(stdin: PassThrough): Promise<boolean> {
  for (let turn = 0; turn < 2 && !stdin.writableEnded; turn++) await new Promise(resolve => setImmediate(resolve))
  return stdin.writableEnded && stdin.readableLength === 0
}

function streamsOf({ channel, terminal }: Started): CommandStreams {
  const { stderr } = channel
  return { stdin: channel, stdout: channel, stderr, terminal: terminal && { stdin: terminal, stdout: terminal } }
}

function closeAllOf({ channel, terminal }: Started): void {
  channel.close()
  terminal?.close()
}

function outputCut(name: string): UnknownOutcomeError {
  return new UnknownOutcomeError(
    `the connection to ${name} was lost while a command ran: part of its output may be missing`,
    { code: 'connection.output-cut', host: name, hint: 'The command itself has ended. Run the step once more.' },
  )
}

function drained(stream: PassThrough): Promise<unknown> {
  if (stream.readableEnded || !stream.readable) return Promise.resolve()
  if (stream.readableFlowing === null) stream.resume()
  return once(stream, 'end')
}
