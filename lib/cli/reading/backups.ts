// `rekey backups`: what the backups of a cluster's runs hold, whether they are good, and those removed that nobody needs any more. Looks at what
// lies on this machine, and asks no host.
import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Command, Option } from 'commander'
import { isOfHosts, keysOfBackup } from '../../encryption/ledger/backups.ts'
import { exitCodes, RekeyError } from '../../errors.ts'
import type { Inventory } from '../../inventory/index.ts'
import { type Backup, backupsIn, madeAt, removeBackup } from '../../kubernetes/backups/manifest.ts'
import { troublesOf } from '../../kubernetes/backups/verify.ts'
import { give, say, tell } from '../../output/print.ts'
import { visible, visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { runsDirectory } from '../../run/folder/folder.ts'
import { requireOwnFolder, requireOwnState } from '../../run/folder/trust.ts'
import { endingOf, findRun, readHistory, runFolders } from '../../run/journal/history.ts'
import { readAge } from '../options/duration.ts'
import { type InventoryOptions, openInventory, withInventoryOptions } from '../options/inventory.ts'
import { requireRemoval } from '../running/confirm.ts'

interface BackupsOptions extends InventoryOptions {
  json?: boolean
  verify?: boolean
  prune?: number
  yes?: boolean
}

/** A backup, whose run it is, and what is known of it beside what it says of itself. */
interface Listed {
  readonly backup: Backup
  readonly runFolder: string
  /** With which keys the snapshot can be read; `undefined` where that can't be found out. */
  readonly keys?: readonly string[]
  /** What is wrong with it; `undefined` where nobody has looked. */
  readonly troubles?: readonly string[]
}

/** The command `rekey backups`, for `lib/cli/main.ts` to mount. */
export function backupsCommand(): Command {
  const command = new Command('backups').description(
    "what the backups of a cluster's runs hold, whether they are good, and which of them to remove",
  )
  return withInventoryOptions(command)
    .argument('[run]', "only that of this run: its id, a part of it, or 'last'")
    .option('--json', 'everything, as JSON')
    .option('--verify', 'read all of them: hashes, archives, keys and their certificates, snapshots of etcd')
    .addOption(
      new Option('--prune <age>', 'remove those older than this, but for the last good one').argParser(readAge),
    )
    .option('--yes', 'remove them without asking')
    .action(async (run: string | undefined, options: BackupsOptions) => {
      process.exitCode = await backups(run, options)
    })
}

async function backups(run: string | undefined, options: BackupsOptions): Promise<number> {
  const inventory = await openInventory(options)
  const parent = runsDirectory()
  const folders = run === undefined ? runFolders(parent) : [findRun(run, parent)]
  const all = folders.flatMap(runFolder => backupsIn(runFolder).map(backup => ({ backup, runFolder })))
  const own = all.filter(({ backup }) => isOfHosts(backup, inventory.hosts))
  if (run !== undefined && own.length === 0) {
    throw new RekeyError(`${basename(folders[0] ?? run)} has no backup of a cluster of this inventory`, {
      code: 'backups.none',
      hint: 'Without a run, all of its backups are listed. Those of an earlier rekey say nothing of themselves.',
    })
  }
  if (options.prune !== undefined) return prune(own, inventory, options.prune, options.yes ?? false)
  const listed: Listed[] = []
  for (const one of own)
    listed.push({
      ...one,
      ...{ keys: await keysOf(one.backup), ...(options.verify && { troubles: await troublesOf(one.backup) }) },
    })
  const silent = run === undefined ? folders.filter(folder => isSilent(folder)).length : 0
  if (options.json) give(`${visibleJson({ backups: listed.map(asJson), withoutManifest: silent }, 2)}\n`)
  else show(listed, all.length - own.length, silent)
  return listed.some(({ troubles = [] }) => troubles.length > 0) ? exitCodes.hostFailed : exitCodes.done
}

/** Backups of an earlier rekey. */
function isSilent(runFolder: string): boolean {
  const folder = join(runFolder, 'backups')
  if (!existsSync(folder) || backupsIn(runFolder).length > 0) return false
  return readdirSync(folder).some(host => existsSync(join(folder, host, 'host.tgz')))
}

/** With which keys the values of a snapshot can be read; `undefined` where that can't be found out. */
async function keysOf(backup: Backup): Promise<string[] | undefined> {
  try {
    return [...new Set((await keysOfBackup(backup)).map(({ name }) => name))]
  } catch {
    // Whoever verifies it is told why.
    return undefined
  }
}

/** The cluster's CA, by the first digits of its public key's SHA-256. */
function authorityOf({ files }: Backup): string | undefined {
  const pem = files.find(({ reading }) => reading.authority !== '')?.reading.authority
  return pem === undefined ? undefined : publicKeyOf(pem)?.slice(0, 12)
}

const timeOf = (backup: Backup) => {
  const made = madeAt(backup)
  return made === undefined ? undefined : new Date(made).toISOString()
}

function show(listed: readonly Listed[], others: number, silent: number): void {
  if (listed.length > 0) {
    const header = ['', 'RUN', 'MADE', 'CA', 'FILES OF', 'ETCD', 'TOKENS', 'READ WITH']
    const rows = listed.map(({ backup, keys, troubles }) => {
      const { snapshot, tokens } = backup
      return [
        troubles === undefined ? ' ' : troubles.length === 0 ? '✔' : '✖',
        ...[backup.id, timeOf(backup)?.slice(0, 19) ?? '-', authorityOf(backup) ?? '-'],
        backup.files.map(({ host }) => host).join(' ') || '-',
        snapshot ? `revision ${snapshot.revision}, ${snapshot.size} bytes` : '-',
        tokens ? `${tokens.secrets} in ${Object.keys(tokens.files).length}` : '-',
        keys === undefined ? 'not known' : keys.join('; ') || '-',
      ].map(visible)
    })
    for (const line of table([header, ...rows])) say(line)
  }
  for (const line of listed.flatMap(({ troubles = [] }) => troubles)) say(visible(`✖ ${line}`))
  if (others > 0) tell(`Notice: ${others} more ${others === 1 ? 'is' : 'are'} of other clusters`)
  if (silent > 0)
    tell(
      `Notice: ${silent} more ${silent === 1 ? 'run has' : 'runs have'} backups that say nothing of themselves: of an earlier rekey, or for the way back of a restore`,
    )
}

/** What a machine reads: docs/templates.md says what each member is. */
function asJson({ backup, keys, troubles }: Listed) {
  const { id, folder, files, snapshot, tokens } = backup
  return {
    ...{ id, folder, made: timeOf(backup), authority: authorityOf(backup) },
    files: files.map(({ host, address, sha256, size, entries }) => ({ host, address, sha256, size, entries })),
    ...(snapshot && { etcd: snapshot }),
    ...(tokens && { tokens: { secrets: tokens.secrets, files: Object.keys(tokens.files) } }),
    ...{ keys, troubles },
  }
}

/** Removes what is older, but for the last backup that is good: with files of hosts, and with a snapshot of etcd where any has one. */
async function prune(own: readonly Listed[], inventory: Inventory, age: number, yes: boolean): Promise<number> {
  const oldest = Date.now() - age
  const old = own.filter(({ backup }) => (madeAt(backup) ?? Number.POSITIVE_INFINITY) < oldest)
  if (old.length === 0) {
    say('No backup is older than that.')
    return exitCodes.done
  }
  requireOwnState(runsDirectory())
  for (const { runFolder } of old) requireOwnFolder(runFolder)
  const kept = await lastGood(own, inventory)
  const going = old.filter(one => !kept.includes(one.backup) && isOver(one.runFolder))
  for (const { backup, runFolder } of old.filter(one => !going.includes(one)))
    say(
      visible(
        `${backup.id} stays: ${kept.includes(backup) ? 'it is the last good one' : `its run (${endingOf(readHistory(runFolder))}) may need it to go on, or back`}`,
      ),
    )
  if (going.length === 0) return exitCodes.done
  for (const { backup } of going) say(visible(`${backup.id} of ${timeOf(backup)} is to be removed`))
  await requireRemoval(going.length, yes, 'backups.not-confirmed')
  for (const { backup } of going) removeBackup(backup)
  say(`${going.length} removed from this machine. What lies on the hosts stays there.`)
  return exitCodes.done
}

/**
 * The newest good backup, and the newest good one that is whole: a snapshot of etcd, and the files of all hosts that any backup of the cluster has
 * and that the inventory has still. Throws `RekeyError` where none is good.
 */
async function lastGood(own: readonly Listed[], inventory: Inventory): Promise<Backup[]> {
  const newest = own.map(({ backup }) => backup).toSorted((one, other) => (madeAt(other) ?? 0) - (madeAt(one) ?? 0))
  const known = new Set(own.flatMap(({ backup }) => backup.files.map(({ host }) => host)))
  const hosts = inventory.hosts.map(({ name }) => name).filter(name => known.has(name))
  const isWhole = ({ files, snapshot }: Backup) =>
    snapshot !== undefined && hosts.every(name => files.some(({ host }) => host === name))
  const good: Backup[] = []
  for (const one of newest) {
    if (good.length > 0 && !isWhole(one)) continue
    if ((await troublesOf(one)).length > 0) continue
    good.push(one)
    if (isWhole(one)) break
  }
  if (good.length > 0) return good
  throw new RekeyError('none of the backups is good: nothing is removed', {
    code: 'backups.none-good',
    hint: 'rekey backups --verify says what is wrong with each. Make a good one first: rekey run backup.',
  })
}

/** Whether a run came to its end, there or back: one that did not may be gone on with. */
function isOver(runFolder: string): boolean {
  return readHistory(runFolder).finished?.outcome === 'done'
}
