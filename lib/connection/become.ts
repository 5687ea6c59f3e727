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
  const marked = `for e in $(grep -lzx ${marker}=${id} /proc/[0-9]*/environ 2>/dev/null); do p=\${e%/environ}; kill -${signal} "\${p#/proc/}" 2>/dev/null; done; true`
  if (waiting === undefined) return marked
  return `for f in /proc/[0-9]*; do
p=\${f#/proc/}; [ "$p" != ${waiting} ] && read -r s <"$f/stat" || continue
set -- \${s##*) }; [ "$4" = ${waiting} ] || continue
grep -qz ^${marker}= "$f/environ" || kill -${signal} "$p"
done 2>/dev/null; ${marked}`
}
