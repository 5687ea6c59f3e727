// Executes a playbook from the connecting to the report: the lock, the plays, what is told at the end. Knows neither PKI nor
// Kubernetes nor how anything looks on the screen: it emits events.
import type { Connection } from '../connection/connection.ts'
import { limiter } from '../connection/limiter.ts'
import { exitCodes, HostFailedError, RekeyError, shown } from '../errors.ts'
import { type Host, type HostSource, names } from '../playbook/host.ts'
import type { Outcome, Playbook, RunContext, StepContext } from '../playbook/model.ts'
import { reportSections } from '../playbook/shape.ts'
import { type Place, watchRun, within } from '../playbook/stray.ts'
import { runContext } from './context.ts'
import { eventError, failureOf } from './failure.ts'
import { referenceOf } from './folder/folder.ts'
import { acquireLock, type Holder, type Lock, writeAudit } from './hosts/lock.ts'
import { openSessions } from './hosts/sessions.ts'
import type { RunOptions, RunResult } from './options.ts'
import { rollbackCommand } from './rollback.ts'
import { goThroughPlay, type Schedule } from './schedule.ts'
import { connectPlay, hostsIn, type Selected, selectPlays } from './select.ts'
import { count, isOverBudget, openStanding, type Standing, waitingHandlers } from './standing.ts'

export type { Earlier, RunOptions, RunResult } from './options.ts'
export { hostsIn, requireDelegates, selectPlays, tagsIn } from './select.ts'

/** Hosts by name in a line of where things stand; 'rekey show' names them all. */
const mostNamed = 12

/** Runs a playbook to its end, its first failure, or until `signal` is aborted. Rejects only for errors of rekey itself. */
export async function runPlaybook(playbook: Playbook, options: RunOptions): Promise<RunResult> {
  const { emit, signal, inventory, forks = 32, check = false } = options
  const started = performance.now()
  const chosen = selectPlays(playbook, options)
  const everyone = hostsToConnect(inventory, chosen)
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
    plays: selected.map(({ play: { title, tags }, hosts, steps }) => ({
      title,
      tags,
      hosts: hosts.map(({ name }) => name),
      steps: steps.map(({ id, title, runOnce = false, section, block }) => ({ id, title, runOnce, section, block })),
    })),
  })

  const notice = (text: string) => emit({ kind: 'notice', text: options.shorten(text) })
  const takenUp = options.earlier !== undefined
  let lock: Lock | undefined
  const returned = async (host: Host, connection: Connection) => lock?.requireOn(host, connection)
  const sessions = openSessions({ run: options.run, forks, signal, markers: !check, takenUp, returned, notice })
  const plays: { title: string; milliseconds: number }[] = []
  const base = runContext(options, sessions, { plays, started })
  const standing = openStanding(chosen, options.earlier)
  const { failures, tally } = standing
  let services: object & { close?(): void | Promise<void> } = {}
  let failure: Error | undefined
  let over = false
  const unwatch = watchRun(options.run, signal, stray => {
    const error = failureOf(stray, stray.place?.step?.host ?? '')
    // What is ended with the run is not told one by one.
    if (signal.aborted) return
    if (over) notice(error.message)
    else if (stray.place?.step) settleLate(stray.place.step, error, standing, options)
    else failure ??= error
    standing.stopped = true
  })
  const holder: Holder = {
    run: options.run,
    playbook: playbook.name,
    operator: options.operator,
    process: options.provenance.process,
    since: new Date().toISOString(),
  }
  // A host that may be unreachable is connected to later, and has at least the line that the run leaves at its end.
  const involved = new Set([...everyone, ...chosen.flatMap(({ hosts }) => hosts)])
  const { unrehearsed } = options.selection
  const why = unrehearsed === undefined ? '' : ` unrehearsed=${JSON.stringify(unrehearsed)}`
  const audit = (what: string) =>
    Promise.all(
      [...involved].map(async host => {
        const connection = sessions.opened(host)
        if (!connection) return
        await writeAudit(host, connection, holder, `${what}${why}`).catch((error: Error) => notice(error.message))
      }),
    )
  try {
    services = await openServices(playbook, base)
    requireOtherNames(services, base)
    const schedule: Schedule = {
      ...{ options, base, services, sessions, standing, predictions: { made: false } },
      limit: limiter(forks),
      guard: () => {
        if (lock?.lost) throw lock.lost
      },
    }
    for (const [index, one] of selected.entries()) {
      if (signal.aborted || standing.stopped) break
      const { title } = one.play
      const playStarted = performance.now()
      emit({ kind: 'play.started', play: index })
      await goThroughPlay(index, one, schedule)
      const milliseconds = Math.round(performance.now() - playStarted)
      plays.push({ title, milliseconds })
      emit({ kind: 'play.finished', play: index, milliseconds })
      if (index > 0) continue
      // Once all hosts are known to be there, or those that are not can be done without, and before anything is done on one.
      standing.stopped ||= cannotBegin(standing, chosen)
      if (!check && !signal.aborted && !standing.stopped) {
        lock = await acquireLock({
          hosts: lockHosts(inventory, everyone).filter(({ name }) => !standing.left.has(name)),
          open: sessions.open,
          holder,
          signal,
          take: options.takeLock ?? false,
          notice,
        })
        await audit(`${options.earlier?.mode ?? 'run'} started`)
      }
    }
    await options.flush()
  } catch (thrown) {
    failure ??= failureOf(thrown, '')
  }

  over = true
  const outcome = signal.aborted ? 'interrupted' : failures.length > 0 || failure ? 'failed' : 'done'
  try {
    if (playbook.report && !failure) {
      const report = () => playbook.report?.({ ...base, ...services, outcome } as never)
      const sections = reportSections(await within({ what: 'the report', run: options.run }, report))
      if (sections.length > 0) emit({ kind: 'run.report', sections })
    }
  } catch (thrown) {
    notice(`the report could not be made: ${failureOf(thrown, '').message}`)
  }
  try {
    await within({ what: 'the end of the services', run: options.run }, () => services.close?.())
  } catch (thrown) {
    // Whatever it held, the lock is given back.
    notice(`not everything of the playbook could be closed: ${failureOf(thrown, '').message}`)
  }
  const giveBack = async () => {
    if (!lock) return
    await audit(`${options.earlier?.mode ?? 'run'} ${outcome}`)
    for (const problem of await lock.release()) notice(`the lock is left behind: ${problem}`)
  }
  const tidy = async () => {
    // One that is undone has nothing to do on a host where it only looked; what its commands left there is removed all the same.
    const been = outcome === 'done' ? inventory.hosts.filter(({ name }) => options.earlier?.hosts.has(name)) : []
    await Promise.allSettled(been.map(sessions.open))
    await sessions.tidy()
  }
  await Promise.all([giveBack(), tidy()])
  await sessions.closeAll()
  unwatch()

  failures.sort((a, b) => rank(b.outcome) - rank(a.outcome))
  const error = failure ? eventError(failure, options.shorten) : failures[0]?.error
  const exitCode = exitCodeOf(outcome, failures[0]?.outcome, failure)
  emit({
    kind: 'run.finished',
    outcome,
    exitCode,
    milliseconds: Math.round(performance.now() - started),
    tally,
    failures,
    ...(outcome === 'done' ? {} : { state: stateOfThings(standing, selected, options) }),
    ...(error ? { error } : {}),
  })
  await options.flush().catch((thrown: unknown) => {
    // That the journal can't be written may have been told already.
    if (thrown !== failure) throw thrown
  })
  return { outcome, exitCode }
}

/** What a step is given beside what the run knows: its host's, and its own. */
const ofSteps: readonly string[] = ['host', '$', 'files', 'forward', 'step', 'failure'] satisfies (keyof StepContext)[]

/** Makes what the steps of a playbook share: under no name that means something else to a step. */
async function openServices({ services }: Playbook, base: RunContext): Promise<object & { close?(): void }> {
  const made: unknown = await within({ what: 'the services of the playbook', run: base.run }, () =>
    services?.(base as never),
  )
  if (made !== undefined && (typeof made !== 'object' || made === null))
    throw new HostFailedError(`the services of a playbook must be an object, not ${shown(made)}`, {
      code: 'playbook.services',
    })
  return made ?? {}
}

/** Throws where services have a name that means something else to a step: it would get one of the two in silence. */
function requireOtherNames(services: object, base: RunContext): void {
  const taken = Object.keys(services).find(name => name in base || ofSteps.includes(name))
  if (taken === undefined) return
  throw new HostFailedError(
    `a service of a playbook can't be called '${taken}': steps are given something else by that name`,
    { code: 'playbook.services', hint: 'Give it another name, in services and in the steps that use it.' },
  )
}

/** A step that had ended has failed after all: whoever goes on with the run does it again. */
function settleLate(
  { play, id, title, host }: NonNullable<Place['step']>,
  thrown: Error,
  standing: Standing,
  { emit, shorten }: RunOptions,
): void {
  const error = eventError(thrown, text => shorten(text, { play, step: id, host }))
  standing.failures.push({ host, step: title, outcome: 'failed', error })
  standing.left.set(host, 'failed')
  if (standing.finished.includes(title)) standing.finished.splice(standing.finished.indexOf(title))
  count(standing, host, 'failed')
  emit({ kind: 'step.finished', play, step: id, host, outcome: 'failed', milliseconds: 0, error })
}

function exitCodeOf(outcome: RunResult['outcome'], worst: Outcome | undefined, failure: Error | undefined): number {
  if (outcome === 'done') return exitCodes.done
  if (outcome === 'interrupted') return exitCodes.interrupted
  if (failure) return failure instanceof RekeyError ? failure.exitCode : exitCodes.hostFailed
  return worst === 'unreachable' || worst === 'unknown' ? exitCodes.unreachable : exitCodes.hostFailed
}

/** Where the lock of a cluster is: on its masters, in the run or not; without masters, on the hosts of the run. */
function lockHosts(inventory: HostSource, everyone: readonly Host[]): readonly Host[] {
  const masters = inventory.hosts.filter(({ groups }) => groups.includes('masters'))
  return masters.length > 0 ? masters : everyone
}

/**
 * The hosts that must be there: those of the plays, and those that steps are delegated to by name. A host that may be unreachable
 * in all of its plays is connected to when it is needed.
 */
function hostsToConnect(inventory: HostSource, chosen: readonly Selected[]): Host[] {
  const needed = new Set<string>()
  for (const { play, hosts, steps } of chosen) {
    if (!play.ignoreUnreachable) for (const { name } of hosts) needed.add(name)
    for (const { delegateTo } of steps) if (typeof delegateTo === 'string') needed.add(delegateTo)
  }
  return inventory.hosts.filter(({ name }) => needed.has(name))
}

/** Whether more hosts can't be reached than a play bears with, or one that steps are delegated to. */
function cannotBegin(standing: Standing, chosen: readonly Selected[]): boolean {
  const inPlays = new Set(chosen.flatMap(({ hosts }) => hosts.map(({ name }) => name)))
  return (
    [...standing.left.keys()].some(name => !inPlays.has(name)) ||
    chosen.some(({ play, hosts }) => isOverBudget(standing, play, hosts))
  )
}

function stateOfThings(standing: Standing, selected: readonly Selected[], options: RunOptions): string[] {
  const { finished, failures, notBegun } = standing
  const lastStep = finished.at(-1)
  const { check = false, earlier, provenance, selection } = options
  const run = referenceOf(options.run, options.folder)
  const undoing = earlier?.mode === 'rollback'
  const how: Partial<Record<Outcome, string>> = {
    unknown: 'nobody knows whether it finished',
    cancelled: 'was ended in the middle',
    unreachable: 'could not be started',
  }
  // By the inventory's order; they come by when they ended.
  const order = [...new Set([...options.inventory.hosts, ...hostsIn(selected)].map(({ name }) => name))]
  const listed = (hosts: readonly string[]) => {
    const on = new Set(hosts)
    return names(
      order.filter(name => on.has(name)),
      mostNamed,
    )
  }
  const failed = [...Map.groupBy(failures, one => `${one.step}: ${how[one.outcome] ?? 'failed'}`)].map(
    ([step, group]) => `${step} on ${listed(group.map(({ host }) => host))}`,
  )
  const left = [...notBegun].map(([step, hosts]) => `${step}: not begun on ${listed(hosts)}`)
  const waiting = check || undoing ? [] : waitingHandlers(standing, selected)
  const back = rollbackCommand(run, selection.to)
  const lines = [
    lastStep && lastStep !== 'Connect'
      ? `${undoing ? 'Undone' : 'Finished'} everywhere, last: ${lastStep}`
      : `No step of the playbook was ${undoing ? 'undone' : 'finished'}`,
    ...failed,
    ...left,
    ...(waiting.length > 0 ? [`Notified, and not run yet: ${waiting.join('; ')}. 'rekey resume' runs them`] : []),
  ]
  if (check) return [...lines, 'Nothing was changed: this was a check']
  // What was made up for a command can neither be gone on with nor undone.
  if (provenance.playbookFile === '') return lines
  return [...lines, undoing ? `Go on with it: ${back}` : `Go on: rekey resume ${run}; or back: ${back}`]
}

function rank(outcome: Outcome): number {
  return ['cancelled', 'failed', 'unreachable', 'unknown'].indexOf(outcome)
}
