// Which keys it takes to read the backups that lie on this machine.
import { createReadStream, existsSync } from 'node:fs'
import { type Backup, snapshotIn } from '../../kubernetes/backups/manifest.ts'
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

/** Whether the snapshot of a backup has all of these texts in it: what etcd had not forgotten yet of the past counts as well. */
export async function snapshotHas(backup: Backup, texts: readonly string[]): Promise<boolean> {
  if (!backup.snapshot || !existsSync(snapshotIn(backup, backup.snapshot))) return false
  const missing = new Set(texts)
  const longest = Math.max(...texts.map(text => Buffer.byteLength(text)))
  let end: Buffer = Buffer.alloc(0)
  for await (const piece of createReadStream(snapshotIn(backup, backup.snapshot))) {
    const bytes = Buffer.concat([end, piece as Buffer])
    for (const text of missing) if (bytes.includes(text)) missing.delete(text)
    if (missing.size === 0) return true
    end = Buffer.from(bytes.subarray(Math.max(0, bytes.length - longest + 1)))
  }
  return false
}

/** Whether a backup is of these hosts: by their names, and the addresses that they were reached at. */
export function isOfHosts({ files, snapshot }: Backup, hosts: readonly Host[]): boolean {
  const addressOf = (name: string) => hosts.find(host => host.name === name)?.connection.address
  if (files.length > 0) return files.some(({ host, address }) => addressOf(host) === address)
  return snapshot !== undefined && addressOf(snapshot.host) !== undefined
}
