// One long-lived shell on a host that commands are fed to, one after the other: a command then costs a fork there, and no channel, no
// login shell. Each runs in a subshell and can't tell the difference; docs/decisions/0012-one-shell-a-host.md says what can.
import { randomUUID } from 'node:crypto'
import { Duplex, Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { foreignWords } from '../../foreign-words.ts'
import { quote } from '../shell.ts'
import { holdReadingEnds, markerOfShell, ownStart } from './marker.ts'
import type { Start, Started } from './terminal.ts'

/** A shell on a host that waits for commands. */
export interface HostShell {
  /** Its process id: the session that everything it starts belongs to, and the process that waits for each. */
  readonly pid: number
  /** Whether it takes a command now. */
  readonly idle: boolean
  /** It takes none any more. */
  readonly ended: boolean
  /**
   * Gives it a command. Its stdin is empty.
   * @param id names it, in the environment of all that it starts
   * @param folder where it leaves its marker, as a word for the shell; none where it leaves nothing
   */
  start(command: string, id: string, folder?: string): Started
  /** Gives it no more commands: it ends once the one that it runs has. */
  retire(): void
}

/** What a command must not do in a shell that others are given to, too: leave something running, or ask whose process it is. */
const ownShell = /&|\$\$|\$\{?PPID/

/** Whether a command may be given to a shell that lives on. What goes on behind it would print into the next one's output. */
export function mayShareShell(command: string): boolean {
  return !ownShell.test(command.replace(/&&|[<>]&/g, ''))
}

/** Bytes that a login, or nobody, may print between commands. */
const longestGreeting = 1024 ** 2

/** What a shell prints, on both streams, when a command has ended; on its stdout followed by the status. */
export const endOf = (id: string) => `rekey-ends-${id}`

/**
 * Starts a shell on a host. Whatever the login prints before it is dropped.
 * @throws Error where the host starts none within `patience` milliseconds
 */
async function openHostShell(start: Start, patience: number): Promise<HostShell> {
  const session = randomUUID()
  const starting = start(`exec /bin/sh -s rekey-${session}`)
  const late = new AbortController()
  const tooLate = delay(patience, undefined, { signal: late.signal, ref: false })
  tooLate.catch(() => {})
  const real = await Promise.race([starting, tooLate])
  if (!real) {
    starting.then(({ channel }) => channel.close()).catch(() => {})
    throw new Error('the host does not say that it starts a shell')
  }
  const { channel } = real
  channel.write(shellScript(session))
  const streams = [channel, channel.stderr]
  /** Who gets what comes now, by stream. */
  const takers = [untilEnd(endOf(session)), untilEnd(endOf(session))]
  let current: { readonly command: ShellCommand; readonly end: Ending } | undefined
  let retired = false
  let dead = false
  const close = () => {
    retired = true
    channel.close()
  }

  const ready = Promise.all(takers.map(({ found }) => found)).then(([words]) => Number(words))
  let before = 0
  for (const [index, stream] of streams.entries()) {
    stream.on('data', (chunk: Buffer) => {
      const taken = takers[index]?.take(chunk)
      before += taken && !current ? taken.length : 0
      if (before > longestGreeting) return close()
      if (taken && current && !current.command.pass(index, taken)) stream.pause()
    })
  }
  real.closed
    .catch(() => {})
    .then(() => {
      dead = true
      current?.end(undefined)
    })
  const gone = real.closed.then(() => {
    throw new Error('the shell has ended')
  })
  gone.catch(() => {})
  const pid = await Promise.race([ready, gone, tooLate]).finally(() => late.abort())
  if (!pid) {
    close()
    throw new Error('the shell does not say that it is there')
  }

  const run = (text: string, id: string, folder = ''): Started => {
    const command = new ShellCommand(
      index => streams[index]?.resume(),
      () => {
        // Nobody waits for its end any more, so nobody knows when the next one may begin.
        close()
        current?.end(undefined)
      },
    )
    const [closed, setClosed] = promised()
    const started: Started = { channel: command, closed }
    const end: Ending = status => {
      current = undefined
      if (status !== undefined) started.exit = { code: status, killedBy: null }
      else if (real.exit) started.exit = real.exit
      void command.over().then(setClosed)
      if (retired) close()
    }
    current = { command, end }
    for (const index of streams.keys()) takers[index] = untilEnd(endOf(id))
    Promise.all(takers.map(({ found }) => found)).then(([status = '']) => {
      if (current?.end !== end) return
      if (/^\d{1,3}$/.test(status)) return end(Number(status))
      // Who does not keep to what was agreed is not asked again.
      close()
      end(undefined)
    })
    // Cut off anywhere, it is no whole command, and nothing is run.
    channel.write(`{ _rekey ${id} ${folder === '' ? "''" : folder} ${quote(text)}\n}\n`)
    return started
  }
  return {
    pid,
    get idle() {
      return !retired && !dead && current === undefined
    },
    get ended() {
      return retired || dead
    },
    start: run,
    retire: () => {
      retired = true
      if (!current) close()
    },
  }
}

/** The shell of a connection, opened when it is first needed. */
export interface SharedShell {
  /** Gives it a command, if there is one that takes it now; as `HostShell.start`. */
  start(command: string, id: string, folder?: string): Promise<{ started: Started; pid: number } | undefined>
  /** Ends it, and lets another be opened. */
  giveWay(): void
  /** Ends it for good. */
  giveUp(): void
}

/** Milliseconds for a shell to say that it is there. */
const patienceForShell = 10_000

/** The shell of one connection, of which a new one may take the place. */
export function sharedShell(start: Start): SharedShell {
  let shell: HostShell | undefined
  let opening = false
  let wanted = true
  const giveWay = () => {
    shell?.retire()
    shell = undefined
  }
  const open = async () => {
    opening = true
    try {
      const opened = await openHostShell(start, patienceForShell)
      if (wanted) shell = opened
      else opened.retire()
    } catch {
      // Commands get channels of their own then.
      wanted = false
    }
    opening = false
  }
  return {
    start: async (command, id, folder) => {
      if (shell?.ended) shell = undefined
      if (!shell && !opening && wanted) await open()
      return shell?.idle ? { started: shell.start(command, id, folder), pid: shell.pid } : undefined
    },
    giveWay,
    giveUp: () => {
      wanted = false
      giveWay()
    },
  }
}

type Ending = (status: number | undefined) => void

function promised(): [Promise<void>, () => void] {
  let resolve = () => {}
  const promise = new Promise<void>(done => {
    resolve = done
  })
  return [promise, resolve]
}

/** What the shell is told first. */
function shellScript(session: string): string {
  return `shift; trap : TERM; ${ownStart}
_rekey() {
${markerOfShell}
(export REKEY_COMMAND=$1; _rc=$3; set --; eval "$_rc") </dev/null 8<&- 9<&-
_rs=$?
[ -z "$_rm" ] || [ ! -e "$_rm" ] || { echo $_rs >>"$_rm"; } 2>/dev/null
_rekey_end $1 $_rs
}
_rekey_end() {
# With nobody there who reads, it ends here, instead of waiting for ever before a full pipe of which it holds the other end.
exec 8<&- 9<&-
echo "${endOf('$1')}" >&2; echo "${endOf('$1')} $2"
${holdReadingEnds}
}
_rekey_end ${session} $$
`
}

/** Passes on what comes before a word, and reads the line behind it. */
export interface UntilEnd {
  /** Takes what came next. Returns what of it belongs to the command, if anything does. */
  take(chunk: Buffer): Buffer | undefined
  /** What the line says behind the word. */
  readonly found: Promise<string>
}

/** Characters behind the word, at most: a number. */
const longestEnd = 32

/** Watches for a word in a stream, wherever its chunks are split. What follows the line of the word is dropped. */
export function untilEnd(word: string): UntilEnd {
  const token = Buffer.from(word)
  let held: Buffer | undefined
  let over = false
  let tell = (_words: string) => {}
  const found = new Promise<string>(resolve => {
    tell = resolve
  })
  const take = (chunk: Buffer) => {
    if (over) return undefined
    const text = held ? Buffer.concat([held, chunk]) : chunk
    held = undefined
    const at = text.indexOf(token)
    const lineEnd = at === -1 ? -1 : text.indexOf(10, at)
    const isEndless = at !== -1 && lineEnd === -1 && text.length - at > token.length + longestEnd
    if (lineEnd !== -1 || isEndless) {
      over = true
      tell(isEndless ? '' : foreignWords(text.toString('latin1', at + token.length, lineEnd), longestEnd))
      return some(text.subarray(0, at))
    }
    const safe = at === -1 ? text.length - beginningAtEnd(text, token) : at
    if (safe < text.length) held = text.subarray(safe)
    return some(text.subarray(0, safe))
  }
  return { take, found }
}

const some = (bytes: Buffer) => (bytes.length > 0 ? bytes : undefined)

/** How many of the last bytes may be the beginning of the word. */
function beginningAtEnd(text: Buffer, token: Buffer): number {
  for (let length = Math.min(token.length - 1, text.length); length > 0; length--) {
    if (text[text.length - length] === token[0] && token.subarray(0, length).equals(text.subarray(-length)))
      return length
  }
  return 0
}

/** The streams of one command, cut out of those of its shell. What is written to it goes nowhere: its stdin is empty. */
class ShellCommand extends Duplex {
  readonly stderr: Readable
  readonly #abandon: () => void

  constructor(readOn: (index: number) => void, abandon: () => void) {
    super({ read: () => readOn(0), write: (_chunk, _encoding, done) => done(), autoDestroy: false, emitClose: false })
    this.stderr = new Readable({ read: () => readOn(1), autoDestroy: false, emitClose: false })
    this.#abandon = abandon
  }

  /** Hands on a piece of its stdout (0) or stderr (1). Returns whether there is room for more. */
  pass(index: number, bytes: Buffer): boolean {
    return index === 0 ? this.push(bytes) : this.stderr.push(bytes)
  }

  /** Nothing comes any more. Resolves once all was read. */
  async over(): Promise<void> {
    const read = [this, this.stderr].map(
      stream => new Promise<void>(resolve => void stream.once('end', () => resolve())),
    )
    this.push(null)
    this.stderr.push(null)
    await Promise.all(read)
  }

  close(): void {
    this.#abandon()
  }
}
