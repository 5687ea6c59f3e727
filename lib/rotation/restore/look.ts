// Before a restore changes anything: is the backup whole, is it of this cluster, does the run have all machines that it takes, and is there room?
import { HostFailedError } from '../../errors.ts'
import { type RestoringTool, restoringTool } from '../../kubernetes/backups/etcd-data.ts'
import {
  type Backup,
  type FilesManifest,
  type SnapshotManifest,
  snapshotIn,
} from '../../kubernetes/backups/manifest.ts'
import { archivedEncryption, troublesIn } from '../../kubernetes/backups/verify.ts'
import { requireEtcdTools } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { readMachine } from '../../kubernetes/trust/machine.ts'
import { freeKilobytes } from '../../operations/backup.ts'
import { publicKeysOf } from '../../pki/certificates/bundle-text.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Variables as BackupVariables, folderOf, machineId } from '../backup.ts'
import { beforehand, type OnHost, where } from '../given/context.ts'
import { layoutOf, must, readingStep } from '../given/found.ts'
import { etcdHosts, everyMachine, isEtcd, isMaster, masters } from '../given/hosts.ts'
import { backupOf, filesFor, has, snapshotOf, sourceOf, sourceStep, type Variables } from './given.ts'

type Needs = OnHost<Variables & BackupVariables>

/** KiB that a new member needs beside its database: segments of its log have 64 MB each. */
const firstLogs = 192 * 1024

/** Fails where what is put back of the backup is not whole, or was made in the future. Reads all of that; registers which backup it is. */
export const verifyBackup: StepDefinition<Needs> = {
  ...beforehand,
  id: sourceStep,
  runOnce: true,
  run: async ctx => {
    const backup = backupOf(ctx)
    const { troubles, misfits } = await troublesIn(backup, {
      hosts: has(ctx, 'files') ? ctx.hosts(everyMachine).map(({ name }) => name) : [],
      snapshot: has(ctx, 'etcd'),
    })
    if (has(ctx, 'etcd')) snapshotOf(ctx)
    // It was so when it was backed up, and may be what is to be put right.
    for (const one of misfits) ctx.log(`WARNING: ${one}`)
    if (troubles.length === 0) return sourceOf(backup)
    throw new HostFailedError(`the backup ${backup.id} is not good: ${troubles.slice(0, 5).join('; ')}`, {
      code: 'restore.bad-backup',
      hint: 'rekey backups --verify says which of them are good.',
    })
  },
}

/** Registers what a host has: as it was when it was backed up, where its files come back, else as it is. */
export const read: StepDefinition<Needs> = {
  id: readingStep,
  ...beforehand,
  run: ctx => (has(ctx, 'files') ? filesFor(ctx).reading : readMachine(ctx, isMaster(ctx))),
}

const machineStep = 'read-which-machine-it-is'

/** Registers by what a machine is known as the one that it was. */
export const readMachineId: StepDefinition<Needs> = { id: machineStep, ...beforehand, run: machineId }

/**
 * Fails where none of the machines is one that the backup was made of: by its id, and its address or the CA that lies there, since copies of a
 * machine may have its id. Tells of those that are others than then.
 */
export const sameCluster: StepDefinition<Needs> = {
  ...beforehand,
  runOnce: true,
  run: async ctx => {
    const { id, files } = backupOf(ctx)
    const names = ctx.hosts(everyMachine).map(({ name }) => name)
    const isSame = ({ host, machine }: { host: string; machine: string }) =>
      machine !== '' && ctx.registered<string>(machineStep, host) === machine
    const [here, others] = [files.filter(isSame), files.filter(one => !isSame(one))]
    const isHere = await Promise.all(here.map(one => isAtItsPlace(ctx, one)))
    if (!isHere.includes(true)) {
      throw new HostFailedError(
        `${id} is the backup of another cluster: none of ${names.join(', ')} is a machine of it`,
        {
          code: 'restore.other-cluster',
          hint: 'Machines are known by /etc/machine-id, with their address or their CA. rekey backups lists the backups of this inventory.',
        },
      )
    }
    for (const { host } of others.filter(one => names.includes(one.host)))
      ctx.log(`WARNING: ${host} is another machine than the one that was backed up`)
  },
}

/** Whether a machine of the backup is reached where it was, or has a CA of then. */
async function isAtItsPlace(ctx: Needs, { host, address, reading }: FilesManifest): Promise<boolean> {
  const found = ctx.hosts(everyMachine).find(({ name }) => name === host)
  if (!found) return false
  if (found.connection.address === address) return true
  const paths = Object.values(reading.layout?.components ?? {}).flatMap(({ files }) =>
    files.filter(({ role }) => role === 'client-ca').map(({ path }) => path),
  )
  const then = publicKeysOf(reading.authority)
  const { files } = await ctx.on(found)
  const texts = await Promise.all(paths.map(path => files.readText(path).catch(() => '')))
  ctx.signal.throwIfAborted()
  return texts.some(text => [...publicKeysOf(text)].some(key => then.has(key)))
}

/** Members that the etcd of a backup had, by name, and that it has no host of: those that it was made without. */
function membersWithoutHost({ files }: Backup, { members, listed }: SnapshotManifest): string[] {
  const own = new Set(members.map(({ name }) => name))
  // What a member was started with first may name such as have been removed since; it is all that older backups say.
  const started = files.flatMap(({ reading }) =>
    (reading.layout?.components.etcd?.flags['initial-cluster'] ?? [])
      .flatMap(value => value.split(','))
      .map(one => one.split('=')[0] ?? ''),
  )
  return [...new Set(listed ?? started)].filter(name => name !== '' && !own.has(name))
}

/** Fails where the snapshot can't go to all members at once, or its API servers would go on beside it. */
export const allMembers: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'etcd'), {
  ...beforehand,
  runOnce: true,
  run: async ctx => {
    const backup = backupOf(ctx)
    const { id, files } = backup
    const snapshot = snapshotOf(ctx)
    const needed = snapshot.members.map(({ host }) => host)
    const members = etcdHosts(ctx).map(({ name }) => name)
    const servers = files.filter(({ reading }) => reading.controlPlane).map(({ host }) => host)
    const present = ctx.hosts(masters).map(({ name }) => name)
    const unknown = membersWithoutHost(backup, snapshot)
    if (unknown.length > 0)
      throw new HostFailedError(
        `etcd had the members ${unknown.join(', ')} as well when ${id} was made, and the backup does not know their hosts`,
        {
          code: 'restore.members',
          hint: 'It was made with -l, or of an inventory without them: they would go on with what was. Choose a backup of all members.',
        },
      )
    const missing = [...needed.filter(one => !members.includes(one)), ...servers.filter(one => !present.includes(one))]
    const more = members.filter(one => !needed.includes(one))
    if (missing.length === 0 && more.length === 0) return
    throw new HostFailedError(
      missing.length > 0
        ? `the snapshot in ${id} takes all members and API servers of then at once, and the run has not ${[...new Set(missing)].join(', ')}`
        : `the snapshot in ${id} is of members on ${needed.join(', ')}, and the run has ${more.join(', ')} as well`,
      {
        code: 'restore.members',
        hint:
          missing.length > 0
            ? 'Give an inventory that has them, and no -l without them: one that is left out would go on with what was. Files alone are put back by -e parts=files.'
            : 'It would go on with what was: stop its etcd and its kubelet for good first, then leave it out of the group of etcd. It can be joined again afterwards.',
      },
    )
  },
})

const toolStep = 'see-that-the-snapshot-can-be-restored'

/**
 * Fails where a member can't be made from the snapshot on its host: no tool, no room, a log elsewhere. Registers the tool: a cluster of members
 * with other revisions each is none.
 */
export const canRestore: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'etcd') && isEtcd(ctx), {
  ...beforehand,
  id: toolStep,
  run: async ctx => {
    const { name } = ctx.host
    await requireEtcdTools(ctx)
    const { data } = etcdAccess(layoutOf(ctx))
    if (layoutOf(ctx).components.etcd?.flags['wal-dir'])
      throw new HostFailedError(`etcd on ${name} keeps its log elsewhere (--wal-dir), which rekey does not put back`, {
        code: 'restore.wal-dir',
        host: name,
        hint: 'Restore the snapshot by hand, as the manual of etcd has it: etcdutl snapshot restore --wal-dir.',
      })
    const needed = Math.ceil((snapshotOf(ctx).size * 2) / 1024) + firstLogs
    for (const [folder, hint] of [
      [folderOf(ctx), 'Make room there, or choose another backup_directory.'],
      [data, 'Make room there.'],
    ] as const) {
      const free = await freeKilobytes(ctx, folder)
      if (free < needed)
        throw new HostFailedError(`${name} has ${free} KiB free under ${folder}, and the snapshot needs ${needed}`, {
          ...{ code: 'restore.disk', host: name, hint },
        })
    }
    return restoringTool(ctx)
  },
})

/** Fails where members would be made by other versions of etcd: their contents must be the same to the last revision. */
export const sameTools: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'etcd'), {
  ...beforehand,
  runOnce: true,
  run: ctx => {
    const tools = etcdHosts(ctx).map(({ name }) => ({ name, ...toolOf(ctx, name) }))
    if (new Set(tools.map(({ version }) => version)).size > 1)
      throw new HostFailedError(
        `the members would be made by other versions of etcd: ${tools.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
        {
          code: 'restore.tools-differ',
          hint: "Install etcdutl of one version on all of them, that of etcd. Beside an etcd that runs, that one's own is taken.",
        },
      )
    if (!bumps(ctx))
      ctx.log(
        "WARNING: etcdutl is older than 3.6 and can't raise revisions: whoever watches the API may keep what it saw since the backup, until it is restarted",
      )
  },
})

/** By which program a member is made. */
export const toolOf = (ctx: Needs, host = ctx.host.name): RestoringTool =>
  must(ctx.registered<RestoringTool>(toolStep, host), `nobody has looked for etcdutl on ${host}`)

/** Whether the revisions of all members go up: of some of them would be two contents in one cluster. */
export const bumps = (ctx: Needs): boolean => etcdHosts(ctx).every(({ name }) => toolOf(ctx, name).bumps)

/** An EncryptionConfiguration of the backup, and what to call it; none where the API server of those files had none. */
async function encryptionIn(ctx: Needs, files: FilesManifest): Promise<{ where: string; text: string }[]> {
  const backup = backupOf(ctx)
  const archived = await archivedEncryption(backup, files)
  return archived ? [{ where: `${files.host}:${archived.path} in ${backup.id}`, text: archived.text }] : []
}

/** EncryptionConfigurations as API servers had them when the snapshot was made: text, and what to call it. */
export async function encryptionThen(ctx: Needs): Promise<{ where: string; text: string }[]> {
  return (await Promise.all(backupOf(ctx).files.map(files => encryptionIn(ctx, files)))).flat()
}

/** The same as the files of the host have it that are put back. */
export const encryptionOf = (ctx: Needs): Promise<{ where: string; text: string }[]> => encryptionIn(ctx, filesFor(ctx))

/** Whether API servers go on with the files that they have, over an etcd of then. */
export const keepsFiles = (ctx: Needs): boolean => has(ctx, 'etcd') && !has(ctx, 'files')

/** The snapshot, on this machine. */
export const snapshotHere = (ctx: Needs): string => snapshotIn(backupOf(ctx), snapshotOf(ctx))
