// What sudo, su and doas say before the command itself runs: they ask for a password, refuse it, or let us through. None of
// it is the command's output, nothing that is meant for the command may reach them, and no password the command.
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { HostFailedError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { BecomeSettings, ConnectionSettings } from '../settings.ts'
import { type Asking, type BecomeCommand, become } from './become.ts'
import { preamble } from './preamble.ts'

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
   * Gives the password where it is asked for, and pipes what the command itself prints. Resolves once the command runs and
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
    attach: async ({ announced, asking }, streams, into) => {
      if (announced === undefined) {
        streams.stdout.pipe(into.stdout, { end: false })
        streams.stderr.pipe(into.stderr, { end: false })
        return
      }
      try {
        await letThrough(name, settings.become!, { announced, asking }, streams, into)
      } catch (error) {
        if ((error as HostFailedError).code === 'become.password') refused ??= error as HostFailedError
        throw error
      }
    },
  }
}

/** Milliseconds of silence after which what ends with a colon is a question, and not the first word of a refusal (`doas: …`). */
const untilAsked = 300
/** Milliseconds for a program to let us through. Some ask a server, or somebody's telephone. */
const patience = 90_000
/** doas' own question. In other words PAM's modules may ask. */
const doasAsks = /doas \([^()\n]{1,200}\) password: $/

/** Reads what comes before the command's output on each of its streams, and answers. */
function letThrough(
  name: string,
  other: BecomeSettings,
  { announced, asking }: { announced: string; asking?: Asking },
  { stdin, stdout, stderr, terminal }: CommandStreams,
  into: CommandOutput,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let answered = false
  let over = false
  let silence: NodeJS.Timeout | undefined
  const fail = (late?: boolean) => {
    if (over) return
    over = true
    clearTimeout(silence)
    clearTimeout(deadline)
    for (const one of all) one.drop()
    const said = [asked?.said, out.said, err.said].filter(Boolean).join('\n')
    reject(late ? tooLate(name, other, said) : refusal(name, other, answered, said))
  }
  const deadline = setTimeout(fail, patience, true).unref()
  const begin = () => {
    if (over) return
    over = true
    clearTimeout(silence)
    clearTimeout(deadline)
    resolve()
  }
  const answer = (to: Writable) => {
    // Asked again, the answer was wrong.
    if (answered || other.password === undefined) return fail()
    answered = true
    to.write(`${other.password}\n`)
  }

  const line = `${announced}\n`
  const out = preamble(stdout, into.stdout, { line, begin })
  const question = asking?.by === 'prompt' ? { words: asking.words, asked: () => answer(stdin) } : undefined
  const err = preamble(stderr, into.stderr, { line, begin, question })
  const nowhere = new PassThrough().resume()
  const asked = terminal && preamble(terminal.stdout, nowhere, { line: announced, begin: () => {}, heard })
  const all = asked ? [out, err, asked] : [out, err]
  function heard(said: string) {
    clearTimeout(silence)
    if (over || !asks(said)) return
    const ask = () => answer(terminal!.stdin)
    if (!answered && doasAsks.test(said.slice(-250))) ask()
    else silence = setTimeout(ask, untilAsked)
  }
  if (asking?.by === 'first-line') answer(stdin)
  // Where all of them have ended, nobody is there any more who could let us through.
  Promise.all(all.map(one => one.ended)).then(() => fail())
  // A channel that is closed may leave a stream without an end; a program's streams close one by one.
  stdout.once('close', () => setTimeout(fail, untilAsked))
  return promise
}

/** Whether a text ends with a question: a line without an end, with a colon, in whatever language. */
function asks(text: string): boolean {
  return /[:：]$/.test(text.slice(-80).replace(/[ \t]+$/, ''))
}

/** What stands before a program's own word on it, where it asked in words of PAM's: `Password: su: Authentication failure`. */
function questionIn(text: string, method: string): boolean {
  const at = text.lastIndexOf(`${method}: `)
  return asks((at === -1 ? text : text.slice(0, at)).trimEnd())
}

function tooLate(name: string, { method, user }: BecomeSettings, text: string): HostFailedError {
  return new HostFailedError(
    `${name}: ${method} did not let us become ${user} within ${patience / 1_000} s${told(text, method)}`,
    {
      code: 'become.timeout',
      host: name,
      hint: 'Does it ask a server that does not answer, or for more than a password?',
    },
  )
}

/** The last lines that a program said before it gave up, behind a colon. */
function told(text: string, method: string): string {
  const lines = text.split(/[\r\n]+/).map(line => line.slice(Math.max(0, line.indexOf(`${method}: `))).trim())
  // The question itself tells nothing.
  const said = lines.filter(line => line !== '' && !asks(line)).slice(-3)
  return said.length > 0 ? `: ${foreignWords(said.join(' '))}` : ''
}

function refusal(
  name: string,
  { method, user, password }: BecomeSettings,
  answered: boolean,
  said: string,
): HostFailedError {
  const text = password ? said.replaceAll(password, '') : said
  // Whoever was given the password unasked says only afterwards whether it asked.
  if (answered && (method !== 'su' || questionIn(text, method))) {
    return new HostFailedError(
      `${name}: ${method} did not accept the password to become ${user}${told(text, method)}`,
      {
        code: 'become.password',
        host: name,
        hint: 'It is the one of -K (--ask-become-pass) or ansible_become_password. It was tried once.',
      },
    )
  }
  const wanted = questionIn(text, method) || /(password|authentication|authorization) (is )?required/i.test(text)
  if (password === undefined && wanted) {
    return new HostFailedError(`${name}: ${method} asks for a password to become ${user}`, {
      code: 'become.password-missing',
      host: name,
      hint: 'Give it with -K (--ask-become-pass), or set ansible_become_password.',
    })
  }
  return new HostFailedError(`${name}: ${method} could not become ${user}${told(text, method)}`, {
    code: 'become.failed',
    host: name,
    hint: 'Look at ansible_become_method and ansible_become_user, and at what the host allows this user.',
  })
}
