// The journal of a run: every event as one JSON line, and each step's output as plain text. Flushed to disk before a step
// starts and after it ends.
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { HostFailedError } from '../errors.ts'
import type { RunEvent } from './events.ts'
import { cannotKeep, openLineFile } from './line-file.ts'

/** Keeps the journal of one run. Events must be redacted before they come here. */
export interface Journal {
  /** Never throws: events come from everywhere. What could not be written, `flush` tells. */
  write(event: RunEvent): void
  /**
   * Resolves once everything written so far is on the disk. Calls that come together share one flush.
   * Rejects with `HostFailedError` where something is missing in it.
   */
  flush(): Promise<void>
  close(): void
}

/** Opens `events.jsonl` and the `output` folder in a run's folder. */
export function openJournal(folder: string): Journal {
  const file = openLineFile(join(folder, 'events.jsonl'))
  let failure: Error | undefined
  const outputs = new Map<string, number>()
  const directories = new Set<string>()
  let titles: string[] = []
  /** What steps printed in this turn of the event loop, which is written at its end: a chunk of output is many lines. */
  let events: string[] = []
  const printed = new Map<number, string[]>()
  let waiting: NodeJS.Immediate | undefined

  const outputFile = (play: number, step: string, host: string): number => {
    const directory = join(folder, 'output', `${String(play).padStart(2, '0')}-${titles[play] ?? 'play'}`, step)
    const path = join(directory, `${host.replaceAll('/', '_')}.log`)
    let descriptor = outputs.get(path)
    if (descriptor === undefined) {
      if (!directories.has(directory)) mkdirSync(directory, { recursive: true, mode: 0o700 })
      directories.add(directory)
      descriptor = openSync(path, 'a', 0o600)
      outputs.set(path, descriptor)
    }
    return descriptor
  }

  const writeAll = () => {
    clearImmediate(waiting)
    waiting = undefined
    const lines = events
    events = []
    if (lines.length > 0) file.add(lines.join('\n'))
    for (const [descriptor, texts] of printed) writeSync(descriptor, texts.join(''))
    printed.clear()
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
      const descriptor = outputFile(event.play, event.step, event.host)
      const texts = printed.get(descriptor)
      if (texts) texts.push(`${event.line}\n`)
      else printed.set(descriptor, [`${event.line}\n`])
      waiting ??= setImmediate(attempt, writeAll)
      return
    }
    writeAll()
    if (event.kind === 'run.started')
      titles = event.plays.map(({ title }) => title.toLowerCase().replace(/[^a-z0-9]+/g, '-'))
    if (event.kind === 'play.finished' || event.kind === 'run.finished') {
      for (const descriptor of outputs.values()) closeSync(descriptor)
      outputs.clear()
    }
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
    close: () => {
      attempt(writeAll)
      file.close()
      for (const descriptor of outputs.values()) closeSync(descriptor)
    },
  }
}
