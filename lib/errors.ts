// The one tree of errors. A message says what is wrong and where; the hint says what to do next.
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { isLibrary, isOwnCode } from './package.ts'

/** What a `RekeyError` carries beside its message. */
export interface RekeyErrorOptions {
  /** Stable and machine-readable, e.g. `inventory.unknown-host`: an area, a dot, what is wrong. */
  code: string
  /** What to do next, in one sentence. */
  hint?: string
  /** The host on which it happened, by its inventory name. */
  host?: string
  /** The id of the step during which it happened. */
  step?: string
  cause?: unknown
}

/** Process exit codes (`docs/architecture.md` lists them for users). */
export const exitCodes = { done: 0, misuse: 1, hostFailed: 2, unreachable: 4, interrupted: 130 } as const

/** Any failure that rekey understands. Thrown plain for misuse and bad input: exit code 1. */
export class RekeyError extends Error {
  readonly code: string
  readonly hint?: string
  readonly host?: string
  readonly step?: string
  readonly exitCode: number = exitCodes.misuse

  constructor(message: string, { code, hint, host, step, cause }: RekeyErrorOptions) {
    super(message, { cause })
    this.name = new.target.name
    this.code = code
    this.hint = hint
    this.host = host
    this.step = step
  }
}

/** A step failed on a host: it answered, and what was asked of it went wrong. Exit code 2. */
export class HostFailedError extends RekeyError {
  override readonly exitCode: number = exitCodes.hostFailed
}

/** A host could not be reached, or would not let us in: nothing was asked of it. Exit code 4. */
export class UnreachableError extends RekeyError {
  override readonly exitCode: number = exitCodes.unreachable
}

/** The connection dropped while a command ran: nobody knows whether it finished. Never success, never failure. */
export class UnknownOutcomeError extends RekeyError {
  override readonly exitCode: number = exitCodes.unreachable
}

/** The operator, or the end of the run, asked to stop. Exit code 130. */
export class CancelledError extends RekeyError {
  override readonly exitCode: number = exitCodes.interrupted
}

/** A text of an input, for a message: its start, where it is long. */
export function excerpt(text: string, most = 100): string {
  return text.length > most ? `${text.slice(0, most)}…` : text
}

/** Where in an input file something is: `file:line`, or `file:line:column`, 1-based. */
export function at(file: string, line?: number, column?: number): string {
  if (line === undefined) return file
  return column === undefined ? `${file}:${line}` : `${file}:${line}:${column}`
}

/** Any value in a few words, on one line. Never throws: code of others makes what throws when it is looked at. */
export function shown(value: unknown, most = 60): string {
  try {
    const text = inspect(value, { depth: 1, breakLength: Infinity, customInspect: false, maxStringLength: most })
    const line = text.replace(/\s+/g, ' ')
    return line.length > most ? `${line.slice(0, most)}…` : line
  } catch {
    return 'something that can not be looked at'
  }
}

/** What whatever was thrown says of itself. Never throws. */
export function messageOf(thrown: unknown): string {
  try {
    if (typeof thrown === 'string') return thrown
    if (!(thrown instanceof Error)) return `what was thrown is no error: ${shown(thrown, 300)}`
    const { message, name } = thrown
    return typeof message === 'string' ? message || String(name) : shown(message, 300)
  } catch {
    return 'what was thrown can not be looked at'
  }
}

/** Whatever was thrown as an error with a message that can be read; itself where it is one. */
export function errorOf(thrown: unknown): Error {
  try {
    if (thrown instanceof Error && typeof thrown.message === 'string') return thrown
  } catch {
    // What throws when it is asked for its message.
  }
  const error = new Error(messageOf(thrown), { cause: thrown })
  // It was not made where something was thrown.
  error.stack = undefined
  return error
}

/**
 * Where an error came from, as `file:line`: the first place that is neither a library's, nor Node's, nor rekey's own.
 * @param anywhere rekey's own places, too
 */
export function thrownAt(error: Error, anywhere = false): string | undefined {
  const { stack } = error
  if (typeof stack !== 'string') return undefined
  // Of what can't be parsed the place comes first, and is no call.
  const unparsed = /^(?:file:\/\/)?(\/[^\n]{1,1000}):(\d+)\n/.exec(stack)
  if (unparsed && error instanceof SyntaxError) return at(unparsed[1]!, Number(unparsed[2]))
  const { message } = error
  const calls = message === '' ? stack : stack.slice(stack.lastIndexOf(message) + message.length)
  for (const line of calls.split('\n')) {
    const [, url = '', number] = /^ +at (?:[^\n]{0,300}\()?(file:\/\/[^\n()]{1,1000}):(\d+):\d+\)?$/.exec(line) ?? []
    if (url === '') continue
    const file = fileURLToPath(url)
    if (isLibrary(file)) continue
    if (anywhere || !isOwnCode(file)) return at(file, Number(number))
  }
  return undefined
}
