// The view without a terminal: one line for everything that happened, and one now and then for what takes its time.

import { formatDuration } from '../playbook/duration.ts'
import { names } from '../playbook/host.ts'
import type { Outcome } from '../playbook/model.ts'
import { eventTime, type RunEvent } from '../run/events.ts'
import { diffLines, outputLine } from './lines.ts'
import { followRun, type RunningHost } from './progress.ts'
import { finishedLines, reportLines, runLine } from './summary.ts'
import type { Style, Terminal } from './terminal.ts'
import type { View } from './view.ts'
import { placeOf, predictions } from './words.ts'

/** Milliseconds of silence after which it says what is being waited for, and after which it says the same once more. */
const heartbeat = 2_000
const again = 10_000

const styles: Record<Outcome, Style> = {
  ok: 'good',
  changed: 'changed',
  skipped: 'skipped',
  failed: 'bad',
  unreachable: 'bad',
  unknown: 'bad',
  cancelled: 'bad',
}

/**
 * Writes lines as things happen.
 * @param verbose also every line of output that steps produce
 * @param now milliseconds, of the clock that events are dated by
 */
export function plainView(
  write: (line: string) => void,
  { verbose, terminal, now = eventTime }: { verbose: boolean; terminal: Terminal; now?: () => number },
): View {
  const { paint, signs } = terminal
  const { progress, take } = followRun()
  let started: Extract<RunEvent, { kind: 'run.started' }> | undefined
  let titles: ReadonlyMap<string, string>[] = []
  let lastWrite = now()
  let lastSaid = ''
  // Of a play of which nothing is left to do, nothing is said.
  let heading: string | undefined
  const say = (line: string) => {
    lastWrite = now()
    if (heading !== undefined) write(`\n${paint('strong', heading)}`)
    heading = undefined
    write(line)
  }
  const timer = setInterval(() => {
    const silence = now() - lastWrite
    if (silence < heartbeat) return
    const step = progress.plays.flatMap(({ steps }) => steps).find(({ running }) => running.size > 0)
    if (!step) return
    const hosts = [...step.running.values()]
    const { since, last } = hosts[0] as RunningHost
    const said = last === undefined ? '' : `: ${last}`
    const what = `${step.title} (${names(hosts.map(({ host }) => host))})`
    if (what + said === lastSaid && silence < again) return
    lastSaid = what + said
    say(`    ${signs.ellipsis} ${what}, ${formatDuration(now() - since)}${said}`)
  }, 500)
  timer.unref()

  return {
    event: event => {
      take(event)
      switch (event.kind) {
        case 'run.started':
          started = event
          titles = event.plays.map(({ steps }) => new Map(steps.map(({ id, title }) => [id, title])))
          say(`${paint('strong', event.playbook)}: ${event.summary}`)
          say(runLine(event))
          break
        case 'play.started': {
          const play = started?.plays[event.play]
          heading = `${play?.title} [${names(play?.hosts ?? [])}]`
          break
        }
        case 'step.output':
          if (verbose || event.stream === 'log') say(outputLine(event))
          break
        case 'step.diff':
          for (const line of diffLines(event, terminal)) say(line)
          break
        case 'step.finished': {
          if (event.earlier) break
          const { outcome, milliseconds, handled, error, predicted, would = [] } = event
          const title = titles[event.play]?.get(event.step) ?? event.step
          const message = error ? `: ${error.message}` : ''
          const word = predicted ? predictions[predicted] : (handled ?? outcome)
          const style = predicted === 'unknown' ? 'skipped' : handled ? 'changed' : styles[outcome]
          say(
            `  ${paint(style, word.padEnd(12))} ${title} [${placeOf(event)}] ${formatDuration(milliseconds)}${message}`,
          )
          // A step without a plan says no more than its title.
          for (const line of would)
            if (predicted !== 'run') say(`      ${predicted === 'unknown' ? '' : 'would: '}${line}`)
          break
        }
        case 'notice':
          say(`  ${event.text}`)
          break
        case 'run.report':
          heading = undefined
          for (const line of reportLines(event)) say(line)
          break
        case 'run.finished':
          heading = undefined
          for (const line of finishedLines(event, started, terminal)) say(line)
          break
        case 'step.started':
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
