// Two who go on with the same run at the same moment: one of them is told so before it writes a word into the journal.
import { constants, copyFileSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { cannotKeep } from './line-file.ts'
import { isAlive, type ProcessIdentity } from './provenance.ts'

/**
 * Claims the folder of a run for a process. A claim ends with its process, and is not given back.
 * @returns what is not known, a line each: a claim that was cut by a power failure does not say whose it is
 * @throws RekeyError where a process of this machine that lives has it
 */
export function claimRun(run: string, folder: string, own: ProcessIdentity): string[] {
  const claims = join(folder, 'claims')
  const mine = join(folder, `claim-${own.pid}`)
  try {
    mkdirSync(claims, { recursive: true, mode: 0o700 })
    writeFileSync(mine, JSON.stringify(own), { mode: 0o600, flush: true })
    for (;;) {
      const unknown: string[] = []
      let last = -1
      for (const name of readdirSync(claims)) {
        const path = join(claims, name)
        const holder = readClaim(path)
        if (holder && isAlive(holder)) throw stillRunning(run, holder)
        if (!holder) unknown.push(`${path} can't be read: whether somebody else goes on with this run is not known`)
        if (/^\d{1,15}$/.test(name)) last = Math.max(last, Number(name))
      }
      // Of two who come at once only one can make the next link, and the other sees it.
      if (linked(mine, join(claims, String(last + 1)))) return unknown
    }
  } catch (error) {
    throw error instanceof RekeyError ? error : cannotKeep(claims, error as Error)
  } finally {
    rmSync(mine, { force: true })
  }
}

function readClaim(path: string): ProcessIdentity | undefined {
  try {
    const { machine, pid, started } = JSON.parse(readFileSync(path, 'utf8')) as Partial<ProcessIdentity>
    if (typeof machine === 'string' && typeof pid === 'number' && typeof started === 'string')
      return { machine, pid, started }
  } catch {
    // Told by whoever asked.
  }
  return undefined
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
