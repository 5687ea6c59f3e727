// Executes a playbook: plays in order, their steps in lockstep over the hosts of a batch. Knows neither PKI nor Kubernetes nor
// how anything looks on the screen: it emits events.
import type { Connection } from '../connection/connection.ts'
import { remoteFiles } from '../connection/files.ts'
import { limiter } from '../connection/limiter.ts'
import { remoteShell } from '../connection/remote.ts'
import { CancelledError, exitCodes, RekeyError, UnknownOutcomeError } from '../errors.ts'
import type { Host, HostSource } from '../playbook/host.ts'
import {
  type HostSession,
  type Outcome,
  type Play,
  type Playbook,
  play,
  type RunContext,
  type Step,
  type StepContext,
  step,
  type Timeline,
  Unchanged,
} from '../playbook/model.ts'
import { batches } from './batches.ts'
import type { EventError, Failure, RunEventBody, RunSelection, Tally } from './events.ts'
import { eventError, failureOf, outcomeOf } from './failure.ts'
import { acquireLock, type Holder, type Lock, writeAudit } from './lock.ts'
import { collectLines } from './output-lines.ts'
import type { Provenance } from './provenance.ts'
import type { Registered } from './registered.ts'
import { openSessions, type Sessions } from './sessions.ts'

/** How a playbook is to be run. */
export interface RunOptions {
  readonly run: string
  readonly folder: string
  readonly inventory: HostSource
  /** The playbook's variables, checked by its schema already. */
  readonly vars: unknown
  /** Hosts that `--limit` leaves; all where nothing is said. */
  readonly limit?: ReadonlySet<string>
  readonly operator: string
  readonly provenance: Provenance
  readonly selection: RunSelection
  readonly check?: boolean
  /** Take the lock of the cluster from a run that is dead. */
  readonly takeLock?: boolean
  /** How many hosts work at the same time. */
  readonly forks?: number
  readonly tags?: readonly string[]
  readonly skipTags?: readonly string[]
  /** Leaves out the steps before the one with this id. */
  readonly startAtStep?: string
  /** Aborted to stop the run: commands are ended, and it says what state things are in. */
  readonly signal: AbortSignal
  /** Takes every event, redacted by the caller where that is needed. */
  emit(event: RunEventBody): void
  /** Resolves once the journal is on the disk. */
  flush(): Promise<void>
  /** Registers a value that must show nowhere. */
  redact(value: string): void
  /** Keeps what a step returned on a host, on the disk when it returns. */
  register(step: string, host: string, value: unknown): void
  /** What was done before, where a run is gone on with or undone. */
  readonly earlier?: Earlier
}

/** What a run that is gone on with knows of what was done before. */
export interface Earlier {
  readonly mode: 'resume' | 'rollback'
  readonly registered: Registered
  /** Whether a step came to a good end on a host. */
  done(step: string, host: string): boolean
  /** When milestones came, milliseconds since 1970. */
  readonly milestones: ReadonlyMap<string, number>
}

/** How a run ended. */
export interface RunResult {
  readonly outcome: 'done' | 'failed' | 'interrupted'
  readonly exitCode: number
}

type AnyContext = StepContext & object
type AnyPlay = Play<AnyContext>
type AnyStep = Step<AnyContext>

interface Selected {
  readonly play: AnyPlay
  readonly hosts: readonly Host[]
  readonly steps: readonly AnyStep[]
}

/** The hosts and steps that each play of a run will have: what `--list-hosts` and `--list-steps` print. */
export function selectPlays(
  playbook: Playbook,
  options: Pick<RunOptions, 'inventory' | 'limit' | 'tags' | 'skipTags' | 'startAtStep'>,
): Selected[] {
  const { inventory, limit, tags = [], skipTags = [], startAtStep } = options
  const within = (hosts: Host[]) => (limit ? hosts.filter(({ name }) => limit.has(name)) : hosts)
  const plays = playbook.plays as readonly AnyPlay[]
  if (startAtStep !== undefined && !plays.some(({ steps }) => steps.some(({ id }) => id === startAtStep))) {
    throw new RekeyError(`${playbook.name} has no step '${startAtStep}'`, {
      code: 'run.unknown-step',
      hint: `See the ids of its steps with: rekey run ${playbook.name} --list-steps`,
    })
  }
  let started = startAtStep === undefined
  const selected = plays.map(one => ({
    play: one,
    hosts: within(inventory.select(one.hosts)),
    steps: one.steps.filter(({ id, tags: own = [] }) => {
      started ||= id === startAtStep
      const all = [...own, ...(one.tags ?? [])]
      if (!started || all.some(tag => skipTags.includes(tag))) return false
      if (all.includes('always')) return true
      return tags.length === 0 ? !all.includes('never') : all.some(tag => tags.includes(tag))
    }),
  }))
  return selected.filter(({ hosts, steps }) => hosts.length > 0 && steps.length > 0)
}

/** Runs a playbook to its end, its first failure, or until `signal` is aborted. Rejects only for errors of rekey itself. */
export async function runPlaybook(playbook: Playbook, options: RunOptions): Promise<RunResult> {
  const { emit, signal, inventory, forks = 32, check = false } = options
  const started = performance.now()
  const chosen = selectPlays(playbook, options)
  const everyone = inventory.hosts.filter(({ name }) =>
    chosen.some(({ hosts }) => hosts.some(host => host.name === name)),
  )
  const selected: Selected[] = [connectPlay(everyone), ...chosen]
  emit({
    kind: 'run.started',
    mode: options.earlier?.mode ?? 'run',
    ...options.provenance,
    selection: options.selection,
    run: options.run,
    folder: options.folder,
    playbook: playbook.name,
    summary: playbook.summary,
    inventory: inventory.sources,
    operator: options.operator,
    check,
    plays: selected.map(({ play: { title }, hosts, steps }) => ({
      title,
      hosts: hosts.map(({ name }) => name),
      steps: steps.map(({ id, title, runOnce = false }) => ({ id, title, runOnce })),
    })),
  })

  const sessions = openSessions(forks, signal)
  const registered: Registered = options.earlier?.registered ?? new Map()
  const plays: { title: string; milliseconds: number }[] = []
  const base = runContext(options, sessions, registered, { plays, started })
  const tally: Record<string, Tally> = {}
  const failures: Failure[] = []
  let services: object & { close?(): void | Promise<void> } = {}
  let failure: Error | undefined
  let lastStep: string | undefined
  let lock: Lock | undefined
  const holder: Holder = {
    run: options.run,
    playbook: playbook.name,
    operator: options.operator,
    process: options.provenance.process,
    since: new Date().toISOString(),
  }
  const audit = (what: string) =>
    Promise.all(
      everyone.map(async host => {
        const connection = sessions.opened(host)
        if (!connection) return
        await writeAudit(host, connection, holder, what).catch((error: Error) =>
          emit({ kind: 'notice', text: error.message }),
        )
      }),
    )
  try {
    services = playbook.services?.(base as never) ?? {}
    await options.flush()
    for (const [index, { play: current, hosts, steps }] of selected.entries()) {
      if (signal.aborted || failures.length > 0) break
      const playStarted = performance.now()
      emit({ kind: 'play.started', play: index })
      for (const batch of batches(hosts, current.serial)) {
        for (const one of steps) {
          if (signal.aborted || failures.length > 0) break
          if (lock?.lost) throw lock.lost
          const limit = limiter(forks)
          const all = one.runOnce ? batch.slice(0, 1) : batch
          const on = all.filter(host => index === 0 || !isSettled(one, host, hosts, options.earlier))
          for (const { name } of all) {
            if (on.some(host => host.name === name)) continue
            const left = { outcome: 'skipped', milliseconds: 0, earlier: true } as const
            count(tally, name, left.outcome)
            emit({ kind: 'step.finished', play: index, step: one.id, host: name, ...left })
          }
          if (on.length === 0) continue
          // What the journal promises, it holds: the intent is on the disk before the step begins.
          for (const { name } of on) {
            const again = index > 0 && options.earlier?.done(one.id, name) ? ({ again: true } as const) : {}
            emit({ kind: 'step.started', play: index, step: one.id, host: name, ...again })
          }
          await options.flush()
          await Promise.all(
            on.map(host =>
              limit(async () => {
                const at = performance.now()
                const result = await executeStep(one, host, { index, base, services, sessions, options, registered })
                count(tally, host.name, result.outcome)
                if (result.error)
                  failures.push({ host: host.name, step: one.title, outcome: result.outcome, error: result.error })
                emit({
                  kind: 'step.finished',
                  play: index,
                  step: one.id,
                  host: host.name,
                  outcome: result.outcome,
                  milliseconds: Math.round(performance.now() - at),
                  ...(result.would ? { would: result.would } : {}),
                  ...(result.error ? { error: result.error } : {}),
                })
              }),
            ),
          )
          await options.flush()
          if (failures.length === 0) lastStep = one.title
        }
      }
      const milliseconds = Math.round(performance.now() - playStarted)
      plays.push({ title: current.title, milliseconds })
      emit({ kind: 'play.finished', play: index, milliseconds })
      // Once all hosts are known to be there, and before anything is done on one.
      if (index === 0 && !check && failures.length === 0) {
        lock = await acquireLock({
          hosts: lockHosts(inventory, everyone),
          open: sessions.open,
          holder,
          take: options.takeLock ?? false,
          notice: text => emit({ kind: 'notice', text }),
        })
        await audit(`${options.earlier?.mode ?? 'run'} started`)
      }
    }
  } catch (error) {
    failure = error as Error
  }

  const outcome = signal.aborted ? 'interrupted' : failures.length > 0 || failure ? 'failed' : 'done'
  try {
    if (playbook.report && !failure) {
      const sections = await playbook.report({ ...base, ...services, outcome } as never)
      if (sections.length > 0) emit({ kind: 'run.report', sections })
    }
  } catch (error) {
    emit({ kind: 'notice', text: `the report could not be made: ${(error as Error).message}` })
  }
  await services.close?.()
  if (lock) {
    await audit(`${options.earlier?.mode ?? 'run'} ${outcome}`)
    for (const problem of await lock.release()) emit({ kind: 'notice', text: `the lock is left behind: ${problem}` })
  }
  sessions.closeAll()

  failures.sort((a, b) => rank(b.outcome) - rank(a.outcome))
  const error = failure ? eventError(failure) : failures[0]?.error
  const exitCode = exitCodeOf(outcome, failures[0]?.outcome, failure)
  emit({
    kind: 'run.finished',
    outcome,
    exitCode,
    milliseconds: Math.round(performance.now() - started),
    tally,
    failures,
    ...(outcome === 'done' ? {} : { state: stateOfThings(lastStep, failures, check) }),
    ...(error ? { error } : {}),
  })
  await options.flush()
  return { outcome, exitCode }
}

/**
 * Whether a step needs nothing more on a host, in a run that is gone on with. Facts are looked at again unless they must be
 * those from before, and what can be checked is checked.
 */
function isSettled(one: AnyStep, { name }: Host, hosts: readonly Host[], earlier: Earlier | undefined): boolean {
  if (!earlier?.done(one.id, name)) return false
  if (one.together && hosts.some(host => !earlier.done(one.id, host.name))) return false
  const isFact = one.readOnly && earlier.registered.get(one.id)?.has(name)
  return one.remember || !(isFact || one.check)
}

function exitCodeOf(outcome: RunResult['outcome'], worst: Outcome | undefined, failure: Error | undefined): number {
  if (outcome === 'done') return exitCodes.done
  if (outcome === 'interrupted') return exitCodes.interrupted
  if (failure) return failure instanceof RekeyError ? failure.exitCode : exitCodes.hostFailed
  return worst === 'unreachable' || worst === 'unknown' ? exitCodes.unreachable : exitCodes.hostFailed
}

function count(tally: Record<string, Tally>, host: string, outcome: Outcome): void {
  const counts = tally[host] ?? {}
  tally[host] = { ...counts, [outcome]: (counts[outcome] ?? 0) + 1 }
}

/** Where the lock of a cluster is: on its masters, in the run or not; without masters, on the hosts of the run. */
function lockHosts(inventory: HostSource, everyone: readonly Host[]): readonly Host[] {
  const masters = inventory.hosts.filter(({ groups }) => groups.includes('masters'))
  return masters.length > 0 ? masters : everyone
}

/** Every run begins by connecting: a host that is down must be known before anything is changed anywhere. */
function connectPlay(hosts: readonly Host[]): Selected {
  const connect: AnyStep = step('Connect', { readOnly: true, run: () => {} })
  return { play: play('Connect', { hosts: 'all' }, [connect]), hosts, steps: [connect] }
}

function stateOfThings(lastStep: string | undefined, failures: readonly Failure[], check: boolean): string[] {
  const lines = [
    lastStep && lastStep !== 'Connect'
      ? `Finished everywhere, last: ${lastStep}`
      : 'No step of the playbook was finished',
  ]
  const how: Partial<Record<Outcome, string>> = {
    unknown: 'nobody knows whether it finished',
    cancelled: 'was ended in the middle',
    unreachable: 'could not be started',
  }
  for (const [step, group] of Map.groupBy(failures, one => `${one.step}: ${how[one.outcome] ?? 'failed'}`)) {
    lines.push(`${step} on ${group.map(({ host }) => host).join(', ')}`)
  }
  if (check) lines.push('Nothing was changed: this was a check')
  return lines
}

function rank(outcome: Outcome): number {
  return ['cancelled', 'failed', 'unreachable', 'unknown'].indexOf(outcome)
}

function runContext(
  options: RunOptions,
  sessions: Sessions,
  registered: Registered,
  { plays, started }: { plays: Timeline['plays']; started: number },
): RunContext {
  const began = Date.now() - (performance.now() - started)
  const milestones = new Map([...(options.earlier?.milestones ?? [])].map(([name, at]) => [name, at - began]))
  const { inventory, limit, signal, emit } = options
  const byName = new Map(inventory.hosts.map(host => [host.name, host]))
  return {
    run: options.run,
    folder: options.folder,
    vars: options.vars as Record<string, unknown>,
    mode: options.earlier?.mode ?? 'run',
    check: options.check ?? false,
    signal,
    hosts: pattern => inventory.select(pattern).filter(({ name }) => !limit || limit.has(name)),
    on: async name => {
      const host = typeof name === 'string' ? byName.get(name) : name
      if (!host) throw new RekeyError(`there is no host '${name}' in the inventory`, { code: 'run.unknown-host' })
      return hostSession(host, await sessions.open(host), signal)
    },
    log: text => emit({ kind: 'notice', text }),
    milestone: name => {
      if (milestones.has(name)) return
      milestones.set(name, performance.now() - started)
      emit({ kind: 'milestone', name })
    },
    timeline: { plays, milestones },
    redact: options.redact,
    registered: <T>(id: string, host?: string) => {
      const values = registered.get(id)
      return (host === undefined ? values?.values().next().value : values?.get(host)) as T | undefined
    },
  }
}

function hostSession(
  host: Host,
  connection: Connection,
  signal: AbortSignal,
  output?: (stream: 'stdout' | 'stderr', text: string) => void,
): HostSession {
  return {
    host,
    $: remoteShell(connection, { signal, output }),
    files: remoteFiles(connection, signal),
    forward: (address, port) => connection.forward(address, port),
  }
}

interface StepRun {
  readonly index: number
  readonly base: RunContext
  readonly services: object
  readonly sessions: Sessions
  readonly options: RunOptions
  readonly registered: Registered
}

interface StepResult {
  readonly outcome: Outcome
  readonly would?: string[]
  readonly error?: EventError
}

async function executeStep(one: AnyStep, host: Host, run: StepRun): Promise<StepResult> {
  const { options, sessions } = run
  const { emit, signal } = options
  const line = (stream: 'stdout' | 'stderr' | 'log') => (text: string) =>
    emit({ kind: 'step.output', play: run.index, step: one.id, host: host.name, stream, line: text })
  const collectors = { stdout: collectLines(line('stdout')), stderr: collectLines(line('stderr')) }
  let connection: Connection | undefined
  try {
    signal.throwIfAborted()
    connection = await sessions.open(host)
    const session = hostSession(host, connection, signal, (stream, text) => collectors[stream].write(text))
    const context: AnyContext = { ...run.base, ...run.services, ...session, log: line('log') }
    const result = await (options.check ? checkStep(one, context, run) : doStep(one, context, run))
    // A command that was told not to throw still ran over a connection that is now gone.
    if (connection.lost && !signal.aborted) throw lostDuring(one, host, connection.lost)
    return result
  } catch (thrown) {
    const error = signal.aborted
      ? new CancelledError(`${one.title} was ended on ${host.name}`, { code: 'run.cancelled' })
      : failureOf(thrown, host.name)
    const known =
      connection?.lost && !signal.aborted && !(error instanceof UnknownOutcomeError)
        ? lostDuring(one, host, connection.lost)
        : error
    return { outcome: outcomeOf(known), error: eventError(known) }
  } finally {
    collectors.stdout.end()
    collectors.stderr.end()
  }
}

async function doStep(one: AnyStep, context: AnyContext, run: StepRun): Promise<StepResult> {
  if (one.when && !(await one.when(context))) return { outcome: 'skipped' }
  if (one.check && (await one.check(context))) return { outcome: 'ok' }
  const returned = await one.run(context)
  const value = returned instanceof Unchanged ? returned.value : returned
  register(run, one, context, value)
  await one.verify?.(context)
  return { outcome: one.readOnly || returned instanceof Unchanged ? 'ok' : 'changed' }
}

function register({ registered, options }: StepRun, one: AnyStep, context: AnyContext, value: unknown): void {
  options.register(one.id, context.host.name, value)
  const values = registered.get(one.id) ?? new Map<string, unknown>()
  registered.set(one.id, values.set(context.host.name, value))
}

/** What a step would do: what only looks is run for real, the rest is asked for its plan. */
async function checkStep(one: AnyStep, context: AnyContext, run: StepRun): Promise<StepResult> {
  if (one.when && !(await one.when(context))) return { outcome: 'skipped' }
  if (one.readOnly) {
    register(run, one, context, await one.run(context))
    return { outcome: 'ok' }
  }
  if (one.check && (await one.check(context))) return { outcome: 'ok' }
  const plan = one.plan ? [await one.plan(context)].flat() : []
  return { outcome: 'changed', would: plan.length > 0 ? plan : [one.title] }
}

function lostDuring(one: AnyStep, host: Host, reason: Error): UnknownOutcomeError {
  return new UnknownOutcomeError(
    `the connection to ${host.name} was lost during '${one.title}' (${reason.message}): nobody knows whether it finished`,
    {
      code: 'connection.lost',
      host: host.name,
      step: one.id,
      hint: 'Look at the host before you go on.',
      cause: reason,
    },
  )
}
