// Takes the hosts of a play through it: batch by batch, in lockstep or each at its own pace, into blocks and their rescue, and
// through the handlers at the end. A play of one host and one of many are the same: in lockstep many go together, freely each alone.
import type { limiter } from '../connection/limiter.ts'
import type { Host } from '../playbook/host.ts'
import type { CaughtFailure } from '../playbook/model.ts'
import { batches } from './batches.ts'
import { isDone } from './journal/history.ts'
import type { Selected, SelectedBlock, SelectedItem, SelectedStep } from './select.ts'
import { count, handlingOf, isGone, isOverBudget, notify, type Standing } from './standing.ts'
import { executeStep, type StepResult, type StepRun } from './step.ts'

/** What the plays of a run share. */
export interface Schedule extends StepRun {
  readonly standing: Standing
  /** Bounds how many hosts work at the same time. */
  readonly limit: ReturnType<typeof limiter>
  /** Throws where the run may not go on, whatever its hosts say. */
  guard(): void
}

/** A batch of hosts on its way through a play. */
interface Batch {
  readonly index: number
  readonly selected: Selected
  readonly hosts: readonly Host[]
  readonly isLast: boolean
  /** On which hosts something failed, what, and which block takes it up. */
  readonly caught: Map<string, { readonly by?: SelectedBlock; readonly failure: CaughtFailure }>
  /** How many steps were done on a host, without those from before. */
  readonly worked: Map<string, number>
  readonly schedule: Schedule
}

/** In which part of a block hosts are. */
interface Part {
  /** Goes to its end although the run stops. */
  readonly despiteStop?: boolean
  /** Hosts on which all of it is to be done, also what was done before. */
  readonly anew?: ReadonlySet<string>
}

/** Takes a play's hosts through it, those that left the run before left out. */
export async function goThroughPlay(index: number, selected: Selected, schedule: Schedule): Promise<void> {
  const { play, items, handlers } = selected
  const { standing } = schedule
  const parts = batches(selected.hosts, play.serial)
  for (const [number, part] of parts.entries()) {
    if (mustHalt(schedule) || standing.stopped) break
    const hosts = part.filter(({ name }) => !standing.left.has(name))
    const isLast = number === parts.length - 1
    const batch: Batch = { index, selected, hosts, isLast, caught: new Map(), worked: new Map(), schedule }
    const goThroughAll = async (together: readonly Host[]) => {
      const came = await goThrough(batch, items, together, {})
      await flushHandlers(batch, handlers, together, came)
    }
    if (play.strategy !== 'free') await goThroughAll(hosts)
    else {
      // All of them come to their end before anything else is done, also where one of them is thrown out.
      const ends = await Promise.allSettled(hosts.map(host => goThroughAll([host])))
      for (const end of ends) if (end.status === 'rejected') throw end.reason
    }
  }
}

/** Takes hosts through steps and blocks. Returns those that came through. */
async function goThrough(batch: Batch, items: readonly SelectedItem[], hosts: readonly Host[], part: Part) {
  let on = hosts
  for (const item of items) {
    if (on.length === 0 || mustHalt(batch.schedule) || (batch.schedule.standing.stopped && !part.despiteStop)) break
    on = 'steps' in item ? await goThroughBlock(batch, item, on, part) : await goThroughStep(batch, item, on, part)
  }
  return on
}

async function goThroughBlock(batch: Batch, block: SelectedBlock, hosts: readonly Host[], part: Part) {
  const { caught, schedule, worked } = batch
  const workedBefore = new Map(worked)
  // A host that was in the rescue when the run ended goes on there: what the rescue undid must not be done again.
  const fresh = hosts.filter(host => {
    const failure = failureFromBefore(batch, block, host)
    if (failure) caught.set(host.name, { by: block, failure })
    return !failure
  })
  const came = await goThrough(batch, block.steps, fresh, part)
  const failed = hosts.filter(({ name }) => caught.get(name)?.by === block)
  const rescued = await goThrough(batch, block.rescue, failed, { ...part, despiteStop: true })
  const anew = new Set(hosts.map(({ name }) => name).filter(name => worked.get(name) !== workedBefore.get(name)))
  const present = hosts.filter(host => !isGone(schedule.standing, host))
  const ended = await goThrough(batch, block.always, present, { anew, despiteStop: true })
  for (const { name } of rescued) caught.delete(name)
  return ended.filter(host => came.includes(host) || rescued.includes(host))
}

/** Runs the handlers that wait: on the hosts that came through, or on all that are still there where the play says so. */
async function flushHandlers(
  batch: Batch,
  handlers: readonly SelectedStep[],
  hosts: readonly Host[],
  came: readonly Host[],
) {
  const { schedule, selected } = batch
  const { standing } = schedule
  const forced = schedule.options.forceHandlers || selected.play.forceHandlers || false
  for (const handler of handlers) {
    if (mustHalt(schedule) || (standing.stopped && !forced)) break
    const able = forced
      ? hosts.filter(host => !isGone(standing, host))
      : came.filter(({ name }) => !standing.left.has(name))
    const waiting = able.filter(({ name }) => standing.waiting.get(handler.id)?.has(name))
    if (waiting.length > 0) await goThroughStep(batch, handler, waiting, {})
  }
}

/** Does a step on hosts, as many at a time as may be. Returns those that go on. */
async function goThroughStep(batch: Batch, one: SelectedStep, hosts: readonly Host[], part: Part) {
  const { schedule, index: play } = batch
  const { options, standing } = schedule
  const { emit } = options
  schedule.guard()
  const all = one.runOnce ? [firstFor(batch, one, hosts)] : hosts
  const on = all.filter(host => !isSettled(batch, one, host, part))
  for (const host of all) {
    if (on.includes(host)) continue
    const left = { outcome: 'skipped', milliseconds: 0, earlier: true } as const
    count(standing, host.name, left.outcome)
    emit({ kind: 'step.finished', play, step: one.id, host: host.name, ...left })
  }
  const noteLast = () => {
    const isEverywhere = hosts.length === batch.hosts.length && !standing.notBegun.has(one.title)
    if (batch.isLast && standing.failures.length === 0 && isEverywhere) standing.finished.push(one.title)
  }
  if (on.length === 0) {
    noteLast()
    return hosts
  }
  // Nobody knows how long the answer takes.
  if (options.confirm) await options.flush()
  const isDeclined = play > 0 && options.confirm && !(await options.confirm(one.title, on))
  if (mustHalt(schedule)) return []
  const ends = await Promise.allSettled(
    on.map(host =>
      schedule.limit(async () => {
        if (mustHalt(schedule)) {
          standing.notBegun.set(one.title, [...(standing.notBegun.get(one.title) ?? []), host.name])
          return []
        }
        const again = isDoneBefore(batch, one, host.name) ? ({ again: true } as const) : {}
        emit({ kind: 'step.started', play, step: one.id, host: host.name, ...again })
        // Those that begin together share a flush.
        await Promise.resolve()
        // What the journal promises, it holds: on the disk, before the step begins, are the intent and how the steps before it ended.
        await options.flush()
        const at = performance.now()
        const failure = one.section === 'handler' ? undefined : batch.caught.get(host.name)?.failure
        const result = isDeclined ? decline(batch, one, host) : await executeStep(one, host, play, schedule, failure)
        return settle(batch, one, host, one.runOnce ? hosts : [host], result, performance.now() - at)
      }),
    ),
  )
  // The journal can't be written: what is under way has come to its end before anything else is done.
  for (const end of ends) if (end.status === 'rejected') throw end.reason
  const goesOn = new Set(ends.flatMap(end => (end.status === 'fulfilled' ? end.value : [])))
  noteLast()
  return hosts.filter(host => goesOn.has(host) || (!one.runOnce && !on.includes(host)))
}

/** Draws the consequences of a step's end on a host, for the hosts that it holds for. Returns those that go on. */
function settle(
  batch: Batch,
  one: SelectedStep,
  { name: host }: Host,
  affected: readonly Host[],
  { error, ...result }: StepResult,
  milliseconds: number,
): readonly Host[] {
  const { schedule, index: play, selected, hosts, worked } = batch
  const { standing, options } = schedule
  const { outcome } = result
  const handled = error ? handlingOf(one, outcome) : undefined
  const names = affected.map(({ name }) => name)
  const handlers = error || !callsHandlers(batch, one, host, outcome) ? [] : [one.notify ?? []].flat()
  if (!isDoneBefore(batch, one, host) || outcome === 'changed') worked.set(host, (worked.get(host) ?? 0) + 1)
  count(standing, host, handled ?? outcome)
  notify(standing, handlers, names)
  if (one.section === 'handler' && (!error || handled === 'ignored')) {
    for (const name of names) standing.waiting.get(one.id)?.delete(name)
  }
  if (error && handled !== 'ignored') {
    const by = handled === 'rescued' ? one.caughtBy : undefined
    for (const name of names) batch.caught.set(name, { by, failure: { step: one.id, ...error } })
  }
  if (error && !handled) {
    standing.failures.push({ host, step: one.title, outcome, error })
    standing.left.set(host, outcome)
    // What nobody knows the end of, nobody goes on after.
    if (outcome === 'unknown' || one.anyErrorsFatal || one.runOnce || isOverBudget(standing, selected.play, hosts))
      standing.stopped = true
  }
  options.emit({
    kind: 'step.finished',
    play,
    step: one.id,
    host,
    milliseconds: Math.round(milliseconds),
    ...result,
    ...(options.registered.has(one.id, host) ? { returned: true } : {}),
    ...(handled ? { handled } : {}),
    ...(handlers.length > 0 ? { notified: { handlers, hosts: names } } : {}),
    ...(error ? { error } : {}),
  })
  return error && handled !== 'ignored' ? [] : affected
}

/** A step that the operator said no to. */
function decline({ index: play, schedule }: Batch, { id: step }: SelectedStep, { name: host }: Host): StepResult {
  const line = 'left out: the answer was no'
  schedule.options.emit({ kind: 'step.output', play, step, host, stream: 'log', line })
  return { outcome: 'skipped', declined: true }
}

/** A change calls the handlers; so does what was cut off before, since the change may be from then. */
function callsHandlers(batch: Batch, { id }: SelectedStep, host: string, outcome: StepResult['outcome']): boolean {
  if (outcome === 'changed') return true
  const before = batch.schedule.options.earlier?.progress?.(id, host)
  return outcome === 'ok' && before !== undefined && !isDone(before)
}

/** The host that a step which runs once runs on: where it came to an end before, if it did. */
function firstFor(batch: Batch, { id }: SelectedStep, hosts: readonly Host[]): Host {
  const before = (host: Host) => earlierIn(batch)?.progress?.(id, host.name)
  return (hosts.find(host => isDone(before(host))) ?? hosts.find(host => before(host)) ?? hosts[0])!
}

/**
 * Whether a step needs nothing more on a host, in a run that is gone on with. Facts are looked at again unless they must be
 * those from before, and what can be checked is checked; but not what a rescue or an always did, as that may no longer be so.
 */
function isSettled(batch: Batch, one: SelectedStep, { name }: Host, { anew }: Part): boolean {
  const earlier = earlierIn(batch)
  if (!earlier || one.section === 'handler') return false
  if (one.section === 'always' && anew?.has(name)) return false
  if (earlier.progress?.(one.id, name) === 'ignored') return true
  if (!earlier.done(one.id, name)) return false
  if (one.together && batch.selected.hosts.some(host => !earlier.done(one.id, host.name))) return false
  const isFact = one.readOnly && batch.schedule.options.registered.has(one.id, name)
  return one.section !== undefined || one.remember || !(isFact || one.check)
}

function isDoneBefore(batch: Batch, { id }: SelectedStep, host: string): boolean {
  return earlierIn(batch)?.done(id, host) ?? false
}

/** What took a host into the rescue of a block before the run was gone on with. */
function failureFromBefore(batch: Batch, block: SelectedBlock, { name }: Host): CaughtFailure | undefined {
  const earlier = earlierIn(batch)
  for (const one of earlier ? batch.selected.steps : []) {
    if (one.caughtBy !== block) continue
    const host = one.runOnce
      ? batch.hosts.find(other => earlier?.progress?.(one.id, other.name) === 'rescued')?.name
      : name
    if (host === undefined || earlier?.progress?.(one.id, host) !== 'rescued') continue
    return { step: one.id, ...(earlier.failure?.(one.id, host) ?? { message: 'failed' }) }
  }
  return undefined
}

/** What was done before; nothing of the connecting that every run begins with. */
function earlierIn({ index, schedule }: Batch) {
  return index === 0 ? undefined : schedule.options.earlier
}

/** Whether nothing at all may be done any more. */
function mustHalt({ options }: Schedule): boolean {
  return options.signal.aborted
}
