// Backups on a host: archives that are read back before they count, and copies of them in the run's folder.
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { safeFolders, splitPath } from '../connection/safe-folder.ts'
import { raw } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import type { HostSession } from '../playbook/model.ts'

/** A backup that was checked. */
export interface Backup {
  /** Where it is on the host. */
  readonly path: string
  readonly sha256: string
  /** Bytes. */
  readonly size: number
  /** Files in it. */
  readonly entries: number
}

/**
 * Archives paths of a host into a `.tgz` (0600, in a folder 0700), and lists it to see that it can be read.
 * Paths that are not there are left out; throws `HostFailedError` when nothing is left or it can't be read back.
 */
export async function backUpFiles(
  { $, host }: HostSession,
  destination: string,
  paths: readonly string[],
): Promise<Backup> {
  const { folder, name } = splitPath(destination)
  const { stdout } = await $`set -e; umask 077
${raw(safeFolders)}
set --; for p in ${paths}; do [ -e "$p" ] && set -- "$@" "\${p#/}"; done
[ $# -gt 0 ] || { echo 'none of the paths is there' >&2; exit 1; }
trap _leave EXIT; _make ${folder}
case $(stat -c %a .) in ?777) ;; *) chmod 700 . ;; esac
_private
tar -C / -czf - "$@" >0
n=$(tar -tzf 0 | grep -vc '/$')
sync 0; set -- "$n" "$(stat -c %s 0)" "$(sha256sum <0 | cut -c1-64)"
mv -fT 0 ${`../${name}`}; sync ..
echo "$@"`
  const [entries = '0', size = '0', sha256 = ''] = stdout.trim().split(' ')
  if (Number(entries) === 0)
    throw new HostFailedError(`the archive ${host.name}:${destination} is empty`, {
      code: 'backup.empty',
      host: host.name,
    })
  return { path: destination, sha256, size: Number(size), entries: Number(entries) }
}

/**
 * Paths with the links in their folders followed, as the host has them, in the same order: an archive has a file where it lies, and a folder
 * that is a link as a link. A file that is a link stays one.
 */
export async function inRealFolders({ $ }: Pick<HostSession, '$'>, paths: readonly string[]): Promise<string[]> {
  if (paths.length === 0) return []
  const { stdout } = await $({
    quiet: true,
  })`for p in ${paths}; do d=$(readlink -m -- "$(dirname -- "$p")"); echo "\${d%/}/\${p##*/}"; done`
  return stdout.split('\n').slice(0, paths.length)
}

/**
 * Copies a file of a host to this machine (0600), and compares the hash of what arrived.
 * @throws HostFailedError when it did not arrive whole
 */
export async function fetchFile(
  { files, host }: HostSession,
  source: string,
  destination: string,
  sha256?: string,
): Promise<string> {
  await mkdir(dirname(destination), { recursive: true, mode: 0o700 })
  const expected = sha256 ?? (await files.sha256(source))
  const found = await files.download(source, destination)
  if (found === expected) return found
  throw new HostFailedError(`${host.name}:${source} did not arrive whole: sha256 ${found} instead of ${expected}`, {
    code: 'fetch.hash',
    host: host.name,
  })
}

/** Kilobytes free where a path is or will be. */
export async function freeKilobytes({ $ }: HostSession, path: string): Promise<number> {
  const { stdout } = await $`p=${path}; while [ ! -e "$p" ]; do p=$(dirname "$p"); done; df -Pk "$p" | tail -n 1`
  return Number(stdout.trim().split(/\s+/)[3] ?? 0)
}
