// Which view a run gets: the tree on a terminal, plain lines elsewhere, JSON lines where asked; and a JUnit report beside any of them.
import type { RunEvent } from '../run/events.ts'
import { junitView } from './junit.ts'
import { plainView } from './plain.ts'
import { terminalOf } from './terminal.ts'

/** Shows a run while it happens. */
export interface View {
  event(event: RunEvent): void
  /** Resolves when everything has been written. */
  close(): Promise<void>
}

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
}

/**
 * Opens what was asked for.
 * @throws RekeyError where the JUnit report can't be written
 */
export async function openView(
  { output, verbose = false, junit }: ViewSettings,
  out: NodeJS.WriteStream,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<View> {
  const report = junit === undefined ? undefined : junitView(junit)
  const view = await openShown(output, verbose, out, environment)
  if (!report) return view
  return {
    event: event => {
      view.event(event)
      report.event(event)
    },
    close: async () => {
      await view.close()
      await report.close()
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
  if (kind === 'json') return { event: event => write(JSON.stringify(event)), close: async () => {} }
  const terminal = terminalOf(out, environment)
  const isTree = kind === 'tree' ? terminal.screen : kind === 'auto' && terminal.watched
  if (!isTree) return plainView(write, { verbose, terminal })
  const { treeView } = await import('./tree.ts')
  return treeView(out, { verbose, terminal })
}
