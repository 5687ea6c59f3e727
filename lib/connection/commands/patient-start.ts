// Starting commands on a host whose sshd allows fewer sessions than we want, or still counts those that have just ended.
import { setTimeout as delay } from 'node:timers/promises'
import type { Start, Started } from './terminal.ts'

/** Milliseconds until the next try, at most. */
const longestPause = 500
/** Milliseconds that it is asked for again where no session of ours is left that could end: a busy host counts for long those that have. */
const patienceAlone = 5_000

/**
 * As `start`, but waits for another command to end where the host refuses a session. A refusal is an answer: nothing was
 * started, so it may be asked for again.
 * @param lost whether the connection is lost, and nothing will be answered any more
 */
export function patientStart(start: Start, lost: () => boolean): Start {
  const open = new Set<Started>()
  return async (command, options) => {
    let aloneSince: number | undefined
    for (let tries = 1, pause = 20; ; tries++, pause = Math.min(2 * pause, longestPause)) {
      try {
        const started = await start(command, options)
        open.add(started)
        const forget = () => void open.delete(started)
        started.closed.then(forget, forget)
        return started
      } catch (error) {
        // While others run, a refusal says nothing yet; sshd counts those that have ended for a moment longer.
        aloneSince = open.size === 0 ? (aloneSince ?? performance.now()) : undefined
        const givenUp = options?.signal?.aborted || (options?.patience !== undefined && tries > options.patience)
        const forLong = aloneSince !== undefined && performance.now() - aloneSince > patienceAlone
        if (lost() || givenUp || forLong) throw error
        await Promise.race([delay(pause), ...[...open].map(({ closed }) => closed.catch(() => undefined))])
      }
    }
  }
}
