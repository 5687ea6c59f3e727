// What went wrong, as people and the journal are told: one message, one hint, one outcome.
import { constants } from 'node:os'
import { ProcessOutput } from 'zx/core'
import { commandPlace } from '../connection/remote.ts'
import {
  CancelledError,
  errorOf,
  HostFailedError,
  messageOf,
  RekeyError,
  shown,
  thrownAt,
  UnknownOutcomeError,
  UnreachableError,
} from '../errors.ts'
import type { Outcome } from '../playbook/model.ts'
import { Stray, strayError } from '../playbook/stray.ts'
import type { EventError } from './events.ts'

/** Lines of a failed command's output that its message quotes. */
const quotedLines = 8

/** The error behind whatever a step threw. A command that failed becomes a `HostFailedError` that quotes its last lines. */
export function failureOf(thrown: unknown, host: string): Error {
  if (thrown instanceof Stray) return strayError(thrown, failureOf(thrown.thrown, host))
  if (!(thrown instanceof ProcessOutput)) return errorOf(thrown)
  if (thrown.cause instanceof Error) return thrown.cause
  const said = lastLines(thrown.stderr.trimEnd()) || lastLines(thrown.stdout.trimEnd())
  const how = thrown.signal
    ? `was ended by ${thrown.signal}`
    : `ended with exit status ${thrown.exitCode}${meaning(thrown.exitCode)}`
  const place = commandPlace(thrown)
  return new HostFailedError(`a command ${how}${said ? `: ${said}` : ', and said nothing'}`, {
    code: 'command.failed',
    host,
    hint: place === undefined ? undefined : `It is the one at ${place}.`,
  })
}

/** The outcome that an error stands for. */
export function outcomeOf(error: Error): Outcome {
  if (error instanceof UnknownOutcomeError) return 'unknown'
  if (error instanceof UnreachableError) return 'unreachable'
  if (error instanceof CancelledError || error.name === 'AbortError') return 'cancelled'
  return 'failed'
}

/**
 * An error as events carry it.
 * @param shorten cuts what is too long to be told
 */
export function eventError(error: Error, shorten: (text: string) => string): EventError {
  const message = shorten(messageOf(error))
  if (error instanceof RekeyError) {
    // A playbook makes them, too, and what it gives for a hint nobody has checked.
    const { code, hint } = error as { readonly code: unknown; readonly hint?: unknown }
    return {
      message,
      ...(typeof code === 'string' && /^[\w.-]{1,100}$/.test(code) ? { code } : {}),
      ...(hint === undefined ? {} : { hint: shorten(typeof hint === 'string' ? hint : shown(hint)) }),
    }
  }
  const place = thrownAt(error)
  return { message, hint: place === undefined ? undefined : `It comes from ${place}.` }
}

/** The last lines of a text, without what is blank before them: of one that is long nothing more is looked at. */
function lastLines(text: string): string {
  let start = text.length
  for (let lines = 0; lines < quotedLines && start >= 0; lines++) start = text.lastIndexOf('\n', start - 1)
  return text.slice(start + 1).trimStart()
}

function meaning(status: number | null): string {
  if (status === 126) return ' (found, but not allowed to run)'
  if (status === 127) return ' (command not found)'
  // A shell tells so of what a signal killed; a program may end with such a number by itself.
  const signal = Object.entries(constants.signals).find(([, number]) => status === 128 + number)?.[0]
  return signal === undefined ? '' : ` (128 + ${status! - 128}: killed by ${signal})`
}
