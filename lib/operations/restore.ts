// The way back of a swap: what an archive of the host has is put back, what it has not goes away.
import type { NextContent } from '../connection/files.ts'
import { safeFolders, splitPath } from '../connection/safe-folder.ts'
import { quote } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import type { HostSession } from '../playbook/model.ts'
import { inRealFolders } from './backup.ts'
import { runLongScript } from './script.ts'
import { inFolders, type Swap, stagedPath, synced } from './staging.ts'

/**
 * Puts files back as an archive has them; those that it has not are removed. All are written beside their places first, then
 * renamed, and compared at the end. May be done twice.
 * @param archive a `.tgz` on the host, made from `/`
 * @param run names what is staged on the way
 * @param mustHave fails before anything is changed where the archive lacks one of them, instead of removing it
 * @throws HostFailedError before anything is changed where the archive can't be read; also where a file is not what it was
 */
export async function restoreFiles(
  session: HostSession,
  run: string,
  archive: string,
  named: readonly string[],
  { mustHave = false }: { mustHave?: boolean } = {},
): Promise<void> {
  const { $, files, host } = session
  const paths = [...new Set(await inRealFolders(session, named))]
  for (const path of paths) await files.announce(path, () => archived(session, archive, path))
  const there = (path: string) => `{ [ -e "$t"${quote(path)} ] || [ -L "$t"${quote(path)} ]; }`
  const script = [
    'set -e; umask 077',
    safeFolders,
    `t=$(mktemp -d ${quote(`${archive}.XXXXXX`)}); trap '_leave; rm -rf "$t"' EXIT`,
    `tar -C "$t" -xzf ${quote(archive)}`,
    // A link in the archive that leads out of it would have a file compared with itself, and taken for what it was.
    ...[...new Set(paths.map(path => splitPath(path).folder))].map(
      folder =>
        `[ ! -d "$t"${quote(folder)} ] || case $(cd -P "$t"${quote(folder)} && env pwd -P)/ in "$(cd -P "$t" && env pwd -P)"/*) ;; *) echo ${quote(`${folder} is a link there`)} >&2; exit 1 ;; esac`,
    ),
    ...(mustHave ? paths.map(path => `${there(path)} || { echo ${quote(`${path} is not in it`)} >&2; exit 1; }`) : []),
    ...inFolders(paths, path => {
      const staged = quote(`../${splitPath(stagedPath(path, run)).name}`)
      return `if ${there(path)}; then _private; cp -aT "$t"${quote(path)} 0; _label ${quote(`../${splitPath(path).name}`)} 0; find 0 ! -type l -exec sync {} +; rm -rf ${staged}; mv -fT 0 ${staged}; _leave; fi`
    }),
    ...inFolders(paths, path => {
      const [staged, place] = [stagedPath(path, run), path].map(one => quote(`./${splitPath(one).name}`))
      return `if ${there(path)}; then mv -fT ${staged} ${place}; else rm -f ${place}; fi`
    }),
    ...synced(paths),
    ...paths.map(
      path =>
        `if [ -L "$t"${quote(path)} ]; then [ "$(readlink "$t"${quote(path)})" = "$(readlink ${quote(path)})" ]; elif [ -e "$t"${quote(path)} ]; then cmp -s "$t"${quote(path)} ${quote(path)}; else [ ! -e ${quote(path)} ]; fi || { echo ${quote(`${path} is not what it was`)} >&2; exit 1; }`,
    ),
  ].join('\n')
  const { exitCode, stderr } = await runLongScript($, script, { nothrow: true })
  if (exitCode === 0) return
  throw new HostFailedError(`${host.name}: the old files could not be put back: ${stderr.trim()}`, {
    code: 'restore.failed',
    host: host.name,
    hint: `They are in ${archive} on ${host.name}.`,
  })
}

/** What an archive has of a file. What not everybody may read is taken for a secret. */
async function archived({ $ }: HostSession, archive: string, path: string): Promise<NextContent> {
  const inside = path.replace(/^\/+/, '')
  const look = $({ quiet: true, nothrow: true })
  const { stdout: listed } = await look`tar -tvzf ${archive} ${inside} 2>/dev/null`
  if (!listed.startsWith('-')) return { after: undefined, secret: false }
  const { stdout } = await look`tar -xzOf ${archive} ${inside} | base64`
  return { after: Buffer.from(stdout, 'base64'), secret: listed.slice(7, 10) === '---' }
}

/** The files of a swap that somebody changed after it: they are neither what it put there nor what the archive has. */
export async function changedAfterSwap(
  { $ }: HostSession,
  { rename, hashes = {} }: Swap,
  archive: string,
): Promise<string[]> {
  const hashed = rename.filter(path => path in hashes)
  const real = await inRealFolders({ $ }, hashed)
  const script = [
    'set -e; hash() { sha256sum | cut -c1-64; }',
    ...hashed.map(
      (path, index) =>
        `if [ -e ${quote(path)} ]; then now=$(hash <${quote(path)}); [ "$now" = ${hashes[path]} ] || [ "$now" = "$(tar -xzOf ${quote(archive)} ${quote((real[index] ?? path).slice(1))} 2>/dev/null | hash)" ] || echo ${quote(path)}; fi`,
    ),
  ].join('\n')
  return (await $({ quiet: true })`sh -c ${script}`).stdout.split('\n').filter(Boolean)
}
