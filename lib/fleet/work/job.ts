// One cluster that this worker has: its run is a process of its own, which asks before each step whether the cluster still is this worker's.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exitCodes, RekeyError } from '../../errors.ts'
import { isAlive } from '../../process-identity.ts'
import { type KeepAnswer, type KeepRequest, keeperVariable } from '../../run/folder/keeper.ts'
import { isUndone, type RunHistory, readHistory } from '../../run/journal/history.ts'
import type { Fleet } from '../definition/fleet-file.ts'
import type { Database, Query } from '../store/database.ts'
import { addEvent, type ClusterRow, type ClusterState, type FleetRow, requireCluster } from '../store/fleets.ts'
import { type KeptFolder, keepFolder, restoreFolder } from '../store/folders.ts'
import type { FleetKey } from '../store/key.ts'
import { environment, inventoryWords, program, variableWords } from './called.ts'
import { type ClaimedJob, heartbeat } from './queue.ts'

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
}

/** How a cluster is after this worker had it; nothing is to be said where it has it no more. */
type Ending = { readonly state: Ended; readonly error?: string } | 'lost'
type Ended = Extract<ClusterState, 'done' | 'waiting' | 'undone' | 'failed'>

/** Milliseconds: how often a job is said to be worked on, how often a run's folder is stored in between, how long an answer holds. */
const [touchEvery, storeEvery, lease] = [2_500, 2_000, heartbeat * 1_000 - 2_000]
/** How often a run that was cut off is gone on with, and how long a lock on the hosts is waited for, in milliseconds. */
const [mostCuts, lockPatience, lockPause] = [5, 15 * 60_000, 3_000]

class Lost extends Error {}

/** Works on a cluster until it is over, or somebody else's. Rejects where the database can't be asked at the beginning. */
export async function workOn(bench: Bench, job: ClaimedJob): Promise<void> {
  const row = await claim(bench, job)
  if (!row) return
  const lost = new AbortController()
  const signal = AbortSignal.any([bench.signal, lost.signal])
  const touch = async () => {
    if (!(await job.touch())) lost.abort()
  }
  // Where the database does not answer, no step is begun either; once it does, it says whose the cluster is.
  const timer = setInterval(() => touch().catch(() => {}), touchEvery)
  try {
    const working = row.task === 'gate' ? askGates(bench, row, signal) : runCluster(bench, row, { lost, signal, touch })
    const ending = await working.catch((error: unknown): Ending => {
      // Another worker would find the same: what is stored is damaged, or its key is another one.
      if (error instanceof RekeyError) return { state: 'failed', error: error.message }
      throw error
    })
    if (ending === 'lost' || lost.signal.aborted) return
    await persist(lost.signal, () => settle(bench, row, ending))
    if (!lost.signal.aborted) await persist(lost.signal, () => job.complete())
  } finally {
    clearInterval(timer)
  }
}

/** Takes the cluster of a job for this worker: from now on whoever had it before has it no more. */
async function claim(
  { database, fleet, id }: Bench,
  job: ClaimedJob,
): Promise<(ClusterRow & { wasUnknown: boolean }) | undefined> {
  const row = await database.transaction(async query => {
    const [current] = await query<{ state: string }>('SELECT state FROM rekey_fleet.fleet WHERE id = $1 FOR SHARE', [
      fleet.id,
    ])
    await query('SELECT 1 FROM rekey_fleet.cluster WHERE fleet = $1 AND name = $2 FOR UPDATE', [fleet.id, job.cluster])
    const found = await requireCluster(query, fleet.id, job.cluster)
    if (found.job !== job.id || (found.state !== 'queued' && found.state !== 'unknown')) return undefined
    // What was begun is ended, halted or not: nobody knows how it is.
    if (current?.state !== 'running' && !found.asked && found.state !== 'unknown') {
      await query(
        `UPDATE rekey_fleet.cluster SET state = 'waiting', job = NULL, since = now() WHERE fleet = $1 AND name = $2`,
        [fleet.id, job.cluster],
      )
      return undefined
    }
    const attempt = found.attempt + 1
    await query(
      `UPDATE rekey_fleet.cluster SET state = 'running', attempt = $3, worker = $4, asked = false, error = NULL, since = now(),
         began = coalesce(began, now()) WHERE fleet = $1 AND name = $2`,
      [fleet.id, job.cluster, attempt, id],
    )
    const takenOver = found.state === 'unknown'
    await addEvent(query, fleet.id, {
      kind: takenOver ? 'taken-over' : 'started',
      ...{ cluster: job.cluster, worker: id, ...(found.run === null ? {} : { run: found.run }) },
      text: takenOver
        ? `${job.cluster}: taken over by ${id}`
        : `${job.cluster}: ${found.task === 'gate' ? 'its gates are asked' : 'begun'} by ${id}`,
    })
    return { ...found, state: 'running' as const, attempt, worker: id, wasUnknown: takenOver }
  })
  if (!row) await job.complete().catch(() => {})
  return row
}

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

async function settle(bench: Bench, row: ClusterRow, { state, error }: Exclude<Ending, 'lost'>): Promise<void> {
  await bench.database.transaction(async query => {
    const set = `state = $5, error = $6, job = NULL, step = NULL, since = now(), ended = CASE WHEN $5 = 'waiting' THEN NULL ELSE now() END`
    await fence(bench, row, set, [state, error ?? null])(query)
    const { run } = await requireCluster(query, bench.fleet.id, row.name)
    const what = {
      done: row.task === 'gate' ? 'its gates hold' : 'done',
      waiting: `put back, ${bench.id} stops`,
      undone: 'undone',
      failed: `failed: ${error}`,
    }
    await addEvent(query, bench.fleet.id, {
      kind: state === 'waiting' ? 'put-back' : state,
      ...{ cluster: row.name, worker: bench.id, ...(run === null ? {} : { run }) },
      text: `${row.name}: ${what[state]}`,
    })
  })
}

/** Does something in the database until it is done: a database that is being started again comes back. What is lost is left. */
async function persist(lost: AbortSignal, work: () => Promise<void>): Promise<void> {
  while (!lost.aborted) {
    try {
      await work()
      return
    } catch (error) {
      if (error instanceof Lost) return
      await delay(1_000, undefined, { signal: lost }).catch(() => {})
    }
  }
}

interface Under {
  readonly lost: AbortController
  /** The worker stops, or the cluster is lost. */
  readonly signal: AbortSignal
  touch(): Promise<void>
}

async function runCluster(bench: Bench, row: ClusterRow & { wasUnknown: boolean }, under: Under): Promise<Ending> {
  const runs = join(bench.folder, 'rekey', 'runs')
  const { lost } = under
  let { run } = row
  let kept: KeptFolder | undefined
  const waitUntil = performance.now() + lockPatience
  for (let cuts = 0; ; ) {
    let history: RunHistory | undefined
    if (run !== null) {
      const of = { fleet: bench.fleet.id, cluster: row.name, run }
      const folder = join(runs, run)
      if (!kept) {
        const known = await restoreFolder(bench.database.query, bench.key, of, folder)
        kept = keepFolder(bench.database, bench.key, of, folder, known)
      }
      history = readHistory(folder)
      const { finished, latest } = history
      if (finished?.outcome === 'done' && latest.mode !== 'rollback') return { state: 'done' }
      if (isUndone(history)) return { state: 'undone' }
    }
    const verb = verbOf(bench, row, history)
    const words = [
      ...(verb === 'run' ? ['run', bench.playbook] : [verb, run!, '--playbook', bench.playbook]),
      ...inventoryWords(bench.file, clusterOf(bench, row)),
      ...variableWords(madeFolder(bench, 'variables'), clusterOf(bench, row)),
      ...['--output', 'plain'],
    ]
    if (verb === 'run') await placeRehearsals(bench, row, runs)
    const child = begin(bench, row, words, true)
    const keep = async (request?: KeepRequest) => {
      if (request && !kept) {
        run = request.run
        kept = keepFolder(bench.database, bench.key, { fleet: bench.fleet.id, cluster: row.name, run }, request.folder)
      }
      const step = request?.step ?? null
      const fenced = fence(
        bench,
        row,
        'run = $5, since = CASE WHEN step IS DISTINCT FROM $6 AND $6 IS NOT NULL THEN now() ELSE since END, step = coalesce($6, step)',
        [run, step],
      )
      await kept!.store(fenced, request === undefined)
      if (request) await under.touch()
    }
    const stopped = await attend(child, keep, under, () => kept !== undefined)
    if (lost.signal.aborted || stopped === 'lost') return 'lost'
    if (kept)
      await persist(lost.signal, () =>
        keep().catch(error => (error instanceof Lost ? lost.abort() : Promise.reject(error))),
      )
    if (lost.signal.aborted) return 'lost'
    if (stopped.code === exitCodes.done) return { state: verb === 'rollback' ? 'undone' : 'done' }
    if (bench.signal.aborted) return { state: 'waiting' }
    const after = run === null ? undefined : readHistory(join(runs, run))
    // What is refused before it is begun leaves the journal as it was: its end is that of another time.
    const isBegun = after !== undefined && after.latest.at !== history?.latest.at
    const isLocked = isBegun
      ? after.finished?.error?.code === 'run.locked'
      : // Its worker was stopped, and the run waits for that on this machine.
        history !== undefined && !history.finished && isAlive(history.latest.process) === true
    if (isLocked && performance.now() < waitUntil) {
      await delay(lockPause, undefined, { signal: under.signal }).catch(() => {})
      if (lost.signal.aborted) return 'lost'
      if (bench.signal.aborted) return { state: 'waiting' }
      continue
    }
    // Killed here, by whoever did that: it is gone on with.
    if (isBegun && !after.finished && ++cuts <= mostCuts) continue
    return { state: 'failed', error: (isBegun ? after.finished?.error?.message : undefined) ?? lastLine(bench, row) }
  }
}

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
    if (!existsSync(folder))
      await restoreFolder(database.query, key, { fleet: fleet.id, cluster, run }, folder, 'journal')
  }
}

/** Whether a run is begun, gone on with, or undone. */
function verbOf({ fleet }: Bench, { wasUnknown }: { wasUnknown: boolean }, history: RunHistory | undefined) {
  if (!history) return 'run'
  if (history.latest.mode === 'rollback') return 'rollback'
  return wasUnknown && fleet.plan.whenUnknown === 'rollback' && history.touched.size > 0 ? 'rollback' : 'resume'
}

/** Answers what a run asks until its process has ended. */
async function attend(
  child: ChildProcess,
  keep: (request: KeepRequest) => Promise<void>,
  { lost, signal }: Under,
  isKept: () => boolean,
): Promise<{ readonly code: number | null } | 'lost'> {
  let under: Promise<unknown> = Promise.resolve()
  let last: KeepRequest | undefined
  const answer = (request: KeepRequest) => {
    last = request
    under = under.then(async () => {
      const said: KeepAnswer = await kept(request)
      if (child.connected) child.send(said, () => {})
    })
  }
  /** Until it is kept, however long the database is away. */
  const kept = async (request: KeepRequest): Promise<KeepAnswer> => {
    for (;;) {
      if (lost.signal.aborted) return { kept: request.keep, refused: 'the cluster is another worker’s' }
      try {
        await keep(request)
        if (!lost.signal.aborted) return { kept: request.keep, lease }
      } catch (error) {
        if (error instanceof Lost) lost.abort()
        else await delay(1_000, undefined, { signal: lost.signal }).catch(() => {})
      }
    }
  }
  child.on('message', message => {
    const request = message as KeepRequest
    if (typeof request?.keep === 'number' && typeof request.run === 'string') answer(request)
  })
  // How steps ended is stored before the next one begins; where that takes long, it is stored in between.
  const between = setInterval(() => {
    const request = last
    if (!request || !isKept()) return
    last = undefined
    under = under.then(() => keep(request).catch(error => (error instanceof Lost ? lost.abort() : undefined)))
    under.finally(() => {
      last ??= request
    })
  }, storeEvery)
  const onLost = () => child.kill('SIGKILL')
  const onStop = () => !lost.signal.aborted && child.connected && child.send('SIGTERM', () => {})
  lost.signal.addEventListener('abort', onLost)
  signal.addEventListener('abort', onStop)
  if (signal.aborted) onStop()
  try {
    const code = await codeOf(child)
    clearInterval(between)
    await under
    return lost.signal.aborted ? 'lost' : { code }
  } finally {
    clearInterval(between)
    lost.signal.removeEventListener('abort', onLost)
    signal.removeEventListener('abort', onStop)
  }
}

/** With what a process ends; `null` where a signal ended it, or it could not be started. */
const codeOf = (child: ChildProcess): Promise<number | null> =>
  new Promise(done => {
    child.once('error', () => done(null))
    child.once('exit', done)
  })

/** Asks what the gates of the cluster's wave ask, one after the other. */
async function askGates(bench: Bench, row: ClusterRow, signal: AbortSignal): Promise<Ending> {
  for (const gate of bench.fleet.plan.waves[row.wave]?.gates ?? []) {
    const child = begin(bench, row, [gate, ...inventoryWords(bench.file, clusterOf(bench, row))], false)
    const stop = () => child.kill('SIGTERM')
    signal.addEventListener('abort', stop)
    if (signal.aborted) stop()
    const code = await codeOf(child)
    signal.removeEventListener('abort', stop)
    if (signal.aborted) return bench.signal.aborted ? { state: 'waiting' } : 'lost'
    if (code !== exitCodes.done) return { state: 'failed', error: `gate ${gate}: ${lastLine(bench, row)}` }
  }
  return { state: 'done' }
}

const logOf = ({ folder }: Bench, { name }: ClusterRow) => join(folder, 'logs', `${name}.log`)

/** Starts rekey for a cluster, in the folder of fleet.yml; what it says goes to a file. */
function begin(bench: Bench, row: ClusterRow, words: readonly string[], keeps: boolean): ChildProcess {
  madeFolder(bench, 'logs')
  const log = openSync(logOf(bench, row), 'w', 0o600)
  try {
    return spawn(process.execPath, [program, ...words], {
      cwd: bench.file.folder,
      env: { ...environment(), XDG_STATE_HOME: bench.folder, [keeperVariable]: keeps ? '1' : undefined },
      // Without a terminal there is nobody to ask.
      stdio: ['ignore', log, log, 'ipc'],
      // Ctrl-C is the worker's: it tells its runs.
      detached: true,
    })
  } finally {
    closeSync(log)
  }
}

const clusterOf = ({ file }: Bench, { name }: ClusterRow) => file.clusters.find(one => one.name === name)!

/** A folder in the worker's. */
function madeFolder({ folder }: Bench, name: string): string {
  const made = join(folder, name)
  mkdirSync(made, { recursive: true, mode: 0o700 })
  return made
}

/** What a process said last that was an error, or anything. */
function lastLine(bench: Bench, row: ClusterRow): string {
  const lines = readFileSync(logOf(bench, row), 'utf8').split('\n').filter(Boolean)
  const error = lines.findLast(line => line.startsWith('Error: '))?.slice('Error: '.length)
  return (error ?? lines.at(-1) ?? 'it said nothing').slice(0, 500)
}
