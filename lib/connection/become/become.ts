// Running a command as another user: sudo, su or doas around it.
import type { BecomeSettings, ConnectionSettings } from '../settings.ts'
import { quote } from '../shell.ts'

/** A command ready to be started. */
export interface BecomeCommand {
  readonly command: string
  /** A line that it prints on stdout and on stderr once it runs as the other user; none where it runs as the one who logged in. */
  readonly announced?: string
  /** How the program gets the password. */
  readonly asking?: Asking
  /** The program asks for a password on a terminal and nowhere else. */
  readonly onTerminal?: boolean
}

/** How a program gets a password, such that nothing else ever does. */
export type Asking =
  /** It asks on stderr in words of ours, which nobody else can have said before the command runs. */
  | { readonly by: 'prompt'; readonly words: string }
  /** It asks on a terminal that nothing but its question and its answer go through. */
  | { readonly by: 'terminal' }
  /** The first line of stdin is the program's alone: what it does with it, and whether it asks, is nothing to the command. */
  | { readonly by: 'first-line' }

/** Names a command to `endCommand`: in its environment, and so in that of everything that it starts. */
const marker = 'REKEY_COMMAND'

/**
 * Wraps a command so that it runs under `/bin/sh`, in the place of the login shell, which would hide what killed it, as the user that `settings.become` names, marked with an id.
 * Without a password, sudo and doas fail at once instead of asking for one, and su gets an empty stdin.
 */
export function become({ become: other, user: own }: ConnectionSettings, command: string, id: string): BecomeCommand {
  if (!other || other.user === own) return { command: `export ${marker}=${id}; exec /bin/sh -c ${quote(command)}` }
  const announced = `rekey-begins-${id}`
  const asking = askingOf(other, id)
  const announce = `echo ${announced}; echo ${announced} >&2`
  const user = quote(other.user)
  // Each of them empties the environment, so the mark is set behind it.
  const marked = (before: string) => `env ${marker}=${id} /bin/sh -c ${quote(`${before}${announce}\n${command}`)}`
  switch (other.method) {
    case 'su': {
      // The command's own stdin waits as file 3.
      const su = `su ${user} -c ${quote(`exec ${marked('exec <&3 3<&-; ')}`)}`
      return { command: asking ? firstLineTo(su) : `exec ${su} 3<&0 </dev/null`, announced, asking }
    }
    case 'doas': {
      const onTerminal = asking !== undefined
      const doas = `exec doas ${onTerminal ? '' : '-n '}-u ${user}`
      return {
        command: `${doas} ${marked(onTerminal ? `echo ${announced} >/dev/tty; ` : '')}`,
        announced,
        asking,
        onTerminal,
      }
    }
    case 'sudo': {
      // With -k a password that somebody typed a minute ago does not hide that this one is wrong.
      const way = asking?.by === 'prompt' ? `-k -S -p ${quote(asking.words)}` : '-n'
      return { command: `exec sudo ${way} -u ${user} -- ${marked('')}`, announced, asking }
    }
  }
}

function askingOf({ method, password }: BecomeSettings, id: string): Asking | undefined {
  if (password === undefined) return undefined
  if (method === 'doas') return { by: 'terminal' }
  return method === 'su' ? { by: 'first-line' } : { by: 'prompt', words: `[rekey-asks-${id}] password: ` }
}

/**
 * Has the first line of stdin be a program's stdin, and leaves the rest as file 3. A shell's `read` takes no byte more than the line, and its
 * `printf` shows in no list of processes. A variable that came with the environment would be handed on with it.
 */
function firstLineTo(program: string): string {
  const script = `exec 3<&0; unset _rp; IFS= read -r _rp; printf '%s\\n' "$_rp" | ${program}`
  return `exec /bin/sh -c ${quote(script)}`
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
