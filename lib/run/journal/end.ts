// Where the journal ended when it was last known to be on the disk, and what the run did then: kept beside it, so that one that was cut
// where a line ends, by a copy that was made too early or by a file system, is told from one that is whole.
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** The kind of a line that says in a journal that it was cut before it: no event, so that whoever reads it knows that something is lost. */
export const cutMark = 'journal.cut'

/** How far a journal came. */
export interface JournalEnd {
  readonly bytes: number
  /** What its run was doing: `RunMode`. */
  readonly mode: string
}

const fileName = 'journal-end.json'
/** In a folder that came from elsewhere it may be a link, or a pipe that nobody opens. */
const carefully = constants.O_NOFOLLOW | constants.O_NONBLOCK
/** Written over what is there: nobody reads half of it, and a shorter one leaves nothing of a longer. */
const length = 80

const shape = z.object({ bytes: z.number().int().nonnegative(), mode: z.string() })

/** Opens the file. What is returned never throws: a journal that nobody watches over is one all the same. */
export function openJournalEnd(folder: string): { put(end: JournalEnd): void; close(): void } {
  let file: number | undefined
  try {
    file = openSync(join(folder, fileName), constants.O_WRONLY | constants.O_CREAT | carefully, 0o600)
  } catch {
    // As said.
  }
  let last = 0
  return {
    put: end => {
      if (file === undefined || end.bytes <= last) return
      last = end.bytes
      try {
        // Not flushed: what a power failure leaves of it is older, and an older one is true as well.
        writeSync(file, `${JSON.stringify(end).padEnd(length)}\n`, 0)
      } catch {
        // As said.
      }
    },
    close: () => {
      if (file !== undefined) closeSync(file)
      file = undefined
    },
  }
}

/** How far the journal in a folder must come; `undefined` where that is not known. To be read before the journal, which may be growing. */
export function readJournalEnd(folder: string): JournalEnd | undefined {
  try {
    const text = readFileSync(join(folder, fileName), {
      encoding: 'utf8',
      flag: constants.O_RDONLY | carefully,
    })
    return shape.parse(JSON.parse(text.slice(0, length)))
  } catch {
    return undefined
  }
}
