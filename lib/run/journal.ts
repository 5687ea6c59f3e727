// The journal of a run: every event as one JSON line, and each step's output as plain text. Flushed to disk before a step
// starts and after it ends.
import { join } from 'node:path'
import { HostFailedError } from '../errors.ts'
import type { RunEvent } from './events.ts'
import { cannotKeep, openLineFile } from './line-file.ts'
import { openOutputFiles } from './output-files.ts'

/** Keeps the journal of one run. Events must be redacted before they come here. */
export interface Journal {
  /** Never throws: events come from everywhere. What could not be written, `flush` tells. */
  write(event: RunEvent): void
  /**
   * Resolves once everything written so far is on the disk. Calls that come together share one flush.
   * Rejects with `HostFailedError` where something is missing in it.
   */
  flush(): Promise<void>
  close(): Promise<void>
}

/** For so many milliseconds at most, and so many lines, what steps print is kept in memory: a command prints in many pieces. */
const longestKept = 100
const mostKept = 1_000

/** Opens `events.jsonl` and the `output` folder in a run's folder. */
export function openJournal(folder: string): Journal {
  const file = openLineFile(join(folder, 'events.jsonl'))
  const outputs = openOutputFiles(join(folder, 'output'))
  let failure: Error | undefined
  let titles: string[] = []
  let events: string[] = []
  let waiting: NodeJS.Timeout | undefined

  const writeAll = () => {
    clearTimeout(waiting)
    waiting = undefined
    const lines = events
    events = []
    if (lines.length > 0) file.add(lines.join('\n'))
    outputs.write()
    if (outputs.failure) throw outputs.failure
  }
  /** Behind what is missing nothing follows: the journal ends there. */
  const attempt = (work: () => void) => {
    if (failure) return
    try {
      work()
    } catch (error) {
      failure = error instanceof HostFailedError ? error : cannotKeep(folder, error as Error)
    }
  }

  const add = (event: RunEvent) => {
    events.push(JSON.stringify(event))
    if (event.kind === 'step.output') {
      const title = `${String(event.play).padStart(2, '0')}-${titles[event.play] ?? 'play'}`
      outputs.add(title, event.step, event.host, event.line)
      waiting ??= setTimeout(attempt, longestKept, writeAll)
      if (events.length < mostKept) return
    }
    writeAll()
    if (event.kind === 'run.started')
      titles = event.plays.map(({ title }) => title.toLowerCase().replace(/[^a-z0-9]+/g, '-'))
  }

  return {
    write: event => attempt(() => add(event)),
    flush: async () => {
      attempt(writeAll)
      await file.flush().catch((error: Error) => {
        failure ??= error
      })
      if (failure) throw failure
    },
    close: async () => {
      attempt(writeAll)
      await outputs.written()
      file.close()
    },
  }
}
