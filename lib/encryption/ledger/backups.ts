// Which keys it takes to read the backups that lie on this machine.
import type { Backup } from '../../kubernetes/backups/manifest.ts'
import { archivedEncryption } from '../../kubernetes/backups/verify.ts'
import type { Host } from '../../playbook/host.ts'
import { readConfiguration } from '../configuration.ts'
import { type KnownKey, keysIn } from './keys.ts'

/**
 * With which keys the values of a backup's snapshot can be read: those of the API servers' files then. None where they encrypted nothing.
 * @throws RekeyError where an archive can't be read, or holds no such file
 */
export async function keysOfBackup(backup: Backup): Promise<KnownKey[]> {
  const found = await Promise.all(
    backup.files.map(async files => {
      const archived = await archivedEncryption(backup, files)
      return archived ? keysIn(readConfiguration(archived.text, `${files.host}:${archived.path}`)) : []
    }),
  )
  return found.flat()
}

/** Whether a backup is of these hosts: by their names, and the addresses that they were reached at. */
export function isOfHosts({ files, snapshot }: Backup, hosts: readonly Host[]): boolean {
  const addressOf = (name: string) => hosts.find(host => host.name === name)?.connection.address
  if (files.length > 0) return files.some(({ host, address }) => addressOf(host) === address)
  return snapshot !== undefined && addressOf(snapshot.host) !== undefined
}
