// The one tree of errors. A message says what is wrong and where; the hint says what to do next.

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

/** Where in an input file something is: `file:line`, or `file:line:column`, 1-based. */
export function at(file: string, line?: number, column?: number): string {
  if (line === undefined) return file
  return column === undefined ? `${file}:${line}` : `${file}:${line}:${column}`
}
