// Files for the eyes of whoever asked for them: never over one that is there unless that is said, and never half of one.
import { existsSync, linkSync, lstatSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { RekeyError } from '../../errors.ts'

/** Throws `RekeyError` where something has this name. */
export function requireFree(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return
  throw new RekeyError(`${path} is there already`, {
    code: 'cli.file-there',
    hint: 'Name another file by -o, or have it replaced by --force.',
  })
}

/** Reads a text. Throws `RekeyError` where it can't be read. */
export function readOwnFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new RekeyError(`${path} can't be read (${(cause as NodeJS.ErrnoException).code})`, {
      code: 'cli.file',
      cause,
    })
  }
}

/** Writes a text for its owner alone, whole or not at all. Throws `RekeyError` where it can't be written, or is there and is not to be replaced. */
export function writeOwnFile(path: string, text: string, replace: boolean): void {
  const real = replace && existsSync(path) ? realpathSync(path) : path
  const beside = `${real}.rekey-${process.pid}`
  try {
    writeFileSync(beside, text, { mode: 0o600, flag: 'wx' })
    if (replace) renameSync(beside, real)
    // Where somebody was quicker, a link fails.
    else linkSync(beside, real)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EEXIST' && !replace) requireFree(path)
    throw new RekeyError(`${path} can't be written (${code})`, { code: 'cli.file', cause })
  } finally {
    rmSync(beside, { force: true })
  }
}
