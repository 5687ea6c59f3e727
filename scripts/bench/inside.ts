// What a run of rekey tells of itself, beside how long it took: in a run of its own, which is not timed.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { journalEvents } from '../../lib/run/journal/history.ts'
import type { LoopTurn } from './loop-watch.ts'
import type { Command } from './measure.ts'
import { median } from './median.ts'

/** Milliseconds. */
export interface Inside {
  /** The longest turn of the event loop. */
  readonly longest: LoopTurn
  /** What a step took on a host, as its journal says: the middle of all, after the first step, which waits for connections. */
  readonly step: number
}

const loopFile = (folder: string) => join(folder, 'loop')

/** The command of a run, watched. */
export function watched(command: Command, folder: string): Command {
  const environment = {
    ...command.environment,
    NODE_OPTIONS: `--import ${join(import.meta.dirname, 'loop-watch.ts')}`,
    REKEY_BENCH_LOOP: loopFile(folder),
  }
  return { ...command, environment }
}

/** What a watched run left in its folder. */
export function insideOf(folder: string): Inside {
  const [journal = ''] = globSync(join(folder, 'state', '**', 'events.jsonl'))
  const events = [...journalEvents(dirname(journal))]
  const first = events.find(event => event.kind === 'step.finished' && event.play > 0)
  const steps = events.flatMap(event =>
    event.kind === 'step.finished' && event.play > 0 && event.step !== (first as typeof event).step
      ? event.milliseconds
      : [],
  )
  return { longest: JSON.parse(readFileSync(loopFile(folder), 'utf8')) as LoopTurn, step: median(steps) }
}
