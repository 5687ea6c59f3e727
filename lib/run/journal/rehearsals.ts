// Which runs of a folder ended well, and whether they were undone: what a later run on other hosts may go by.
import { journalEvents, type RunStarted } from './history.ts'

/** A run that ended well. */
export interface Rehearsal {
  readonly run: string
  readonly started: RunStarted
  /** Milliseconds since 1970. */
  readonly endedAt: number
  /** All of it was undone afterwards, and that ended well. */
  readonly undone: boolean
}

/** The run of a folder where it ended well: none or one. A check did nothing, and is none; nor is a folder that can't be read. */
export function rehearsalsIn(folder: string): Rehearsal[] {
  let found: Rehearsal | undefined
  let [first, latest]: [RunStarted | undefined, RunStarted | undefined] = [undefined, undefined]
  try {
    for (const event of journalEvents(folder)) {
      if (event.kind === 'run.started') {
        latest = event
        first ??= event
      } else if (event.kind === 'run.finished' && event.outcome === 'done' && first && latest && !latest.check) {
        if (latest.mode !== 'rollback') found = { run: first.run, started: first, endedAt: event.at, undone: false }
        else if (found && latest.selection.to === undefined) found = { ...found, undone: true }
      }
    }
  } catch {
    return []
  }
  return found ? [found] : []
}
