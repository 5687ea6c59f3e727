// A connection that comes back: when the link to a host drops, it is made anew, and the host is asked what became of the commands
// that ran. Only what the host can't tell stays unknown.
import { EventEmitter, once } from 'node:events'
import { PassThrough, Transform } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { endCommand } from '../../connection/become/become.ts'
import { endOf, untilEnd } from '../../connection/commands/host-shell.ts'
import { type Found, lookScript, readFound, tidyScript } from '../../connection/commands/marker.ts'
import type { Connection, Ending, LostCommand, RemoteProcess, SpawnOptions } from '../../connection/connection.ts'
import { runScript } from '../../connection/files.ts'
import { UnknownOutcomeError, UnreachableError } from '../../errors.ts'
import { formatDuration } from '../../playbook/duration.ts'

/** What it takes to come back to a host. */
export interface WayBack {
  /** Connects anew. Rejects with `UnreachableError`, after as many tries as make sense. */
  connect(): Promise<Connection>
  /** The folder of this run's markers on the host, as a word for its shell; none where nothing is left on it. */
  readonly folder?: string
  /** Whether there may be some from before. */
  readonly marked?: boolean
  /** A line for the people who watch. */
  notice(text: string): void
}

/** A connection that comes back. It counts as lost only once the outcome of a command is. */
export interface LastingConnection extends Connection {
  /** How often it was lost and made anew. */
  readonly returns: number
  /** Removes what commands left on the host. */
  tidy(): Promise<void>
}

/** How long a command without a time-out of its own is waited for once its connection was lost. */
const longestWait = 3_600_000
/** For questions that take the host no time. */
const patience = 15_000
const graceBeforeKill = 3_000

/** Makes a connection one that comes back. */
export function lasting(first: Connection, { connect, folder, notice, ...before }: WayBack): LastingConnection {
  const { name } = first
  let current = first
  let returning: Promise<Connection> | undefined
  let unresolved: Error | undefined
  let marked = before.marked ?? false
  let closed = false
  let returns = 0

  /** The connection as it is, or as it is again: all who miss it wait for the same attempt. */
  const present = (): Promise<Connection> => {
    if (!current.lost || closed) return Promise.resolve(current)
    returning ??= comeBack().finally(() => {
      returning = undefined
    })
    return returning
  }
  const comeBack = async () => {
    const started = performance.now()
    notice(`${name}: the connection was lost (${current.lost?.message}); connecting again`)
    current = await connect()
    returns++
    notice(`${name}: connected again after ${formatDuration(performance.now() - started)}`)
    return current
  }

  const recover = async (lost: LostCommand): Promise<Ending> => {
    try {
      return await settle(lost)
    } catch (error) {
      if (error instanceof UnknownOutcomeError) unresolved ??= error
      throw error
    }
  }

  const recovery = folder === undefined ? undefined : { folder, recover }

  const settle = async (lost: LostCommand): Promise<Ending> => {
    const until = performance.now() + longestWait
    for (let told = false; ; ) {
      const connection = await unlessEnded(lost, present()).catch(error => {
        throw error instanceof UnreachableError
          ? unknown(lost, `it can't be reached any more (${error.message})`)
          : error
      })
      const looking = connection.spawn(lookScript(lost.folder, lost.id), { asLogin: true })
      looking.stdin.end()
      const found = await firstFound(looking).catch(async error => {
        if (!(error instanceof UnknownOutcomeError)) throw error
        // Lost once more. That the connection is gone may be heard a moment later than that the command is.
        await delay(100)
        return undefined
      })
      if (!found) continue
      if (found.is === 'never') return begin(connection, lost)
      if (found.is === 'ended' && !lost.fed) return { code: found.status, killedBy: null, whole: false }
      if (found.is === 'ended') {
        throw unknown(lost, `it ended there with status ${found.status}, but may not have read all of its input`)
      }
      if (found.is === 'gone') throw unknown(lost, 'it was begun, and something ended it before its end')
      if (found.is === 'unsure') throw unknown(lost, 'the host has no record of it')
      if (!told) notice(`${name}: the command still runs there, as process ${found.pid}; waiting for its end`)
      told = true
      await follow(connection, lost, looking, found.pid, until - performance.now()).catch(error => {
        if (error instanceof UnknownOutcomeError) return
        throw error
      })
      if (performance.now() >= until) throw unknown(lost, `it still runs there, as process ${found.pid}`)
    }
  }

  const begin = async (connection: Connection, lost: LostCommand): Promise<Ending> => {
    if (lost.fed) {
      throw new UnreachableError(`the connection to ${name} was lost before a command began`, {
        code: 'connection.lost',
        host: name,
        cause: lost.cause,
      })
    }
    notice(`${name}: the command had not begun; it is begun now`)
    const { command, signal } = lost
    const remote = connection.spawn(command, { signal, once: true, recovery })
    let whole = true
    remote.once('gap', () => {
      whole = false
    })
    lost.stdin.pipe(remote.stdin)
    const ending = await passOn(remote, lost)
    return { ...ending, whole }
  }

  /** Hands on what a command prints from now on until it has ended, or the connection is lost once more. */
  const follow = async (
    connection: Connection,
    lost: LostCommand,
    looking: RemoteProcess,
    pid: number,
    longest: number,
  ) => {
    const { signal, id } = lost
    const stop = () => void endThere(connection, id, pid)
    signal.addEventListener('abort', stop, { once: true })
    try {
      await Promise.race([passOn(looking, lost, endOf(id)), delay(Math.max(longest, 1), undefined, { ref: false })])
    } finally {
      signal.removeEventListener('abort', stop)
    }
    signal.throwIfAborted()
  }

  const endThere = async (connection: Connection, id: string, pid: number) => {
    await runScript(connection, endCommand(id, 'TERM', pid), { timeout: patience }).catch(() => {})
    await delay(graceBeforeKill, undefined, { ref: false })
    await runScript(connection, endCommand(id, 'KILL', pid), { timeout: patience }).catch(() => {})
  }

  const unknown = ({ cause }: LostCommand, what: string) =>
    new UnknownOutcomeError(`${cause.message.replace(/: nobody knows whether it finished$/, '')}: ${what}`, {
      code: 'connection.lost',
      host: name,
      hint: 'Look at the host before you run it again.',
      cause,
    })

  const spawn = (command: string, options: SpawnOptions = {}): RemoteProcess => {
    const recoverable = options.once ? { ...options, recovery } : options
    marked ||= recoverable.recovery !== undefined
    if (!current.lost || closed) return current.spawn(command, recoverable)
    return spawnLater(present(), command, recoverable)
  }

  return {
    name,
    get local() {
      return current.local
    },
    get lost() {
      return closed ? current.lost : unresolved
    },
    get returns() {
      return returns
    },
    spawn,
    forward: async (address, port) => (await present()).forward(address, port),
    tidy: async () => {
      if (!marked || folder === undefined || current.lost) return
      await runScript(current, tidyScript(folder), { asLogin: true, timeout: patience })
    },
    close: () => {
      closed = true
      current.close()
    },
  }
}

/** Rejects as soon as a lost command is to be ended: nobody waits for its host then. */
function unlessEnded<T>({ signal }: LostCommand, waited: Promise<T>): Promise<T> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    waited.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** What the first line of a look at a host says. The rest stays in the streams where the command still runs. */
export function firstFound(looking: RemoteProcess): Promise<Found> {
  return new Promise((resolve, reject) => {
    let text = Buffer.alloc(0)
    const settle = (found: Found) => {
      clearTimeout(timer)
      looking.stdout.off('data', take).pause()
      if (found.is !== 'running') {
        looking.stdout.resume()
        looking.stderr.resume()
      }
      resolve(found)
    }
    const take = (chunk: Buffer) => {
      text = Buffer.concat([text, chunk])
      const end = text.indexOf('\n')
      if (end === -1) return
      settle(readFound(text.toString('utf8', 0, end)))
      if (text.length > end + 1) looking.stdout.unshift(text.subarray(end + 1))
    }
    const timer = setTimeout(settle, patience, { is: 'unsure' })
    looking.stdout.on('data', take)
    looking.on('error', error => {
      clearTimeout(timer)
      reject(error)
    })
    looking.on('close', () => settle(readFound(text.toString('utf8'))))
  })
}

/**
 * Sends a process's output where the lost one's went.
 * @param end what a shell prints behind it that waits for the next command, and is none of its output
 */
async function passOn(
  remote: RemoteProcess,
  { stdout, stderr }: LostCommand,
  end?: string,
): Promise<Omit<Ending, 'whole'>> {
  let failure: Error | undefined
  remote.on('error', (error: Error) => {
    failure = error
  })
  for (const [from, to] of [
    [remote.stdout, stdout],
    [remote.stderr, stderr],
  ] as const) {
    if (end === undefined) from.pipe(to, { end: false })
    else from.pipe(outputBefore(end)).pipe(to, { end: false })
  }
  const [code, killedBy] = await once(remote, 'close')
  if (failure) throw failure
  return { code, killedBy }
}

/** Passes on what comes before a word. */
function outputBefore(word: string): Transform {
  const { take } = untilEnd(word)
  return new Transform({ transform: (chunk: Buffer, _encoding, done) => done(null, take(chunk)) })
}

/** Starts a command as soon as there is a connection again. */
function spawnLater(present: Promise<Connection>, command: string, options: SpawnOptions): RemoteProcess {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const later: RemoteProcess = Object.assign(new EventEmitter(), { stdin, stdout, stderr })
  const finish = (code: number | null, killedBy: string | null) => {
    later.emit('exit', code, killedBy)
    later.emit('close', code, killedBy)
  }
  present.then(
    connection => {
      const remote = connection.spawn(command, options)
      stdin.pipe(remote.stdin)
      remote.stdout.pipe(stdout)
      remote.stderr.pipe(stderr)
      remote.on('gap', error => later.emit('gap', error))
      remote.on('error', error => later.emit('error', error))
      remote.on('close', finish)
    },
    error => {
      stdout.end()
      stderr.end()
      later.emit('error', error)
      finish(null, null)
    },
  )
  return later
}
