// The folder that every run has: its journal, its output, and what its steps keep.
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { writeRemedy } from './line-file.ts'

/** Where the folders of all runs are: `${XDG_STATE_HOME:-~/.local/state}/rekey/runs`. */
export function runsDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'rekey', 'runs')
}

/** How a run is to be named to rekey: by its id where it is among the others, as a copy elsewhere by its folder. */
export function referenceOf(run: string, folder: string): string {
  return join(runsDirectory(), run) === folder ? run : folder
}

/** Names the playbook's run that was begun last. Names alone do not tell: clocks are set back, and two runs may begin in one second. */
const lastFile = (parent: string) => join(dirname(parent), 'last-run')

/** The id of the playbook's run that was begun last, if that is known. */
export function lastRun(parent: string): string | undefined {
  try {
    return readFileSync(lastFile(parent), 'utf8')
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
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (isLast) {
      const named = join(folder, 'last-run')
      writeFileSync(named, run)
      renameSync(named, lastFile(parent))
    }
  } catch (cause) {
    throw new RekeyError(`${folder} can't be made: ${(cause as Error).message}`, {
      code: 'run.folder',
      hint: `${writeRemedy(folder, cause as Error)} Or keep what rekey knows elsewhere: the variable XDG_STATE_HOME says where.`,
      cause,
    })
  }
  return { run, folder }
}
