// How a fleet is: for the screen, for programs, for the page.
import { table } from '../../output/words.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { names } from '../../playbook/host.ts'
import type { Query } from '../store/database.ts'
import {
  type ClusterRow,
  type ClusterState,
  clustersOf,
  type FleetRow,
  isSilent,
  nowOf,
  type WaveRow,
  type WorkerRow,
  wavesOf,
  workersOf,
} from '../store/fleets.ts'

/** A fleet at a moment. Times are milliseconds since 1970, by the database's clock. */
export interface FleetStatus {
  readonly fleet: Omit<FleetRow, 'plan'>
  readonly at: number
  readonly waves: readonly WaveRow[]
  readonly clusters: readonly ClusterRow[]
  readonly workers: readonly WorkerRow[]
}

/** Asks how a fleet is. */
export async function statusOf(query: Query, { plan, ...fleet }: FleetRow): Promise<FleetStatus> {
  return {
    ...{
      fleet,
      at: await nowOf(query),
      waves: await wavesOf(query, fleet.id),
      clusters: await clustersOf(query, fleet.id),
    },
    workers: await workersOf(query, fleet.id),
  }
}

/** How many clusters of a wave are in which state. */
export function countedOf(clusters: readonly ClusterRow[], wave: number): (readonly [ClusterState, number])[] {
  const own = clusters.filter(one => one.wave === wave)
  return [...Map.groupBy(own, ({ state }) => state)].map(([state, list]) => [state, list.length])
}

/** The same, in a few words. */
export const countsOf = (clusters: readonly ClusterRow[], wave: number): string =>
  countedOf(clusters, wave)
    .map(([state, count]) => `${count} ${state}`)
    .join(', ')

/** Who is worth a line of its own: what is under way, and what did not come through. */
const isTold = ({ state }: ClusterRow) => !['waiting', 'done'].includes(state)
/** A clock that is so far off is worth a word: milliseconds. */
const muchSkew = 2_000

/** How a fleet is, in lines for people. */
export function statusLines({ fleet, at, waves, clusters, workers }: FleetStatus): string[] {
  const rows = waves.map(({ number, name, state, began, ended, soakUntil }) => {
    const since = began === null ? '' : formatDuration((ended ?? at) - began)
    const until = state === 'soaking' && soakUntil ? ` for ${formatDuration(Math.max(0, soakUntil - at))}` : ''
    return [name, `${state}${until}`, since, countsOf(clusters, number)]
  })
  const told = clusters
    .filter(isTold)
    .map(({ name, state, task, step, since, worker, run, error }) => [
      name,
      task === 'gate' ? `${state}, gates` : state,
      formatDuration(Math.max(0, at - since)),
      step ?? '',
      worker ?? '',
      error ?? run ?? '',
    ])
  const away = workers.filter(isSilent).map(({ id }) => id)
  const skewed = workers.filter(({ skew }) => Math.abs(skew) > muchSkew)
  return [
    `Fleet ${fleet.name}: ${fleet.state}${fleet.why === null ? '' : `: ${fleet.why}`}`,
    `${fleet.playbook}, begun by ${fleet.operator} ${formatDuration(at - fleet.begun)} ago; ${fleet.id}`,
    '',
    ...table([['WAVE', 'STATE', 'FOR', 'CLUSTERS'], ...rows]),
    ...(told.length > 0
      ? ['', ...table([['CLUSTER', 'STATE', 'FOR', 'STEP', 'WORKER', 'RUN OR ERROR'], ...told])]
      : []),
    '',
    `${workers.length - away.length} at work${away.length > 0 ? `; not heard of any more: ${names(away)}` : ''}`,
    ...skewed.map(
      ({ id, skew }) => `The clock of ${id} is ${formatDuration(Math.abs(skew))} ${skew > 0 ? 'ahead' : 'behind'}.`,
    ),
  ]
}
