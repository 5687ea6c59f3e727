// Starting a command on a terminal of its own, without its data going through that terminal: doas takes a password from
// nowhere else, and a terminal changes what passes through it. So the terminal is for the question alone, and three pipes on
// the host, read and written by a second channel, carry the data.
import type { Duplex, Readable } from 'node:stream'

/** A channel on which a command runs. Emits `exit` with its status, or with `null` and the signal that ended it. */
export interface CommandChannel extends Duplex {
  readonly stderr: Readable
  close(): void
}

/** A command that the host has begun. */
export interface Started {
  /** Its stdin and stdout, and its stderr. */
  readonly channel: CommandChannel
  /** Where it asks for a password, if that is elsewhere. */
  readonly terminal?: CommandChannel
  readonly closed: Promise<unknown>
  exit?: { readonly code: number | null; readonly killedBy: string | null }
}

/** How a command ended, by what its host says: a signal's name is no text that anybody may choose. */
export function exitOf(code: number | null, killedBy: string | undefined): NonNullable<Started['exit']> {
  if (killedBy === undefined) return { code, killedBy: null }
  return { code: null, killedBy: /^SIG[A-Z0-9]{1,12}$/.test(killedBy) ? killedBy : 'a signal without a name' }
}

/** How a command is started. */
export interface StartOptions {
  readonly pty?: boolean
  /** Stops waiting for a session when it is aborted. */
  readonly signal?: AbortSignal
  /** How often a session is asked for, where the host refuses it. */
  readonly patience?: number
}

/** Starts a command on a new channel. */
export type Start = (command: string, options?: StartOptions) => Promise<Started>

/** As `start`, for a command that needs a terminal; it takes two channels. */
export async function startOnTerminal(start: Start, command: string, options: StartOptions = {}): Promise<Started> {
  const asking = await start(
    [
      'umask 077; d=$(mktemp -d) && mkfifo "$d/in" "$d/out" "$d/err" || exit',
      'echo "rekey-pipes=$d="',
      // sshd takes a terminal that nobody has open for one that is done with. This ends with the session.
      'sleep 2147483647 </dev/tty >/dev/tty 2>&1 &',
      // Each waits for the other end; once all are open, nobody needs their names.
      'exec <"$d/in" >"$d/out" 2>"$d/err"; rm -rf "$d"',
      command,
    ].join('\n'),
    { ...options, pty: true },
  )
  // On a terminal nothing comes there, and whoever waits for the end of the channel waits for that of all its streams.
  asking.channel.stderr.resume()
  const folder = await pipesOf(asking)
  // Commands that all hold a terminal and wait for their pipes would wait for ever.
  const pipes = `d=${folder}; cat "$d/out" & cat "$d/err" >&2 & cat >"$d/in"; wait`
  const carrying = await start(pipes, { ...options, patience: 20 }).catch((error: Error) => {
    asking.channel.close()
    throw error
  })
  const started: Started = {
    channel: carrying.channel,
    terminal: asking.channel,
    closed: Promise.all([asking.closed, carrying.closed]),
  }
  asking.channel.on('exit', (code: number | null, killedBy?: string) => {
    started.exit = exitOf(code, killedBy)
  })
  // Whoever carries its input waits for the end of it.
  asking.closed.then(
    () => carrying.channel.end(),
    () => {},
  )
  return started
}

/** Where the pipes are, as the command says. What it says after that is left to whoever listens next. */
function pipesOf({ channel, closed }: Started): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const hear = (chunk: Buffer) => {
      said += chunk
      const folder = /rekey-pipes=(\/[\w./-]+)=/.exec(said)?.[1]
      if (folder === undefined) return
      channel.off('data', hear).pause()
      resolve(folder)
    }
    channel.on('data', hear)
    closed.then(() => reject(new Error(`no pipes could be made for it: ${said.trim()}`)), reject)
  })
}
