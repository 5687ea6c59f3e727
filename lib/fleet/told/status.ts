// How a fleet is: for the screen, for programs, for the page.
import { clockOf, count, momentOf } from '../../output/report/words.ts'
import { oneLine } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { names } from '../../playbook/host.ts'
import { opensAt } from '../definition/windows.ts'
import type { Query } from '../store/database.ts'
import {
  type ClusterRow,
  type ClusterState,
  clustersOf,
  type EventRow,
  type FleetRow,
  isHalfDone,
  isSilent,
  isUnderWay,
  isUnwell,
  lastEventsOf,
  nowOf,
  type WaveRow,
  type WorkerRow,
  wavesOf,
  workersOf,
} from '../store/fleets.ts'
import { untoldOf } from '../store/notices.ts'

/** A fleet at a moment. Times are milliseconds since 1970, by the database's clock. */
export interface FleetStatus {
  readonly fleet: Omit<FleetRow, 'plan'>
  readonly at: number
  readonly waves: readonly WaveRow[]
  readonly clusters: readonly ClusterRow[]
  readonly workers: readonly WorkerRow[]
  /** Clusters of the wave that goes now which wait for their window, and when that opens. */
  readonly closed: readonly { readonly name: string; readonly opens: number }[]
  /** Those who can't be told what happens, and why. */
  readonly untold: readonly { readonly title: string; readonly why: string | null; readonly left: number }[]
  /** What happened last, the newest first. */
  readonly events: readonly EventRow[]
}

const lastEvents = 100

/** Asks how a fleet is. */
export async function statusOf(query: Query, { plan, ...fleet }: FleetRow): Promise<FleetStatus> {
  const at = await nowOf(query)
  const waves = await wavesOf(query, fleet.id)
  const clusters = await clustersOf(query, fleet.id)
  const going = waves.find(({ state }) => state === 'running')?.number
  const waiting = new Set(
    fleet.state === 'running'
      ? clusters.filter(({ wave, state }) => wave === going && state === 'waiting').map(({ name }) => name)
      : [],
  )
  const closed = (going === undefined ? [] : (plan.waves[going]?.clusters ?? []))
    .filter(({ name }) => waiting.has(name))
    .map(({ name, windows }) => ({ name, opens: opensAt(windows, at) }))
    .filter(({ opens }) => opens > at)
  return {
    ...{ fleet, at, waves, clusters, closed },
    workers: await workersOf(query, fleet.id),
    untold: await untoldOf(query, fleet.id),
    events: await lastEventsOf(query, fleet.id, lastEvents),
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

/** What the fleet waits for, and until when: an approval, a soak, windows. A sentence each. */
export function waitsOf({ fleet, waves, closed }: FleetStatus, now: number): string[] {
  if (fleet.state !== 'running') return []
  const ofWaves = waves.flatMap(({ name, state, soakUntil }) => {
    if (state === 'approval') return [`wave ${name} waits for somebody to approve it: rekey fleet go-on`]
    if (state !== 'soaking' || soakUntil === null) return []
    const left = soakUntil > now ? `${formatDuration(soakUntil - now)} more, until ${momentOf(soakUntil)}` : 'no more'
    return [`wave ${name} soaks: ${left}`]
  })
  const first = closed.toSorted((one, other) => one.opens - other.opens)[0]
  const wait = closed.length === 1 ? 'waits' : 'wait'
  const windows = first && [
    `${count(closed.length, 'cluster')} ${wait} for a window: ${first.name} may begin at ${momentOf(first.opens)}`,
  ]
  return [...ofWaves, ...(windows ?? [])]
}

/** It with a capital and a stop. */
export const sentence = (text: string): string => `${text[0]?.toUpperCase()}${text.slice(1)}.`

/** Who works, who was not heard of any more, whose clock is off, and who can't be told what happens. A sentence each. */
export function workerLines({ workers, untold }: FleetStatus): string[] {
  const away = workers.filter(isSilent).map(({ id }) => id)
  const skewed = workers.filter(({ skew }) => Math.abs(skew) > muchSkew)
  return [
    `${workers.length - away.length} at work${away.length > 0 ? `; not heard of any more: ${names(away, 5)}` : ''}`,
    ...skewed.map(
      ({ id, skew }) => `The clock of ${id} is ${formatDuration(Math.abs(skew))} ${skew > 0 ? 'ahead' : 'behind'}.`,
    ),
    ...untold.map(({ title, why, left }) => `${title} was not told ${count(left, 'time')}: ${oneLine(why ?? '')}`),
  ]
}

/** An event as a line, with the time of the day in UTC. */
export const eventLine = ({ at, text }: EventRow): string => `${clockOf(at)} ${oneLine(text)}`

/** In which step a cluster is; of one that asks its gates, or that was put back in the middle, that. */
export const stepOf = (one: ClusterRow): string =>
  isHalfDone(one) ? 'half-way' : one.task === 'gate' ? 'its gates are asked' : (one.step ?? '')

/** Who is worth a line of its own: what is under way, and what did not come through. */
const isTold = (one: ClusterRow) => isUnderWay(one) || isUnwell(one) || isHalfDone(one)
/** A clock that is so far off is worth a word: milliseconds. */
const muchSkew = 2_000

/** How a fleet is, in lines for people. */
export function statusLines(status: FleetStatus): string[] {
  const { fleet, at, waves, clusters } = status
  const rows = waves.map(({ number, name, state, began, ended }) => {
    const since = began === null ? '' : formatDuration((ended ?? at) - began)
    return [name, state, since, countsOf(clusters, number)]
  })
  const told = clusters.filter(isTold).map(one => {
    const { name, state, since, worker, run, error } = one
    const took = formatDuration(Math.max(0, at - since))
    return [name, state, took, isUnwell(one) ? '' : stepOf(one), worker ?? '', oneLine(error ?? run ?? '')]
  })
  const waits = waitsOf(status, at)
  return [
    `Fleet ${fleet.name}: ${fleet.state}${fleet.why === null ? '' : `: ${oneLine(fleet.why)}`}`,
    `${fleet.playbook}, begun by ${fleet.operator} ${formatDuration(at - fleet.begun)} ago; ${fleet.id}`,
    '',
    ...table([['WAVE', 'STATE', 'FOR', 'CLUSTERS'], ...rows]),
    ...(told.length > 0
      ? ['', ...table([['CLUSTER', 'STATE', 'FOR', 'STEP', 'WORKER', 'RUN OR ERROR'], ...told])]
      : []),
    ...(clusters.some(isUnwell) ? ['', 'How far one came: rekey fleet show CLUSTER'] : []),
    ...(waits.length > 0 ? ['', ...waits.map(sentence)] : []),
    '',
    ...workerLines(status),
  ]
}
