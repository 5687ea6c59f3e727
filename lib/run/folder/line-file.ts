// Files of lines that are only added to, in a run's folder: the journal, and what steps returned.
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { HostFailedError } from '../../errors.ts'
import { inTurns } from './turns.ts'

const sync = promisify(fdatasync)

/** A file that lines are added to. */
export interface LineFile {
  /**
   * Adds a line, or several with newlines between them. Returns where they begin in the file.
   * Throws `HostFailedError` where they can't be written whole: then nothing of them is there.
   */
  add(lines: string): number
  /** Bytes that it has now. */
  readonly size: number
  /**
   * Resolves once everything added so far is on the disk. Calls that come together share one flush.
   * Rejects with `HostFailedError`.
   */
  flush(): Promise<void>
  close(): void
}

/**
 * Opens a file to add lines to it, for its owner only. What its last writer left of a line, when it was killed, is taken away.
 * Throws `HostFailedError` where it can't be opened.
 */
export function openLineFile(path: string): LineFile {
  const { descriptor, size } = open(path)
  let end = size
  /** How often something was added, and how much of it the last flush that was begun takes to the disk. */
  let [added, covered] = [0, 0]
  const flush = async () => {
    covered = added
    try {
      await sync(descriptor)
    } catch (error) {
      throw cannotKeep(path, error as Error)
    }
  }
  return {
    get size() {
      return end
    },
    add: lines => {
      added++
      const bytes = Buffer.from(`${lines}\n`)
      const at = end
      try {
        // A disk that is nearly full takes the beginning.
        for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written)
      } catch (error) {
        cutAt(descriptor, at)
        throw cannotKeep(path, error as Error)
      }
      end += bytes.length
      return at
    },
    flush: inTurns(flush, () => covered === added),
    close: () => {
      try {
        closeSync(descriptor)
      } catch {
        // What counts was flushed, and is on the disk.
      }
    },
  }
}

function open(path: string): { descriptor: number; size: number } {
  try {
    const descriptor = openSync(path, 'a+', 0o600)
    const { size } = fstatSync(descriptor)
    const whole = wholeLines(descriptor, size)
    if (whole < size) ftruncateSync(descriptor, whole)
    return { descriptor, size: whole }
  } catch (error) {
    throw cannotKeep(path, error as Error)
  }
}

/** Takes away what was written of a line, so that another may follow; where that can't be, whoever reads passes over it. */
function cutAt(descriptor: number, size: number): void {
  try {
    ftruncateSync(descriptor, size)
  } catch {
    // The disk says no to everything.
  }
}

/** How many bytes of a file its whole lines are, from its end on: what its last writer left of a line may be long. */
function wholeLines(descriptor: number, size: number): number {
  const chunk = Buffer.allocUnsafe(64 * 1024)
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - chunk.length)
    const read = readSync(descriptor, chunk, 0, end - start, start)
    const newline = chunk.subarray(0, read).lastIndexOf(0x0a)
    if (newline >= 0) return start + newline + 1
    end = start
  }
  return 0
}

/** What is to be done, by what the system says of a file that can't be written. */
const remedies: Readonly<Record<string, (folder: string) => string>> = {
  ENOSPC: folder => `Make room in ${folder}.`,
  EDQUOT: folder => `Make room in ${folder}: more may not be written there.`,
  EFBIG: () => "A file may not become larger there: see 'ulimit -f'.",
  ENOTDIR: folder => `A part of ${folder} is a file, and no folder.`,
  EROFS: folder => `${folder} is on a file system that can only be read.`,
  EACCES: folder => `Whoever runs rekey must be allowed to write in ${folder}.`,
  EPERM: folder => `Whoever runs rekey must be allowed to write in ${folder}.`,
}

/** What to do about a file that can't be written. */
export function writeRemedy(path: string, { code }: NodeJS.ErrnoException): string {
  return remedies[code ?? '']?.(dirname(path)) ?? `Look at ${dirname(path)}.`
}

/** The error for a file of the run's folder that can't be written: it is this machine's fault, and stops the run. */
export function cannotKeep(path: string, cause: NodeJS.ErrnoException): HostFailedError {
  return new HostFailedError(`${path} can't be written: ${cause.message}`, {
    code: 'run.folder',
    hint: `${writeRemedy(path, cause)} What was done last may not be in the journal: 'rekey resume' does it once more.`,
    cause,
  })
}
