// When a command must be ended before it ends by itself: the same reasons, in the same words, for every kind of connection.
import { CancelledError, HostFailedError } from '../../errors.ts'
import type { SpawnOptions } from '../connection.ts'

/**
 * Calls `end` with the reason when `signal` is aborted or `timeout` is over. Returns what stops the watch.
 * @param name the inventory name of the host, for the reason
 */
export function watchForEnd(name: string, { signal, timeout }: SpawnOptions, end: (reason: Error) => void): () => void {
  const onAbort = () =>
    end(
      new CancelledError(`${name}: the command was ended`, {
        code: 'run.cancelled',
        host: name,
        cause: signal?.reason,
      }),
    )
  const onTimeout = (milliseconds: number) =>
    end(
      new HostFailedError(`${name}: the command did not finish within ${milliseconds / 1_000} s and was ended`, {
        code: 'command.timeout',
        host: name,
      }),
    )
  if (signal?.aborted) onAbort()
  signal?.addEventListener('abort', onAbort, { once: true })
  // Beyond what timers know they would ring at once.
  const timer = timeout ? setTimeout(onTimeout, Math.min(timeout, 2 ** 31 - 1), timeout) : undefined
  return () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}
