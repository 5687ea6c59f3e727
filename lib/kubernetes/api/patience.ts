// Asking again what an API server has no time for, or no answer to for the moment.
import { setTimeout as delay } from 'node:timers/promises'
import { ApiError } from './api-errors.ts'

/** What is asked again, and how. Times are milliseconds. */
interface Patience {
  /** Whether what was thrown passes by itself. */
  readonly passes: (error: unknown) => boolean
  /** How often it is asked. */
  readonly tries: number
  /** The longest pause, whatever the server says. */
  readonly most: number
  /** Before it is asked again where the server does not say how long; each next pause is twice as long. */
  readonly pause?: number
  readonly signal?: AbortSignal
}

/**
 * Asks, and asks again where what was thrown passes, as long after as the API server says. Only for what may be done twice.
 * @throws what was thrown last, and at once whatever does not pass
 */
export async function patiently<T>(
  ask: () => Promise<T>,
  { passes, tries, most, pause = 0, signal }: Patience,
): Promise<T> {
  for (let tried = 1; ; tried++) {
    signal?.throwIfAborted()
    try {
      return await ask()
    } catch (error) {
      if (!passes(error) || tried >= tries) throw error
      const after = error instanceof ApiError ? error.retryAfter : undefined
      await delay(Math.min(after ?? pause * 2 ** (tried - 1), most), undefined, { signal })
    }
  }
}
