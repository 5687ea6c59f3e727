// Running a command as another user: sudo, su or doas around it.
import type { ConnectionSettings } from './settings.ts'
import { quote } from './shell.ts'

/** A command ready to be started. */
export interface BecomeCommand {
  readonly command: string
  /** What it prints once it runs as the other user; nothing where it runs as the one who logged in. */
  readonly announced?: string
  /** The program asks for a password on a terminal and nowhere else. */
  readonly onTerminal?: boolean
}

/** Names a command to `endCommand`: in its environment, and so in that of everything that it starts. */
const marker = 'REKEY_COMMAND'

/**
 * Wraps a command so that it runs under `/bin/sh`, in the place of the login shell, which would hide what killed it, as the user that `settings.become` names, marked with an id.
 * Without a password, sudo and doas fail at once instead of asking for one; su has no such option.
 */
export function become({ become: other, user: own }: ConnectionSettings, command: string, id: string): BecomeCommand {
  if (!other || other.user === own) return { command: `export ${marker}=${id}; exec /bin/sh -c ${quote(command)}` }
  const user = quote(other.user)
  const announced = `rekey-begins-${id}`
  const onTerminal = other.method === 'doas' && other.password !== undefined
  const shell = `/bin/sh -c ${quote(`echo ${announced} >${onTerminal ? '/dev/tty' : '&2'}\n${command}`)}`
  // Each of them empties the environment, so the mark is set behind it.
  const marked = `env ${marker}=${id} ${shell}`
  if (other.method === 'su') return { command: `exec su ${user} -c ${quote(`exec ${marked}`)}`, announced }
  if (other.method === 'doas') {
    return { command: `exec doas ${onTerminal ? '' : '-n '}-u ${user} ${marked}`, announced, onTerminal }
  }
  // With -k a password that somebody typed a minute ago does not hide that this one is wrong.
  const asking = other.password === undefined ? '-n' : "-k -S -p 'Password: '"
  return { command: `exec sudo ${asking} -u ${user} -- ${marked}`, announced }
}

/**
 * The command that sends a signal to all processes of the command with this id. sshd forwards no signals to the sessions of
 * root, and closing a channel ends nothing that does not write, so it takes a command of its own.
 * @param waiting the process that waits for it, where that one waits for others afterwards: it is spared. What was forked in its session
 * has the mark in memory only, and belongs to the command unless it is marked for another.
 */
export function endCommand(id: string, signal: 'TERM' | 'KILL', waiting?: number): string {
  const marked = `grep -lzx ${marker}=${id} /proc/[0-9]*/environ 2>/dev/null`
  // One look at all of them: asked one by one, a busy host takes seconds. Behind the name come state, parent, group and session.
  const inSession = `for f in $(grep -lE '\\) . [0-9]+ [0-9]+ ${waiting} ' /proc/[0-9]*/stat 2>/dev/null); do f=\${f%stat}
[ "$f" = /proc/${waiting}/ ] || grep -qz ^${marker}= "\${f}environ" 2>/dev/null || echo "$f"
done`
  // Stopped first, none of them begins anything more because another has ended, or escapes between the look and the signal.
  return `each() { for f in $(${marked}${waiting === undefined ? '' : `; ${inSession}`}); do p=\${f#/proc/}; kill -$1 "\${p%%/*}" 2>/dev/null; done; }
each STOP; each STOP; each ${signal}; each CONT; true`
}
