// The view on a terminal: plays and steps as a listr2 tree that fills in while events arrive.
import { Listr, type ListrTaskWrapper, PRESET_TIMER } from 'listr2'
import type { RunEvent } from '../run/events.ts'
import { finishedLines, reportLines, runLine } from './summary.ts'
import type { View } from './view.ts'

type Task = ListrTaskWrapper<unknown, never, never>

/** One line of the tree: settled from outside, by events. */
interface Line {
  readonly title: string
  readonly settled: Promise<void>
  resolve(): void
  reject(error: Error): void
  task?: Task
}

interface StepLine extends Line {
  readonly hosts: number
  finished: number
}

/** Rows that the tree must leave free, or the terminal scrolls and what was drawn stays behind. */
const spareRows = 6

/** Draws the run as a tree; what it said at its end stands under it in plain lines. */
export function treeView(out: NodeJS.WriteStream): View {
  let started: Extract<RunEvent, { kind: 'run.started' }> | undefined
  let plays: { line: Line; steps: StepLine[] }[] = []
  let drawn: Promise<unknown> = Promise.resolve()
  const after: string[] = []
  let current = 0

  const begin = (event: Extract<RunEvent, { kind: 'run.started' }>) => {
    started = event
    out.write(`${event.playbook}: ${event.summary}\n${runLine(event)}\n\n`)
    plays = event.plays.map(({ title, hosts, steps }) => ({
      line: line(`${title} [${hosts.length} ${hosts.length === 1 ? 'host' : 'hosts'}]`),
      steps: steps.map(one => ({ ...line(one.title), hosts: one.runOnce ? 1 : hosts.length, finished: 0 })),
    }))
    const tallest = Math.max(...plays.map(({ steps }) => steps.length))
    const showSubtasks = plays.length + tallest + spareRows <= (out.rows || 24)
    const tree = new Listr(
      plays.map(play => ({
        title: play.line.title,
        task: (_: unknown, task: Task) => {
          play.line.task = task
          if (!showSubtasks) return play.line.settled
          return task.newListr(
            play.steps.map(step => ({
              title: step.title,
              task: (_: unknown, own: Task) => {
                step.task = own
                return step.settled
              },
            })),
            { concurrent: false, exitOnError: true },
          )
        },
      })) as never,
      {
        concurrent: false,
        exitOnError: true,
        registerSignalListeners: false,
        rendererOptions: { collapseSubtasks: true, timer: PRESET_TIMER, formatOutput: 'truncate' },
      },
    )
    drawn = tree.run().catch(() => {})
  }

  const settlePlay = (index: number) => {
    const play = plays[index]
    for (const step of play?.steps ?? []) step.resolve()
    play?.line.resolve()
  }

  const say = (text: string) => {
    const play = plays[current]
    const step = play?.steps.find(({ task, finished, hosts }) => task && finished < hosts)
    const task = step?.task ?? play?.line.task
    if (task) task.output = text
  }

  return {
    event: event => {
      switch (event.kind) {
        case 'run.started':
          begin(event)
          break
        case 'play.started':
          current = event.play
          break
        case 'step.started': {
          const task = plays[event.play]?.line.task
          const title = stepTitle(started, event.play, event.step)
          if (task) task.output = `${event.host}: ${title}`
          break
        }
        case 'step.output':
          say(`${event.host}: ${event.line}`)
          break
        case 'notice':
          say(event.text)
          break
        case 'step.finished': {
          const index = started?.plays[event.play]?.steps.findIndex(({ id }) => id === event.step) ?? -1
          const step = plays[event.play]?.steps[index]
          if (!step) break
          step.finished++
          if (event.error) {
            const error = new Error(`${step.title} on ${event.host}: ${event.error.message}`)
            step.reject(error)
            plays[event.play]?.line.reject(error)
            break
          }
          if (event.would) after.push(...event.would.map(would => `  ${event.host}: would ${would}`))
          if (step.finished >= step.hosts) {
            step.resolve()
            if (step.task) step.task.title = step.hosts > 1 ? `${step.title} (${step.hosts} hosts)` : step.title
          } else if (step.task) step.task.title = `${step.title} (${step.finished}/${step.hosts})`
          break
        }
        case 'play.finished':
          settlePlay(event.play)
          break
        case 'run.report':
          after.push(...reportLines(event))
          break
        case 'run.finished': {
          // What never began has nothing to wait for.
          const stopped = new Error(event.outcome)
          for (const { line: own, steps } of plays) {
            for (const step of steps) event.outcome === 'done' ? step.resolve() : step.reject(stopped)
            event.outcome === 'done' ? own.resolve() : own.reject(stopped)
          }
          after.push(...finishedLines(event, started?.playbook ?? 'the run'))
          break
        }
        case 'milestone':
          break
        default:
          event satisfies never
      }
    },
    close: async () => {
      await drawn
      for (const text of after) out.write(`${text}\n`)
    },
  }
}

function line(title: string): Line {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Nobody may be listening yet when it fails.
  promise.catch(() => {})
  return { title, settled: promise, resolve, reject }
}

function stepTitle(
  started: Extract<RunEvent, { kind: 'run.started' }> | undefined,
  play: number,
  step: string,
): string {
  return started?.plays[play]?.steps.find(({ id }) => id === step)?.title ?? step
}
