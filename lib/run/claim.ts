// Two who go on with the same run at the same moment: one of them is told so before it writes a word into the journal.
import { constants, copyFileSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { cannotKeep } from './line-file.ts'
import { isAlive, type ProcessIdentity } from './provenance.ts'

/**
 * Claims the folder of a run for a process. A claim ends with its process, and is not given back.
 * @throws RekeyError where a process of this machine that lives has it
 */
export function claimRun(run: string, folder: string, own: ProcessIdentity): void {
  const claims = join(folder, 'claims')
  const mine = join(folder, `claim-${own.pid}`)
  try {
    mkdirSync(claims, { recursive: true, mode: 0o700 })
    writeFileSync(mine, JSON.stringify(own), { mode: 0o600 })
    for (;;) {
      const known = readdirSync(claims)
      const holders = known.map(name => JSON.parse(readFileSync(join(claims, name), 'utf8')) as ProcessIdentity)
      for (const holder of holders) if (isAlive(holder)) throw stillRunning(run, holder)
      // Of two who come at once only one can make the next link, and the other sees it.
      if (linked(mine, join(claims, String(known.length)))) return
    }
  } catch (error) {
    throw error instanceof RekeyError ? error : cannotKeep(claims, error as Error)
  } finally {
    rmSync(mine, { force: true })
  }
}

/** The error for a run that goes on already. */
export function stillRunning(run: string, { pid }: ProcessIdentity): RekeyError {
  return new RekeyError(`${run} is still running: process ${pid} on this machine`, {
    code: 'resume.running',
    hint: 'Wait until it has ended, or end it with Ctrl-C where it runs.',
  })
}

function linked(from: string, to: string): boolean {
  const make = (how: () => void) => {
    try {
      how()
      return true
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EEXIST') return false
      // Not every file system has hard links.
      if (how !== copied && ['EPERM', 'ENOTSUP', 'EOPNOTSUPP'].includes(code ?? '')) return make(copied)
      throw error
    }
  }
  const copied = () => copyFileSync(from, to, constants.COPYFILE_EXCL)
  return make(() => linkSync(from, to))
}
