// Files that change together: each staged beside the one that it replaces, checked there, then all renamed in one go.

import type { FileOptions } from '../connection/files.ts'
import { quote, type Secret } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import type { HostSession } from '../playbook/model.ts'

/** A file to be put in place. */
export interface StagedFile extends FileOptions {
  readonly path: string
  readonly content: string | Secret
}

/** Where a file waits until it is swapped in: beside its destination, hidden, by the id of the run. */
export function stagedPath(path: string, run: string): string {
  const cut = path.lastIndexOf('/') + 1
  return `${path.slice(0, cut)}.rekey-${run}-${path.slice(cut)}`
}

/** Writes files where they wait. What was there before under the same run is replaced. */
export async function stageFiles({ files }: HostSession, run: string, staged: readonly StagedFile[]): Promise<void> {
  for (const { path, content, mode, owner } of staged)
    await files.write(stagedPath(path, run), content, { mode, owner })
}

/**
 * Renames staged files into place and removes others, in one script that checks first that all of them are there.
 * @throws HostFailedError before anything is renamed when one is missing
 */
export async function swapFiles(
  { $, host }: HostSession,
  run: string,
  paths: readonly string[],
  remove: readonly string[] = [],
): Promise<void> {
  const script = [
    'set -e',
    ...paths.map(
      path => `[ -f ${quote(stagedPath(path, run))} ] || { echo ${quote(`${path} is not staged`)} >&2; exit 1; }`,
    ),
    ...paths.map(path => `mv -f ${quote(stagedPath(path, run))} ${quote(path)}`),
    ...remove.map(path => `rm -f ${quote(path)}`),
    'sync',
  ].join('\n')
  const { exitCode, stderr } = await $({ nothrow: true })`sh -c ${script}`
  if (exitCode !== 0) {
    throw new HostFailedError(`${host.name}: the staged files could not be put in place: ${stderr.trim()}`, {
      code: 'staging.swap',
      host: host.name,
    })
  }
}

/** Removes what is still staged under a run. */
export async function unstageFiles({ $ }: HostSession, run: string, paths: readonly string[]): Promise<void> {
  await $`rm -f ${paths.map(path => stagedPath(path, run))}`
}
