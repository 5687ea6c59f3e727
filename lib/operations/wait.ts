// Waiting for a condition, never for a time: polls until it holds, and says what it waited for when it did not.
import { setTimeout as delay } from 'node:timers/promises'
import { HostFailedError } from '../errors.ts'

/** How to wait. Times are milliseconds. */
export interface WaitOptions {
  readonly within: number
  readonly every?: number
  readonly signal?: AbortSignal
  readonly host?: string
  /** Of the error when the time is over: a code, where somebody goes by one, and what to do next. */
  readonly code?: string
  readonly hint?: string
}

/**
 * Polls until `condition` returns something that is not `undefined` or `false`, and returns that.
 * An error of the condition counts as "not yet"; the last one is named when the time is over.
 * @param what what is being waited for, as it reads after "waited 60 s for "
 * @throws HostFailedError after `within`
 */
export async function waitFor<T>(
  what: string,
  { within, every = 500, signal, host, code = 'wait.timeout', hint }: WaitOptions,
  condition: () => Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + within
  let last: Error | undefined
  for (;;) {
    signal?.throwIfAborted()
    try {
      const result = await condition()
      if (result !== undefined && result !== false) return result
      last = undefined
    } catch (error) {
      if (signal?.aborted) throw error
      last = error as Error
    }
    if (performance.now() >= deadline) {
      throw new HostFailedError(
        `waited ${Math.round(within / 1_000)} s for ${what}${last ? `: ${last.message}` : ''}`,
        {
          ...{ code, hint, host },
          cause: last,
        },
      )
    }
    await delay(Math.max(1, Math.min(every, deadline - performance.now())), undefined, { signal })
  }
}

/** Whether what is waited for came in time. Throws what the signal was aborted with, where it was. */
export async function wasInTime(waited: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  const came = await waited.then(
    () => true,
    () => false,
  )
  signal.throwIfAborted()
  return came
}

/** How much is left of what is waited for, and how to say that. */
export interface Left {
  readonly left: number
  readonly told: string
}

/**
 * Polls until nothing is left. However long that takes: `within` is how long it may go on without becoming less than it ever was.
 * @throws HostFailedError after `within` without that
 */
export async function waitUntilNoneLeft(
  what: string,
  options: WaitOptions,
  remaining: () => Promise<Left | undefined>,
): Promise<void> {
  let least = Number.POSITIVE_INFINITY
  for (;;) {
    const now = await waitFor(what, options, async () => {
      const open = await remaining()
      if (open === undefined) return 'over'
      if (open.left >= least) throw new Error(open.told)
      least = open.left
      return 'less'
    })
    if (now === 'over') return
    await delay(options.every ?? 500, undefined, { signal: options.signal })
  }
}
