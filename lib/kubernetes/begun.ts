// What can't be seen from outside once a run was cut off in the middle of it: noted in the run's folder before anything of it is done.
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext } from '../playbook/model.ts'

type Run = Pick<RunContext, 'folder'>

const fileOf = ({ folder }: Run, what: string) => join(folder, 'begun', what)

/** Whether this run has begun with a part. */
export const isBegun = (run: Run, what: string): boolean => existsSync(fileOf(run, what))

/**
 * Notes that a part is begun with.
 * @param what the name of a file
 */
export async function begin(run: Run, what: string): Promise<void> {
  if (isBegun(run, what)) return
  await mkdir(join(run.folder, 'begun'), { recursive: true, mode: 0o700 })
  await writeFile(fileOf(run, what), '', { flush: true })
}
