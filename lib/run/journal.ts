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

/** Opens `events.jsonl` and the `output` folder in a run's folder. */
export function openJournal(folder: string): Journal {
  const file = openLineFile(join(folder, 'events.jsonl'))
  const outputs = openOutputFiles(join(folder, 'output'))
  let failure: Error | undefined
  let titles: string[] = []
  /** What steps printed in this turn of the event loop, which is written at its end: a chunk of output is many lines. */
  let events: string[] = []
  let waiting: NodeJS.Immediate | undefined

  const writeAll = () => {
    clearImmediate(waiting)
    waiting = undefined
    const lines = events
    events = []
    if (lines.length > 0) file.add(lines.join('\n'))
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
      waiting ??= setImmediate(attempt, writeAll)
      return
    }
    writeAll()
    if (event.kind === 'run.started')
      titles = event.plays.map(({ title }) => title.toLowerCase().replace(/[^a-z0-9]+/g, '-'))
  }

  return {
    write: event => attempt(() => add(event)),
    flush: async () => {
      attempt(writeAll)
      await Promise.all([
        file.flush(),
        outputs.flush().catch(error => {
          throw cannotKeep(folder, error)
        }),
      ]).catch((error: Error) => {
        failure ??= error
      })
      if (failure) throw failure
    },
    close: async () => {
      attempt(writeAll)
      await outputs.flush().catch(() => {})
      file.close()
    },
  }
}
