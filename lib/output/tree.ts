// The view on a terminal: the plays of a run as a listr2 list, drawn by a renderer of ours that fits the screen.
import { Listr } from 'listr2'
import { eventTime, type RunEvent } from '../run/events.ts'
import { finalFrame, liveFrame } from './frame.ts'
import { diffLines, outputLine } from './lines.ts'
import { followRun } from './progress.ts'
import { redactor } from './redaction.ts'
import { finishedLines, reportLines, runLine, wouldLines } from './summary.ts'
import type { Terminal } from './terminal.ts'
import { wrapped } from './text.ts'
import { TreeRenderer } from './tree-renderer.ts'
import type { View } from './view.ts'

/**
 * Draws the run as a tree; what it said at its end stands under it in plain lines.
 * @param verbose every line of output goes by above the tree
 */
export function treeView(
  out: NodeJS.WriteStream,
  { terminal, verbose }: { terminal: Terminal; verbose: boolean },
): View {
  const { progress, take } = followRun()
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  const above: string[] = []
  const after: string[] = []
  const would: Extract<RunEvent, { kind: 'step.finished' }>[] = []
  let started: Extract<RunEvent, { kind: 'run.started' }> | undefined
  let drawn: Promise<unknown> = Promise.resolve()
  const columns = () => out.columns ?? 80
  const { text: withoutSecrets } = redactor()

  const begin = (event: Extract<RunEvent, { kind: 'run.started' }>) => {
    started = event
    out.write(`${terminal.paint('strong', event.playbook)}: ${event.summary}\n${runLine(event)}\n\n`)
    const list = new Listr([{ title: event.playbook, task: () => over }], {
      renderer: TreeRenderer,
      rendererOptions: {
        out,
        live: (screen, tick) => liveFrame(progress, { ...screen, terminal, tick, now: eventTime() }),
        final: screen => finalFrame(progress, { ...screen, terminal, tick: 0, now: eventTime() }),
        above: () => above.splice(0),
        foreign: text => terminal.text(withoutSecrets(text)),
      },
      // Ctrl-C is the command line's: the run ends in good order.
      registerSignalListeners: false,
    })
    drawn = list.run()
  }

  return {
    event: event => {
      take(event)
      switch (event.kind) {
        case 'run.started':
          begin(event)
          break
        case 'step.output':
          if (verbose) above.push(outputLine(event))
          break
        case 'step.diff':
          above.push(...diffLines(event, terminal))
          break
        case 'notice':
          above.push(...wrapped(event.text, columns()))
          break
        case 'step.finished':
          if (event.would) would.push(event)
          break
        case 'run.report':
          after.push(...reportLines(event))
          break
        case 'run.finished':
          if (started) after.unshift(...wouldLines(started, would))
          after.push(...finishedLines(event, started, terminal))
          break
        case 'play.started':
        case 'play.finished':
        case 'step.started':
        case 'milestone':
          break
        default:
          event satisfies never
      }
    },
    close: async () => {
      end()
      await drawn
      for (const line of after.flatMap(text => text.split('\n'))) {
        for (const part of wrapped(line, columns())) out.write(`${part}\n`)
      }
    },
  }
}
