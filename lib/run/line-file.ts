// Files of lines that are only added to, in a run's folder: the journal, and what steps returned.
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { HostFailedError } from '../errors.ts'

const sync = promisify(fdatasync)

/** A file that lines are added to. */
export interface LineFile {
  /** Adds a line, or several with newlines between them. Throws `HostFailedError` where they can't be written whole. */
  add(lines: string): void
  /**
   * Resolves once everything added so far is on the disk. Calls that come together share one flush.
   * Rejects with `HostFailedError`.
   */
  flush(): Promise<void>
  close(): void
}

/** Opens a file to add lines to it, for its owner only. What its last writer left of a line, when it was killed, is taken away. */
export function openLineFile(path: string): LineFile {
  const descriptor = openSync(path, 'a+', 0o600)
  const { size } = fstatSync(descriptor)
  if (size > 0) {
    const text = readFileSync(path)
    const whole = text.lastIndexOf('\n') + 1
    if (whole < size) ftruncateSync(descriptor, whole)
  }
  let flushing: Promise<void> | undefined
  let queued: Promise<void> | undefined
  /** How often something was added, and how much of it the last flush that was begun takes to the disk. */
  let [added, covered] = [0, 0]
  const flushNow = async () => {
    covered = added
    try {
      await sync(descriptor)
    } catch (error) {
      throw cannotKeep(path, error as Error)
    } finally {
      flushing = undefined
    }
  }
  return {
    add: lines => {
      added++
      const bytes = Buffer.from(`${lines}\n`)
      try {
        // A disk that is nearly full takes the beginning.
        for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written)
      } catch (error) {
        throw cannotKeep(path, error as Error)
      }
    },
    flush: () => {
      if (!flushing) {
        flushing = flushNow()
        return flushing
      }
      if (covered === added) return flushing
      // What was added after the flush under way began needs the next one.
      queued ??= flushing
        .catch(() => {})
        .then(() => {
          queued = undefined
          flushing = flushNow()
          return flushing
        })
      return queued
    },
    close: () => closeSync(descriptor),
  }
}

/** The error for a file of the run's folder that can't be written: it is this machine's fault, and stops the run. */
export function cannotKeep(path: string, cause: Error): HostFailedError {
  return new HostFailedError(`${path} can't be written: ${cause.message}`, {
    code: 'run.folder',
    hint: `Make room in ${dirname(path)}. What was done last may not be in the journal: 'rekey resume' does it once more.`,
    cause,
  })
}

/** The whole lines of a file that is only added to: the last one may have been cut off when its writer was killed. */
export function linesOf(path: string): string[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
}
