// Which view a run gets: the tree on a terminal, plain lines elsewhere, JSON lines where asked; and a JUnit report and metrics beside any of them.
import { messageOf } from '../errors.ts'
import type { RunEvent, Text } from '../run/events.ts'
import { junitView } from './collected/junit.ts'
import { metricsView } from './collected/metrics.ts'
import { plainView } from './plain.ts'
import { showingRun, tell } from './print.ts'
import { terminalOf } from './terminal.ts'
import { visibleJson } from './text.ts'
import type { View } from './view.ts'

export const outputKinds = ['auto', 'tree', 'plain', 'json'] as const

export type OutputKind = (typeof outputKinds)[number]

/** How a run is to be shown. */
export interface ViewSettings {
  /** `auto` is a tree where somebody watches a terminal, and plain lines elsewhere. */
  readonly output: OutputKind
  /** Every line that steps print, as it comes. */
  readonly verbose?: boolean
  /** The file for a JUnit report. */
  readonly junit?: string
  /** The file for metrics. */
  readonly metrics?: string
}

/** What shows a run. */
export interface Shown extends Omit<View, 'close'> {
  /** Returns whether the reports that were asked for are there; where one is not, that was told. */
  close(): Promise<boolean>
}

/**
 * Opens what was asked for.
 * @throws RekeyError where the JUnit report or the metrics can't be written
 */
export async function openView(
  { output, verbose = false, junit, metrics }: ViewSettings,
  out: NodeJS.WriteStream,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Shown> {
  const reports = [
    ...(junit === undefined ? [] : [junitView(junit)]),
    ...(metrics === undefined ? [] : [metricsView(metrics)]),
  ]
  // Where the run is shown elsewhere, stdout is for what was asked for.
  if (out === process.stdout) showingRun()
  return together(await openShown(output, verbose, out, environment), reports)
}

/** Views as one. Whatever becomes of one of them, the run goes on, and what ended it is told when the run is over. */
function together(shown: View, reports: readonly View[]): Shown {
  const views = [shown, ...reports]
  const failed = new Map<View, unknown>()
  return {
    event: event => {
      for (const view of views) {
        try {
          if (!failed.has(view)) view.event(event)
        } catch (error) {
          failed.set(view, error)
        }
      }
    },
    close: async () => {
      for (const view of views) {
        await view.close().catch((error: unknown) => failed.set(view, failed.get(view) ?? error))
        if (failed.has(view)) tell(`Error: not all of the run could be shown: ${messageOf(failed.get(view))}`)
      }
      return !reports.some(report => failed.has(report))
    },
  }
}

async function openShown(
  kind: OutputKind,
  verbose: boolean,
  out: NodeJS.WriteStream,
  environment: NodeJS.ProcessEnv,
): Promise<View> {
  const write = (line: string) => {
    out.write(`${line}\n`)
  }
  if (kind === 'json') return { event: event => write(visibleJson(event)), close: async () => {} }
  const terminal = terminalOf(out, environment)
  const isTree = kind === 'tree' ? terminal.screen : kind === 'auto' && terminal.watched
  const view = isTree
    ? (await import('./tree.ts')).treeView(out, { verbose, terminal })
    : plainView(write, { verbose, terminal })
  return { ...view, event: event => view.event(cleanEvent(event, terminal.text)) }
}

/** There are thousands of lines of output for every other event. */
function cleanEvent(event: RunEvent, clean: (text: string) => string): RunEvent {
  if (event.kind !== 'step.output') return cleaned(event, clean)
  return { ...event, step: clean(event.step), host: clean(event.host), line: clean(event.line) as Text }
}

/** An event with nothing in any of its texts, names of hosts among them, that a terminal would act on: what views of lines are given. */
export function cleaned<T>(value: T, clean: (text: string) => string): T {
  if (typeof value === 'string') return clean(value) as T
  if (Array.isArray(value)) return value.map(one => cleaned(one, clean)) as T
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [clean(key), cleaned(one, clean)])) as T
}
