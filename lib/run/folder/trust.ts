// Whose word the folder of a run is: what it names is loaded and run here, and removed on hosts. Where somebody else could have written
// it, nothing of it is gone by.
import { lstatSync, readdirSync, type Stats, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'

/** What rekey and its procedures read and write in a run's folder; what else lies there is its playbook's. */
const ownNames = [
  ...['events.jsonl', 'journal-end.json', 'registered.jsonl', 'secrets', 'claims', 'output'],
  ...['backups', 'admin.conf', 'before', 'before.jsonl'],
  ...['kubeconfigs', 'credentials-before.json', 'secret-before', 'secret-new', 'begun', 'to-be-replaced'],
]
/** Folders of which no file is looked at beyond what it is: there may be many. */
const manyFiles = ['output', 'backups']

/**
 * Throws where somebody else could have written what stands in a run's folder, or where that leads out of it: `RekeyError` with the path,
 * and what to do about it.
 */
export function requireOwnFolder(folder: string): void {
  requireOwn(folder, lstatSync(folder))
  for (const name of ownNames) requireOwnTree(join(folder, name), !manyFiles.includes(name))
}

/** The same of where the folders of the runs are, and of what holds that. Links to it may be there, but none of others. */
export function requireOwnState(runs: string): void {
  for (const path of [dirname(runs), runs]) {
    requireOwner(path, lstatSync(path))
    requireOwn(path, statSync(path))
  }
}

/** Whether a file may have been written by nobody but whoever runs rekey, and the administrator of the machine. */
export function isOwn({ uid, mode }: Stats): boolean {
  return isOurs(uid) && (mode & 0o022) === 0
}

function requireOwnTree(path: string, look: boolean): void {
  const stats = statsOf(path)
  if (!stats) return
  if (stats.isSymbolicLink()) throw unsafe(path, 'is a link, and rekey makes none', 'Put there what it leads to.')
  // Whoever opens a pipe waits, and a device may be anything. The socket of a run that lives is none of these.
  if (stats.isFIFO() || stats.isCharacterDevice() || stats.isBlockDevice())
    throw unsafe(path, 'is neither a file nor a folder', 'Take it away.')
  if (look || stats.isDirectory()) requireOwn(path, stats)
  if (!stats.isDirectory()) return
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inside = join(path, entry.name)
    if (look || !entry.isFile()) requireOwnTree(inside, look)
  }
}

function statsOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false })
}

function requireOwn(path: string, stats: Stats): void {
  requireOwner(path, stats)
  if (isOwn(stats)) return
  const mode = (stats.mode & 0o7777).toString(8)
  throw unsafe(path, `may be written by others (mode ${mode})`, `If all that is in it is yours: chmod -R go-w ${path}`)
}

function requireOwner(path: string, { uid }: Stats): void {
  if (isOurs(uid)) return
  throw unsafe(
    path,
    `belongs to another user (${uid})`,
    `Do it as that user; or, if all that is in it is to be trusted, have a copy of your own: cp -r, then give the path of its folder. Where rekey keeps what it knows, XDG_STATE_HOME says.`,
  )
}

function isOurs(uid: number): boolean {
  const own = process.geteuid?.()
  return own === undefined || uid === own || uid === 0
}

function unsafe(path: string, what: string, hint: string): RekeyError {
  return new RekeyError(`${path} ${what}: nothing is gone by that stands there`, { code: 'run.unsafe-folder', hint })
}
