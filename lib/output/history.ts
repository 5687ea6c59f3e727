// A run as it is told afterwards, from its journal.
import { join } from 'node:path'
import { formatDuration } from '../playbook/duration.ts'
import { names } from '../playbook/host.ts'
import { referenceOf } from '../run/folder/folder.ts'
import { endingOf, isDone, type Progress, type RunHistory } from '../run/journal/history.ts'
import { rollbackCommand } from '../run/rollback.ts'
import { columns, placed } from './words.ts'

/** Characters of a line, or an error, that are told. */
const longest = 6_000

/** A run in a list, under `runHeads`: its id, and when, by whom, how it ended. */
export function runRow(history: RunHistory): readonly string[] {
  const { run, first } = history
  return [run, timeOf(first.at), first.operator, endingOf(history)]
}

/** What stands above a list of runs. */
export const runHeads = ['RUN', 'BEGUN (UTC)', 'BY', 'ENDED'] as const

/** What was chosen of the playbook when a run was begun, as options say it; of variables only the names. */
export function chosenOptions({ selection }: RunHistory['first']): string[] {
  const { limit, tags, skipTags, startAtStep, forceHandlers, extraVars = [], unrehearsed } = selection
  return [
    ...(limit ? [`--limit ${limit.join(',')}`] : []),
    ...(tags ? [`--tags ${tags.join(',')}`] : []),
    ...(skipTags ? [`--skip-tags ${skipTags.join(',')}`] : []),
    ...(startAtStep ? [`--start-at-step ${startAtStep}`] : []),
    ...(forceHandlers ? ['--force-handlers'] : []),
    ...(unrehearsed === undefined ? [] : [`--unrehearsed ${JSON.stringify(unrehearsed)}`]),
    ...extraVars.map(name => `-e ${name}=…`),
  ]
}

/**
 * All that the journal knows of a run: where it comes from, each step on each host, where things stand, what can be done.
 * @param elsewhere what can be done about a run whose folder is kept elsewhere, in place of what could be done here
 */
export function historyLines(history: RunHistory, elsewhere?: string): string[] {
  const { run, folder, first, latest, finished, progress, undone, damage } = history
  // Between a run and what goes on with it, a clock may have been set back.
  const took = finished && finished.at >= first.at ? `, after ${formatDuration(finished.at - first.at)}` : ''
  const chosen = chosenOptions(first)
  const lines = [
    `${first.playbook}: ${first.summary}`,
    ...columns([
      ['run', run],
      ['begun', `${timeOf(first.at)} by ${first.operator} on ${first.process.machine}, process ${first.process.pid}`],
      ...(latest === first
        ? []
        : [
            [
              latest.mode === 'rollback' ? 'undone' : 'gone on with',
              `${timeOf(latest.at)} by ${latest.operator} on ${latest.process.machine}, process ${latest.process.pid}`,
            ] as const,
          ]),
      ['ended', `${endingOf(history)}${took}`],
      ['rekey', first.commit],
      ['playbook', `${first.playbookFile} (sha256 ${first.playbookHash.slice(0, 16)})`],
      ['inventory', first.inventory.join(', ')],
      ...(chosen.length > 0 ? [['options', chosen.join(' ')] as const] : []),
      ...(elsewhere === undefined ? [['folder', folder] as const] : []),
    ]),
  ]
  const plans = latest.mode === 'rollback' ? [first, latest] : [latest]
  for (const { mode, plays } of plans) {
    const known = mode === 'rollback' ? undone : progress
    for (const { title, steps, hosts } of plays) {
      lines.push('', mode === 'rollback' ? `Rollback: ${title}` : title)
      lines.push(...columns(steps.map(step => [placed(step), toldOf(known.get(step.id), hosts, step.runOnce)])))
    }
  }
  if (finished?.error) lines.push('', `Error: ${finished.error.message}`)
  if (finished?.state) lines.push('', 'Where things stand', ...finished.state.map(line => `  ${line}`))
  const begun = finished ? [] : [...unfinished(history), ...waiting(history)]
  if (begun.length > 0) lines.push('', 'Where it stopped', ...begun.map(line => `  ${line}`))
  const next = elsewhere ?? nextOf(history)
  if (next !== undefined) lines.push('', next)
  if (damage.length > 0) lines.push('', 'Not known, since the journal is damaged', ...damage.map(line => `  ${line}`))
  // Journals of before have errors of any length.
  const place = elsewhere === undefined ? `, in ${join(folder, 'events.jsonl')}` : ''
  const more = (left: number) => ` … (${left} more characters${place})`
  return lines.map(line => (line.length > longest ? line.slice(0, longest) + more(line.length - longest) : line))
}

/** What the operator can do with a run whose end does not say it: one that is done, or was killed. */
export function nextOf(history: RunHistory): string | undefined {
  const { first, latest, finished, touched, lostBeginning } = history
  // What was made up for a command can neither be gone on with nor undone.
  if (first.check || first.playbookFile === '' || lostBeginning || endingOf(history).endsWith('running'))
    return undefined
  const run = referenceOf(history.run, history.folder)
  const back = rollbackCommand(run, latest.selection.to)
  if (latest.mode === 'rollback') return finished ? undefined : `Go on with it: ${back}`
  if (!finished) return `Go on: rekey resume ${run}; or back: ${back}`
  return finished.outcome === 'done' && touched.size > 0
    ? `What would be undone of it: ${back} --list-steps`
    : undefined
}

/** The steps that were begun and of whose end nothing is known. */
export function unfinished({ latest, progress, undone }: RunHistory): string[] {
  const titles = new Map(latest.plays.flatMap(({ steps }) => steps.map(({ id, title }) => [id, title] as const)))
  return [...(latest.mode === 'rollback' ? undone : progress)].flatMap(([id, hosts]) => {
    const begun = [...hosts].filter(([, how]) => how === 'begun' || how === 'unknown').map(([name]) => name)
    return begun.length > 0 ? `${titles.get(id) ?? id}: begun on ${names(begun)}, its end is not known` : []
  })
}

/** The handlers that were notified and not begun. */
export function waiting({ latest, progress }: RunHistory): string[] {
  if (latest.mode === 'rollback') return []
  return latest.plays.flatMap(({ steps, hosts }) =>
    steps.flatMap(({ id, title }) => {
      const on = hosts.filter(name => progress.get(id)?.get(name) === 'waiting')
      return on.length > 0 ? `${title}: notified on ${names(on)}, not run yet` : []
    }),
  )
}

function toldOf(known: ReadonlyMap<string, Progress> | undefined, hosts: readonly string[], runOnce: boolean): string {
  if (!known) return '-'
  const inOrder = [...known].sort(([a], [b]) => hosts.indexOf(a) - hosts.indexOf(b))
  const groups = Map.groupBy(inOrder, ([, how]) => how)
  const count = runOnce ? 1 : hosts.length
  return [...groups]
    .sort(([a], [b]) => Number(isDone(b)) - Number(isDone(a)))
    .map(([how, entries]) => {
      if (entries.length === count && groups.size === 1) return how
      // Which hosts are done, those that are not tell.
      return `${how} on ${names(
        entries.map(([name]) => name),
        isDone(how) ? undefined : entries.length,
      )}`
    })
    .join('; ')
}

function timeOf(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace('T', ' ')
}
