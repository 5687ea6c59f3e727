// Before a restore changes anything: is the backup whole, is it of this cluster, does the run have all machines that it takes, and is there room?
import { HostFailedError } from '../../errors.ts'
import { bumpsRevisions } from '../../kubernetes/backups/etcd-data.ts'
import { archiveIn, snapshotIn } from '../../kubernetes/backups/manifest.ts'
import { troublesOf } from '../../kubernetes/backups/verify.ts'
import { requireEtcdTools } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { readMachine } from '../../kubernetes/trust/machine.ts'
import { freeKilobytes } from '../../operations/backup.ts'
import { readArchive } from '../../operations/tar-reading.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { machineId } from '../backup.ts'
import { beforehand, type OnHost, where } from '../given/context.ts'
import { layoutOf, readingStep } from '../given/found.ts'
import { etcdHosts, everyMachine, isMaster, masters } from '../given/hosts.ts'
import { backupOf, filesFor, has, snapshotOf, type Variables } from './given.ts'

type Needs = OnHost<Variables>

/** Fails where the backup is not whole, or was made in the future. Reads all of it. */
export const verifyBackup: StepDefinition<Needs> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const backup = backupOf(ctx)
    const troubles = await troublesOf(backup)
    if (has(ctx, 'etcd')) snapshotOf(ctx)
    if (troubles.length === 0) return
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

/** Fails where none of the machines is one that the backup was made of; tells of those that are others than then. */
export const sameCluster: StepDefinition<Needs> = {
  ...beforehand,
  runOnce: true,
  run: ctx => {
    const { id, files } = backupOf(ctx)
    const names = ctx.hosts(everyMachine).map(({ name }) => name)
    const isSame = ({ host, machine }: { host: string; machine: string }) =>
      machine !== '' && ctx.registered<string>(machineStep, host) === machine
    const [here, others] = [files.filter(isSame), files.filter(one => !isSame(one))]
    if (here.length === 0) {
      throw new HostFailedError(
        `${id} is the backup of another cluster: none of ${names.join(', ')} is a machine of it`,
        {
          code: 'restore.other-cluster',
          hint: 'Machines are known by /etc/machine-id. rekey backups lists the backups of this inventory.',
        },
      )
    }
    for (const { host } of others.filter(one => names.includes(one.host)))
      ctx.log(`WARNING: ${host} is another machine than the one that was backed up`)
  },
}

/** Fails where the snapshot can't go to all members at once, or its API servers would go on beside it. */
export const allMembers: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'etcd'), {
  ...beforehand,
  runOnce: true,
  run: async ctx => {
    const { id, files } = backupOf(ctx)
    const snapshot = snapshotOf(ctx)
    const needed = snapshot.members.map(({ host }) => host)
    const members = etcdHosts(ctx).map(({ name }) => name)
    const servers = files.filter(({ reading }) => reading.controlPlane).map(({ host }) => host)
    const present = ctx.hosts(masters).map(({ name }) => name)
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
            : 'Take it out of the group of etcd: it can be joined again afterwards.',
      },
    )
  },
})

/** Fails where a member can't be made from the snapshot on its host: no tool, no room, a log elsewhere. */
export const canRestore: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'etcd'), {
  ...beforehand,
  run: async ctx => {
    if (!etcdHosts(ctx).some(({ name }) => name === ctx.host.name)) return
    const { name } = ctx.host
    await requireEtcdTools(ctx)
    const { data } = etcdAccess(layoutOf(ctx))
    if (layoutOf(ctx).components.etcd?.flags['wal-dir'])
      throw new HostFailedError(`etcd on ${name} keeps its log elsewhere (--wal-dir), which rekey does not put back`, {
        code: 'restore.wal-dir',
        host: name,
        hint: 'Restore the snapshot by hand, as the manual of etcd has it: etcdutl snapshot restore --wal-dir.',
      })
    const needed = Math.ceil((snapshotOf(ctx).size * 2) / 1024) + 20_480
    const free = await freeKilobytes(ctx, data)
    if (free < needed)
      throw new HostFailedError(`${name} has ${free} KiB free under ${data}, and the snapshot needs ${needed}`, {
        code: 'restore.disk',
        host: name,
        hint: 'Make room there.',
      })
    if (!(await bumpsRevisions(ctx)))
      ctx.log(
        `WARNING: etcdutl of ${name} is older than 3.6 and can't raise revisions: whoever watches the API may keep what it saw since the backup, until it is restarted`,
      )
  },
})

/** EncryptionConfigurations as API servers had them when the snapshot was made: text, and what to call it. */
export async function encryptionThen(
  ctx: Needs,
): Promise<{ where: string; path: string; host: string; text: string }[]> {
  const backup = backupOf(ctx)
  const found = await Promise.all(
    backup.files.map(async files => {
      const named = files.reading.layout?.components['kube-apiserver']?.files.find(({ role }) => role === 'encryption')
      if (!named) return []
      const archived = (await readArchive(archiveIn(backup, files))).get(named.real)
      const where = `${files.host}:${named.path} in ${backup.id}`
      return [{ where, path: named.path, host: files.host, text: archived?.content.toString('utf8') ?? '' }]
    }),
  )
  return found.flat()
}

/** Whether API servers go on with the files that they have, over an etcd of then. */
export const keepsFiles = (ctx: Needs): boolean => has(ctx, 'etcd') && !has(ctx, 'files')

/** The snapshot, on this machine. */
export const snapshotHere = (ctx: Needs): string => snapshotIn(backupOf(ctx), snapshotOf(ctx))
