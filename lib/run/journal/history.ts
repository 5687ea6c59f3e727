// What the journal of a run says: who began it, what ended how on which host, and where it stopped.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { RekeyError } from '../../errors.ts'
import type { Outcome } from '../../playbook/model.ts'
import { isAlive } from '../../process-identity.ts'
import type { EventError, Handled, PlannedPlay, PlannedStep, Prediction, RunEvent } from '../events.ts'
import { lastRun } from '../folder/folder.ts'
import { type Line, readLines } from '../folder/line-reader.ts'
import { cutMark, type JournalEnd, readJournalEnd } from './end.ts'
import { checkEvent } from './event-check.ts'
import { tracesIn } from './traces.ts'

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
  /** On which hosts a step returned something that is kept. */
  readonly returned: ReadonlyMap<string, ReadonlySet<string>>
  /** When each milestone came, milliseconds since 1970. */
  readonly milestones: ReadonlyMap<string, number>
  /** What of the journal can't be used, a line each; empty where it is whole. */
  readonly damage: readonly string[]
  /** Of some part of the run the beginning is among that: it may have been a rollback. */
  readonly lostBeginning: boolean
  /** Bytes that are missing at the end of the journal; 0 where nobody knows how many. */
  readonly missing?: number
}

/** How many of the lines that can't be used are told one by one. */
const mostTold = 5

/** Reads the journal of a run, as much of it as can be read. Throws `RekeyError` where the folder holds none. */
export function readHistory(folder: string): RunHistory {
  const progress = new Map<string, Map<string, Progress>>()
  const undone = new Map<string, Map<string, Progress>>()
  const failures = new Map<string, Map<string, EventError>>()
  const touched = new Map<string, Set<string>>()
  const returned = new Map<string, Set<string>>()
  /** What was begun by the part of the run that is being read, and did not end. */
  const open = new Map<string, { step: string; host: string }>()
  const milestones = new Map<string, number>()
  let first: RunStarted | undefined
  let latest: RunStarted | undefined
  let finished: RunFinished | undefined
  let announced: ReadonlySet<string> = new Set()
  let isUnannounced = false
  const plays = new Map<string, readonly [number, PlannedPlay]>()
  const end = readJournalEnd(folder)
  const { events, damage } = readEvents(join(folder, 'events.jsonl'), end)
  for (const event of events) {
    if (event.kind === 'run.started') {
      first ??= event
      latest = event
      finished = undefined
      announced = new Set(event.plays.flatMap(({ steps }) => steps.map(({ id }) => id)))
      if (event.mode !== 'rollback')
        // The connecting is also that of a rollback.
        for (const [index, play] of event.plays.entries())
          if (index > 0) plays.set(JSON.stringify([index, play]), [index, play])
      for (const one of open.values()) add(touched, one)
      open.clear()
    } else if (event.kind === 'run.finished') finished = event
    else if (event.kind === 'milestone') milestones.set(event.name, milestones.get(event.name) ?? event.at)
    else if (event.kind === 'step.started' || (event.kind === 'step.finished' && !event.earlier)) {
      const of = latest?.mode === 'rollback' ? undone : progress
      isUnannounced ||= !announced.has(event.step)
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
      const key = JSON.stringify([event.step, event.host])
      if (event.kind === 'step.started') open.set(key, event)
      else {
        open.delete(key)
        if (!['ok', 'skipped', 'unreachable'].includes(event.outcome)) add(touched, event)
        if (event.returned) add(returned, event)
        if (event.error) put(failures, event.step, event.host, event.error)
      }
    }
  }
  for (const one of open.values()) add(touched, one)
  if (latest && (!end || damage.isCut)) {
    const planned = new Set([...plays.values()].flatMap(([, { steps }]) => steps.map(({ id }) => id)))
    for (const one of tracesIn(folder, plays.values())) {
      // Only a rollback has such steps.
      if (!planned.has(one.step)) isUnannounced ||= one.step.startsWith('undo-') && !undone.has(one.step)
      else if (!progress.get(one.step)?.has(one.host)) {
        damage.hasTraces()
        put(progress, one.step, one.host, 'begun')
        add(touched, one)
      }
    }
  }
  if (damage.missing !== undefined && end?.mode === 'rollback' && latest?.mode !== 'rollback') isUnannounced = true
  const told = damage.told()
  if (!first || !latest) {
    throw new RekeyError([`${folder} holds no journal of a run`, ...told.slice(0, 1)].join(': '), {
      code: 'run.no-journal',
      hint:
        told.length > 0
          ? 'Put the journal back as it was: what a run did is known from nowhere else.'
          : "See what there is with 'rekey runs'.",
    })
  }
  if (damage.isInside) {
    // Between what is known of a host something must have been done there that the journal has lost.
    for (const one of lostSteps(latest.mode === 'rollback' ? first : latest, progress)) {
      put(progress, one.step, one.host, 'begun')
      add(touched, one)
    }
  }
  return {
    ...{ run: first.run, folder, first, latest, finished, progress, failures, touched, undone, returned, milestones },
    damage: told,
    lostBeginning: (damage.isInside || damage.missing !== undefined) && isUnannounced,
    missing: damage.missing,
  }
}

/**
 * The events in the journal of a run's folder, in their order, without what steps printed.
 * @param to bytes after which nothing is read
 */
export function journalEvents(folder: string, to?: number): Generator<RunEvent> {
  return readEvents(join(folder, 'events.jsonl'), undefined, to).events
}

/**
 * The events of a journal that can be used, and what is to be said of the other lines once all are read.
 * @param end how far it must come
 */
function readEvents(path: string, end?: JournalEnd, to?: number) {
  const wrong: string[] = []
  let count = 0
  let isInside = false
  let isCut = false
  let missing: number | undefined
  const events = function* (): Generator<RunEvent> {
    // Older journals have what steps printed, which is most of them.
    let size = sizeOf(path)
    for (const { number, at, text, broken } of linesOf(path, to)) {
      if (broken) size = at
      const cut = text === undefined || broken ? undefined : lostBefore(text)
      if (cut !== undefined) isCut = true
      const checked =
        text === undefined
          ? { wrong: 'is too long' }
          : cut === undefined
            ? checkEvent(text)
            : { wrong: `comes after ${lostBytes(cut)}` }
      if (!broken && 'event' in checked) yield checked.event
      else {
        // The line that was being written when its writer was killed says no more than that.
        isInside ||= !broken
        const what = broken ? 'ends in the middle' : (checked as { wrong: string }).wrong
        if (count++ < mostTold) wrong.push(`${path}:${number} ${what}`)
      }
    }
    if (end && size < end.bytes) [isCut, missing] = [true, end.bytes - size]
  }
  const told = () => [
    ...wrong,
    ...(count > wrong.length ? [`${path}: ${count - wrong.length} more lines like that`] : []),
    ...(missing === undefined ? [] : [`${path} ends before ${lostBytes(missing)}`]),
  ]
  return {
    events: events(),
    damage: {
      told,
      /** Something is there of steps that it does not name: its end is missing, unless it says so itself. */
      hasTraces: () => {
        if (!isCut) missing ??= 0
      },
      get isInside() {
        return isInside
      },
      /** Its end is missing, or was when somebody went on with it. */
      get isCut() {
        return isCut
      },
      get missing() {
        return missing
      },
    },
  }
}

/** How many bytes are lost before a line that says so; `undefined` where it is another line. */
function lostBefore(line: string): number | undefined {
  if (!line.startsWith(`{"kind":"${cutMark}"`)) return undefined
  const bytes = /"bytes":(\d{1,15})}$/.exec(line)?.[1]
  return bytes === undefined ? undefined : Number(bytes)
}

const lostBytes = (bytes: number) =>
  bytes === 0 ? 'something that is lost' : `${bytes} ${bytes === 1 ? 'byte' : 'bytes'} that are lost`

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/** The lines of a journal, without what steps printed. */
function* linesOf(path: string, to?: number): Generator<Line> {
  try {
    yield* readLines(path, { without: '{"kind":"step.output"', shorten: true, to })
  } catch (cause) {
    throw new RekeyError(`${path} can't be read: ${(cause as Error).message}`, {
      code: 'run.journal',
      hint: 'Whoever looks at a run must be allowed to read its folder.',
      cause,
    })
  }
}

/** Steps that must have been begun on a host, and of which nothing is known: of what comes after them in their play something is. */
function lostSteps({ plays }: RunStarted, progress: RunHistory['progress']): { step: string; host: string }[] {
  return plays.flatMap(({ steps, hosts }) =>
    hosts.flatMap(host => {
      const of = (step: PlannedStep) => progress.get(step.id)?.get(host)
      // Those that come by themselves, on every host; of a block that failed, the rest was left out.
      const always = steps.filter(({ section, runOnce }) => section === undefined && !runOnce)
      const left = new Set(
        steps.filter(step => ['rescued', 'failed'].includes(of(step) ?? '')).map(({ block }) => block),
      )
      const last = always.findLastIndex(step => of(step) !== undefined)
      return always
        .slice(0, Math.max(0, last))
        .filter(step => of(step) === undefined && (step.block === undefined || !left.has(step.block)))
        .map(({ id }) => ({ step: id, host }))
    }),
  )
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

function add(map: Map<string, Set<string>>, { step, host }: { step: string; host: string }): void {
  map.set(step, (map.get(step) ?? new Set()).add(host))
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
    .filter(hasJournal)
    .sort()
}

function hasJournal(folder: string): boolean {
  try {
    return statSync(join(folder, 'events.jsonl')).size > 0 || (readJournalEnd(folder)?.bytes ?? 0) > 0
  } catch (error) {
    // What may not be looked into is there all the same.
    return (error as NodeJS.ErrnoException).code !== 'ENOENT'
  }
}

/**
 * The folder of the run that is meant.
 * @param reference its id, a part of it that no other has, `last`, or the path of its folder, which has a slash
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
  // As with playbooks, a path is what has a slash: a folder that somebody put where the operator stands does not win over a run.
  if (reference.includes('/')) {
    if (existsSync(join(resolve(reference), 'events.jsonl'))) return resolve(reference)
    throw new RekeyError(`there is no run in ${resolve(reference)}`, {
      code: 'run.not-found',
      hint: "See those that are kept here with 'rekey runs'.",
    })
  }
  const found = folders.filter(folder => basename(folder).includes(reference))
  const [only] = found.filter(folder => basename(folder) === reference).concat(found.length === 1 ? found : [])
  if (only) return only
  const several = found.length > 1
  throw new RekeyError(
    several
      ? `'${reference}' may be any of ${found.map(folder => basename(folder)).join(', ')}`
      : `there is no run '${reference}'`,
    {
      code: several ? 'run.ambiguous' : 'run.not-found',
      hint:
        !several && existsSync(join(reference, 'events.jsonl'))
          ? `The folder of that name here is meant by its path: ./${reference}`
          : "See them with 'rekey runs'.",
    },
  )
}
