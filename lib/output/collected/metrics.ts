// How a run ended, and the figures of its report, as a file for the textfile collector of Prometheus' node_exporter: gauges, one name after the other.
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import type { EventMetric, RunEvent } from '../../run/events.ts'
import { visible } from '../text.ts'
import type { View } from '../view.ts'

type RunStarted = Extract<RunEvent, { kind: 'run.started' }>
type RunFinished = Extract<RunEvent, { kind: 'run.finished' }>

/**
 * Writes metrics into a file when the run ends: whole or not at all, for everybody's eyes. Of a run that was killed, the file of the one before
 * stays; of one that failed, or went to some hosts only, the points of time in it that it has nothing newer for.
 * @throws RekeyError at once where the file can't be written
 */
export function metricsView(file: string): View {
  requireWritable(file)
  let started: RunStarted | undefined
  let finished: RunFinished | undefined
  const reported: EventMetric[] = []
  return {
    event: event => {
      if (event.kind === 'run.started') started = event
      else if (event.kind === 'run.finished') finished = event
      else if (event.kind === 'run.report') reported.push(...event.sections.flatMap(({ metrics = [] }) => metrics))
    },
    close: async () => {
      if (!started || !finished) return
      const isWhole = finished.outcome === 'done' && !started.selection.limit && reported.length > 0
      const own = ownLabels(started)
      const kept = isWhole ? [] : stillTrue(earlierText(file), own)
      replaceFile(file, metricsText([...ofRun(started, finished), ...reported], own, kept))
    },
  }
}

/** What is known of any run. */
function ofRun({ check }: RunStarted, { at, outcome, exitCode, milliseconds }: RunFinished): EventMetric[] {
  const of = (name: string, help: string, value: number): EventMetric => ({ name: `rekey_run_${name}`, help, value })
  return [
    of('success', 'Whether the run was done (1), or failed or was interrupted (0).', outcome === 'done' ? 1 : 0),
    of('exit_code', 'The exit code of the run.', exitCode),
    of('check', 'Whether it was a check (1), which changes nothing.', check ? 1 : 0),
    of('end_timestamp_seconds', 'When the run ended, in seconds since 1970.', Math.round(at / 1_000)),
    of('duration_seconds', 'How long the run took.', milliseconds / 1_000),
  ]
}

/** A metric: a gauge, where it does not say that it only ever counts up. */
export interface Metric extends EventMetric {
  readonly type?: 'counter'
}

/** A sample as it stands in the file. */
interface Sample {
  readonly type?: 'counter'
  readonly name: string
  /** Escaped already. */
  readonly help: string
  readonly labels: string
  readonly value: number
}

type Labels = Readonly<Record<string, string>>

/**
 * Metrics in the text format of Prometheus: all of one name together, and its help once.
 * @param own labels that each of them has beside its own
 * @param kept what stood in the file before and is true still
 */
export function metricsText(metrics: readonly Metric[], own: Labels, kept: readonly Sample[] = []): string {
  const samples = metrics.map(
    ({ name, help, labels, value, type }): Sample => ({
      ...(type === undefined ? {} : { type }),
      ...{ name, help: escaped(help), labels: labelsOf({ ...own, ...labels }), value },
    }),
  )
  const lines = [...Map.groupBy([...kept, ...samples], ({ name }) => name)].flatMap(([name, all]) => [
    `# HELP ${name} ${all.at(-1)?.help ?? ''}`,
    `# TYPE ${name} ${all.at(-1)?.type ?? 'gauge'}`,
    // Two of one name and the same labels, and the collector takes nothing of any file: the last one counts.
    ...[...new Map(all.map(({ labels, value }) => [labels, value]))].map(
      ([labels, value]) => `${name}${labels} ${value}`,
    ),
  ])
  return `${lines.join('\n')}\n`
}

const ownLabels = ({ playbook, inventory }: RunStarted) => ({ playbook, inventory: inventory.join(',') })

/**
 * Points of time that an earlier run of the same playbook and inventory has told, and that a run knows nothing of which failed before it looked, or went to
 * some hosts only: when a certificate ends is true until somebody renews it, and whoever is to be alarmed by it must be so then above all.
 */
function stillTrue(text: string, labelsOfRun: Labels): Sample[] {
  const own = labelsOf(labelsOfRun).slice(0, -1)
  let [named, help] = ['', '']
  return text.split('\n').flatMap(line => {
    const told = /^# HELP (\w+) (.*)$/.exec(line)
    if (told) [, named = '', help = ''] = told
    const [, name = '', labels = '', value] =
      /^(\w+_timestamp_seconds)(\{(?:\w+="(?:[^\\"]|\\[\\"n])*",?)*\}) (\d{1,15}(?:\.\d{1,9})?)$/.exec(line) ?? []
    const isOwn = labels.startsWith(`${own},`) && !name.startsWith('rekey_run_')
    return value !== undefined && isOwn
      ? [{ name, help: name === named ? help : '', labels, value: Number(value) }]
      : []
  })
}

/** What is longer is none of ours. */
const mostBytes = 16 * 1024 * 1024

/** What the run before has written; nothing where that can't be read. No link is followed: others may write that folder. */
function earlierText(file: string): string {
  let descriptor: number | undefined
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const found = fstatSync(descriptor)
    return found.isFile() && found.size <= mostBytes ? readFileSync(descriptor, 'utf8') : ''
  } catch {
    return ''
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

const labelsOf = (labels: Readonly<Record<string, string>>) =>
  `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`)
    .join(',')}}`

const escaped = (text: string) =>
  text.split('\n').map(visible).join('\n').replaceAll('\\', '\\\\').replaceAll('\n', '\\n')

/** Throws where nothing could be written in the end: then nothing is to be done. */
function requireWritable(file: string): void {
  try {
    accessSync(dirname(file), constants.W_OK | constants.X_OK)
    if (statSync(file, { throwIfNoEntry: false })?.isFile() !== false) return
  } catch (cause) {
    throw unwritable(file, cause as NodeJS.ErrnoException)
  }
  throw unwritable(file, new Error('something else than a file is there'))
}

/** The collector reads all files that end in `.prom`, at any moment: it never sees half of one. */
function replaceFile(file: string, text: string): void {
  const beside = join(dirname(file), `.${basename(file)}.rekey-${process.pid}`)
  try {
    rmSync(beside, { force: true })
    const descriptor = openSync(beside, 'wx', 0o644)
    try {
      writeFileSync(descriptor, text, { flush: true })
      fchmodSync(descriptor, 0o644)
    } finally {
      closeSync(descriptor)
    }
    renameSync(beside, file)
  } catch (cause) {
    throw unwritable(file, cause as NodeJS.ErrnoException)
  } finally {
    rmSync(beside, { force: true })
  }
}

function unwritable(file: string, cause: NodeJS.ErrnoException): RekeyError {
  return new RekeyError(`the metrics can't be written to ${file}: ${cause.message}`, {
    code: 'output.metrics',
    hint: cause.code === 'ENOENT' ? 'Name a file in a folder that is there.' : 'Name a file that can be written.',
    cause,
  })
}
