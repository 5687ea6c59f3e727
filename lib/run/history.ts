// What the journal of a run says: who began it, what ended how on which host, and where it stopped.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { RekeyError } from '../errors.ts'
import type { Outcome } from '../playbook/model.ts'
import type { EventError, Handled, Prediction, RunEvent } from './events.ts'
import { lastRun } from './folder.ts'
import { linesOf } from './line-file.ts'
import { isAlive } from './provenance.ts'

export type RunStarted = Extract<RunEvent, { kind: 'run.started' }>
export type RunFinished = Extract<RunEvent, { kind: 'run.finished' }>

/**
 * How far a step came on a host: an outcome, what became of its failure, `begun` where the journal ends before its end; `waiting`
 * where it is a handler that was notified and not begun; `declined` where the operator did not want it undone; of a check, what it
 * said of it.
 */
export type Progress = Outcome | Handled | 'begun' | 'waiting' | 'declined' | 'would change' | 'would run'

/** A run as its journal tells it, over all the times that it was gone on with. */
export interface RunHistory {
  readonly run: string
  readonly folder: string
  /** How it began, and how it was gone on with last: the same where it never was. */
  readonly first: RunStarted
  readonly latest: RunStarted
  /** How the latest part ended; `undefined` where it goes on, or was killed. */
  readonly finished?: RunFinished
  /** Of the steps of the playbook, by step and host. */
  readonly progress: ReadonlyMap<string, ReadonlyMap<string, Progress>>
  /** What steps of the playbook failed with, the last time, by step and host. */
  readonly failures: ReadonlyMap<string, ReadonlyMap<string, EventError>>
  /**
   * On which hosts a step did something, or may have: what there is to undo. Not where it found all as it should be, unless it
   * was cut off before.
   */
  readonly touched: ReadonlyMap<string, ReadonlySet<string>>
  /** As `progress`, of the steps of a rollback; empty where there was none. */
  readonly undone: ReadonlyMap<string, ReadonlyMap<string, Progress>>
  /** When each milestone came, milliseconds since 1970. */
  readonly milestones: ReadonlyMap<string, number>
}

/** For journals that were written before runs said where they came from: they can be shown, and not gone on with. */
const withoutProvenance = {
  mode: 'run',
  selection: {},
  commit: 'unknown',
  playbookFile: '',
  playbookHash: '',
  inventoryHashes: {},
  process: { machine: '', pid: 0, started: '' },
} as const

/** Reads the journal of a run. Throws `RekeyError` where the folder holds none. */
export function readHistory(folder: string): RunHistory {
  const progress = new Map<string, Map<string, Progress>>()
  const undone = new Map<string, Map<string, Progress>>()
  const failures = new Map<string, Map<string, EventError>>()
  const touched = new Map<string, Set<string>>()
  /** What was begun by the part of the run that is being read, and did not end. */
  let open: { step: string; host: string }[] = []
  const touch = ({ step, host }: { step: string; host: string }) =>
    touched.set(step, (touched.get(step) ?? new Set()).add(host))
  const milestones = new Map<string, number>()
  let first: RunStarted | undefined
  let latest: RunStarted | undefined
  let finished: RunFinished | undefined
  for (const event of eventsOf(join(folder, 'events.jsonl'))) {
    if (event.kind === 'run.started') {
      const whole = { ...withoutProvenance, ...event }
      first ??= whole
      latest = whole
      finished = undefined
      for (const one of open.splice(0)) touch(one)
    } else if (event.kind === 'run.finished') finished = event
    else if (event.kind === 'milestone') milestones.set(event.name, milestones.get(event.name) ?? event.at)
    else if (event.kind === 'step.started' || (event.kind === 'step.finished' && !event.earlier)) {
      const of = latest?.mode === 'rollback' ? undone : progress
      const was = of.get(event.step)?.get(event.host)
      // Begun once more is not more than it was: a step that only looks may be looked at again.
      if (event.kind === 'step.started')
        put(of, event.step, event.host, was && isDone(was) && event.again ? was : 'begun')
      else {
        // What was left out on the way there is left out for good; on the way back it is still to be undone.
        const declined = event.declined && of === undone ? 'declined' : undefined
        put(of, event.step, event.host, declined ?? saidOf(event.predicted) ?? event.handled ?? event.outcome)
        if (latest) noteHandlers(of, event, latest)
      }
      if (of === undone) continue
      if (event.kind === 'step.started') open.push(event)
      else {
        open = open.filter(({ step, host }) => step !== event.step || host !== event.host)
        if (!['ok', 'skipped', 'unreachable'].includes(event.outcome)) touch(event)
        if (event.error) put(failures, event.step, event.host, event.error)
      }
    }
  }
  for (const one of open) touch(one)
  if (!first || !latest) {
    throw new RekeyError(`${folder} holds no journal of a run`, {
      code: 'run.no-journal',
      hint: "See what there is with 'rekey runs'.",
    })
  }
  return { run: first.run, folder, first, latest, finished, progress, failures, touched, undone, milestones }
}

function* eventsOf(path: string): Generator<RunEvent> {
  for (const [index, line] of linesOf(path).entries()) {
    try {
      yield JSON.parse(line) as RunEvent
    } catch (cause) {
      throw new RekeyError(`${path}:${index + 1} is no event of a run`, {
        code: 'run.journal',
        hint: 'Put the journal back as it was: what a run did is known from nowhere else.',
        cause,
      })
    }
  }
}

function saidOf(predicted: Prediction | undefined): Progress | undefined {
  return predicted === undefined || predicted === 'unknown' ? predicted : `would ${predicted}`
}

/** Has the handlers wait that a step notified; one that runs once has run for all. */
function noteHandlers(
  progress: Map<string, Map<string, Progress>>,
  { step, play, outcome, notified }: Extract<RunEvent, { kind: 'step.finished' }>,
  { plays }: RunStarted,
): void {
  for (const handler of notified?.handlers ?? [])
    for (const host of notified?.hosts ?? []) put(progress, handler, host, 'waiting')
  const planned = plays[play]?.steps.find(({ id }) => id === step)
  if (planned?.section !== 'handler' || !planned.runOnce || !isDone(outcome)) return
  const hosts = progress.get(step) ?? new Map<string, Progress>()
  for (const [host, how] of hosts) if (how === 'waiting') hosts.delete(host)
}

function put<T>(map: Map<string, Map<string, T>>, step: string, host: string, value: T): void {
  const hosts = map.get(step) ?? new Map<string, T>()
  map.set(step, hosts.set(host, value))
}

/** The names of the hosts on which a step was begun, whatever became of it. */
export function hostsOf({ progress }: RunHistory): ReadonlySet<string> {
  return new Set([...progress.values()].flatMap(hosts => [...hosts.keys()]))
}

/** Whether a step came to a good end. */
export function isDone(progress: Progress | undefined): boolean {
  return progress === 'ok' || progress === 'changed' || progress === 'skipped'
}

/** Whether all that can be undone is. */
export function isUndone({ latest, finished, undone }: RunHistory): boolean {
  if (latest.mode !== 'rollback' || latest.selection.to !== undefined || finished?.outcome !== 'done') return false
  return ![...undone.values()].some(hosts => [...hosts.values()].includes('declined'))
}

/** How a run ended, in a word or a few: for lists. */
export function endingOf({ first, latest, finished }: RunHistory): string {
  const undoing = latest.mode === 'rollback'
  if (undoing && finished?.outcome === 'done') {
    const { to } = latest.selection
    return to === undefined ? 'undone' : `undone back to ${to}`
  }
  const what = undoing ? 'rollback ' : first.check ? 'check ' : ''
  if (finished) return `${what}${finished.outcome}`
  if (isAlive(latest.process) === false) return `${what}killed`
  return isAlive(latest.process) ? `${what}running` : `${what}not ended`
}

/** The folders of all runs, oldest first. One that was killed before it wrote a word did nothing, and is none. */
export function runFolders(parent: string): string[] {
  if (!existsSync(parent)) return []
  return readdirSync(parent, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(({ name }) => join(parent, name))
    .filter(folder => (statSync(join(folder, 'events.jsonl'), { throwIfNoEntry: false })?.size ?? 0) > 0)
    .sort()
}

/**
 * The folder of the run that is meant.
 * @param reference its id, a part of it that no other has, `last`, or the path of its folder
 * @throws RekeyError where none or several are meant
 */
export function findRun(reference: string, parent: string): string {
  if (reference === '') {
    throw new RekeyError('no run is named: the word for it is empty', {
      code: 'run.not-found',
      hint: "Name one by its id or a part of it, or say 'last'. See them with 'rekey runs'.",
    })
  }
  const folders = runFolders(parent)
  const begunLast = join(parent, lastRun(parent) ?? '')
  const last = folders.includes(begunLast) ? begunLast : folders.at(-1)
  if (reference === 'last' && last) return last
  if (existsSync(join(resolve(reference), 'events.jsonl'))) return resolve(reference)
  const found = folders.filter(folder => basename(folder).includes(reference))
  const [only] = found.filter(folder => basename(folder) === reference).concat(found.length === 1 ? found : [])
  if (only) return only
  const several = found.length > 1
  throw new RekeyError(
    several
      ? `'${reference}' may be any of ${found.map(folder => basename(folder)).join(', ')}`
      : `there is no run '${reference}'`,
    { code: several ? 'run.ambiguous' : 'run.not-found', hint: "See them with 'rekey runs'." },
  )
}
