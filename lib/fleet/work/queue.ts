// The queue of clusters that may be begun now: pg-boss. A job is a cluster, and one cluster has one job at most; what a worker has it says by a
// heartbeat, and where that stops the job has failed, and the scheduler finds it.
import { RekeyError } from '../../errors.ts'
import type { Database } from '../store/database.ts'
import { type Executor, type FetchedJob, loadBoss } from '../store/libraries.ts'

/** Seconds after which a worker that was not heard of has its job no more: the least that pg-boss takes. */
export const heartbeat = 10
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
  /** What has become of a job; `undefined` where it is gone. */
  stateOf(id: string, boss: Executor): Promise<string | undefined>
  close(): Promise<void>
}

/**
 * Opens the queue of a fleet.
 * @param name the fleet's id
 * @param makes make what pg-boss needs in the database: for whoever begins a fleet
 * @throws RekeyError where another version of pg-boss made it
 */
export async function openQueue(database: Database, name: string, makes: boolean): Promise<Queue> {
  const { PgBoss } = await loadBoss()
  const boss = new PgBoss({
    ...database.boss,
    schema: 'rekey_fleet_queue',
    ...{ migrate: makes, createSchema: makes, schedule: false, registerInstance: false },
    ...{
      supervise: true,
      superviseIntervalSeconds: 2,
      monitorIntervalSeconds: 2,
      monitorVacuum: false,
      reindex: false,
    },
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
    stateOf: async (id, db) => (await boss.findJobs(name, { id, db }))[0]?.state,
    close: () => boss.stop({ close: true, graceful: false, timeout: 1_000 }),
  }
}

/** A job that nobody has and nobody will have. */
export const isLost = (state: string | undefined): boolean =>
  state === undefined || ['failed', 'cancelled', 'completed'].includes(state)
