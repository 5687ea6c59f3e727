// The journal of a run: every event as one JSON line, and each step's output as plain text. Flushed to disk before a step
// starts and after it ends.
import { closeSync, fdatasync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { HostFailedError } from '../errors.ts'
import type { RunEvent } from './events.ts'
import { cannotKeep, openLineFile } from './line-file.ts'

const sync = promisify(fdatasync)

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
  const path = join(folder, 'events.jsonl')
  const file = openLineFile(path)
  let failure: Error | undefined
  const outputs = new Map<string, number>()
  let titles: string[] = []
  let flushing: Promise<void> | undefined
  let queued: Promise<void> | undefined
  /** How many lines there are, and how many the last flush that was begun takes to the disk. */
  let [written, covered] = [0, 0]

  const outputFile = (play: number, step: string, host: string): number => {
    const directory = join(folder, 'output', `${String(play).padStart(2, '0')}-${titles[play] ?? 'play'}`, step)
    const path = join(directory, `${host.replaceAll('/', '_')}.log`)
    let descriptor = outputs.get(path)
    if (descriptor === undefined) {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      descriptor = openSync(path, 'a', 0o600)
      outputs.set(path, descriptor)
    }
    return descriptor
  }

  const add = (event: RunEvent) => {
    file.add(JSON.stringify(event))
    written++
    if (event.kind === 'run.started')
      titles = event.plays.map(({ title }) => title.toLowerCase().replace(/[^a-z0-9]+/g, '-'))
    if (event.kind === 'step.output') writeSync(outputFile(event.play, event.step, event.host), `${event.line}\n`)
    if (event.kind === 'play.finished' || event.kind === 'run.finished') {
      for (const descriptor of outputs.values()) closeSync(descriptor)
      outputs.clear()
    }
  }

  const flushNow = async () => {
    covered = written
    await sync(file.descriptor).catch(error => {
      failure ??= cannotKeep(path, error)
    })
    flushing = undefined
    if (failure) throw failure
  }

  return {
    write: event => {
      // Behind what is missing nothing follows: the journal ends there.
      if (failure) return
      try {
        add(event)
      } catch (error) {
        failure = error instanceof HostFailedError ? error : cannotKeep(folder, error as Error)
      }
    },
    flush: () => {
      if (!flushing) {
        flushing = flushNow()
        return flushing
      }
      if (covered === written) return flushing
      // What was written after the flush under way began needs the next one.
      queued ??= flushing
        .catch(() => {})
        .then(() => {
          queued = undefined
          flushing = flushNow()
          return flushing
        })
      return queued
    },
    close: () => {
      file.close()
      for (const descriptor of outputs.values()) closeSync(descriptor)
    },
  }
}
