// `rekey fleet run`, `worker`, and what `go-on` and `retry` go on with: a process that works on a fleet.
import { join, relative, resolve } from 'node:path'
import { exitCodes, RekeyError } from '../../errors.ts'
import type { Fleet } from '../../fleet/definition/fleet-file.ts'
import { planWaves } from '../../fleet/definition/waves.ts'
import { openSenders } from '../../fleet/notify/senders.ts'
import {
  addEvent,
  addFleet,
  type FleetRow,
  hasRun,
  isThrough,
  latestFleet,
  lockFleet,
  requireFleet,
  setFleet,
} from '../../fleet/store/fleets.ts'
import { eventLine, statusOf } from '../../fleet/told/status.ts'
import type { WorkerTally } from '../../fleet/told/worker-metrics.ts'
import { work } from '../../fleet/work/worker.ts'
import { operatorName } from '../../operator.ts'
import { say, tell } from '../../output/print.ts'
import { count } from '../../output/report/words.ts'
import { names } from '../../playbook/host.ts'
import { findPlaybook, isPlaybookPath } from '../../playbook/load.ts'
import { playbookHash } from '../../run/journal/provenance.ts'
import { rekeyVersion } from '../../version.ts'
import { playbookFolders } from '../options/settings.ts'
import { interruptible } from '../running/interrupt.ts'
import { hearOrders, putStatus, type Store } from './store.ts'

/**
 * The playbook that is meant: what the command line says, or fleet.yml does.
 * @returns where it is here, and how another machine finds it: by its name, or from the folder of fleet.yml
 */
export function playbookOf(file: Fleet, reference: string | undefined): { path: string; reference: string } {
  if (reference === undefined && file.playbook === undefined)
    throw new RekeyError('no playbook is said, and fleet.yml names none', {
      code: 'fleet.no-playbook',
      hint: "Say which: 'rekey fleet run PLAYBOOK'; or write 'playbook:' into fleet.yml.",
    })
  const said = reference ?? file.playbook!
  const meant = isPlaybookPath(said) ? resolve(reference === undefined ? file.folder : '.', said) : said
  const path = findPlaybook(meant, playbookFolders())
  return { path, reference: isPlaybookPath(said) ? relative(file.folder, path) : said }
}

/**
 * The fleet that is to be worked on: the one that was begun last, where it is not through yet, or a new one.
 * @param anew give up the one that is not through
 */
export async function beginFleet(
  { file, database, key }: Store,
  { playbook, anew }: { readonly playbook: string | undefined; readonly anew: boolean },
): Promise<FleetRow> {
  const waves = planWaves(file)
  const { path, reference } = playbookOf(file, playbook)
  openSenders(file)
  const { recipient } = await key(true)
  const hash = playbookHash(path)
  await database.transaction(async query => {
    // Of two who begin at once, one finds what the other has begun.
    await query('SELECT pg_advisory_xact_lock(hashtext($1))', [`rekey fleet ${file.name}`])
    const before = await latestFleet(query, file.name)
    const isOpen = before && !isThrough(before)
    if (isOpen && !anew) {
      if (before.playbook === reference) return
      throw new RekeyError(
        `the fleet ${file.name} is not through with ${before.playbook}: ${reference} can't be begun`,
        {
          code: 'fleet.not-through',
          hint: `Go on with it first: 'rekey fleet run ${before.playbook}'; or give it up: --anew.`,
        },
      )
    }
    if (isOpen) await giveUp(query, before)
    const plan = {
      maxParallel: file.maxParallel,
      heartbeat: file.heartbeat,
      gatesEvery: file.gatesEvery,
      whenUnknown: file.whenUnknown,
      receivers: file.notify.map(({ title, kinds }) => ({ title, kinds })),
      waves: waves.map(wave => ({ ...wave, clusters: wave.clusters.map(one => ({ ...one, variables: {} })) })),
    }
    const operator = operatorName()
    const id = await addFleet(query, {
      ...{ name: file.name, playbook: reference, playbookHash: hash, hash: file.hash, rekey: rekeyVersion() },
      ...{ recipient, operator, plan },
    })
    const text = `${reference} over ${count(file.clusters.length, 'cluster')} in ${count(waves.length, 'wave')}`
    await addEvent(query, id, { kind: 'begun', operator, text })
  })
  return requireFleet(database.query, file.name)
}

async function giveUp(query: Parameters<typeof lockFleet>[0], before: FleetRow): Promise<void> {
  await lockFleet(query, before.id, true)
  // What is queued nobody has begun, and nobody does once the fleet is given up: who mended fleet.yml has no other way.
  const [busy] = await query<{ name: string }>(
    `SELECT name FROM rekey_fleet.cluster WHERE fleet = $1 AND state IN ('running', 'unknown') LIMIT 1`,
    [before.id],
  )
  if (busy)
    throw new RekeyError(`${busy.name} is under way: the fleet can't be given up now`, {
      code: 'fleet.under-way',
      hint: "Halt it, and wait until 'rekey fleet status' shows nothing under way.",
    })
  const half = await query<{ name: string }>(
    `SELECT name FROM rekey_fleet.cluster WHERE fleet = $1 AND ${hasRun} AND (state = 'failed' AND NOT left_failed OR state IN ('waiting', 'queued'))`,
    [before.id],
  )
  if (half.length > 0)
    throw new RekeyError(
      `${names(
        half.map(({ name }) => name),
        5,
      )} ${half.length > 1 ? 'are' : 'is'} in the middle of ${before.playbook}: the fleet can't be given up now`,
      {
        code: 'fleet.half-done',
        hint: `Go on with them: 'rekey fleet go-on', then 'rekey fleet run ${before.playbook}'; those that failed, and that you have seen to, may be left: 'rekey fleet go-on --leave-failed'.`,
      },
    )
  await setFleet(query, before.id, 'given-up', 'begun anew')
}

/** How a process works on a fleet. */
export interface Working {
  readonly fleet: FleetRow
  /** Clusters at a time. */
  readonly jobs: number
  /** As a worker that stays while the fleet is halted. */
  readonly stays: boolean
  readonly makes: boolean
  /** What counts what is done. */
  readonly tally?: WorkerTally | undefined
}

/** Milliseconds after which it is said again how the fleet is, though nothing has changed: that somebody works on it. */
export const putEvery = 5_000

/** Works until there is nothing to do any more. Returns the exit code. */
export async function workHere(store: Store, { fleet, jobs, stays, makes, tally }: Working): Promise<number> {
  const { database, file, folder } = store
  const { signal, release } = interruptible()
  let [shown, putAt] = ['', 0]
  const put = async () => {
    if (!database.isEmbedded) return
    await hearOrders(store)
    const status = await statusOf(database.query, await requireFleet(database.query, file.name))
    const text = JSON.stringify([status.fleet, status.waves, status.clusters, status.events[0]?.id])
    if (text === shown && performance.now() - putAt < putEvery) return
    ;[shown, putAt] = [text, performance.now()]
    putStatus(store, status)
  }
  try {
    const [row] = await database.query<{ last: number | null }>(
      "SELECT max(id)::int AS last FROM rekey_fleet.event WHERE fleet = $1 AND kind <> 'begun'",
      [fleet.id],
    )
    const last = await work({
      ...{ database, fleet, file, jobs, stays, makes, signal },
      key: await store.key(false),
      playbook: playbookOf({ ...file, playbook: fleet.playbook }, undefined).path,
      folder: join(folder, 'work'),
      after: row?.last ?? 0,
      event: one => {
        tally?.event(one)
        say(eventLine(one))
      },
      ...(tally && { seen: tally.seen, unanswered: tally.databaseError }),
      notice: text => tell(text),
      looked: put,
    })
    const state = last?.state
    if (signal.aborted) tell('Stopped: what was under way was put back. Go on with it by the same command.')
    else if (state === 'halted') tell(`Halted: ${last?.why}. See 'rekey fleet status'; go on with 'rekey fleet go-on'.`)
    if (signal.aborted) return exitCodes.interrupted
    return state === 'done' ? exitCodes.done : exitCodes.hostFailed
  } finally {
    release()
  }
}
