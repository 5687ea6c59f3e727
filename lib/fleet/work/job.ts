// One cluster that this worker has: its run is a process of its own, which asks before each step whether the cluster still is this worker's.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { excerpt, exitCodes, messageOf } from '../../errors.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { isAlive } from '../../process-identity.ts'
import type { KeepRequest } from '../../run/folder/keeper.ts'
import { isDone, isUndone, type RunHistory, readHistory } from '../../run/journal/history.ts'
import { rehearsalsIn } from '../../run/journal/rehearsals.ts'
import type { Fleet } from '../definition/fleet-file.ts'
import type { Database, Query } from '../store/database.ts'
import {
  addEvent,
  type ClusterRow,
  type ClusterState,
  type FleetRow,
  isHalfDone,
  lockFleet,
  requireCluster,
} from '../store/fleets.ts'
import { type KeptFolder, keepFolder, restoreFolder } from '../store/folders.ts'
import type { FleetKey } from '../store/key.ts'
import { inventoryWords, variableWords } from './called.ts'
import { attend, begin, type ChildEnd, type Desk, endOf, lastLine, madeFolder, notWell } from './child.ts'
import type { ClaimedJob } from './queue.ts'
import { haltOverBudget } from './schedule.ts'
import { Lost, type Storing, storing } from './storing.ts'

/** What a worker works with. */
export interface Bench {
  readonly database: Database
  readonly key: FleetKey
  readonly fleet: FleetRow
  /** fleet.yml as it lies here: the same text as everywhere. */
  readonly file: Fleet
  /** The playbook, as it is found here. */
  readonly playbook: string
  /** The worker's. */
  readonly id: string
  /** A folder of the worker's own. */
  readonly folder: string
  /** Aborted where the worker is to stop: clusters are put back. */
  readonly signal: AbortSignal
  notice(text: string): void
}

/** How a cluster is after this worker had it; nothing is to be said where it has it no more. */
type Ending = { readonly state: Ended; readonly error?: string } | 'lost'
type Ended = Extract<ClusterState, 'done' | 'waiting' | 'undone' | 'failed'>

/** A cluster that this worker has taken. */
type Taken = ClusterRow & { readonly wasUnknown: boolean }

/** How often a run that was cut off is gone on with, and how often a cluster is taken over, where it comes no further in between. */
const [mostCuts, mostTakeOvers] = [5, 5]
/** How long a lock on the hosts is waited for, and what a gate may take, in milliseconds. */
const [lockPatience, lockPause, gatePatience] = [15 * 60_000, 3_000, 15 * 60_000]

/** Works on a cluster until it is over, or somebody else's. Rejects where the database can't be asked at the beginning, or refuses how it ended. */
export async function workOn(bench: Bench, job: ClaimedJob): Promise<void> {
  const row = await claim(bench, job)
  if (!row) return
  const lost = new AbortController()
  const store = storing(lost, text => bench.notice(`${row.name}: ${text}`))
  const touch = async () => {
    if (!(await job.touch())) lost.abort()
  }
  // Where the database does not answer, no step is begun either; once it does, it says whose the cluster is.
  const timer = setInterval(() => touch().catch(() => {}), (bench.fleet.plan.heartbeat * 1_000) / 6)
  try {
    const under: Under = { lost, signal: AbortSignal.any([bench.signal, lost.signal]), store, touch }
    const working = row.task === 'gate' ? askGates(bench, row, under) : runCluster(bench, row, under)
    // Another worker would find the same, as often as it tries: it has failed, whatever it was that was thrown.
    const ending = await working.catch((error: unknown): Ending => ({ state: 'failed', error: messageOf(error) }))
    if (ending === 'lost') return
    await store(() => settle(bench, row, ending))
    await store(() => job.complete())
  } finally {
    clearInterval(timer)
  }
}

/** Takes the cluster of a job for this worker: from now on whoever had it before has it no more. */
async function claim({ database, fleet, id }: Bench, job: ClaimedJob): Promise<Taken | undefined> {
  const row = await database.transaction(async query => {
    const [current] = await query<{ state: string }>('SELECT state FROM rekey_fleet.fleet WHERE id = $1 FOR SHARE', [
      fleet.id,
    ])
    await query('SELECT 1 FROM rekey_fleet.cluster WHERE fleet = $1 AND name = $2 FOR UPDATE', [fleet.id, job.cluster])
    const found = await requireCluster(query, fleet.id, job.cluster)
    if (found.job !== job.id || (found.state !== 'queued' && found.state !== 'unknown')) return undefined
    // What was begun is ended, halted or not: nobody knows how it is.
    const isGivenUp = current?.state === 'given-up'
    if (isGivenUp || (current?.state !== 'running' && !found.asked && found.state !== 'unknown')) {
      await query(
        `UPDATE rekey_fleet.cluster SET state = 'waiting', job = NULL, since = now() WHERE fleet = $1 AND name = $2`,
        [fleet.id, job.cluster],
      )
      return undefined
    }
    const takenOver = found.state === 'unknown'
    if (takenOver && found.takeOvers >= mostTakeOvers) {
      const error = `it was taken over ${mostTakeOvers} times, and came no further: whoever works on it was not heard of any more`
      await query(
        `UPDATE rekey_fleet.cluster SET state = 'failed', error = $3, job = NULL, step = NULL, attempt = attempt + 1, since = now(), ended = now()
         WHERE fleet = $1 AND name = $2`,
        [fleet.id, job.cluster, error],
      )
      await addEvent(query, fleet.id, { kind: 'failed', ...of(found), text: `${job.cluster}: failed: ${error}` })
      return undefined
    }
    const attempt = found.attempt + 1
    await query(
      `UPDATE rekey_fleet.cluster SET state = 'running', attempt = $3, worker = $4, asked = false, error = NULL, since = now(),
         began = coalesce(began, now()), take_overs = CASE WHEN $5 THEN take_overs + 1 ELSE 0 END WHERE fleet = $1 AND name = $2`,
      [fleet.id, job.cluster, attempt, id, takenOver],
    )
    if (takenOver || !(await isWatched(query, fleet.id, found)))
      await addEvent(query, fleet.id, {
        kind: takenOver ? 'taken-over' : 'started',
        ...{ ...of(found), worker: id },
        text: takenOver
          ? `${job.cluster}: taken over by ${id}`
          : `${job.cluster}: ${found.task === 'gate' ? 'its gates are asked' : 'begun'} by ${id}`,
      })
    return { ...found, state: 'running' as const, attempt, worker: id, wasUnknown: takenOver }
  })
  if (!row) await job.complete().catch(() => {})
  return row
}

/** Whether a cluster is asked because its wave soaks: again and again, of which nobody wants to hear that all is well. */
async function isWatched(query: Query, fleet: string, { task, wave }: ClusterRow): Promise<boolean> {
  if (task !== 'gate') return false
  const [found] = await query<{ state: string }>(
    'SELECT state FROM rekey_fleet.wave WHERE fleet = $1 AND number = $2',
    [fleet, wave],
  )
  return found?.state === 'soaking'
}

/** Of which cluster an event tells, and of which run. */
const of = ({ name, run }: ClusterRow) => ({ cluster: name, ...(run === null ? {} : { run }) })

/** Only as long as the cluster is this worker's: what is not, changes nothing. */
const fence =
  ({ fleet, id }: Bench, { name, attempt }: ClusterRow, set: string, values: readonly unknown[] = []) =>
  async (query: Query): Promise<void> => {
    const [found] = await query(
      `UPDATE rekey_fleet.cluster SET ${set} WHERE fleet = $1 AND name = $2 AND attempt = $3 AND worker = $4 AND state = 'running' RETURNING 1`,
      [fleet.id, name, attempt, id, ...values],
    )
    if (!found) throw new Lost()
  }

async function settle(bench: Bench, row: Taken, { state, error }: Exclude<Ending, 'lost'>): Promise<void> {
  const { database, fleet, id } = bench
  const why = error === undefined ? null : excerpt(error.replaceAll(/\s+/g, ' '), 500)
  await database.transaction(async query => {
    const isUnwell = state === 'failed' || state === 'undone'
    // Whoever changes the fleet locks it before any of its clusters.
    const locked = isUnwell ? await lockFleet(query, fleet.id, true) : undefined
    // What an operator asked for is asked for still.
    const set = `state = $5, error = $6, job = NULL, step = NULL, since = now(), asked = $7,
      ended = CASE WHEN task = 'gate' AND $5 IN ('done', 'waiting') THEN coalesce(ended, now()) WHEN $5 = 'waiting' THEN NULL ELSE now() END`
    await fence(bench, row, set, [state, why, state === 'waiting' && row.asked])(query)
    const now = await requireCluster(query, fleet.id, row.name)
    const what = {
      done: row.task === 'gate' ? 'its gates hold' : 'done',
      waiting: `put back, ${id} stops${isHalfDone(now) ? ': it stands half-way, and is gone on with before others are begun' : ''}`,
      undone: 'undone',
      failed: `failed: ${why}`,
    }
    if (state !== 'done' || !(await isWatched(query, fleet.id, row)))
      await addEvent(query, fleet.id, {
        kind: state === 'waiting' ? 'put-back' : state,
        ...{ ...of(now), worker: id },
        text: `${row.name}: ${what[state]}`,
      })
    // In the same moment: others have been sent, and would be begun.
    if (locked?.state === 'running') await haltOverBudget(query, fleet, row.wave)
  })
}

interface Under {
  readonly lost: AbortController
  /** The worker stops, or the cluster is lost. */
  readonly signal: AbortSignal
  readonly store: Storing
  touch(): Promise<void>
}

async function runCluster(bench: Bench, row: Taken, { lost, signal, store, touch }: Under): Promise<Ending> {
  const { database, key, fleet, file } = bench
  const runs = join(bench.folder, 'rekey', 'runs')
  const desk: Desk = { file, folder: bench.folder, cluster: row.name }
  const cluster = clusterOf(bench, row)
  // A moment before others may have it.
  const lease = fleet.plan.heartbeat * 1_000 - 2_000
  const folderOf = (run: string) => ({ fleet: fleet.id, cluster: row.name, run })
  let { run } = row
  let kept: KeptFolder | undefined
  let waitUntil: number | undefined
  for (let cuts = 0; ; ) {
    let history: RunHistory | undefined
    if (run !== null) {
      const folder = join(runs, run)
      if (!kept) {
        const place = folderOf(run)
        const known = await store(() => restoreFolder(database.query, key, place, folder))
        if (lost.signal.aborted) return 'lost'
        kept = keepFolder(database, key, place, folder, known)
      }
      history = readHistory(folder)
      const { finished, latest } = history
      if (finished?.outcome === 'done' && latest.mode !== 'rollback') return { state: 'done' }
      if (isUndone(history)) return { state: 'undone' }
    }
    const verb = verbOf(bench, row, history)
    const words = [
      ...(verb === 'run' ? ['run', bench.playbook] : [verb, run!, '--playbook', bench.playbook]),
      ...inventoryWords(file, cluster),
      ...variableWords(madeFolder(bench, 'variables'), cluster),
      ...row.words.filter(word => (verb === 'run') === ofNewRuns.includes(word)),
      ...['--output', 'plain'],
    ]
    if (verb === 'run') await store(() => placeRehearsals(bench, row, runs))
    if (lost.signal.aborted) return 'lost'
    const before = history && (verb === 'rollback' ? history.undone : history.progress)
    const keep = async (request?: KeepRequest) => {
      if (request && !kept) {
        run = request.run
        kept = keepFolder(database, key, folderOf(run), request.folder)
      }
      const step = request?.step ?? null
      const fenced = fence(
        bench,
        row,
        `run = $5, since = CASE WHEN step IS DISTINCT FROM $6 AND $6 IS NOT NULL THEN now() ELSE since END, step = coalesce($6, step),
          take_overs = CASE WHEN $7 THEN 0 ELSE take_overs END`,
        [run, step, step !== null && before?.has(step) === false],
      )
      await kept!.store(fenced, request === undefined)
      if (request) await touch()
    }
    const child = begin(desk, words, lease)
    const ended = await attend(child, { keep, storing: store, lease, lost: lost.signal, stop: bench.signal })
    if (kept) await store(() => keep())
    if (lost.signal.aborted) return 'lost'
    if (ended.code === exitCodes.done) return { state: verb === 'rollback' ? 'undone' : 'done' }
    if (bench.signal.aborted) return { state: 'waiting' }
    const after = run === null ? undefined : readHistory(join(runs, run))
    // What is refused before it is begun leaves the journal as it was: its end is that of another time.
    const isBegun = after !== undefined && after.latest.at !== history?.latest.at
    const isLocked = isBegun
      ? after.finished?.error?.code === 'run.locked'
      : // Its worker was stopped, and the run waits for that on this machine.
        history !== undefined && !history.finished && isAlive(history.latest.process) === true
    if (!isLocked) waitUntil = undefined
    waitUntil ??= isLocked ? performance.now() + lockPatience : undefined
    if (waitUntil !== undefined && performance.now() < waitUntil) {
      await delay(lockPause, undefined, { signal }).catch(() => {})
      if (lost.signal.aborted) return 'lost'
      if (bench.signal.aborted) return { state: 'waiting' }
      continue
    }
    if (isBegun && isCut(after)) {
      // Killed here, by whoever did that, or left by a database that was away for long: it is gone on with.
      if (history && doneIn(after) > doneIn(history)) cuts = 0
      if (++cuts <= mostCuts) continue
    }
    return { state: 'failed', error: (isBegun ? after.finished?.error?.message : undefined) ?? lastLine(desk, ended) }
  }
}

/** Words of an operator that are for a new run; all others are for one that is gone on with. */
const ofNewRuns: readonly string[] = ['--take-lock']

/** Whether a run that has ended was cut off: by a signal, or since nobody kept it any more. */
const isCut = ({ finished }: RunHistory): boolean =>
  !finished || finished.outcome === 'interrupted' || finished.error?.code === 'run.keeper'

/** How far a run came. */
const doneIn = ({ progress, undone }: RunHistory): number =>
  [...progress.values(), ...undone.values()].flatMap(hosts => [...hosts.values()]).filter(isDone).length

/** Of each wave before it, so many runs count as rehearsals. */
const rehearsals = 2

/** Puts in place the journals of runs that ended well in waves before: hosts may ask for a rehearsal (`rekey_require_rehearsal`). */
async function placeRehearsals({ database, key, fleet }: Bench, { wave }: ClusterRow, runs: string): Promise<void> {
  const found = await database.query<{ cluster: string; run: string }>(
    `SELECT name AS cluster, run FROM (SELECT name, run, row_number() OVER (PARTITION BY wave ORDER BY ended DESC) AS number
       FROM rekey_fleet.cluster WHERE fleet = $1 AND wave < $2 AND state = 'done' AND run IS NOT NULL) AS ended WHERE number <= $3`,
    [fleet.id, wave, rehearsals],
  )
  for (const { cluster, run } of found) {
    const folder = join(runs, run)
    // One that this worker had until another one finished it, or that was cut off here, says nothing.
    if (rehearsalsIn(folder).length > 0) continue
    rmSync(folder, { recursive: true, force: true })
    await restoreFolder(database.query, key, { fleet: fleet.id, cluster, run }, folder, 'journal')
  }
}

/** Whether a run is begun, gone on with, or undone. */
function verbOf({ fleet }: Bench, { wasUnknown }: Taken, history: RunHistory | undefined) {
  if (!history) return 'run'
  if (history.latest.mode === 'rollback') return 'rollback'
  return wasUnknown && fleet.plan.whenUnknown === 'rollback' && history.touched.size > 0 ? 'rollback' : 'resume'
}

/** How often a gate is asked that could not ask, and milliseconds in between. */
const [mostTries, triesEvery] = [3, 30_000]
const couldNotAsk = (code: number | null) => code === null || code === exitCodes.unreachable

/** Asks what the gates of the cluster's wave ask, one after the other. */
async function askGates(bench: Bench, row: Taken, { signal }: Under): Promise<Ending> {
  const { file, fleet } = bench
  const desk: Desk = { file, folder: bench.folder, cluster: row.name }
  const cluster = clusterOf(bench, row)
  const given = [...inventoryWords(file, cluster), ...variableWords(madeFolder(bench, 'variables'), cluster)]
  for (const gate of fleet.plan.waves[row.wave]?.gates ?? []) {
    const words = [gate, ...(gate === 'validate' ? ['--wait', '2m'] : []), ...given]
    let ended = await gateEnd(desk, words, signal)
    // That nobody answered, or it was ended, says nothing of the cluster yet.
    for (let tries = 1; tries < mostTries && ended !== 'late' && couldNotAsk(ended.code) && !signal.aborted; tries++) {
      await delay(triesEvery, undefined, { signal }).catch(() => {})
      if (!signal.aborted) ended = await gateEnd(desk, words, signal)
    }
    if (signal.aborted) return bench.signal.aborted ? { state: 'waiting' } : 'lost'
    if (ended === 'late')
      return { state: 'failed', error: `gate ${gate}: it was not through after ${formatDuration(gatePatience)}` }
    if (ended.code !== exitCodes.done) return { state: 'failed', error: `gate ${gate}: ${notWell(desk, ended)}` }
  }
  return { state: 'done' }
}

/** How a gate ends that is asked in a process of its own; `late` where that had to be ended. */
async function gateEnd(desk: Desk, words: readonly string[], signal: AbortSignal): Promise<ChildEnd | 'late'> {
  const child = begin(desk, words)
  const late = AbortSignal.timeout(gatePatience)
  const over = AbortSignal.any([signal, late])
  let killing: NodeJS.Timeout | undefined
  const stop = () => {
    child.kill('SIGTERM')
    killing = setTimeout(() => child.kill('SIGKILL'), 10_000)
  }
  over.addEventListener('abort', stop)
  if (over.aborted) stop()
  try {
    const ended = await endOf(child)
    return late.aborted ? 'late' : ended
  } finally {
    clearTimeout(killing)
    over.removeEventListener('abort', stop)
  }
}

const clusterOf = ({ file }: Bench, { name }: ClusterRow) => file.clusters.find(one => one.name === name)!
