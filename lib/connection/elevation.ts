// What sudo, su and doas say before the command itself runs: they ask for a password, refuse it, or let us through. None of
// it is the command's output, and nothing that is meant for the command may reach them.
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { HostFailedError } from '../errors.ts'
import { type BecomeCommand, become } from './become.ts'
import type { ConnectionSettings } from './settings.ts'

/** The streams of a command that was started. */
export interface CommandStreams {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Where the program asks, when it does so on a terminal of its own. */
  readonly terminal?: { readonly stdin: Writable; readonly stdout: Readable }
}

/** Where a command's own output goes. Neither is ended. */
export interface CommandOutput {
  readonly stdout: Writable
  readonly stderr: Writable
}

/** Becomes the user of one connection, command by command. */
export interface Elevator {
  /** The first refusal of the password. There is no second try: three of them lock many an account. */
  readonly refused: HostFailedError | undefined
  /** What to start for a command. */
  wrap(command: string, id: string): BecomeCommand
  /**
   * Answers the one question for a password, and pipes what the command itself prints. Resolves once the command runs and
   * may be given input; rejects with `HostFailedError` where the other user could not be become.
   */
  attach(wrapped: BecomeCommand, streams: CommandStreams, into: CommandOutput): Promise<void>
}

/**
 * @param name the inventory name of the host, for messages
 */
export function createElevator(name: string, settings: ConnectionSettings): Elevator {
  let refused: HostFailedError | undefined
  return {
    get refused() {
      return refused
    },
    wrap: (command, id) => become(settings, command, id),
    attach: async ({ announced }, streams, into) => {
      const { stdout, stderr, terminal } = streams
      try {
        if (announced !== undefined && !terminal) return await listen(name, settings.become!, announced, streams, into)
        stdout.pipe(into.stdout, { end: false })
        stderr.pipe(into.stderr, { end: false })
        if (announced === undefined || !terminal) return
        const nothing = { stdout: new PassThrough().resume(), stderr: new PassThrough().resume() }
        const asking = { ...terminal, stderr: new PassThrough().end() }
        await listen(name, settings.become!, announced, asking, nothing)
      } catch (error) {
        if ((error as HostFailedError).code === 'become.password') refused ??= error as HostFailedError
        throw error
      }
    },
  }
}

/** Milliseconds of silence after which a colon is a second question, and not the first word of a refusal (`su: …`). */
const untilAskedAgain = 300

type Other = NonNullable<ConnectionSettings['become']>

function listen(
  name: string,
  other: Other,
  announced: string,
  { stdin, stdout, stderr }: CommandStreams,
  into: CommandOutput,
): Promise<void> {
  const held = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
  let answered = false
  let open = 2
  let again: NodeJS.Timeout | undefined
  return new Promise((resolve, reject) => {
    const hear = (from: 'stdout' | 'stderr') => (chunk: Buffer) => {
      clearTimeout(again)
      held[from] = Buffer.concat([held[from], chunk])
      const at = held[from].indexOf(announced)
      const end = at === -1 ? -1 : held[from].indexOf('\n', at)
      if (end !== -1) {
        held[from] = held[from].subarray(end + 1)
        return begin()
      }
      if (!asks(held[from])) return
      if (other.password === undefined) return fail()
      if (answered) {
        again = setTimeout(fail, untilAskedAgain)
        return
      }
      answered = true
      held[from] = Buffer.alloc(0)
      stdin.write(`${other.password}\n`)
    }
    const ended = () => {
      if (--open === 0) fail()
    }
    const heard = { stdout: hear('stdout'), stderr: hear('stderr') }
    const begin = () => {
      clearTimeout(again)
      stdout.off('data', heard.stdout).off('end', ended).off('close', fail)
      stderr.off('data', heard.stderr).off('end', ended)
      if (held.stdout.length > 0) into.stdout.write(held.stdout)
      if (held.stderr.length > 0) into.stderr.write(held.stderr)
      stdout.pipe(into.stdout, { end: false })
      stderr.pipe(into.stderr, { end: false })
      resolve()
    }
    const fail = () => {
      clearTimeout(again)
      stdout.off('data', heard.stdout).off('end', ended).off('close', fail).resume()
      stderr.off('data', heard.stderr).off('end', ended).resume()
      reject(refusal(name, other, answered, Buffer.concat([held.stdout, held.stderr]).toString('utf8')))
    }
    stdout.on('data', heard.stdout).on('end', ended).on('close', fail).resume()
    stderr.on('data', heard.stderr).on('end', ended).resume()
  })
}

/** Whether a text ends with a question: a line without an end, with a colon, in whatever language. */
function asks(text: Buffer): boolean {
  return /[^\n]*\S[^\n]*[:：][ \t]*$/.test(text.toString('utf8'))
}

function refusal(name: string, { method, user, password }: Other, answered: boolean, text: string): HostFailedError {
  const lines = (password ? text.replaceAll(password, '') : text).split(/\r?\n/).map(line => line.trim())
  // The question itself tells nothing.
  const said = lines.filter(line => line !== '' && !/[:：]$/.test(line)).slice(-3)
  const told = said.length > 0 ? `: ${said.join(' ')}` : ''
  if (answered) {
    return new HostFailedError(`${name}: ${method} did not accept the password to become ${user}${told}`, {
      code: 'become.password',
      host: name,
      hint: 'It is the one of -K (--ask-become-pass) or ansible_become_password. It was tried once.',
    })
  }
  if (
    password === undefined &&
    (asks(Buffer.from(text)) || /(password|authentication|authorization) (is )?required/i.test(text))
  ) {
    return new HostFailedError(`${name}: ${method} asks for a password to become ${user}`, {
      code: 'become.password-missing',
      host: name,
      hint: 'Give it with -K (--ask-become-pass), or set ansible_become_password.',
    })
  }
  return new HostFailedError(`${name}: ${method} could not become ${user}${told}`, {
    code: 'become.failed',
    host: name,
    hint: 'Look at ansible_become_method and ansible_become_user, and at what the host allows this user.',
  })
}
