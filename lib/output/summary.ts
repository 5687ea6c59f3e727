// What a run says at its end: the report, what went wrong, the state things are in. The same lines under every view.

import { formatDuration } from '../playbook/duration.ts'
import type { RunEvent } from '../run/events.ts'
import { columns, tallied } from './words.ts'

/** Errors that are told beside the worst one. */
const mostOthers = 4

/** The line that says which run this is. */
export function runLine({ run, check, mode }: Extract<RunEvent, { kind: 'run.started' }>): string {
  const how = { run: '', resume: ', gone on with', rollback: ', undone' }[mode]
  return `Run ${run}${how}${check ? ' (check: nothing is changed)' : ''}`
}

/** The lines for a `run.report` event. */
export function reportLines(event: Extract<RunEvent, { kind: 'run.report' }>): string[] {
  return event.sections.flatMap(({ title, rows }) => ['', title, ...columns(rows)])
}

/** The lines for a `run.finished` event. */
export function finishedLines(event: Extract<RunEvent, { kind: 'run.finished' }>, playbook: string): string[] {
  const ending = { done: 'done', failed: 'failed', interrupted: 'was interrupted' }[event.outcome]
  const lines = ['', `${playbook} ${ending} after ${formatDuration(event.milliseconds)}`]
  lines.push(...columns(Object.entries(event.tally).map(([host, tally]) => [host, tallied(tally)])))
  if (event.error) {
    const others = event.failures.filter(({ error }) => error.message !== event.error?.message)
    lines.push('', `Error: ${event.error.message}`)
    for (const { error } of others.slice(0, mostOthers)) lines.push(`Error: ${error.message}`)
    if (others.length > mostOthers) lines.push(`… and ${others.length - mostOthers} more`)
    if (event.error.hint) lines.push(`Hint: ${event.error.hint}`)
  }
  if (event.state) lines.push('', 'Where things stand', ...event.state.map(line => `  ${line}`))
  return lines
}
