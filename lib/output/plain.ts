// The view without a terminal: one line for everything that happened, and one now and then for what takes its time.

import { formatDuration } from '../playbook/duration.ts'
import { eventTime, type RunEvent } from '../run/events.ts'
import { finishedLines, reportLines, runLine } from './summary.ts'
import type { View } from './view.ts'
import { names, placeOf } from './words.ts'

/** Seconds of silence after which it says what is being waited for. */
const heartbeat = 2_000

/**
 * Writes lines as things happen.
 * @param verbose also every line of output that steps produce
 */
export function plainView(write: (line: string) => void, { verbose }: { verbose: boolean }): View {
  let started: Extract<RunEvent, { kind: 'run.started' }> | undefined
  const running = new Map<string, { step: string; host: string; since: number; last?: string }>()
  let lastWrite = eventTime()
  // Of a play of which nothing is left to do, nothing is said.
  let heading: string | undefined
  const say = (line: string) => {
    lastWrite = eventTime()
    if (heading !== undefined) write(`\n${heading}`)
    heading = undefined
    write(line)
  }
  const title = (play: number, step: string) => started?.plays[play]?.steps.find(({ id }) => id === step)?.title ?? step
  const timer = setInterval(() => {
    if (eventTime() - lastWrite < heartbeat || running.size === 0) return
    const [oldest] = running.values()
    if (!oldest) return
    const hosts = [...running.values()].filter(({ step }) => step === oldest.step).map(({ host }) => host)
    say(
      `    … ${oldest.step} (${names(hosts)}), ${formatDuration(eventTime() - oldest.since)}${oldest.last ? `: ${oldest.last}` : ''}`,
    )
  }, 500)
  timer.unref()

  return {
    event: event => {
      switch (event.kind) {
        case 'run.started':
          started = event
          say(`${event.playbook}: ${event.summary}`)
          say(runLine(event))
          break
        case 'play.started': {
          const play = started?.plays[event.play]
          heading = `${play?.title} [${names(play?.hosts ?? [])}]`
          break
        }
        case 'step.started':
          running.set(`${event.step} ${event.host}`, {
            step: title(event.play, event.step),
            host: event.host,
            since: event.at,
          })
          break
        case 'step.output': {
          const entry = running.get(`${event.step} ${event.host}`)
          if (entry) entry.last = event.line
          if (verbose || event.stream === 'log') say(`    ${event.host} | ${event.line}`)
          break
        }
        case 'step.finished':
          running.delete(`${event.step} ${event.host}`)
          if (event.earlier) break
          say(
            `  ${(event.handled ?? event.outcome).padEnd(11)} ${title(event.play, event.step)} [${placeOf(event)}] ${formatDuration(event.milliseconds)}${event.error ? `: ${event.error.message}` : ''}`,
          )
          for (const line of event.would ?? []) say(`      would: ${line}`)
          break
        case 'notice':
          say(`  ${event.text}`)
          break
        case 'run.report':
          heading = undefined
          for (const line of reportLines(event)) say(line)
          break
        case 'run.finished':
          heading = undefined
          for (const line of finishedLines(event, started?.playbook ?? 'the run')) say(line)
          break
        case 'milestone':
        case 'play.finished':
          break
        default:
          event satisfies never
      }
    },
    close: async () => clearInterval(timer),
  }
}
