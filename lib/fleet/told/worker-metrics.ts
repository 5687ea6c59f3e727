// What one worker of a fleet does, for Prometheus: counted from what happens to the clusters that it has.
import { metricsText } from '../../output/collected/metrics.ts'
import type { EventRow } from '../store/fleets.ts'

/** How a cluster leaves a worker. `lost`: the worker was not heard of for so long that another one has it. */
const outcomes = ['done', 'failed', 'undone', 'put-back', 'lost'] as const
type Outcome = (typeof outcomes)[number]

/** Counts what a worker does. */
export interface WorkerTally {
  /** Takes what happened in the fleet, in its order. */
  event(event: EventRow): void
  /** The database has heard of the worker, which is called this. */
  seen(id: string): void
  /** The database did not answer. */
  databaseError(): void
  /** Metrics in the text format of Prometheus. */
  text(): string
}

/** Begins to count. @param fleet its name */
export function workerTally(fleet: string): WorkerTally {
  let worker: string | undefined
  let [takenOver, errors, seenAt] = [0, 0, 0]
  /** Since when it has which cluster. */
  const under = new Map<string, number>()
  const ended = new Map(outcomes.map(one => [one, { count: 0, milliseconds: 0 }]))
  const end = (cluster: string, at: number, outcome: Outcome) => {
    const since = under.get(cluster)
    if (since === undefined) return
    under.delete(cluster)
    const all = ended.get(outcome)!
    all.count++
    all.milliseconds += Math.max(0, at - since)
  }
  return {
    event: ({ kind, cluster, at, worker: by }) => {
      if (cluster === undefined || cluster === null || by !== worker) return
      if (kind === 'taken-over') takenOver++
      if (kind === 'started' || kind === 'taken-over') under.set(cluster, at)
      else if (kind === 'done' || kind === 'failed' || kind === 'undone' || kind === 'put-back') end(cluster, at, kind)
      else if (kind === 'unknown') end(cluster, at, 'lost')
    },
    seen: id => {
      worker = id
      seenAt = Date.now()
    },
    databaseError: () => void errors++,
    text: () => {
      const of = (name: string, help: string, value: number, labels: Readonly<Record<string, string>> = {}) => ({
        ...{ name: `rekey_fleet_worker_${name}`, help, value, labels },
        ...(name.endsWith('_total') ? { type: 'counter' as const } : {}),
      })
      return metricsText(
        [
          of('clusters', 'Clusters that the worker has now.', under.size),
          ...[...ended].flatMap(([outcome, { count }]) =>
            of('clusters_total', 'Clusters that the worker had, by how they left it.', count, { outcome }),
          ),
          ...[...ended].flatMap(([outcome, { milliseconds }]) =>
            of('seconds_total', 'How long the worker had them, in seconds.', milliseconds / 1_000, { outcome }),
          ),
          of(
            'taken_over_total',
            'Clusters that the worker took over from one that was not heard of any more.',
            takenOver,
          ),
          of('database_errors_total', 'Looks at the fleet that the database did not answer.', errors),
          of(
            'seen_timestamp_seconds',
            'When the database last heard of the worker, in seconds since 1970.',
            seenAt / 1_000,
          ),
        ],
        { fleet, ...(worker === undefined ? {} : { worker }) },
      )
    },
  }
}
