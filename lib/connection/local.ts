// The machine that rekey itself runs on, as a host.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { HostFailedError, RekeyError } from '../errors.ts'
import { type BecomeCommand, endCommand } from './become/become.ts'
import { createElevator } from './become/elevation.ts'
import { watchForEnd } from './commands/ending.ts'
import { cannotForward } from './connect-errors.ts'
import type { Connection, RemoteProcess, SpawnOptions } from './connection.ts'
import { withoutSecrets } from './environment.ts'
import type { ConnectionSettings } from './settings.ts'

const graceBeforeKill = 3_000
/** What ends each command of this process at once. */
const commands = new Set<() => void>()

/** Ends all commands on this machine that this process has begun, at once: for whoever ends without waiting for them. */
export function killLocalCommands(): void {
  for (const kill of commands) kill()
}

/**
 * A connection to this machine: commands are children of this process, each in a process group of its own.
 * @throws RekeyError for doas with a password, which it takes on a terminal only
 */
export function connectLocal(name: string, settings: ConnectionSettings): Connection {
  let closed: Error | undefined
  const groups = new Set<number>()
  const elevator = createElevator(name, settings)
  if (elevator.wrap('', '').onTerminal) {
    throw new RekeyError(`${name}: doas takes a password on a terminal only, and a local connection has none`, {
      code: 'become.terminal',
      host: name,
      hint: 'Allow this user doas without a password, or use sudo.',
    })
  }
  const start = (wrapped: BecomeCommand, kept?: readonly string[]) => {
    const env = withoutSecrets(process.env, kept)
    const child = spawn('/bin/sh', ['-c', wrapped.command], { detached: true, stdio: 'pipe', env })
    // Where files can't be opened any more there are no streams either, whatever the types say.
    if (!(child as Partial<typeof child>).stdin) {
      child.on('error', () => {})
      throw new HostFailedError(`no command can be started for ${name}: this process has too many files open`, {
        code: 'command.no-start',
        host: name,
        hint: 'Allow it more (ulimit -n), or close what the playbook opens.',
      })
    }
    child.stdin.on('error', () => {})
    return child
  }

  /** Processes of another user can be ended by that user only. */
  const endAll = (id: string, signal: 'TERM' | 'KILL') => {
    const wrapped = elevator.wrap(endCommand(id, signal), randomUUID())
    const child = start(wrapped)
    child.on('error', () => {})
    const nowhere = { stdout: new PassThrough().resume(), stderr: new PassThrough().resume() }
    elevator.attach(wrapped, child, nowhere).catch(() => child.stdin.end())
  }

  /** The streams of a command that runs as somebody else: without what was asked and answered before it began. */
  const attach = (child: ChildProcessWithoutNullStreams, wrapped: BecomeCommand, refuse: (error: Error) => void) => {
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    stdin.on('error', () => {})
    child.stdout.on('end', () => stdout.end())
    child.stderr.on('end', () => stderr.end())
    elevator.attach(wrapped, child, { stdout, stderr }).then(
      () => void stdin.pipe(child.stdin),
      error => {
        refuse(error)
        child.stdin.end()
        if (child.pid !== undefined) endGroup(child.pid, 'SIGTERM')
      },
    )
    return { stdin, stdout, stderr }
  }

  return {
    name,
    local: true,
    get lost() {
      return closed
    },
    spawn: (command, options: SpawnOptions = {}): RemoteProcess => {
      const id = randomUUID()
      const wrapped = elevator.wrap(command, id)
      const elevated = wrapped.announced !== undefined
      let ended: Error | undefined = elevator.refused
      const child = start(ended ? { command: 'exit 1' } : wrapped, options.environment)
      if (child.pid !== undefined) groups.add(child.pid)
      const streams = elevated && !ended ? attach(child, wrapped, error => (ended ??= error)) : child
      const { stdin, stdout, stderr } = streams
      const remote: RemoteProcess = Object.assign(new EventEmitter(), { stdin, stdout, stderr })
      const send = (signal: 'TERM' | 'KILL') => {
        if (elevated) endAll(id, signal)
        if (child.pid !== undefined) endGroup(child.pid, `SIG${signal}`)
      }
      const kill = () => send('KILL')
      commands.add(kill)
      const end = async (reason: Error) => {
        if (ended || child.exitCode !== null || child.pid === undefined) return
        ended = reason
        send('TERM')
        await delay(graceBeforeKill, undefined, { ref: false })
        if (child.exitCode === null && child.signalCode === null) send('KILL')
      }
      const unwatch = watchForEnd(name, options, reason => void end(reason))
      child.on('error', error => {
        commands.delete(kill)
        remote.emit('error', error)
      })
      child.on('exit', (code, killedBy) => remote.emit('exit', code, killedBy))
      child.on('close', (code, killedBy) => {
        unwatch()
        commands.delete(kill)
        if (child.pid !== undefined) groups.delete(child.pid)
        if (ended) remote.emit('error', ended)
        remote.emit('close', code, killedBy)
      })
      return remote
    },
    forward: (address, port) =>
      new Promise((resolve, reject) => {
        const socket = connectTcp({ host: address, port })
        const { connectTimeout: seconds } = settings
        const late = setTimeout(() => socket.destroy(new Error(`no answer within ${seconds} s`)), seconds * 1_000)
        socket.once('connect', () => resolve(socket))
        socket.once('connect', () => clearTimeout(late)).once('close', () => clearTimeout(late))
        socket.once('error', error => reject(cannotForward(name, address, port, error)))
      }),
    close: () => {
      closed = new Error('closed by rekey')
      for (const group of groups) endGroup(group, 'SIGTERM')
    },
  }
}

function endGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal)
  } catch {
    // It is over already.
  }
}
