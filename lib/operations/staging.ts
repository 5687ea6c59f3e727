// Files that change together: each staged beside the one that it replaces, checked there, then all renamed in one go.
import type { FileOptions } from '../connection/files.ts'
import { safeFolders, splitPath } from '../connection/safe-folder.ts'
import { quote, type Secret } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import { foreignWords } from '../foreign-words.ts'
import type { HostSession } from '../playbook/model.ts'
import { runLongScript } from './script.ts'

/** A file to be put in place. */
export interface StagedFile extends FileOptions {
  readonly path: string
  readonly content: string | Secret
}

/** What a swap does, in this order. Plain data: it is registered, and done by a resumed run. */
export interface Swap {
  /** Staged files to rename into place. */
  readonly rename: readonly string[]
  /** Symbolic links to point elsewhere, each replaced by a rename too. */
  readonly link: readonly { readonly path: string; readonly target: string }[]
  /** Files to remove. */
  readonly remove: readonly string[]
  /** Files to remove that lay there for the swap alone: nobody who watches is told of them. */
  readonly tidy?: readonly string[]
  /** The sha256 of staged files, in hex: one that is in place already, since a swap was cut off, needs no staged one. */
  readonly hashes?: Readonly<Record<string, string>>
}

/** Where a file waits until it is swapped in: beside its destination, hidden, by the id of the run. */
export function stagedPath(path: string, run: string): string {
  const cut = path.lastIndexOf('/') + 1
  return `${path.slice(0, cut)}.rekey-${run}-${path.slice(cut)}`
}

/** Writes files where they wait. What was staged before under the same run is replaced. */
export async function stageFiles({ files }: HostSession, run: string, staged: readonly StagedFile[]): Promise<void> {
  for (const { path, content, mode, owner } of staged)
    await files.write(stagedPath(path, run), content, { mode, owner, replaces: path })
}

/**
 * Puts staged files in place, in one script that checks first that all of them are there.
 * @throws HostFailedError before anything is renamed when one is missing
 */
export async function swapFiles({ $, files, host }: HostSession, run: string, swap: Swap): Promise<void> {
  const { rename, link, remove, tidy = [], hashes = {} } = swap
  const staged = (path: string) => quote(`./${splitPath(stagedPath(path, run)).name}`)
  const place = (path: string) => quote(`./${splitPath(path).name}`)
  // What is renamed was told when it was staged.
  for (const path of remove) await files.announce(path, () => ({ after: undefined, secret: false }))
  const inPlace = (path: string) =>
    path in hashes ? `[ "$(sha256sum <${quote(path)} 2>/dev/null | cut -c1-64)" = ${hashes[path]} ]` : 'false'
  const script = [
    'set -e',
    ...rename.map(
      path =>
        `[ -f ${quote(stagedPath(path, run))} ] || ${inPlace(path)} || { echo ${quote(`${path} is not staged`)} >&2; exit 1; }`,
    ),
    safeFolders,
    ...inFolders(rename, path => `[ ! -f ${staged(path)} ] || mv -fT ${staged(path)} ${place(path)}`),
    ...inFolders(
      link.map(({ path }) => path),
      (path, index) => `ln -sfnT ${quote(link[index]!.target)} ${staged(path)}; mv -fT ${staged(path)} ${place(path)}`,
    ),
    // What the files hold is on the disk since they were staged. Everything else of the host is not waited for: etcd writes there, too.
    ...synced([...rename, ...link.map(({ path }) => path)]),
    ...removals([...remove, ...tidy]),
  ].join('\n')
  const { exitCode, stderr } = await runLongScript($, script, { nothrow: true })
  if (exitCode === 0) return
  throw new HostFailedError(`${host.name}: the staged files could not be put in place: ${foreignWords(stderr, 500)}`, {
    code: 'staging.swap',
    host: host.name,
  })
}

/** Removes what is still staged under a run. */
export async function unstageFiles({ $ }: HostSession, run: string, { rename }: Swap): Promise<void> {
  const staged = rename.map(path => stagedPath(path, run))
  await runLongScript($, [safeFolders, ...removals(staged)].join('\n'))
}

/** Has the names in the folders of these on the disk: nothing else of the host is waited for. */
export function synced(paths: readonly string[]): string[] {
  return inFolders([...new Map(paths.map(path => [splitPath(path).folder, path])).values()], () => 'sync .')
}

/** Lines that remove files, for a script that has `safeFolders`. What is not there, and whose folder is not, is none. */
function removals(paths: readonly string[]): string[] {
  return [...Map.groupBy(paths, path => splitPath(path).folder)].map(([folder, those]) => {
    const names = those.map(path => quote(`./${splitPath(path).name}`)).join(' ')
    // By now the script is in another folder than the one that relative paths begin in.
    const there = folder.startsWith('/') ? quote(folder) : `"$_h"/${quote(folder)}`
    return `[ ! -e ${there} ] || { _in ${quote(folder)} || exit; rm -f ${names}; sync .; }`
  })
}

/** A line for each path, to be run in its folder; for a script that has `safeFolders`. */
export function inFolders(paths: readonly string[], line: (path: string, index: number) => string): string[] {
  let current: string | undefined
  return paths.flatMap((path, index) => {
    const { folder } = splitPath(path)
    const enter = folder === current ? [] : [`_in ${quote(folder)} || exit`]
    current = folder
    return [...enter, line(path, index)]
  })
}
