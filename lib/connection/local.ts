// The machine that rekey itself runs on, as a host.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HostFailedError } from '../errors.ts'
import { become } from './become.ts'
import type { Connection, RemoteProcess, SpawnOptions } from './connection.ts'
import { watchForEnd } from './ending.ts'
import type { ConnectionSettings } from './settings.ts'

const graceBeforeKill = 3_000

/** A connection to this machine: commands are children of this process, each in a process group of its own. */
export function connectLocal(name: string, settings: ConnectionSettings): Connection {
  let closed: Error | undefined
  const groups = new Set<number>()
  return {
    name,
    get lost() {
      return closed
    },
    spawn: (command, options: SpawnOptions = {}): RemoteProcess => {
      const started = become(settings, command, randomUUID())
      const child = spawn('/bin/sh', ['-c', started.command], { detached: true, stdio: 'pipe' })
      const { stdin, stdout, stderr } = child
      if (child.pid !== undefined) groups.add(child.pid)
      if (started.firstInput !== undefined) stdin.write(started.firstInput)
      stdin.on('error', () => {})
      const remote: RemoteProcess = Object.assign(new EventEmitter(), { stdin, stdout, stderr })
      let ended: Error | undefined
      const end = async (reason: Error) => {
        if (ended || child.exitCode !== null || child.pid === undefined) return
        ended = reason
        endGroup(child.pid, 'SIGTERM')
        await delay(graceBeforeKill, undefined, { ref: false })
        if (child.exitCode === null && child.signalCode === null) endGroup(child.pid, 'SIGKILL')
      }
      const unwatch = watchForEnd(name, options, reason => void end(reason))
      child.on('error', error => remote.emit('error', error))
      child.on('exit', (code, killedBy) => remote.emit('exit', code, killedBy))
      child.on('close', (code, killedBy) => {
        unwatch()
        if (child.pid !== undefined) groups.delete(child.pid)
        if (ended) remote.emit('error', ended)
        remote.emit('close', code, killedBy)
      })
      return remote
    },
    forward: (address, port) =>
      new Promise((resolve, reject) => {
        const socket = connectTcp({ host: address, port })
        socket.once('connect', () => resolve(socket))
        socket.once('error', error =>
          reject(
            new HostFailedError(`${name} could not open a connection to ${address}:${port}: ${error.message}`, {
              code: 'connection.forward',
              host: name,
              cause: error,
            }),
          ),
        )
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
