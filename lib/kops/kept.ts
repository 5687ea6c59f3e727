// What a run keeps in its folder for its way back.
import { readFile, rename, writeFile } from 'node:fs/promises'
import { HostFailedError } from '../errors.ts'

/** Writes a file of the run's folder whole, for its user alone, and reads it back. */
export async function keepWhole(file: string, data: Buffer): Promise<void> {
  await writeFile(`${file}.next`, data, { mode: 0o600, flush: true })
  await rename(`${file}.next`, file)
  if (data.equals(await readFile(file))) return
  throw new HostFailedError(`${file} does not hold what was written`, { code: 'kops.not-kept' })
}
