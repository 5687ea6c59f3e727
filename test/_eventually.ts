// Waits for what a test expects to happen, however slow the machine is: a fixed pause is too short on one that has other work to do.
import { setTimeout as delay } from 'node:timers/promises'

/** Resolves once a condition holds. @throws Error where it does not within a minute */
export async function eventually(condition: () => boolean, what = 'what was waited for'): Promise<void> {
  for (const until = performance.now() + 60_000; !condition(); await delay(20))
    if (performance.now() > until) throw new Error(`${what} did not come about within a minute`)
}
