// Tells those whom fleet.yml names what happens: each event once, by whichever worker takes it first. Nobody who can't be reached holds anything up.
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf as whyOf } from '../../errors.ts'
import type { Database } from '../store/database.ts'
import type { FleetRow } from '../store/fleets.ts'
import { claimNotice, dueReceivers, noticeFailed, noticeSent } from '../store/notices.ts'
import { messageFor } from './message.ts'
import type { Sender } from './senders.ts'

/** Milliseconds: how often it is looked, how long one telling may take before somebody else may try, how long the end of a worker tries once more. */
const [lookEvery, hold, endPatience] = [2_000, 60_000, 20_000]

/** What tells, while a worker works. */
export interface Delivery {
  /** Ends it once what is being sent is over: with `once` after all that is due was tried, with `patient` some seconds longer where it was not taken. */
  end(how: 'now' | 'once' | 'patient', signal?: AbortSignal): Promise<void>
}

/** Begins to tell what is due. A database that does not answer is asked again. */
export function startDelivery(
  { database, fleet }: { readonly database: Database; readonly fleet: FleetRow },
  senders: readonly Sender[],
): Delivery {
  if (senders.length === 0) return { end: async () => {} }
  const ended = new AbortController()
  const sending = new Map<number, Promise<void>>()
  let isEnough = () => ended.signal.aborted
  /** What is due for a receiver, one after the other, until something can't be told. */
  const drain = async (receiver: number) => {
    for (let isTold = true; isTold && !isEnough(); ) {
      const claimed = await claimNotice(database.query, fleet.id, receiver, hold)
      if (!claimed) return
      const why = await senders[receiver]!.send(messageFor(fleet, claimed.event)).then(() => undefined, whyOf)
      isTold = why === undefined
      if (why === undefined) await noticeSent(database, fleet.id, claimed)
      else await noticeFailed(database, fleet.id, claimed, why)
    }
  }
  const look = async () => {
    for (const receiver of await dueReceivers(database.query, fleet.id)) {
      if (sending.has(receiver) || !senders[receiver]) continue
      const work = drain(receiver)
        .catch(() => {})
        .finally(() => sending.delete(receiver))
      sending.set(receiver, work)
    }
  }
  const going = (async () => {
    while (!ended.signal.aborted) {
      await look().catch(() => {})
      await delay(lookEvery, undefined, { signal: ended.signal }).catch(() => {})
    }
  })()
  return {
    end: async (how, signal) => {
      const until = performance.now() + endPatience
      // Also where each of many takes its time.
      isEnough = () => ended.signal.aborted || signal?.aborted === true || performance.now() > until
      try {
        for (; how !== 'now' && !signal?.aborted; await delay(500)) {
          await look()
          await Promise.all(sending.values())
          // What could not be told a moment ago may be in another one.
          const isLeft = how === 'patient' && (await dueReceivers(database.query, fleet.id, endPatience)).length > 0
          if (!isLeft || performance.now() > until) break
        }
      } catch {
        // The database is away: whoever works on the fleet next tells it.
      }
      ended.abort()
      await Promise.all([going, ...sending.values()])
    },
  }
}
