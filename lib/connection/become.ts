// Running a command as another user: sudo, su or doas around it.
import type { ConnectionSettings } from './settings.ts'
import { quote } from './shell.ts'

/** A command ready to be started, and what its stdin must begin with (a password, for sudo). */
export interface BecomeCommand {
  readonly command: string
  readonly firstInput?: string
}

/** Names a command to `endCommand`: in its environment, and so in that of everything that it starts. */
const marker = 'REKEY_COMMAND'

/**
 * Wraps a command so that it runs under `/bin/sh`, as the user that `settings.become` names, marked with an id.
 * sudo is never left waiting for a password: without one it fails at once, with one it reads it from stdin.
 */
export function become({ become: other, user: own }: ConnectionSettings, command: string, id: string): BecomeCommand {
  const shell = `/bin/sh -c ${quote(command)}`
  if (!other || (other.user === own && other.password === undefined)) return { command: `${marker}=${id} ${shell}` }
  const user = quote(other.user)
  // Each of them empties the environment, so the mark is set behind it.
  const marked = `env ${marker}=${id} ${shell}`
  if (other.method === 'su') return { command: `exec su ${user} -c ${quote(marked)}` }
  if (other.method === 'doas') return { command: `exec doas -n -u ${user} ${marked}` }
  if (other.password === undefined) return { command: `exec sudo -n -u ${user} -- ${marked}` }
  return { command: `exec sudo -k -S -p '' -u ${user} -- ${marked}`, firstInput: `${other.password}\n` }
}

/**
 * The command that sends a signal to all processes of the command with this id. sshd forwards no signals to the sessions of
 * root, and closing a channel ends nothing that does not write, so it takes a command of its own.
 */
export function endCommand(id: string, signal: 'TERM' | 'KILL'): string {
  return `for e in $(grep -lzx ${marker}=${id} /proc/[0-9]*/environ 2>/dev/null); do p=\${e%/environ}; kill -${signal} "\${p#/proc/}" 2>/dev/null; done; true`
}
