// One step on one host: over the right connection, as often as it may be tried, and with an outcome whatever happens.
import { setTimeout as pause } from 'node:timers/promises'
import type { Connection } from '../connection/connection.ts'
import type { FileWatcher } from '../connection/files.ts'
import { turnWithTime } from '../connection/turns.ts'
import { CancelledError, HostFailedError, type RekeyError, UnknownOutcomeError } from '../errors.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { Host } from '../playbook/host.ts'
import { type CaughtFailure, type Outcome, PlannedWrite, type RunContext, Unchanged } from '../playbook/model.ts'
import { type Place, within } from '../playbook/stray.ts'
import { hostNamed, hostSession, textOf } from './context.ts'
import type { EventError, Prediction } from './events.ts'
import { eventError, failureOf, outcomeOf } from './failure.ts'
import type { LastingConnection } from './hosts/reconnect.ts'
import type { Sessions } from './hosts/sessions.ts'
import type { RunOptions } from './options.ts'
import { collectLines } from './printed/output-lines.ts'
import type { AnyContext, SelectedStep } from './select.ts'

/** What every step of a run shares. */
export interface StepRun {
  readonly options: RunOptions
  readonly base: RunContext
  /** What the playbook's `services` made. */
  readonly services: object
  readonly sessions: Sessions
  /** In `--check`: whether a step would have done something, so that what is asked after it may find it not done. */
  readonly predictions: { made: boolean }
}

/** How a step ended on a host. */
export interface StepResult {
  readonly outcome: Outcome
  readonly would?: string[]
  readonly predicted?: Prediction
  readonly error?: EventError
  readonly delegate?: string
  readonly tries?: number
  readonly declined?: true
}

/** How often a step was tried, and how to judge what came of it. */
interface Tries {
  made: number
  /** Whether nobody knows what became of it. */
  isOpen(error: Error): boolean
  /** A text as it may be told. */
  shorten(text: string): string
  /** Resolves once no command runs that was begun beside the one that failed. */
  settled(): Promise<void>
}

const defaultRetries = 3
const defaultDelay = 5_000

/**
 * Does a step on a host. Never rejects.
 * @param play the index of its play, for events
 * @param failure why the host is in a rescue or an always
 */
export async function executeStep(
  one: SelectedStep,
  host: Host,
  play: number,
  run: StepRun,
  failure?: CaughtFailure,
): Promise<StepResult> {
  const { options, sessions } = run
  const { emit, signal } = options
  const line =
    (stream: 'stdout' | 'stderr' | 'log') =>
    (text: string, goesOn = false) =>
      emit({
        kind: 'step.output',
        play,
        step: one.id,
        host: host.name,
        stream,
        line: text,
        goesOn: goesOn || undefined,
      })
  const watch: FileWatcher = change => {
    const diff = options.diff?.(change) ?? []
    if (diff.length > 0) emit({ kind: 'step.diff', play, step: one.id, host: host.name, path: change.path, diff })
  }
  const collectors = { stdout: collectLines(line('stdout')), stderr: collectLines(line('stderr')) }
  const commands = openCommands()
  let connection: LastingConnection | undefined
  let returns = 0
  let delegate: string | undefined
  const shorten = (text: string) => options.shorten(text, { play, step: one.id, host: host.name })
  const settled = () =>
    commands.ended(() => line('log')('a command that was begun beside what failed goes on: it is waited for'))
  const tries: Tries = { made: 0, shorten, isOpen: error => isOpen(error), settled }
  const how = () => ({ ...(delegate ? { delegate } : {}), ...(tries.made > 1 ? { tries: tries.made } : {}) })
  const contextOn = async (target: Host): Promise<AnyContext> => {
    connection = await sessions.open(target)
    returns = connection.returns
    const output = (stream: 'stdout' | 'stderr', text: string) => collectors[stream].write(text)
    const session = hostSession(target, connection, signal, { output, began: commands.began }, options.diff && watch)
    /** What is written on yet another host is told of this step, with that host's name. */
    const on = async (name: Host | string) => {
      const other = typeof name === 'string' ? hostNamed(options.inventory, name) : name
      const watchThere: FileWatcher = change => watch({ ...change, path: `${other.name}:${change.path}` })
      return hostSession(
        other,
        await sessions.open(other),
        signal,
        { began: commands.began },
        options.diff && watchThere,
      )
    }
    return {
      ...run.base,
      ...run.services,
      ...session,
      host,
      step: one.id,
      on,
      log: text => line('log')(textOf(text)),
      failure,
    }
  }
  /** A connection was lost in the middle, and the error is not what a command was found to have ended with. */
  const isOpen = (error: Error) =>
    connection !== undefined &&
    (connection.lost !== undefined ||
      (connection.returns > returns && (error as Partial<RekeyError>).code !== 'command.failed'))
  try {
    signal.throwIfAborted()
    const { delegateTo } = one
    delegate = typeof delegateTo === 'function' ? delegateTo(await contextOn(host)) : delegateTo
    const context = await contextOn(delegate === undefined ? host : hostNamed(options.inventory, delegate))
    const attempt = () =>
      runTries(one, context, run, tries).catch(async thrown => {
        // What comes after a failure finds nothing of the step still at work.
        await settled()
        throw thrown
      })
    const result = await within(placeOf(one, host, play, options), async () => {
      const done = await (options.check ? predictStep(one, context, attempt, run) : doStep(one, context, attempt))
      await commands.ended(() => context.log('a command that nobody waits for goes on: write an await before it'))
      return done
    })
    // A command that was told not to throw still ran over a connection that is now gone.
    if (connection?.lost && !signal.aborted) throw lostDuring(one, connection)
    return { ...result, ...how() }
  } catch (thrown) {
    const error = signal.aborted
      ? new CancelledError(`${one.title} was ended on ${host.name}`, { code: 'run.cancelled' })
      : failureOf(thrown, delegate ?? host.name)
    const known =
      connection && isOpen(error) && !signal.aborted && outcomeOf(error) === 'failed'
        ? lostDuring(one, connection, error)
        : error
    return { outcome: outcomeOf(known), error: eventError(known, shorten), ...how() }
  } finally {
    collectors.stdout.end()
    collectors.stderr.end()
  }
}

/** Milliseconds after which it is said that a step goes on for a command alone. */
const longForgotten = 2_000

/**
 * The commands of a step. One that was begun without `await` is part of it: where the step ended before it, nobody would hear that it failed,
 * and the end of the run would end it in the middle.
 */
function openCommands() {
  const running = new Set<Promise<void>>()
  return {
    began: (ended: Promise<void>): void => {
      running.add(ended)
      void ended.then(() => running.delete(ended))
    },
    /** Resolves once none runs any more, and whoever failed was heard. */
    ended: async (tell: () => void): Promise<void> => {
      if (running.size === 0) return
      const timer = setTimeout(tell, longForgotten)
      try {
        while (running.size > 0) await Promise.all(running)
      } finally {
        clearTimeout(timer)
      }
      // That a promise was rejected, and that nobody waited for it, is told a turn later each.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
    },
  }
}

function placeOf({ id, title }: SelectedStep, { name }: Host, play: number, { run }: RunOptions): Place {
  return { what: `'${title}'`, run, step: { play, id, title, host: name } }
}

async function doStep(one: SelectedStep, context: AnyContext, attempt: () => Promise<unknown>): Promise<StepResult> {
  if (one.when && !(await one.when(context))) return { outcome: 'skipped' }
  if (one.check && (await one.check(context))) return { outcome: 'ok' }
  const returned = await attempt()
  return { outcome: one.readOnly || returned instanceof Unchanged ? 'ok' : 'changed' }
}

/**
 * What a step would do. What it asks, or what one that only looks finds, after another step would have done something may fail for that
 * very reason: then nobody can tell, and the check goes on.
 */
async function predictStep(
  one: SelectedStep,
  context: AnyContext,
  attempt: () => Promise<unknown>,
  { predictions }: StepRun,
): Promise<StepResult> {
  const result = await checkStep(one, context, attempt).catch((thrown: unknown): StepResult => {
    const error = failureOf(thrown, context.host.name)
    // What a rescue takes up, or what is ignored, ends no check.
    const isHandled = one.readOnly && (one.caughtBy !== undefined || one.ignoreErrors)
    if (!predictions.made || isHandled || outcomeOf(error) !== 'failed') throw thrown
    return {
      outcome: one.readOnly ? 'ok' : 'changed',
      predicted: 'unknown',
      would: [`can't be told before: ${error.message}`],
    }
  })
  if (result.predicted) predictions.made = true
  return result
}

/** What only looks is run for real, the rest is asked for its plan. */
async function checkStep(one: SelectedStep, context: AnyContext, attempt: () => Promise<unknown>): Promise<StepResult> {
  if (one.when && !(await one.when(context))) return { outcome: 'skipped' }
  if (one.readOnly) {
    await attempt()
    return { outcome: 'ok' }
  }
  if (one.check && (await one.check(context))) return { outcome: 'ok' }
  if (!one.plan) return { outcome: 'changed', predicted: 'run', would: [one.title] }
  const would: string[] = []
  for (const item of [await one.plan(context)].flat()) {
    if (item === undefined) continue
    if (!(item instanceof PlannedWrite)) would.push(textOf(item))
    else if (await context.files.differs(item.path, item.content)) would.push(`write ${item.path}`)
  }
  return would.length === 0 ? { outcome: 'ok' } : { outcome: 'changed', predicted: 'change', would }
}

/** Runs a step, registers what it returns, and verifies it; once more where that fails and may be tried again. */
async function runTries(one: SelectedStep, context: AnyContext, run: StepRun, tries: Tries): Promise<unknown> {
  const most = 1 + (one.retries ?? (one.until ? defaultRetries : 0))
  const { signal } = context
  for (;;) {
    // Hosts begin a step together: so many as there is time for in this turn of the event loop.
    const turn = turnWithTime()
    if (turn) await turn
    tries.made++
    try {
      const returned = await one.run(context)
      const value = returned instanceof Unchanged ? returned.value : returned
      await run.options.registered.save(one.id, context.host.name, value)
      if (one.until && !(await one.until(value, context))) throw notYet(one, context.host, tries.made)
      if (!context.check) await one.verify?.(context)
      return returned
    } catch (thrown) {
      const error = failureOf(thrown, context.host.name)
      // What only looks may look again where it did not see all.
      const { code } = error as Partial<RekeyError>
      if (one.readOnly && code === 'connection.output-cut' && tries.made === 1 && !signal.aborted) {
        context.log(`${tries.shorten(error.message)}; looking again`)
        continue
      }
      // Only what is known to have failed may be done again: a lost connection leaves that open.
      if (tries.made >= most || signal.aborted || tries.isOpen(error) || outcomeOf(error) !== 'failed') throw thrown
      const delay = one.delay ?? defaultDelay
      context.log(
        `try ${tries.made} of ${most} failed: ${tries.shorten(error.message)}; again in ${formatDuration(delay)}`,
      )
      await tries.settled()
      await pause(delay, undefined, { signal })
    }
  }
}

function notYet({ title, id }: SelectedStep, { name }: Host, tries: number): HostFailedError {
  const times = tries === 1 ? 'try' : 'tries'
  return new HostFailedError(`what '${title}' waits for is not so on ${name}, after ${tries} ${times}`, {
    code: 'run.until',
    host: name,
    step: id,
    hint: 'Look at its output; a playbook that should wait longer has more `retries`, or a longer `delay`.',
  })
}

function lostDuring(one: SelectedStep, { name, lost }: Connection, error?: Error): UnknownOutcomeError {
  if (lost instanceof UnknownOutcomeError) return lost
  return new UnknownOutcomeError(
    `the connection to ${name} was lost during '${one.title}' (${(lost ?? error)?.message}): nobody knows whether it finished`,
    {
      code: 'connection.lost',
      host: name,
      step: one.id,
      hint: 'Look at the host before you go on.',
      cause: lost ?? error,
    },
  )
}
