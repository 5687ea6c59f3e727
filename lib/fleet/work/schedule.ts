// Which clusters may be begun now: waves in their order, each within its budget, behind its approval, its soak and its gates. Every worker looks, one
// of them at a time, and what it decides is one transaction.
import { count } from '../../output/report/words.ts'
import { names } from '../../playbook/host.ts'
import type { PlannedWave } from '../definition/waves.ts'
import { isOpenNow, type MaintenanceWindow } from '../definition/windows.ts'
import type { Database, Query } from '../store/database.ts'
import {
  addEvent,
  clustersOf,
  type FleetPlan,
  type FleetRow,
  isHalfDone,
  isUnderWay,
  isUnwell,
  type LockedFleet,
  lockFleet,
  openOf,
  pressingOf,
  type ScheduledRow,
  seeFleet,
  setFleet,
  underWayHere,
  unwellHere,
  type WaveRow,
  waitingOf,
  wavesOf,
} from '../store/fleets.ts'
import type { Executor } from '../store/libraries.ts'
import type { Queue } from './queue.ts'

interface Turn {
  readonly fleet: LockedFleet
  readonly plan: FleetPlan
  readonly query: Query
  readonly boss: Executor
  readonly queue: Queue
  /** By the database's clock, milliseconds since 1970. */
  readonly now: number
  /** So many clusters may be begun. */
  free: number
}

/** What is to be known of a fleet after it was looked at. */
export interface Advanced {
  readonly fleet: LockedFleet
  /** Nothing is under way, and nothing will be until somebody says something. */
  readonly isIdle: boolean
  /** For a whole heartbeat somebody has looked again and again: whoever was not heard of in that time is lost, and the database was not away. */
  readonly isSteady: boolean
}

/**
 * Does what is due.
 * @param fleet of which the plan counts: it never changes
 * @returns how the fleet is then; `undefined` where another worker is at it
 */
export async function advance(
  database: Database,
  queue: Queue,
  { id, plan }: Pick<FleetRow, 'id' | 'plan'>,
): Promise<Advanced | undefined> {
  return database.transaction(async (query, boss) => {
    const fleet = await lockFleet(query, id)
    if (!fleet) return undefined
    const { now, isSteady } = await seeFleet(query, id, plan.heartbeat)
    const turn: Turn = { fleet, plan, query, boss, queue, now, free: 0 }
    let waves = await wavesOf(query, id)
    // A wave that ends may have the next one begin at once.
    for (let step = 0; step <= waves.length * 3; step++) {
      const wave = waves.find(({ state }) => state !== 'passed')
      const rows = await pressingOf(query, id, wave?.number)
      turn.free = plan.maxParallel - rows.filter(isUnderWay).length
      await findLost(turn, rows)
      await sendAsked(turn, rows)
      if (fleet.state !== 'running') break
      const moved = wave ? await advanceWave(turn, wave, rows) : await endFleet(turn)
      if (!moved) break
      waves = await wavesOf(query, id)
    }
    const after = (await lockFleet(query, id))!
    const [under] = await query<{ busy: number }>(
      `SELECT count(*)::int AS busy FROM rekey_fleet.cluster
       WHERE fleet = $1 AND (${underWayHere} OR asked AND state = 'waiting')`,
      [id],
    )
    return { fleet: after, isIdle: after.state !== 'running' && under!.busy === 0, isSteady }
  })
}

/** Clusters whose job is over and whose worker did not say so: nobody knows how they are, until another worker has looked. */
async function findLost({ fleet, query, boss, queue }: Turn, rows: readonly ScheduledRow[]) {
  const had = rows.filter(row => isUnderWay(row) && row.job !== null)
  const lost = await queue.lostOf(
    had.map(({ job }) => job!),
    boss,
  )
  for (const row of had) {
    if (!lost.has(row.job!)) continue
    const { name: cluster, worker, run } = row
    // Its worker may have said how it ended since the rows were read, and the job is over for that.
    const [still] = await query(
      'SELECT 1 FROM rekey_fleet.cluster WHERE fleet = $1 AND name = $2 AND state = $3 AND job = $4::uuid FOR UPDATE',
      [fleet.id, cluster, row.state, row.job],
    )
    if (!still) continue
    if (row.state === 'running') {
      const text = `${cluster}: ${worker ?? 'its worker'} was not heard of any more: how it is is not known until another worker has looked`
      await addEvent(query, fleet.id, {
        kind: 'unknown',
        cluster,
        ...(worker ? { worker } : {}),
        ...(run ? { run } : {}),
        text,
      })
    }
    await send({ query, boss, queue, fleet }, row, row.state === 'queued' ? 'queued' : 'unknown')
  }
}

/** What an operator asked for, also while the fleet is halted. */
async function sendAsked(turn: Turn, rows: readonly ScheduledRow[]) {
  for (const row of rows) if (row.asked && row.state === 'waiting') await begin(turn, row)
}

/** Has a cluster begun, where as many are not under way as may be. */
async function begin(turn: Turn, row: ScheduledRow) {
  if (turn.free <= 0) return
  await send(turn, row, 'queued')
  turn.free--
}

async function send(
  { query, boss, queue, fleet }: Pick<Turn, 'query' | 'boss' | 'queue' | 'fleet'>,
  { name }: ScheduledRow,
  state: 'queued' | 'unknown',
) {
  const job = await queue.send({ cluster: name }, boss)
  // It has one that is not over yet: the next look finds it.
  if (job === undefined) return
  await query('UPDATE rekey_fleet.cluster SET state = $3, job = $4, since = now() WHERE fleet = $1 AND name = $2', [
    ...[fleet.id, name, state, job],
  ])
}

/** Does what is due in a wave. Returns whether it came further. */
async function advanceWave(turn: Turn, wave: WaveRow, rows: readonly ScheduledRow[]): Promise<boolean> {
  const { fleet, plan, query, now } = turn
  const planned = plan.waves[wave.number]!
  const own = rows.filter(row => row.wave === wave.number)
  const set = async (state: WaveRow['state'], more = '', values: readonly unknown[] = []) => {
    await query(`UPDATE rekey_fleet.wave SET state = $3${more} WHERE fleet = $1 AND number = $2`, [
      ...[fleet.id, wave.number, state, ...values],
    ])
    return true
  }
  const tell = (kind: 'wave' | 'approval', text: string) => addEvent(query, fleet.id, { kind, wave: wave.name, text })
  if (wave.state === 'waiting' || (wave.state === 'approval' && wave.approvedBy !== null)) {
    if (planned.approval && wave.approvedBy === null) {
      await tell('approval', `wave ${wave.name} waits for somebody to approve it: rekey fleet go-on`)
      await set('approval')
      return false
    }
    const by = wave.approvedBy === null ? '' : `, approved by ${wave.approvedBy}`
    await tell('wave', `wave ${wave.name} begins: ${count(planned.clusters.length, 'cluster')}${by}`)
    return set('running', ', began = coalesce(began, now())')
  }
  if (wave.state === 'approval') return false
  const soaks = wave.state === 'soaking' && now < (wave.soakUntil ?? 0)
  if (soaks) await watch()
  const failed = own.filter(row => isUnwell(row) && !row.leftFailed)
  const why = overBudget(
    planned,
    failed.map(({ name }) => name),
  )
  if (why !== undefined) {
    await halt(query, fleet.id, why)
    return false
  }
  const before = turn.free
  // What stands half-way is ended before another one is begun, and a window is for those that were not begun.
  for (const row of own) if (isHalfDone(row) && !row.asked) await begin(turn, row)
  for (const row of turn.free > 0 ? await waitingOf(query, fleet.id, wave.number) : []) {
    if (turn.free <= 0) break
    if (row.task === 'gate' || isOpenNow(windowsOf(planned, row.name), now)) await begin(turn, row)
  }
  // One that was asked for once more is to come through, too.
  if (turn.free < before || own.some(row => isUnderWay(row) || (row.asked && row.state === 'waiting'))) return false
  const { waiting, ungated } = await openOf(query, fleet.id, wave.number)
  if (waiting > 0 || soaks) return false
  if (wave.state === 'soaking') return ask()
  if (wave.state === 'gating') {
    // One that came through since the others were asked.
    return ungated > 0 ? ask() : pass()
  }
  if (planned.soak > 0) {
    await tell('wave', `wave ${wave.name} has ended, and soaks`)
    return set('soaking', ", soak_until = now() + $4 * interval '1 millisecond'", [planned.soak])
  }
  return ask()

  /** Has clusters of the wave that came through asked what its gates ask. */
  async function have(which: string, milliseconds: number) {
    await query(
      `UPDATE rekey_fleet.cluster SET task = 'gate', state = 'waiting', job = NULL, since = now()
       WHERE fleet = $1 AND wave = $2 AND state = 'done' AND ${which}`,
      [fleet.id, wave.number, milliseconds],
    )
  }

  /** Has those asked that were not asked for a while: what goes wrong while a wave soaks halts the fleet then, and not when the soak is over. */
  async function watch() {
    if (planned.gates.length > 0) await have("since < now() - $3 * interval '1 millisecond'", plan.gatesEvery)
  }

  /** Has those asked that were not asked since they came through, and since the soak is over. */
  async function ask(): Promise<boolean> {
    if (planned.gates.length === 0) return pass()
    await have("(task <> 'gate' OR since < to_timestamp($3::float8 / 1000))", wave.soakUntil ?? 0)
    await tell('wave', `the gates of wave ${wave.name} are asked: ${planned.gates.join(', ')}`)
    return set('gating')
  }

  async function pass(): Promise<boolean> {
    await tell('wave', `wave ${wave.name} is through`)
    return set('passed', ', ended = now()')
  }
}

const windowsKnown = new WeakMap<PlannedWave, ReadonlyMap<string, readonly MaintenanceWindow[]>>()

function windowsOf(wave: PlannedWave, cluster: string): readonly MaintenanceWindow[] {
  const known = windowsKnown.get(wave) ?? new Map(wave.clusters.map(({ name, windows }) => [name, windows]))
  windowsKnown.set(wave, known)
  return known.get(cluster) ?? []
}

/** Why a fleet is halted of whose wave these clusters did not come through; `undefined` where as many may fail. */
function overBudget({ name, failures }: PlannedWave, failed: readonly string[]): string | undefined {
  if (failed.length <= failures) return undefined
  return `${names(failed, 5)} of wave ${name} did not come through, and ${failures === 0 ? 'none' : failures} may fail`
}

/** Halts a fleet, which is locked, where more clusters of a wave that is not through did not come through than may. */
export async function haltOverBudget(query: Query, { id, plan }: Pick<FleetRow, 'id' | 'plan'>, wave: number) {
  const failed = await query<{ name: string }>(
    `SELECT cluster.name FROM rekey_fleet.cluster JOIN rekey_fleet.wave ON wave.fleet = cluster.fleet AND wave.number = cluster.wave
     WHERE cluster.fleet = $1 AND wave.number = $2 AND wave.state <> 'passed' AND cluster.${unwellHere} AND NOT left_failed
     ORDER BY place`,
    [id, wave],
  )
  const why = overBudget(
    plan.waves[wave]!,
    failed.map(({ name }) => name),
  )
  if (why !== undefined) await halt(query, id, why)
}

async function endFleet({ fleet, plan, query }: Turn): Promise<boolean> {
  const rows = await clustersOf(query, fleet.id)
  if (rows.some(row => row.state !== 'done' && !isUnwell(row))) return false
  await setFleet(query, fleet.id, 'done')
  const unwell = rows.filter(isUnwell).map(({ name }) => name)
  const without = unwell.length === 0 ? '' : `, without ${names(unwell, 5)}: rekey fleet retry CLUSTER`
  await addEvent(query, fleet.id, {
    kind: 'ended',
    text: `the fleet is through: ${count(plan.waves.length, 'wave')}${without}`,
  })
  return false
}

/** Nothing new is begun from now on; what is under way comes to its end. */
export async function halt(query: Query, id: string, why: string, operator?: string): Promise<void> {
  await setFleet(query, id, 'halted', why)
  await addEvent(query, id, { kind: 'halted', ...(operator === undefined ? {} : { operator }), text: `halted: ${why}` })
}
