// What steps print, as plain text: a file for each step and host in a run's folder. It is written beside everything else; of a run
// that is killed, what was printed last may be in the journal alone.
import { appendFile, mkdir } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The files with what steps print. */
export interface OutputFiles {
  /** Adds a line to the file of a step on a host. */
  add(play: string, step: string, host: string, line: string): void
  /** Resolves once all that was added so far is written. Rejects with the error of the file system, from then on. */
  flush(): Promise<void>
}

const append = promisify(appendFile)
const makeFolder = promisify(mkdir)

/** Where the files will be; the folders are made when something is printed, for their owner only. */
export function openOutputFiles(folder: string): OutputFiles {
  const made = new Map<string, Promise<unknown>>()
  /** By play, step and host: the lines that wait for their turn, of those files that are being written. */
  const waiting = new Map<string, string[]>()
  const writing = new Set<Promise<void>>()
  let failure: Error | undefined

  const writeAll = async (key: string, directory: string, path: string, lines: string[]) => {
    // A chunk of output is many lines.
    await new Promise(setImmediate)
    let ready = made.get(directory)
    if (!ready) {
      ready = makeFolder(directory, { recursive: true, mode: 0o700 })
      made.set(directory, ready)
    }
    try {
      await ready
      while (lines.length > 0) await append(path, `${lines.splice(0).join('\n')}\n`, { mode: 0o600 })
    } catch (error) {
      failure ??= error as Error
    } finally {
      waiting.delete(key)
    }
  }

  return {
    add: (play, step, host, line) => {
      const key = `${play}/${step}/${host}`
      const lines = waiting.get(key)
      if (lines) {
        lines.push(line)
        return
      }
      const first = [line]
      waiting.set(key, first)
      const directory = join(folder, play, step)
      const written = writeAll(key, directory, join(directory, `${host.replaceAll('/', '_')}.log`), first)
      writing.add(written)
      void written.then(() => writing.delete(written))
    },
    flush: async () => {
      await Promise.all(writing)
      if (failure) throw failure
    },
  }
}
