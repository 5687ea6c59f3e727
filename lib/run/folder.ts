// The folder that every run has: its journal, its output, and what its steps keep.
import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { cannotKeep } from './line-file.ts'

/** Where the folders of all runs are: `${XDG_STATE_HOME:-~/.local/state}/rekey/runs`. */
export function runsDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'rekey', 'runs')
}

/** Makes the folder of a new run, readable by its owner only. Its name sorts by time. */
export function createRunFolder(playbook: string, parent: string, now = new Date()): { run: string; folder: string } {
  const stamp = now.toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-')
  const run = `${stamp}-${playbook}-${randomBytes(2).toString('hex')}`
  const folder = join(parent, run)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw cannotKeep(folder, error as Error)
  }
  return { run, folder }
}
