// Which view a run gets: the tree on a terminal, plain lines elsewhere, JSON lines where asked.
import type { RunEvent } from '../run/events.ts'
import { plainView } from './plain.ts'

/** Shows a run while it happens. */
export interface View {
  event(event: RunEvent): void
  /** Resolves when everything has been written. */
  close(): Promise<void>
}

export type OutputKind = 'auto' | 'tree' | 'plain' | 'json'

/** The view of the kind that was asked for; `auto` is a tree on a terminal and plain lines elsewhere. */
export async function openView(
  kind: OutputKind,
  out: NodeJS.WriteStream,
  { verbose, environment = process.env }: { verbose: boolean; environment?: NodeJS.ProcessEnv },
): Promise<View> {
  const line = (text: string) => {
    out.write(`${text}\n`)
  }
  if (kind === 'json') return { event: event => line(JSON.stringify(event)), close: async () => {} }
  const terminal = out.isTTY && environment['TERM'] !== 'dumb'
  if (kind === 'plain' || verbose || (kind === 'auto' && !terminal)) return plainView(line, { verbose })
  const { treeView } = await import('./tree.ts')
  return treeView(out)
}
