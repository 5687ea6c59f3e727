// What the backup of a run says of itself, in files beside what it holds: of which cluster, from which moment, what is in it, and how that is
// known to be whole. Written by the steps that back up, read by whoever lists, verifies, prunes or restores.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import type { MachineReading } from '../trust/machine.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/, 'no sha256')
const hostName = z.string().regex(/^(?!\.)[^/\0]+$/, 'no name of a host')
const common = {
  /** Of the file itself: what is added does not change it. */
  format: z.literal(1),
  run: z.string(),
  /** When it was made, by the clock of the machine that made it. */
  at: z.iso.datetime(),
}

const files = z.object({
  ...common,
  kind: z.literal('files'),
  host: hostName,
  /** How the host was reached; empty where it was this machine. */
  address: z.string(),
  /** Its `/etc/machine-id`; empty where it has none. */
  machine: z.string(),
  sha256: hash,
  /** Bytes. */
  size: z.int().min(1),
  /** Files in it. */
  entries: z.int().min(1),
  /** What was found on the host then: which components, which files they live by, and their certificates. No key is in it. */
  reading: z
    .looseObject({
      host: hostName,
      controlPlane: z.boolean(),
      certificates: z.record(z.string(), z.string()),
      kubeconfigs: z.record(z.string(), z.unknown()),
      authority: z.string(),
      layout: z.looseObject({ host: hostName, components: z.record(z.string(), z.unknown()) }).optional(),
    })
    .transform(reading => reading as unknown as MachineReading),
})

const snapshot = z.object({
  ...common,
  kind: z.literal('etcd'),
  host: hostName,
  sha256: hash,
  size: z.int().min(1),
  revision: z.int().min(1),
  /** Keys in it, with their histories. */
  keys: z.int().min(1),
  /** The members that etcd had, and on which hosts. */
  members: z.array(z.object({ host: hostName, name: z.string(), peers: z.array(z.string()) })),
  /** The names of all members, as etcd lists them: there may be some on hosts that the run did not have. */
  listed: z.array(z.string()).optional(),
  /** Objects in it, by kind; not known where they could not be counted. */
  objects: z.record(z.string(), z.int().min(0)).optional(),
})

const tokens = z.object({
  ...common,
  kind: z.literal('tokens'),
  secrets: z.int().min(0),
  /** The sha256 of each file, by its name. */
  files: z.record(z.string().regex(/^[a-z0-9.-]+\.yaml$/), hash),
})

/** Keys and configuration of a host: `HOST/host.tgz`. */
export type FilesManifest = z.infer<typeof files>
/** etcd: `HOST/etcd.db`. */
export type SnapshotManifest = z.infer<typeof snapshot>
/** Secrets with tokens of service accounts: `tokens/NAMESPACE.yaml`. */
export type TokensManifest = z.infer<typeof tokens>

type Manifest = FilesManifest | SnapshotManifest | TokensManifest

/** The backup of a run, or of a stage of one, by what it says of itself. */
export interface Backup {
  /** What it is called: `RUN`, or `RUN:STAGE`. */
  readonly id: string
  /** The folder that it lies in. */
  readonly folder: string
  readonly files: readonly FilesManifest[]
  readonly snapshot?: SnapshotManifest
  readonly tokens?: TokensManifest
  /** What can't be read of what it says, a line each. */
  readonly damage: readonly string[]
}

type Place = Pick<Backup, 'folder'>
type OfHost = { readonly host: string }

/** The backup that a run makes, by its folder. */
export const backupOfRun = (runFolder: string): Place => ({ folder: join(runFolder, 'backups') })

/** Where the files of a host lie. */
export const archiveIn = ({ folder }: Place, { host }: OfHost) => join(folder, host, 'host.tgz')
/** Where the snapshot of etcd lies. */
export const snapshotIn = ({ folder }: Place, { host }: OfHost) => join(folder, host, 'etcd.db')
/** Where a file with Secrets lies. */
export const tokensIn = ({ folder }: Place, name: string) => join(folder, 'tokens', name)

const placeOf = (folder: string, manifest: Manifest): string =>
  ({
    files: () => join(folder, (manifest as FilesManifest).host, 'host.json'),
    etcd: () => join(folder, (manifest as SnapshotManifest).host, 'etcd.json'),
    tokens: () => join(folder, 'tokens.json'),
  })[manifest.kind]()

/** What every manifest begins with. */
export const manifestHead = (run: string) => ({ format: 1, run, at: new Date().toISOString() }) as const

/**
 * Writes what a part of a backup holds beside it (0600), the whole of it or nothing.
 * @param folder the run's folder
 */
export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const path = placeOf(backupOfRun(folder).folder, manifest)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  await writeFile(`${path}.new`, `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flush: true })
  await rename(`${path}.new`, path)
}

/**
 * The backups in a run's folder: one, or one for each stage of a run that went through several; none where it made none, or an earlier
 * rekey made them, which noted nothing.
 */
export function backupsIn(runFolder: string): Backup[] {
  const top = backupOfRun(runFolder).folder
  const run = basename(runFolder)
  const stages = foldersIn(top).flatMap(stage => {
    const inside = backupOfRun(join(top, stage)).folder
    return existsSync(inside) ? [readBackup(`${run}:${stage}`, inside)] : []
  })
  return [readBackup(run, top), ...stages].filter(one => one !== undefined)
}

/** The names of the hosts of which a run's folder has a backup, whether or not that says what it holds. */
export function hostsWithin(runFolder: string): string[] {
  const top = backupOfRun(runFolder).folder
  return foldersIn(top).flatMap(name => {
    const stage = backupOfRun(join(top, name)).folder
    return existsSync(stage) ? foldersIn(stage) : [name]
  })
}

function readBackup(id: string, folder: string): Backup | undefined {
  const damage: string[] = []
  const read = <T>(path: string, shape: z.ZodType<T>): T | undefined => {
    if (!existsSync(path)) return undefined
    try {
      return shape.parse(JSON.parse(readFileSync(path, 'utf8')))
    } catch (error) {
      const [issue] = error instanceof z.ZodError ? error.issues : []
      damage.push(`${path}: ${issue ? `${issue.path.join('.')}: ${issue.message}` : (error as Error).message}`)
      return undefined
    }
  }
  const hosts = foldersIn(folder).filter(name => name !== 'tokens')
  // Each says in which folder it lies.
  const own = <T extends { readonly host: string }>(name: string, host: string, shape: z.ZodType<T>) => {
    const path = join(folder, host, name)
    const found = read(path, shape)
    if (found === undefined || found.host === host) return found
    damage.push(`${path} is of ${found.host}`)
    return undefined
  }
  const found = hosts.flatMap(host => own('host.json', host, files) ?? [])
  const [saved] = hosts.flatMap(host => own('etcd.json', host, snapshot) ?? [])
  const secrets = read(join(folder, 'tokens.json'), tokens)
  if (found.length === 0 && !saved && !secrets && damage.length === 0) return undefined
  return { id, folder, files: found, ...(saved && { snapshot: saved }), ...(secrets && { tokens: secrets }), damage }
}

function foldersIn(path: string): string[] {
  if (!existsSync(path)) return []
  return readdirSync(path, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}

/** When a backup was begun, in milliseconds since 1970; `undefined` where nothing of it says so. */
export function madeAt({ files: of, snapshot: saved, tokens: secrets }: Backup): number | undefined {
  const times = [...of, saved, secrets].flatMap(one => (one ? [Date.parse(one.at)] : []))
  return times.length > 0 ? Math.min(...times) : undefined
}

/** Removes what a backup says that it holds, and then what it says. What else lies in its folders stays. */
export function removeBackup(backup: Backup): void {
  const { folder, files: of, snapshot: saved, tokens: secrets } = backup
  const parts = [
    ...of.map(one => [one, [archiveIn(backup, one)]] as const),
    ...(saved ? [[saved, [snapshotIn(backup, saved)]] as const] : []),
    ...(secrets ? [[secrets, Object.keys(secrets.files).map(name => tokensIn(backup, name))] as const] : []),
  ]
  for (const [manifest, paths] of parts) {
    for (const path of [...paths, placeOf(folder, manifest)]) {
      rmSync(path, { force: true })
      const inside = dirname(path)
      if (inside !== folder && existsSync(inside) && readdirSync(inside).length === 0) rmdirSync(inside)
    }
  }
}
