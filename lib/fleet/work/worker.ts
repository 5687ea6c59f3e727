// A worker of a fleet: looks what is due, takes clusters as they come, and says that it is there.
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf, RekeyError } from '../../errors.ts'
import { operatorName } from '../../operator.ts'
import { count } from '../../output/report/words.ts'
import { keepHeapSmall } from '../../process/small-heap.ts'
import { isAlive, type ProcessIdentity, thisProcess } from '../../process-identity.ts'
import { playbookHash } from '../../run/journal/provenance.ts'
import { rekeyVersion } from '../../version.ts'
import { type Fleet, requireInventories } from '../definition/fleet-file.ts'
import { startDelivery } from '../notify/deliver.ts'
import { openSenders } from '../notify/senders.ts'
import { type Database, isAway } from '../store/database.ts'
import { type EventRow, eventsOf, type FleetRow, isThrough, jobsOf, type LockedFleet } from '../store/fleets.ts'
import type { FleetKey } from '../store/key.ts'
import { type Bench, workOn } from './job.ts'
import { openQueue } from './queue.ts'
import { type Advanced, advance } from './schedule.ts'

/** What a worker is to do. */
export interface WorkOrders {
  readonly database: Database
  readonly key: FleetKey
  readonly fleet: FleetRow
  readonly file: Fleet
  /** The playbook, as it is found here. */
  readonly playbook: string
  /** A folder of this user's, in which the worker makes one of its own. */
  readonly folder: string
  /** Clusters at a time. */
  readonly jobs: number
  /** Go on until the fleet is through, also while it is halted. */
  readonly stays: boolean
  /** Whether it makes what the queue needs. */
  readonly makes: boolean
  readonly signal: AbortSignal
  /** The event behind which it is told what happens. */
  readonly after: number
  /** Is told what happens, in its order. */
  event(event: EventRow): void
  notice(text: string): void
  /** Is told that the database has heard of the worker, which is called this. */
  seen?(id: string): void
  /** Is told of each look that the database did not answer. */
  unanswered?(): void
  /** Is called each time that it was looked what is due. */
  looked?(): Promise<void>
}

const [lookEvery, seenEvery] = [1_000, 3_000]
/** How often the folders of workers that were killed are looked for, in milliseconds. */
const tidyEvery = 30_000

/**
 * Works until the fleet is through, or halted where the worker does not stay, or `signal` is aborted.
 * @returns how the fleet is then; `undefined` where that could not be asked
 * @throws RekeyError where the playbook or fleet.yml here are not those of the fleet
 */
export async function work(orders: WorkOrders): Promise<LockedFleet | undefined> {
  const { database, fleet, signal } = orders
  requireSame(orders)
  requireInventories(orders.file)
  // It is there for days beside the runs that it has, and what it holds is of use for a moment.
  keepHeapSmall()
  const senders = openSenders(orders.file)
  const id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`
  const folder = join(orders.folder, id)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const owner = join(folder, ownerFile)
  writeFileSync(owner, JSON.stringify(thisProcess()), { mode: 0o600 })
  const bench: Bench = { ...orders, id, folder }
  const { heartbeat } = fleet.plan
  const queue = await openQueue(database, { name: fleet.id, heartbeat, makes: orders.makes })
  // This process has the store for itself: whoever had clusters is gone.
  if (database.isEmbedded) await queue.take(await jobsOf(database.query, fleet.id))
  orders.notice(`${id} works on ${fleet.name}, ${count(orders.jobs, 'cluster')} at a time`)
  const delivery = startDelivery({ database, fleet }, senders)
  const running = new Set<Promise<void>>()
  let last = orders.after
  let [told, judged, tidied] = [0, 0, 0]
  let away = false
  let now: Advanced | undefined
  try {
    while (!signal.aborted) {
      try {
        if (performance.now() - told > seenEvery || told === 0) {
          await saySeen(bench)
          utimesSync(owner, new Date(), new Date())
          orders.seen?.(id)
          told = performance.now()
        }
        const seen = await advance(database, queue, fleet)
        now = seen ?? now
        // What was steady before the database was away says nothing.
        if (seen?.isSteady && performance.now() - judged > (heartbeat * 1_000) / 5) {
          await queue.judge()
          judged = performance.now()
        }
        if (tidied === 0 || performance.now() - tidied > tidyEvery) {
          removeLeft(orders.folder)
          tidied = performance.now()
        }
        last = await tellEvents(orders, last)
        while (running.size < orders.jobs && !signal.aborted) {
          const job = await queue.claim()
          if (!job) break
          const work = workOn(bench, job)
            .catch((error: unknown) => orders.notice(`${job.cluster}: ${messageOf(error)}`))
            .finally(() => running.delete(work))
          running.add(work)
        }
        await orders.looked?.()
        if (away) orders.notice(`${database.title} answers again`)
        away = false
      } catch (error) {
        orders.unanswered?.()
        const what = isAway(error) ? 'does not answer' : 'can not be used'
        if (!away) orders.notice(`${database.title} ${what} (${messageOf(error)}): it is asked again until it does`)
        away = true
      }
      const isOver = now !== undefined && (isThrough(now.fleet) || (!orders.stays && now.isIdle))
      if (isOver && running.size === 0) break
      await Promise.race([...running, delay(lookEvery, undefined, { signal }).catch(() => {})])
    }
    await Promise.allSettled(running)
    if (!away) {
      // Whoever says to go on now finds that nobody works.
      await database.query('DELETE FROM rekey_fleet.worker WHERE id = $1', [id])
      await delivery.end(now && (isThrough(now.fleet) || now.isIdle) ? 'patient' : 'once', signal)
      await tellEvents(orders, last)
      await orders.looked?.()
    }
  } finally {
    await delivery.end('now')
    await queue.close().catch(() => {})
    // What it holds is in the store; what a cluster has that somebody else goes on with now is no use here.
    rmSync(folder, { recursive: true, force: true })
  }
  return now?.fleet
}

const ownerFile = 'worker.json'
/** The runs of a worker that was killed end by themselves: what they have is left alone for so long after it was there last, in milliseconds. */
const leftFor = 60_000

/**
 * Removes what workers of this machine have left that were killed: what counts of it is in the store, and secrets of clusters are among it.
 * @param folder in which each worker has one of its own
 */
export function removeLeft(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const owner = join(folder, name, ownerFile)
    try {
      const isDead = isAlive(JSON.parse(readFileSync(owner, 'utf8')) as ProcessIdentity) === false
      if (isDead && Date.now() - statSync(owner).mtimeMs > leftFor)
        rmSync(join(folder, name), { recursive: true, force: true })
    } catch {
      // Of another machine, or being made.
    }
  }
}

/** Throws where what this worker would do is not what the fleet was begun with. */
function requireSame({ fleet, file, playbook, key }: WorkOrders): void {
  const differs = (what: string, hint: string) =>
    new RekeyError(`${what} is not what the fleet ${fleet.name} was begun with`, { code: 'fleet.changed', hint })
  if (file.hash !== fleet.hash)
    throw differs(file.file, 'Put it back; or begin anew with what it says: fleet run --anew.')
  if (fleet.rekey !== rekeyVersion())
    throw differs(
      `rekey ${rekeyVersion()}`,
      `Have the fleet worked on by rekey ${fleet.rekey}; or begin anew: fleet run --anew.`,
    )
  if (playbookHash(playbook) !== fleet.playbookHash)
    throw differs(`the playbook ${playbook}`, 'All who work on a fleet must have the same playbook and the same rekey.')
  if (key.recipient !== fleet.recipient)
    throw differs('the key', `Give the one that ${fleet.recipient} is of: --key FILE.`)
}

/** A clock may be wrong by years: milliseconds that the column holds. */
const mostSkew = 2_000_000_000

async function saySeen({ database, fleet, id }: Bench): Promise<void> {
  await database.query(
    `INSERT INTO rekey_fleet.worker (id, fleet, machine, pid, operator, skew) VALUES ($1, $2, $3, $4, $5, 
       greatest(-$7::bigint, least($7::bigint, $6::bigint - (extract(epoch FROM now()) * 1000)::bigint))::int)
     ON CONFLICT (id) DO UPDATE SET seen = now(), skew = excluded.skew`,
    [id, fleet.id, hostname(), process.pid, operatorName(), Date.now(), mostSkew],
  )
}

/** Hands on what has happened since. Returns the last of it. */
async function tellEvents({ database, fleet, event }: WorkOrders, last: number): Promise<number> {
  let newest = last
  for (const one of await eventsOf(database.query, fleet.id, last)) {
    event(one)
    newest = one.id
  }
  return newest
}
