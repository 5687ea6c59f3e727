// What a cluster's worker has to write down, whatever becomes of the database meanwhile.
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf, RekeyError } from '../../errors.ts'
import { isAway } from '../store/database.ts'

/** The cluster is another worker's. */
export class Lost extends Error {}

/** Does something until it is done. Resolves with `undefined` where the cluster is lost. */
export type Storing = <T>(work: () => Promise<T>) => Promise<T | undefined>

/** Milliseconds between two tries, and for how long those fail that do not fail because the database is away. */
const [pause, patience] = [1_000, 60_000]

/**
 * What does something until it is done: a database that is being started again comes back, however long that takes. Where it answers and
 * refuses, or a file can't be read, that is told once, and after a minute the error is thrown.
 * @param lost aborted where the work finds that the cluster is another worker's
 * @param notice is told what does not go by
 */
export function storing(
  lost: AbortController,
  notice: (text: string) => void,
  { every = pause, most = patience }: { readonly every?: number; readonly most?: number } = {},
): Storing {
  /** When it failed first since it went well. */
  let since: number | undefined
  return async work => {
    while (!lost.signal.aborted) {
      try {
        const result = await work()
        since = undefined
        return result
      } catch (error) {
        if (error instanceof Lost) lost.abort()
        else if (!isAway(error)) {
          // What is stored is damaged, or its key is another one: that is so the next time, too.
          if (error instanceof RekeyError) throw error
          if (since === undefined) notice(`${messageOf(error)}: it is tried again`)
          since ??= performance.now()
          if (performance.now() - since >= most) throw error
        }
        await delay(every, undefined, { signal: lost.signal }).catch(() => {})
      }
    }
    return undefined
  }
}
