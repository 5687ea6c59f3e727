// What a run says at its end: the report, what went wrong, the state things are in. The same lines under every view.

import { formatDuration } from '../playbook/duration.ts'
import { names } from '../playbook/host.ts'
import type { RunEvent, Tally } from '../run/events.ts'
import type { Terminal } from './terminal.ts'
import { columns, tallied } from './words.ts'

type StepFinished = Extract<RunEvent, { kind: 'step.finished' }>

/** Errors that are told beside the worst one. */
const mostOthers = 4
/** Hosts up to which each has a line of its own at the end. */
const mostHosts = 12
/** Hosts that did not end well and have a line of their own, however many there are. */
const mostFailed = 20

/** The line that says which run this is. */
export function runLine({ run, check, mode }: Extract<RunEvent, { kind: 'run.started' }>): string {
  const how = { run: '', resume: ', gone on with', rollback: ', undone' }[mode]
  return `Run ${run}${how}${check ? ' (check: nothing is changed)' : ''}`
}

/** The lines for a `run.report` event. */
export function reportLines(event: Extract<RunEvent, { kind: 'run.report' }>): string[] {
  return event.sections.flatMap(({ title, rows }) => ['', title, ...columns(rows)])
}

/** What a check found that steps would do: hosts of which the same is said stand together. */
export function wouldLines(
  { plays }: Extract<RunEvent, { kind: 'run.started' }>,
  finished: readonly StepFinished[],
): string[] {
  const said = finished.filter(({ would }) => would !== undefined)
  if (said.length === 0) return []
  const lines = ['', 'What would be done']
  const alike = Map.groupBy(said, ({ play, step, would }) => JSON.stringify([play, step, would]))
  for (const group of alike.values()) {
    const [{ play, step, would = [] }] = group as [StepFinished]
    const title = plays[play]?.steps.find(({ id }) => id === step)?.title ?? step
    const hosts = new Set(group.map(({ host }) => host))
    const ordered = plays[play]?.hosts.filter(host => hosts.has(host)) ?? [...hosts]
    // A step without a plan says no more than its title.
    const more = would.filter(line => line !== title)
    lines.push(`  ${title} [${names(ordered)}]`, ...more.map(line => `      ${line}`))
  }
  return lines
}

/** The lines for a `run.finished` event. */
export function finishedLines(
  event: Extract<RunEvent, { kind: 'run.finished' }>,
  started: Extract<RunEvent, { kind: 'run.started' }> | undefined,
  { paint, signs }: Terminal,
): string[] {
  const lines = [
    '',
    paint('strong', `${endingLine(event.outcome, started)} after ${formatDuration(event.milliseconds)}`),
  ]
  // By the inventory's order; they come by when they ended.
  const hosts = new Set([...(started?.plays.flatMap(play => play.hosts) ?? []), ...Object.keys(event.tally)])
  const tallies = [...hosts].map((host): [string, Tally] => [host, event.tally[host] ?? {}])
  lines.push(...columns(tallyRows(tallies.filter(([host]) => host in event.tally))))
  if (event.error) {
    // What was ended with everything else is told by where things stand.
    const told = event.failures.filter(({ outcome }) => outcome !== 'cancelled')
    const alike = Map.groupBy(told, ({ error }) => error.message)
    const lineOf = (message: string) => `${paint('bad', 'Error:')} ${withHosts(message, alike.get(message) ?? [])}`
    const others = [...alike.keys()].filter(message => message !== event.error?.message)
    lines.push('', lineOf(event.error.message))
    for (const message of others.slice(0, mostOthers)) lines.push(lineOf(message))
    if (others.length > mostOthers) lines.push(`${signs.ellipsis} and ${others.length - mostOthers} more`)
    if (event.error.hint) lines.push(`Hint: ${event.error.hint}`)
  }
  if (event.state) lines.push('', 'Where things stand', ...event.state.map(line => `  ${line}`))
  return lines
}

/** A message with the hosts that it is about before it, where it does not name them itself. */
function withHosts(message: string, failures: readonly { readonly host: string }[]): string {
  const hosts = failures.map(({ host }) => host)
  return hosts.length === 0 || hosts.some(host => message.includes(host)) ? message : `${names(hosts)}: ${message}`
}

/** What became of it: `rotate-ca done`, `rotate-ca undone`, `the rollback of rotate-ca failed`. */
function endingLine(
  outcome: Extract<RunEvent, { kind: 'run.finished' }>['outcome'],
  started: Extract<RunEvent, { kind: 'run.started' }> | undefined,
): string {
  const playbook = started?.playbook ?? 'the run'
  const ending = { done: 'done', failed: 'failed', interrupted: 'was interrupted' }[outcome]
  if (started?.mode !== 'rollback') return `${playbook} ${ending}`
  if (outcome !== 'done') return `the rollback of ${playbook} ${ending}`
  const { to } = started.selection
  return to === undefined ? `${playbook} undone` : `${playbook} undone back to '${to}'`
}

/** A row a host; where there are many, those that did not end well first, and the others together that ended alike. */
function tallyRows(tallies: readonly (readonly [string, Tally])[]): [string, string][] {
  const isBad = ([, { failed, unreachable, unknown }]: readonly [string, Tally]) =>
    Boolean(failed || unreachable || unknown)
  const ordered = [...tallies.filter(isBad), ...tallies.filter(one => !isBad(one))]
  const alone =
    tallies.length <= mostHosts ? ordered : ordered.slice(0, Math.min(mostFailed, tallies.filter(isBad).length))
  const together = Map.groupBy(ordered.slice(alone.length), ([, tally]) => tallied(tally))
  return [
    ...alone.map(([host, tally]): [string, string] => [host, tallied(tally)]),
    ...[...together].map(([told, hosts]): [string, string] => [names(hosts.map(([host]) => host)), told]),
  ]
}
