// The connection over whatever opens channels to its host: every command a channel of it, however the way there was found.
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { type Duplex, PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { CancelledError, HostFailedError, UnknownOutcomeError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { type BecomeCommand, become, endCommand } from '../become/become.ts'
import { type CommandStreams, createElevator } from '../become/elevation.ts'
import { cannotForward } from '../connect-errors.ts'
import type { Connection, RemoteProcess, SpawnOptions } from '../connection.ts'
import { runScript } from '../files.ts'
import { limiter } from '../limiter.ts'
import type { ConnectionSettings } from '../settings.ts'
import { quote } from '../shell.ts'
import { turnWithTime } from '../turns.ts'
import { watchForEnd } from './ending.ts'
import { mayShareShell, sharedShell } from './host-shell.ts'
import { underMarker } from './marker.ts'
import { patientStart } from './patient-start.ts'
import { type CommandChannel, exitOf, type Started, type StartOptions, startOnTerminal } from './terminal.ts'

/**
 * sshd allows 10 channels a connection (`MaxSessions`); one is the long-lived shell's, and two are left for what must always get through,
 * such as a kill.
 */
const channelsPerConnection = 7
/** Milliseconds between a TERM and the KILL that follows it. */
const graceBeforeKill = 3_000
/** Milliseconds for ending a command, whatever its host answers to that. */
const patienceForEnd = 15_000
/** Milliseconds for a host to say that it begins a command: longer than any host takes that works. */
const patienceForStart = 60_000

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

  let isClosed = false
  /** Also of a host that does not keep to the protocol: it is not spoken with any more. */
  const abandon = (why: string) => {
    lost ??= new Error(why)
    if (!isClosed) closeAll()
    isClosed = true
  }

  // Listens before anything else can happen: the reply, the exit status and the close may all come in one packet.
  const startOnce = (command: string, { pty = false }: { pty?: boolean } = {}) =>
    new Promise<Started>((resolve, reject) => {
      if (lost) return reject(lost)
      const late = setTimeout(() => {
        abandon(`it did not answer within ${patienceForStart / 1_000} s`)
        reject(lost)
      }, patienceForStart).unref()
      client.exec(command, { pty }, (error, channel) => {
        clearTimeout(late)
        if (error) return reject(error)
        const started: Started = { channel, closed: once(channel, 'close') }
        channel.on('exit', (code: number | null, killedBy?: string) => {
          started.exit = exitOf(code, killedBy)
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
    const starting = start(wrapped, { patience: 5 }).catch(() => undefined)
    const started = await Promise.race([starting, delay(graceBeforeKill, undefined, { ref: false })])
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
    let started: Started | undefined
    /** The process id of the long-lived shell that waits for it, where it is that one's. */
    let waiting: number | undefined
    const begin = async (): Promise<Started> => {
      const mayShare = isOwn(options) && mayShareShell(asked) && (await isEmpty(stdin))
      // Commands begin on many hosts at once: on so many as there is time for in this turn of the event loop.
      const turn = turnWithTime()
      if (turn) await turn
      const given = mayShare ? await shell.start(asked, id, options.recovery?.folder) : undefined
      waiting = given?.pid
      return given?.started ?? (await start(wrapped, { signal: options.signal }))
    }
    let ended: Error | undefined
    const givenUp = Promise.withResolvers<undefined>()
    let late: NodeJS.Timeout | undefined
    const mustEnd = () => {
      late ??= setTimeout(() => givenUp.resolve(undefined), patienceForEnd).unref()
    }
    const end = async (reason: Error) => {
      if (ended || started?.exit) return
      ended = reason
      // Whether it begins yet, its host may never say.
      if (!started) await delay(graceBeforeKill, undefined, { ref: false })
      if (!started) return givenUp.resolve(undefined)
      mustEnd()
      await endInOrder(started, id, waiting)
    }
    const unwatch = watchForEnd(name, options, reason => void end(reason))
    const beginning = begin()
    try {
      started = await Promise.race([beginning, givenUp.promise])
    } catch (error) {
      unwatch()
      if (ended) return finish(ended, null, null)
      return lost ? finishLost(lostAtStart(name, lost, error)) : finish(notStarted(name, error), null, null)
    }
    if (!started) {
      beginning.then(closeAllOf, () => {})
      unwatch()
      return finish(ended, null, null)
    }
    const { channel } = started
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
        mustEnd()
        closeAllOf(started!)
      },
    )
    const over = Promise.all([started.closed, attached]).then(() => true)
    if (!(await Promise.race([over, givenUp.promise]))) abandon('it does not let go of a command that was ended')
    clearTimeout(late)
    unwatch()
    stdin.unpipe(channel)
    if (started.exit) {
      stdin.resume()
      return finish(ended, started.exit.code, started.exit.killedBy)
    }
    return ended ? finish(ended, null, null) : finishLost(lostAmid(name, lost))
  }

  /** Ends a command with all that it started. It may take a few seconds, and not come to an end where its host won't have it. */
  const endInOrder = async (started: Started, id: string, waiting: number | undefined): Promise<void> => {
    // What it leaves behind when it is killed may still print.
    if (waiting !== undefined) shell.giveWay()
    await endAll(id, 'TERM', waiting)
    await delay(graceBeforeKill, undefined, { ref: false })
    if (!started.exit) await endAll(id, 'KILL', waiting)
    await delay(graceBeforeKill, undefined, { ref: false })
    if (!started.exit) closeAllOf(started)
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
            const fail = (reason: Error) => reject(cannotForward(name, address, port, reason))
            const { connectTimeout: seconds } = settings
            let late = false
            const timer = setTimeout(() => {
              late = true
              fail(new Error(`no answer within ${seconds} s`))
            }, seconds * 1_000)
            client.forwardOut('127.0.0.1', 0, address, port, (error, channel) => {
              clearTimeout(timer)
              if (error) return fail(error)
              // Nobody may wait for it any more.
              if (late) return void channel.destroy()
              resolve(channel)
            })
          }),
      ),
    close: () => abandon('closed by rekey'),
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

/** The request may have reached the host before the link went: only a refusal that came back is certain. */
function lostAtStart(name: string, lost: Error, cause: unknown): UnknownOutcomeError {
  return new UnknownOutcomeError(
    `the connection to ${name} was lost while a command was being started: ${foreignWords(lost.message)}`,
    { code: 'connection.lost', host: name, cause },
  )
}

function lostAmid(name: string, lost: Error | undefined): UnknownOutcomeError {
  const why = foreignWords(lost?.message ?? 'the channel closed without an exit status')
  return new UnknownOutcomeError(
    `the connection to ${name} was lost while a command ran (${why}): nobody knows whether it finished`,
    { code: 'connection.lost', host: name, hint: 'Look at the host before you run it again.', cause: lost },
  )
}

function notStarted(name: string, cause: unknown): HostFailedError {
  return new HostFailedError(`${name} refused to start a command: ${foreignWords((cause as Error).message)}`, {
    code: 'connection.channel-refused',
    host: name,
    hint: "Look at MaxSessions in the host's sshd_config.",
    cause,
  })
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
