// The folder that every run has: its journal, its output, and what its steps keep.
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'

import { dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { homeFolder } from '../../operator.ts'
import { writeRemedy } from './line-file.ts'
import { isOwn, requireOwnState } from './trust.ts'

/** Where the folders of all runs are: `${XDG_STATE_HOME:-~/.local/state}/rekey/runs`. */
export function runsDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment['XDG_STATE_HOME'] || join(homeFolder(environment), '.local', 'state'), 'rekey', 'runs')
}

/** How a run is to be named to rekey: by its id where it is among the others, as a copy elsewhere by its folder. */
export function referenceOf(run: string, folder: string): string {
  return join(runsDirectory(), run) === folder ? run : folder
}

/** Names the playbook's run that was begun last. Names alone do not tell: clocks are set back, and two runs may begin in one second. */
const lastFile = (parent: string) => join(dirname(parent), 'last-run')

/** Whether a folder is that of one of the runs that are kept here, and no copy from elsewhere. */
export function isAmongRuns(folder: string): boolean {
  return dirname(folder) === runsDirectory()
}

/** The id of the playbook's run that was begun last, if that is known: no link is followed, and no word of others taken for it. */
export function lastRun(parent: string): string | undefined {
  try {
    const file = openSync(lastFile(parent), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const stats = fstatSync(file)
      return stats.isFile() && isOwn(stats) ? readFileSync(file, 'utf8') : undefined
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
}

/**
 * Makes the folder of a new run, readable by its owner only. Its name sorts by time.
 * @param isLast whether it is what `last` names from now on: what was made up for a command can neither be gone on with nor undone
 * @throws RekeyError where it can't be made
 */
export function createRunFolder(playbook: string, parent: string, isLast = true): { run: string; folder: string } {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-')
  const run = `${stamp}-${playbook}-${randomBytes(2).toString('hex')}`
  const folder = join(parent, run)
  try {
    makeFolder(parent)
    requireOwnState(parent)
    mkdirSync(folder, { mode: 0o700 })
    if (isLast) {
      const named = join(folder, 'last-run')
      writeFileSync(named, run)
      renameSync(named, lastFile(parent))
    }
  } catch (cause) {
    if (cause instanceof RekeyError) throw cause
    throw new RekeyError(`${folder} can't be made: ${(cause as Error).message}`, {
      code: 'run.folder',
      hint: `${writeRemedy(folder, cause as Error)} Or keep what rekey knows elsewhere: the variable XDG_STATE_HOME says where.`,
      cause,
    })
  }
  return { run, folder }
}

/** Makes a folder and those above it. Node's own way to do so never ends where nothing can be made, as in /proc. */
function makeFolder(path: string): void {
  if (existsSync(path)) return
  if (!existsSync(dirname(path))) makeFolder(dirname(path))
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    // Another run made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}
