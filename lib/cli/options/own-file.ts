// Files for the eyes of whoever asked for them: never over one that is there unless that is said, and never half of one.
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import { RekeyError } from '../../errors.ts'

/** What a file may take the place of: one that is there, and becomes its owner's alone; or itself, and who owns and reads it stays. */
export type Over = 'nothing' | 'another' | 'itself'

/** Throws `RekeyError` where something has this name; where it is to be replaced, only where that is no file. */
export function requireFree(path: string, isReplaced = false): void {
  regular(path)
  if (isReplaced || lstatSync(path, { throwIfNoEntry: false }) === undefined) return
  throw new RekeyError(`${path} is there already`, {
    code: 'cli.file-there',
    hint: 'Name another file by -o, or have it replaced by --force.',
  })
}

/** Reads a text. Throws `RekeyError` where it can't be read. */
export function readOwnFile(path: string): string {
  const real = regular(path)
  try {
    return readFileSync(real, 'utf8')
  } catch (cause) {
    throw cannot(path, 'read', cause)
  }
}

/**
 * Writes a text whole or not at all: for its owner alone, where it does not go over itself.
 * @returns whether that was needed: over itself a text that is there already is not written
 * @throws RekeyError where it can't be written, or is there and is not to be replaced
 */
export function writeOwnFile(path: string, text: string, over: Over): boolean {
  if (over === 'itself' && readOwnFile(path) === text) return false
  const real = over === 'nothing' ? path : regular(path)
  const beside = `${real}.rekey-${process.pid}`
  try {
    writeNew(beside, text, over === 'itself' ? statSync(real) : undefined)
    if (over !== 'nothing') renameSync(beside, real)
    // Where somebody was quicker, a link fails.
    else linkSync(beside, real)
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST' && over === 'nothing') requireFree(path)
    throw cannot(path, 'written', cause)
  } finally {
    rmSync(beside, { force: true })
  }
}

/** A file of its own, of whom another one is, where one is given: at no time can anybody read it who can't read that one. */
function writeNew(path: string, text: string, like?: Stats): void {
  const file = openSync(path, 'wx', 0o600 & (like?.mode ?? 0o600))
  try {
    // Else a machine that loses its power has a file with nothing in it.
    writeFileSync(file, text, { flush: true })
    if (!like) return
    const { uid, gid } = fstatSync(file)
    if (uid !== like.uid || gid !== like.gid) fchownSync(file, like.uid, like.gid)
    fchmodSync(file, like.mode & 0o777)
  } finally {
    closeSync(file)
  }
}

/** Where a file really is, or is to be. Throws `RekeyError` where what is there is a folder, a pipe or a device: waited for, or replaced, that is no use. */
function regular(path: string): string {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found === undefined) return path
    if (found.isFile()) return realpathSync(path)
  } catch (cause) {
    throw cannot(path, 'looked at', cause)
  }
  throw new RekeyError(`${path} is there, and is no regular file`, {
    code: 'cli.file',
    hint: 'Name a file; to stdout it goes by -o -.',
  })
}

const cannot = (path: string, what: string, cause: unknown) =>
  new RekeyError(`${path} can't be ${what} (${(cause as NodeJS.ErrnoException).code})`, {
    ...{ code: 'cli.file', cause },
    ...(what === 'written' && { hint: 'Name a file that can be written, in a folder that is there.' }),
  })
