// What steps print, as plain text: a file for each step and host in a run's folder, written beside everything else.
import { appendFile, mkdir } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The files with what steps print. None is kept open: there may be thousands. */
export interface OutputFiles {
  /** Why something could not be written; nothing is written from then on. */
  readonly failure: Error | undefined
  /** Adds a line to the file of a step on a host, in memory. */
  add(play: string, step: string, host: string, line: string): void
  /** Begins to write all that was added since. */
  write(): void
  /** Resolves once everything is written, or can't be. */
  written(): Promise<void>
}

const append = promisify(appendFile)
const makeFolder = promisify(mkdir)

/** Where the files will be; the folders are made when something is printed, for their owner only. */
export function openOutputFiles(folder: string): OutputFiles {
  const made = new Set<string>()
  const added = new Map<string, { readonly directory: string; readonly host: string; readonly lines: string[] }>()
  let writing: Promise<void> | undefined
  let failure: Error | undefined

  /** One after the other: a disk may take long for each, and new files of a folder wait for each other anyway. */
  const writeAll = async () => {
    try {
      for (const [key, { directory, host, lines }] of added) {
        added.delete(key)
        if (!made.has(directory)) await makeFolder(directory, { recursive: true, mode: 0o700 })
        made.add(directory)
        await append(join(directory, `${host.replaceAll('/', '_')}.log`), `${lines.join('\n')}\n`, { mode: 0o600 })
      }
    } catch (error) {
      failure = error as Error
    } finally {
      // In the same turn as the last look at what was added: nothing that comes then waits for the next call in vain.
      writing = undefined
    }
  }

  return {
    get failure() {
      return failure
    },
    add: (play, step, host, line) => {
      const key = `${play}/${step}/${host}`
      const file = added.get(key)
      if (file) file.lines.push(line)
      else added.set(key, { directory: join(folder, play, step), host, lines: [line] })
    },
    write: () => {
      if (added.size === 0 || failure) return
      writing ??= writeAll()
    },
    written: async () => {
      await writing
    },
  }
}
