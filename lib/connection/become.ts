// Running a command as another user: sudo, su or doas around it.
import type { ConnectionSettings } from './settings.ts'
import { quote } from './shell.ts'

/** A command ready to be started, and what its stdin must begin with (a password, for sudo). */
export interface BecomeCommand {
  readonly command: string
  readonly firstInput?: string
}

/**
 * Wraps a command so that it runs as the user that `settings.become` names.
 * sudo is never left waiting for a password: without one it fails at once, with one it reads it from stdin.
 */
export function become(settings: ConnectionSettings, command: string): BecomeCommand {
  const { become: other } = settings
  if (!other || (other.user === settings.user && other.password === undefined)) return { command }
  const shell = `/bin/sh -c ${quote(command)}`
  const user = quote(other.user)
  if (other.method === 'su') return { command: `exec su ${user} -c ${quote(command)}` }
  if (other.method === 'doas') return { command: `exec doas -n -u ${user} ${shell}` }
  if (other.password === undefined) return { command: `exec sudo -n -u ${user} -- ${shell}` }
  return { command: `exec sudo -k -S -p '' -u ${user} -- ${shell}`, firstInput: `${other.password}\n` }
}
