// A secret in a file of this user's.
import { lstatSync, readFileSync } from 'node:fs'
import { RekeyError } from '../../errors.ts'
import { isOwn } from '../../run/folder/trust.ts'

/** What is said where a secret can't be read. */
interface Words {
  /** What it is: `the key of the fleet`. */
  readonly what: string
  readonly code: string
  /** What to do where there is none. */
  readonly hint: string
}

/**
 * Reads a secret that nobody else may read or write.
 * @throws RekeyError where others may, or it can't be read
 */
export function readSecretFile(path: string, { what, code, hint }: Words): string {
  try {
    const stats = lstatSync(path)
    if (!stats.isFile() || !isOwn(stats) || (stats.mode & 0o077) !== 0)
      throw new RekeyError(`${path} is ${what}, and others may read or write it`, { code, hint: `chmod 600 ${path}` })
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof RekeyError) throw error
    const { code: why } = error as NodeJS.ErrnoException
    throw new RekeyError(`${path}, ${what}, can't be read (${why})`, { code, hint })
  }
}
