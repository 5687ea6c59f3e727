// The queue of clusters that may be begun now: pg-boss. A job is a cluster, and one cluster has one job at most; what a worker has it says by a
// heartbeat, and where that stops the job has failed, and the scheduler finds it.
import { RekeyError } from '../../errors.ts'
import type { Database } from '../store/database.ts'
import { type Executor, type FetchedJob, loadBoss } from '../store/libraries.ts'

const schema = 'rekey_fleet_queue'
/** Waiting for a window or an approval takes long, and an auditor comes later: `created` jobs are few, and rows of ours tell the story. */
const [day, week] = [24 * 3600, 7 * 24 * 3600]

/** What a job says: everything else stands in the cluster's row. */
export interface JobData {
  readonly cluster: string
}

/** A job that this process has. */
export interface ClaimedJob extends JobData {
  readonly id: string
  /** Says that it is worked on. Resolves with whether it still is this process's. */
  touch(): Promise<boolean>
  /** It is over, whatever came of it. */
  complete(): Promise<void>
}

export interface Queue {
  /** Has a cluster wait for a worker, in a transaction. Returns the job's id. */
  send(data: JobData, boss: Executor): Promise<string | undefined>
  /** The next one; `undefined` where none waits. */
  claim(): Promise<ClaimedJob | undefined>
  /** Which of these jobs nobody has, and nobody will have. */
  lostOf(ids: readonly string[], boss: Executor): Promise<ReadonlySet<string>>
  /** Takes jobs from workers that were not heard of for so long as they may be silent. */
  judge(): Promise<void>
  /** Takes jobs from whoever has them: they are known to be gone. */
  take(ids: readonly string[]): Promise<void>
  close(): Promise<void>
}

/**
 * Opens the queue of a fleet.
 * @param name the fleet's id
 * @param heartbeat seconds after which a worker that was not heard of has its job no more
 * @param makes make what pg-boss needs in the database: for whoever begins a fleet
 * @throws RekeyError where another version of pg-boss made it
 */
export async function openQueue(
  database: Database,
  { name, heartbeat, makes }: { readonly name: string; readonly heartbeat: number; readonly makes: boolean },
): Promise<Queue> {
  const { PgBoss } = await loadBoss()
  const boss = new PgBoss({
    ...database.boss,
    schema,
    ...{ migrate: makes, createSchema: makes, schedule: false, registerInstance: false },
    // Who is taken for lost, and when, the scheduler says: pg-boss would do so in the moment in which a database is there again.
    ...{ supervise: false, monitorIntervalSeconds: 2, monitorVacuum: false, reindex: false },
    openTelemetry: { enabled: false },
  })
  // The scheduler and whoever works ask again.
  boss.on('error', () => {})
  boss.on('warning', () => {})
  try {
    await boss.start()
  } catch (cause) {
    throw new RekeyError(`the queue in ${database.title} can't be used: ${(cause as Error).message}`, {
      code: 'fleet.queue',
      hint: makes
        ? 'Whoever begins a fleet must be allowed to make tables.'
        : "'rekey fleet run' makes it, with the same rekey.",
      cause,
    })
  }
  if (makes)
    await boss.createQueue(name, {
      policy: 'exclusive',
      ...{ retryLimit: 0, heartbeatSeconds: heartbeat, expireInSeconds: day },
      ...{ retentionSeconds: 8 * week, deleteAfterSeconds: week },
    })
  const claimed = ({ id, retryCount, data }: FetchedJob): ClaimedJob => {
    const job = { id, retryCount }
    return {
      ...(data as JobData),
      id,
      touch: async () => (await boss.touch(name, job)).affected > 0,
      complete: async () => {
        await boss.complete(name, job)
      },
    }
  }
  return {
    send: async (data, db) => (await boss.send(name, data, { singletonKey: data.cluster, db })) ?? undefined,
    claim: async () => {
      const [job] = await boss.fetch(name, { batchSize: 1 })
      return job && claimed(job)
    },
    lostOf: async (ids, db) => {
      if (ids.length === 0) return new Set()
      // pg-boss tells of one job at a time.
      const { rows } = await db.executeSql(
        `SELECT id::text AS id FROM ${schema}.job WHERE name = $1 AND id = ANY($2::uuid[]) AND state IN ('created', 'retry', 'active')`,
        [name, ids],
      )
      const had = new Set(rows.map(row => (row as { id: string }).id))
      return new Set(ids.filter(id => !had.has(id)))
    },
    judge: () => boss.supervise(name),
    take: async ids => {
      if (ids.length > 0) await boss.cancel(name, ids)
    },
    close: () => boss.stop({ close: true, graceful: false, timeout: 1_000 }),
  }
}

/** Removes the queues of fleets that are through, with the jobs that were in them. */
export async function removeQueues(database: Database, names: readonly string[]): Promise<void> {
  const { PgBoss } = await loadBoss()
  const boss = new PgBoss({
    ...{ ...database.boss, schema, migrate: false, createSchema: false, supervise: false, schedule: false },
    ...{ registerInstance: false, openTelemetry: { enabled: false } },
  })
  boss.on('error', () => {})
  boss.on('warning', () => {})
  await boss.start()
  try {
    for (const name of names) await boss.deleteQueue(name)
  } finally {
    await boss.stop({ close: true, graceful: false, timeout: 1_000 })
  }
}
