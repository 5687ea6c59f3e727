// What is known of a fleet: itself, its waves, its clusters, who works on it, and what happened.
import { randomBytes } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import { names } from '../../playbook/host.ts'
import { suggestion } from '../../suggestion.ts'
import type { Receiver } from '../definition/receivers.ts'
import type { PlannedWave } from '../definition/waves.ts'
import type { Query } from './database.ts'

/** `halted`: nothing new is begun until an operator says so. `given-up`: another one was begun in its place. */
export type FleetState = 'running' | 'halted' | 'done' | 'given-up'
export type WaveState = 'waiting' | 'approval' | 'running' | 'soaking' | 'gating' | 'passed'
/** `unknown`: its worker is gone, and nobody has looked since. `undone`: its run was rolled back after that. */
export type ClusterState = 'waiting' | 'queued' | 'running' | 'unknown' | 'done' | 'failed' | 'undone'

/** A fleet, as its row has it. Times are milliseconds since 1970. */
export interface FleetRow {
  readonly id: string
  readonly name: string
  readonly playbook: string
  readonly playbookHash: string
  readonly hash: string
  readonly rekey: string
  readonly recipient: string
  readonly operator: string
  readonly state: FleetState
  readonly why: string | null
  readonly begun: number
  readonly ended: number | null
  /** When the folders of its runs and its events were removed, and by whom. */
  readonly pruned: number | null
  readonly prunedBy: string | null
  readonly plan: FleetPlan
}

/** What of fleet.yml the work goes by. */
export interface FleetPlan {
  readonly maxParallel: number
  /** Seconds after which a worker that was not heard of has its clusters no more. */
  readonly heartbeat: number
  /** Milliseconds between two times that a cluster of a wave that soaks is asked what its gates ask. */
  readonly gatesEvery: number
  readonly whenUnknown: 'resume' | 'rollback'
  readonly waves: readonly PlannedWave[]
  /** Who is told of which kinds of events. */
  readonly receivers?: readonly Pick<Receiver, 'title' | 'kinds'>[]
}

/** A fleet as it is read again and again: without its plan, which never changes. */
export type LockedFleet = Omit<FleetRow, 'plan'>

export interface WaveRow {
  readonly number: number
  readonly name: string
  readonly state: WaveState
  readonly began: number | null
  readonly ended: number | null
  readonly soakUntil: number | null
  readonly approvedBy: string | null
}

export interface ClusterRow {
  readonly name: string
  readonly wave: number
  readonly task: 'run' | 'gate'
  readonly state: ClusterState
  readonly attempt: number
  readonly worker: string | null
  readonly job: string | null
  readonly run: string | null
  /** The title of the step that was begun last. */
  readonly step: string | null
  /** Since when it is in that state, or in that step. */
  readonly since: number
  readonly began: number | null
  readonly ended: number | null
  readonly error: string | null
  readonly asked: boolean
  readonly leftFailed: boolean
  /** How often it was taken over since it came further. */
  readonly takeOvers: number
  /** What an operator added to its command line. */
  readonly words: readonly string[]
}

export interface WorkerRow {
  readonly id: string
  readonly machine: string
  readonly pid: number
  readonly operator: string
  /** Milliseconds since it was heard of, by the database's clock. */
  readonly silent: number
  /** Milliseconds that its clock is ahead of the database's. */
  readonly skew: number
}

/** What happened, for whoever has to show it later. */
export interface FleetEvent {
  readonly kind:
    | 'begun'
    | 'wave'
    | 'approval'
    | 'started'
    | 'unknown'
    | 'taken-over'
    | 'done'
    | 'failed'
    | 'undone'
    | 'put-back'
    | 'halted'
    | 'went-on'
    | 'retry'
    | 'ended'
    /** Somebody can't be told what happens, or can again. */
    | 'notify'
  readonly wave?: string
  readonly cluster?: string
  readonly worker?: string
  readonly operator?: string
  readonly run?: string
  readonly text: string
}

/** An event with when it came, by the database's clock. */
export type EventRow = FleetEvent & { readonly id: number; readonly at: number }

/** States of clusters that somebody has, or may have. */
const underWay: readonly ClusterState[] = ['queued', 'running', 'unknown']

/** Whether somebody has a cluster, or may have: then it takes one of `max_parallel` places. */
export const isUnderWay = ({ state }: Pick<ClusterRow, 'state'>): boolean => underWay.includes(state)

/** The same as a condition of SQL. */
export const underWayHere = `state IN (${underWay.map(state => `'${state}'`).join(', ')})`

/** Whether a cluster's run was begun, also where one was left for a new one that has not begun yet: what is stored of it may be needed. */
export const hasRun = `task = 'run' AND (run IS NOT NULL OR EXISTS (
  SELECT 1 FROM rekey_fleet.piece WHERE piece.fleet = cluster.fleet AND piece.cluster = cluster.name))`

/** Whether a cluster did not come through. */
export const isUnwell = ({ state }: Pick<ClusterRow, 'state'>): boolean => state === 'failed' || state === 'undone'

/** The same as a condition of SQL. */
export const unwellHere = "state IN ('failed', 'undone')"

/** Whether a cluster was begun and put back, or is to be done once more: it stands somewhere in the middle of its run. */
export const isHalfDone = ({ state, task, run }: Pick<ClusterRow, 'state' | 'task' | 'run'>): boolean =>
  state === 'waiting' && task === 'run' && run !== null

/** Whether nothing is done with a fleet any more. */
export const isThrough = ({ state }: Pick<FleetRow, 'state'>): boolean => state === 'done' || state === 'given-up'

/** The same as a condition of SQL. */
export const throughHere = "state IN ('done', 'given-up')"

/** Whether a worker was not heard of for so long that nobody counts on it. */
export const isSilent = ({ silent }: WorkerRow): boolean => silent > 15_000

export const ms = (column: string) => `(extract(epoch FROM ${column}) * 1000)::float8`
const fleetColumns = `id, name, playbook, playbook_hash AS "playbookHash", hash, rekey, recipient, operator, state, why, ${ms('begun')} AS begun,
  ${ms('ended')} AS ended, ${ms('pruned')} AS pruned, pruned_by AS "prunedBy"`
const waveColumns = `number, name, state, ${ms('began')} AS began, ${ms('ended')} AS ended, ${ms('soak_until')} AS "soakUntil", approved_by AS "approvedBy"`
const clusterColumns = `name, wave, task, state, attempt, worker, job::text AS job, run, step, ${ms('since')} AS since, ${ms('began')} AS began,
  ${ms('ended')} AS ended, error, asked, left_failed AS "leftFailed", take_overs AS "takeOvers", words`

/** What time it is by the database's clock, in milliseconds since 1970. */
export async function nowOf(query: Query): Promise<number> {
  const [clock] = await query<{ now: number }>(`SELECT ${ms('now()')} AS now`)
  return clock!.now
}

/** Writes a new fleet with its waves and clusters. Returns its id. */
export async function addFleet(
  query: Query,
  fleet: Pick<FleetRow, 'name' | 'playbook' | 'playbookHash' | 'hash' | 'rekey' | 'recipient' | 'operator' | 'plan'>,
): Promise<string> {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  const id = `${stamp}-${fleet.name}-${randomBytes(2).toString('hex')}`
  await query(
    `INSERT INTO rekey_fleet.fleet (id, name, playbook, playbook_hash, definition, hash, rekey, recipient, operator)
     VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9)`,
    [
      ...[id, fleet.name, fleet.playbook, fleet.playbookHash, JSON.stringify(fleet.plan)],
      ...[fleet.hash, fleet.rekey, fleet.recipient, fleet.operator],
    ],
  )
  const { waves } = fleet.plan
  await query(
    `INSERT INTO rekey_fleet.wave (fleet, number, name) SELECT $1, number - 1, name
     FROM unnest($2::text[]) WITH ORDINALITY AS waves (name, number)`,
    [id, waves.map(({ name }) => name)],
  )
  const clusters = waves.flatMap(({ clusters }, wave) => clusters.map(({ name }) => ({ name, wave })))
  await query(
    `INSERT INTO rekey_fleet.cluster (fleet, name, wave, place) SELECT $1, name, wave, place
     FROM unnest($2::text[], $3::int[]) WITH ORDINALITY AS clusters (name, wave, place)`,
    [id, clusters.map(({ name }) => name), clusters.map(({ wave }) => wave)],
  )
  for (const [number, { title, kinds }] of (fleet.plan.receivers ?? []).entries())
    await query('INSERT INTO rekey_fleet.receiver (fleet, number, title, kinds) VALUES ($1, $2, $3, $4)', [
      ...[id, number, title, kinds],
    ])
  return id
}

/** The fleet of that name that was begun last; `undefined` where there is none. */
export async function latestFleet(query: Query, name: string): Promise<FleetRow | undefined> {
  const [row] = await query<FleetRow>(
    `SELECT ${fleetColumns}, definition AS plan FROM rekey_fleet.fleet WHERE name = $1 ORDER BY begun DESC, id DESC LIMIT 1`,
    [name],
  )
  return row
}

/**
 * The same, where there must be one.
 * @param id that of this id, and not the last one
 * @throws RekeyError where there is none
 */
export async function requireFleet(query: Query, name: string, id?: string): Promise<FleetRow> {
  if (id !== undefined) return fleetOf(query, name, id)
  const fleet = await latestFleet(query, name)
  if (fleet) return fleet
  const names = await query<{ name: string }>('SELECT DISTINCT name FROM rekey_fleet.fleet')
  throw new RekeyError(
    `no fleet ${name} was begun${suggestion(
      name,
      names.map(one => one.name),
    )}`,
    { code: 'fleet.none', hint: "Begin it: 'rekey fleet run PLAYBOOK -F fleet.yml'." },
  )
}

async function fleetOf(query: Query, name: string, id: string): Promise<FleetRow> {
  const [row] = await query<FleetRow>(
    `SELECT ${fleetColumns}, definition AS plan FROM rekey_fleet.fleet WHERE name = $1 AND id = $2`,
    [name, id],
  )
  if (row) return row
  const all = await query<{ id: string }>('SELECT id FROM rekey_fleet.fleet WHERE name = $1 ORDER BY begun', [name])
  const ids = all.map(one => one.id)
  throw new RekeyError(`no fleet ${id} was begun`, {
    code: 'fleet.none',
    hint: `Those of ${name}: ${names(ids.reverse(), 10)}.`,
  })
}

/**
 * A fleet for whoever changes it: nobody else does until the transaction ends. What belongs to it may still be written meanwhile. `undefined` where
 * somebody else does now, unless that is waited for.
 */
export async function lockFleet(query: Query, id: string, wait = false): Promise<LockedFleet | undefined> {
  const [row] = await query<LockedFleet>(
    `SELECT ${fleetColumns} FROM rekey_fleet.fleet WHERE id = $1 FOR NO KEY UPDATE${wait ? '' : ' SKIP LOCKED'}`,
    [id],
  )
  return row
}

/**
 * Notes that a fleet is looked at, in a transaction that has locked it.
 * @param heartbeat in seconds
 * @returns the database's clock; and whether somebody has looked at it in each half of a heartbeat, for a whole one at least
 */
export async function seeFleet(
  query: Query,
  id: string,
  heartbeat: number,
): Promise<{ now: number; isSteady: boolean }> {
  const [row] = await query<{ now: number; isSteady: boolean }>(
    `UPDATE rekey_fleet.fleet SET looked = now(), steady = CASE WHEN looked > now() - $2::float8 * interval '1 second' / 2 THEN steady ELSE now() END
     WHERE id = $1 RETURNING ${ms('now()')} AS now, steady <= now() - $2::float8 * interval '1 second' AS "isSteady"`,
    [id, heartbeat],
  )
  return row!
}

export const setFleet = (query: Query, id: string, state: FleetState, why?: string) =>
  query(
    `UPDATE rekey_fleet.fleet SET state = $2, why = $3, ended = CASE WHEN $2 IN ('done', 'given-up') THEN now() END WHERE id = $1`,
    [id, state, why ?? null],
  )

export const wavesOf = (query: Query, id: string) =>
  query<WaveRow>(`SELECT ${waveColumns} FROM rekey_fleet.wave WHERE fleet = $1 ORDER BY number`, [id])

/** Clusters in the order in which they go. */
export const clustersOf = (query: Query, id: string) =>
  query<ClusterRow>(`SELECT ${clusterColumns} FROM rekey_fleet.cluster WHERE fleet = $1 ORDER BY place`, [id])

/** Of a cluster what tells whether it may be begun: that is asked each second. */
export type ScheduledRow = Pick<
  ClusterRow,
  'name' | 'wave' | 'task' | 'state' | 'worker' | 'job' | 'run' | 'asked' | 'leftFailed'
>
const scheduled = (where: string) =>
  `SELECT name, wave, task, state, worker, job::text AS job, run, asked, left_failed AS "leftFailed" FROM rekey_fleet.cluster
   WHERE fleet = $1 AND (${where}) ORDER BY place`

/** Clusters that somebody has or is to have now; and those of one wave that failed, or stand half-way. In the order in which they go. */
export const pressingOf = (query: Query, id: string, wave: number | undefined) =>
  query<ScheduledRow>(
    scheduled(`${underWayHere} OR asked OR wave = $2 AND (${unwellHere} OR state = 'waiting' AND run IS NOT NULL)`),
    [id, wave ?? null],
  )

/** Clusters of a wave that wait to be begun, in their order. */
export const waitingOf = (query: Query, id: string, wave: number) =>
  query<ScheduledRow>(scheduled("wave = $2 AND state = 'waiting' AND NOT asked"), [id, wave])

/** How many clusters of a wave wait, and how many are done whose gates were not asked. */
export async function openOf(query: Query, id: string, wave: number): Promise<{ waiting: number; ungated: number }> {
  const [row] = await query<{ waiting: number; ungated: number }>(
    `SELECT count(*) FILTER (WHERE state = 'waiting')::int AS waiting, count(*) FILTER (WHERE state = 'done' AND task <> 'gate')::int AS ungated
     FROM rekey_fleet.cluster WHERE fleet = $1 AND wave = $2`,
    [id, wave],
  )
  return row!
}

/** The jobs of the clusters that somebody has. */
export async function jobsOf(query: Query, id: string): Promise<string[]> {
  const rows = await query<{ job: string }>(
    `SELECT job::text AS job FROM rekey_fleet.cluster WHERE fleet = $1 AND job IS NOT NULL AND ${underWayHere}`,
    [id],
  )
  return rows.map(({ job }) => job)
}

/** Throws `RekeyError` where the fleet has no such cluster. */
export async function requireCluster(query: Query, id: string, name: string): Promise<ClusterRow> {
  const [row] = await query<ClusterRow>(
    `SELECT ${clusterColumns} FROM rekey_fleet.cluster WHERE fleet = $1 AND name = $2`,
    [id, name],
  )
  if (row) return row
  const names = await query<{ name: string }>('SELECT name FROM rekey_fleet.cluster WHERE fleet = $1', [id])
  throw new RekeyError(
    `the fleet has no cluster ${name}${suggestion(
      name,
      names.map(one => one.name),
    )}`,
    { code: 'fleet.no-cluster' },
  )
}

/** Those who work on a fleet, or did so within ten minutes. */
export const workersOf = (query: Query, id: string) =>
  query<WorkerRow>(
    `SELECT id, machine, pid, operator, ${ms('now() - seen')} AS silent, skew::int AS skew
     FROM rekey_fleet.worker WHERE fleet = $1 AND seen > now() - interval '10 minutes' ORDER BY begun`,
    [id],
  )

export const eventColumns = `id::int AS id, ${ms('at')} AS at, kind, wave, cluster, worker, operator, run, text`

/** Events in their order, from behind one on. */
export const eventsOf = (query: Query, id: string, after = 0) =>
  query<EventRow>(`SELECT ${eventColumns} FROM rekey_fleet.event WHERE fleet = $1 AND id > $2 ORDER BY id`, [id, after])

/** The last events, the newest first. */
export const lastEventsOf = (query: Query, id: string, most: number) =>
  query<EventRow>(`SELECT ${eventColumns} FROM rekey_fleet.event WHERE fleet = $1 ORDER BY event.id DESC LIMIT $2`, [
    ...[id, most],
  ])

/** Says what happened, for whoever looks, and for those who are to be told. */
export const addEvent = (query: Query, fleet: string, { kind, text, ...of }: FleetEvent) =>
  query(
    `WITH added AS (
       INSERT INTO rekey_fleet.event (fleet, kind, wave, cluster, worker, operator, run, text) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id)
     INSERT INTO rekey_fleet.notice (fleet, receiver, event)
       SELECT $1, number, id FROM added, rekey_fleet.receiver WHERE fleet = $1 AND $2 = ANY(kinds)`,
    [fleet, kind, of.wave ?? null, of.cluster ?? null, of.worker ?? null, of.operator ?? null, of.run ?? null, text],
  )
