// Whether a backup is whole and fits together, found out from its files alone: hashes, archives that can be read to their end, keys that
// belong to their certificates, a snapshot that etcd would take.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { secret } from '../../connection/shell.ts'
import { type Archived, readArchive } from '../../operations/tar-reading.ts'
import { keyMatches } from '../../pki/certificates/certificate.ts'
import { kubeconfigFields } from '../api/kubeconfig.ts'
import { archiveIn, type Backup, type FilesManifest, madeAt, snapshotIn, tokensIn } from './manifest.ts'

/** How far this machine's clock may be behind the one that made a backup, in milliseconds. */
const clocksApart = 5 * 60_000

/**
 * What is wrong with a backup, a line each; none where all of it is good. Reads all of it.
 * @param now milliseconds since 1970
 */
export async function troublesOf(backup: Backup, now = Date.now()): Promise<string[]> {
  const all = { hosts: backup.files.map(({ host }) => host), snapshot: true, tokens: true }
  const { troubles, misfits } = await troublesIn(backup, all, now)
  return [...troubles, ...misfits]
}

/** What of a backup is looked at. */
interface Looked {
  readonly hosts: readonly string[]
  readonly snapshot: boolean
  readonly tokens?: boolean
}

/**
 * The same of parts of a backup. Reads those.
 * @returns what is not as it was saved; and what was saved and does not fit together, as it was on its host then
 */
export async function troublesIn(
  backup: Backup,
  { hosts, snapshot, tokens = false }: Looked,
  now = Date.now(),
): Promise<{ troubles: string[]; misfits: string[] }> {
  const troubles = [...backup.damage]
  const misfits: string[] = []
  const made = madeAt(backup)
  if (made !== undefined && made > now + clocksApart)
    troubles.push(`${backup.id} was made on ${new Date(made).toISOString()}, which is in the future`)
  for (const files of backup.files.filter(({ host }) => hosts.includes(host))) {
    const found = await filesTroubles(backup, files)
    troubles.push(...found.troubles)
    misfits.push(...found.misfits)
  }
  if (snapshot && backup.snapshot) {
    const path = snapshotIn(backup, backup.snapshot)
    troubles.push(...((await changed(path, backup.snapshot)) ?? (await snapshotTroubles(path))))
  }
  for (const [name, sha256] of Object.entries((tokens && backup.tokens?.files) || {}))
    troubles.push(...((await changed(tokensIn(backup, name), { sha256 })) ?? []))
  return { troubles, misfits }
}

/** What is wrong with a file by its size and its hash; `undefined` where nothing is. */
async function changed(
  path: string,
  { sha256, size }: { sha256: string; size?: number },
): Promise<string[] | undefined> {
  const stats = await lstat(path).catch(() => undefined)
  if (!stats) return [`${path} is not there`]
  if (!stats.isFile()) return [`${path} is no file`]
  if (size !== undefined && stats.size !== size) return [`${path} has ${stats.size} bytes instead of ${size}`]
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex') === sha256 ? undefined : [`${path} is not what was saved: its sha256 is another one`]
}

async function filesTroubles(backup: Backup, files: FilesManifest): Promise<{ troubles: string[]; misfits: string[] }> {
  const path = archiveIn(backup, files)
  const wrong = await changed(path, files)
  if (wrong) return { troubles: wrong, misfits: [] }
  try {
    return { troubles: [], misfits: pairTroubles(files, await readArchive(path)).map(why => `${path}: ${why}`) }
  } catch (error) {
    return { troubles: [(error as Error).message], misfits: [] }
  }
}

/** A file of an archive, with links followed that stay in it. */
export function archivedFile(archive: ReadonlyMap<string, Archived>, path: string): Buffer | undefined {
  const found = archive.get(path)
  if (found?.kind === 'link' && found.target !== undefined)
    return archivedFile(new Map([...archive].filter(([name]) => name !== path)), found.target)
  return found?.kind === 'file' ? found.content : undefined
}

/** The EncryptionConfiguration that the API server of a host went by, as its archive has it: its path on the host, and text; undefined where it had none. */
export async function archivedEncryption(
  backup: Backup,
  files: FilesManifest,
): Promise<{ path: string; text: string } | undefined> {
  const named = files.reading.layout?.components['kube-apiserver']?.files.find(({ role }) => role === 'encryption')
  if (!named) return undefined
  const content = archivedFile(await readArchive(archiveIn(backup, files)), named.real)
  return { path: named.path, text: content?.toString('utf8') ?? '' }
}

/** Keys that are missing or belong to another certificate: of what components name, and in kubeconfigs. */
function pairTroubles({ reading }: FilesManifest, archive: ReadonlyMap<string, Archived>): string[] {
  const text = (path: string) => archivedFile(archive, path)?.toString('utf8')
  const pairs = new Map(
    Object.values(reading.layout?.components ?? {}).flatMap(({ files }) =>
      files.flatMap(({ real, key }) => (key ? [[real, key.real] as const] : [])),
    ),
  )
  const ofPairs = [...pairs].flatMap(([certificate, key]) => {
    const [pem, keyPem] = [text(certificate), text(key)]
    if (pem === undefined) return [`${certificate} is not in it`]
    if (keyPem === undefined) return [`${key} is not in it, the key of ${certificate}`]
    return matches(pem, keyPem) ? [] : [`${key} is not the key of ${certificate}`]
  })
  const ofKubeconfigs = Object.keys(reading.kubeconfigs).flatMap(path => {
    const content = text(reading.files?.[path]?.real ?? path)
    if (content === undefined) return []
    const { certificate, key } = kubeconfigFields(content, path)
    return certificate !== undefined && key !== undefined && !matches(certificate, key)
      ? [`the key in ${path} is not that of its certificate`]
      : []
  })
  return [...ofPairs, ...ofKubeconfigs]
}

function matches(certificate: string, key: string): boolean {
  try {
    return keyMatches(certificate, secret(key).reveal())
  } catch {
    return false
  }
}

const hashSize = 32
/** What bbolt has at the head of its first page. */
const magic = { at: 16, word: 0xed0cdaed }

/**
 * Whether etcd would take a snapshot: it begins as a database of bbolt, and ends with the sha256 of all that stands before, which
 * the member sends behind it (`etcdserver/api/v3rpc/maintenance.go`) and `etcdutl snapshot restore` looks for where the size says that it is there.
 */
async function snapshotTroubles(path: string): Promise<string[]> {
  const { size } = await lstat(path)
  if (size % 512 !== hashSize)
    return [`${path} has no hash of itself at its end: it is cut off, or no snapshot of etcdctl`]
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { end: size - hashSize - 1 })) hash.update(piece as Buffer)
  const ends: Buffer[] = []
  for await (const piece of createReadStream(path, { start: size - hashSize })) ends.push(piece as Buffer)
  if (!hash.digest().equals(Buffer.concat(ends))) return [`${path} is damaged: its own hash is another one`]
  const heads: Buffer[] = []
  for await (const piece of createReadStream(path, { end: magic.at + 3 })) heads.push(piece as Buffer)
  return Buffer.concat(heads).readUInt32LE(magic.at) === magic.word ? [] : [`${path} is no database of etcd`]
}
