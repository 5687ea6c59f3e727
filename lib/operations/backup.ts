// Backups on a host: archives that are read back before they count, and copies of them in the run's folder.
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
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
export async function archive(
  { $, host }: HostSession,
  destination: string,
  paths: readonly string[],
): Promise<Backup> {
  const { stdout } = await $`set -e; umask 077; mkdir -p ${dirname(destination)}; chmod 700 ${dirname(destination)}
set --; for p in ${paths}; do [ -e "$p" ] && set -- "$@" "\${p#/}"; done
[ $# -gt 0 ] || { echo 'none of the paths is there' >&2; exit 1; }
tar -C / -czf ${destination}.part "$@"
n=$(tar -tzf ${destination}.part | grep -vc '/$')
mv -f ${destination}.part ${destination}; sync ${destination}
echo "$n $(stat -c %s ${destination}) $(sha256sum <${destination} | cut -c1-64)"`
  const [entries = '0', size = '0', sha256 = ''] = stdout.trim().split(' ')
  if (Number(entries) === 0)
    throw new HostFailedError(`the archive ${host.name}:${destination} is empty`, {
      code: 'backup.empty',
      host: host.name,
    })
  return { path: destination, sha256, size: Number(size), entries: Number(entries) }
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
