// What a restore puts in place while the control plane stands still: files of hosts, and etcd's data. All of it is made ready beside what it
// replaces first; what was there is kept, and comes back by a rollback.
import { join } from 'node:path'
import { safeFolders, splitPath } from '../../connection/safe-folder.ts'
import { raw } from '../../connection/shell.ts'
import { dataFromSnapshot, putDataBack, putDataInPlace } from '../../kubernetes/backups/etcd-data.ts'
import { archiveIn, backupOfRun } from '../../kubernetes/backups/manifest.ts'
import { archivedFile } from '../../kubernetes/backups/verify.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { compareFiles } from '../../operations/copy.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { readArchive } from '../../operations/tar-reading.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables, folderOf, hostsWith, membersOf } from '../backup.ts'
import { nothing, type OnHost, where } from '../given/context.ts'
import { layoutOf, must } from '../given/found.ts'
import { isEtcd } from '../given/hosts.ts'
import { backupOf, filesFor, has, type Variables } from './given.ts'
import { bumps, snapshotHere, toolOf } from './look.ts'
import { isMember, stopped } from './stop.ts'
import { archiveFor, comparedOn } from './tell.ts'

type Needs = OnHost<Variables & BackupVariables>

const ofFiles = (ctx: Needs) => has(ctx, 'files')
const ofEtcd = (ctx: Needs) => has(ctx, 'etcd') && isEtcd(ctx)

const broughtTo = (ctx: Needs, name: string) => join(folderOf(ctx), 'from', name)

/** Brings the archive of a host to it. */
export const bringFiles: StepDefinition<Needs> = where<Needs>(ofFiles, {
  plan: ctx => `copy the archive of ${backupOf(ctx).id} to ${broughtTo(ctx, 'host.tgz')}`,
  run: async ctx => {
    const source = archiveIn(backupOf(ctx), filesFor(ctx))
    await (await compareFiles(ctx, [{ path: broughtTo(ctx, 'host.tgz'), source, mode: 0o600 }])).send()
  },
  rollback: ctx => forget(ctx, broughtTo(ctx, 'host.tgz')),
})

/**
 * Archives what a host has now where the archive of then has something. Of one that has nothing of it any more, its name is kept. It is for the way
 * back of this run alone: what was found then does not say what is in it.
 */
export const keepFiles: StepDefinition<Needs> = where<Needs>(
  ofFiles,
  hostsWith<Needs>(ctx => [...comparedOn(ctx).paths, '/etc/hostname'], { isDescribed: false }),
)

/** Puts the files of a host back, and has systemd read its units anew. Nothing of the control plane may run meanwhile. */
const placing: StepDefinition<Needs> = {
  plan: ctx => `put ${comparedOn(ctx).paths.length} files back as they were`,
  run: async ctx => {
    if (isMember(ctx)) await stopped(ctx)
    await makeFolders(ctx, broughtTo(ctx, 'host.tgz'))
    await restoreFiles(ctx, ctx.run, broughtTo(ctx, 'host.tgz'), comparedOn(ctx).paths, { mustHave: true })
    await ctx.$`systemctl daemon-reload`
  },
  rollback: async ctx => {
    if (isMember(ctx)) await stopped(ctx)
    const before = await readArchive(archiveIn(backupOfRun(ctx.folder), { host: ctx.host.name }))
    const { paths, missing } = comparedOn(ctx)
    // What was not kept is removed where it was not there before, and left alone otherwise. An empty folder in the place of a file is nobody's wish.
    const back = paths.filter(path => (before.has(path) ? before.get(path)?.kind !== 'folder' : missing.includes(path)))
    await restoreFiles(ctx, ctx.run, archiveOf(ctx), back)
    await ctx.$`systemctl daemon-reload`
  },
}

/** The files of hosts with a part of the control plane, while that stands still. */
export const placeFiles: StepDefinition<Needs> = where<Needs>(ctx => ofFiles(ctx) && isMember(ctx), placing)

/** Those of other hosts, once it runs again: whatever one of them fails at, the cluster is there. */
export const placeNodeFiles: StepDefinition<Needs> = where<Needs>(ctx => ofFiles(ctx) && !isMember(ctx), placing)

/**
 * Makes the folders of files that are gone, as the archive has them where it has them; and takes away empty folders in the place of files:
 * where a pod mounts a file that is gone, its runtime makes one.
 */
async function makeFolders(ctx: Needs, archive: string): Promise<void> {
  const { paths, folders: own } = comparedOn(ctx)
  const folders = [...new Set([...own, ...paths.map(path => splitPath(path).folder)])].sort()
  const lines = [...folders.map(path => `d ${path}\n`), ...paths.map(path => `f ${path}\n`)]
  await ctx.$({ input: lines.join('') })`set -e; umask 022
${raw(safeFolders)}
while read -r what p; do
  if [ $what = f ]; then [ ! -d "$p" ] || [ -L "$p" ] || rmdir "$p"; continue; fi
  [ -d "$p" ] && continue
  (_make "$p")
  tar -C / -xzpf ${archive} --no-recursion "\${p#/}" 2>/dev/null || :
done`
}

/** Brings the snapshot to a member's host, and makes the member's data from it, beside the data that is there. */
export const makeData: StepDefinition<Needs> = where<Needs>(ofEtcd, {
  plan: ctx => `etcdutl snapshot restore, beside ${etcdAccess(layoutOf(ctx)).data}`,
  run: async ctx => {
    const path = broughtTo(ctx, 'etcd.db')
    await (await compareFiles(ctx, [{ path, source: snapshotHere(ctx), mode: 0o600 }])).send()
    const all = membersOf(ctx)
    const { name, peers } = must(
      all.find(({ host }) => host === ctx.host.name),
      `no etcd was found on ${ctx.host.name}`,
    )
    await dataFromSnapshot(ctx, ctx.run, path, {
      ...{ data: etcdAccess(layoutOf(ctx)).data, owner: await ownerOf(ctx), name, peers, token: `rekey-${ctx.run}` },
      ...{ bump: bumps(ctx), version: toolOf(ctx).version },
      members: all.flatMap(one => one.peers.map(url => `${one.name}=${url}`)),
    })
    await forget(ctx, path)
  },
  rollback: async ctx => {
    await forget(ctx, broughtTo(ctx, 'etcd.db'))
    await putDataBack(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data)
  },
})

/** Whose the data of a member is where there is none of now to go by: that of the user of its unit or its pod; nothing where that is root. */
async function ownerOf(ctx: Needs): Promise<string | undefined> {
  const runs = layoutOf(ctx).components.etcd?.runs
  if (runs?.kind === 'static-pod') {
    const then = ofFiles(ctx)
      ? archivedFile(await archiveFor(ctx), runs.manifest)?.toString('utf8')
      : await ctx.files.readText(runs.manifest)
    const [user, group] = ['User', 'Group'].map(
      one => new RegExp(`^\\s*runAs${one}:\\s*(\\d+)`, 'm').exec(then ?? '')?.[1],
    )
    return user === undefined ? undefined : `${user}:${group ?? user}`
  }
  if (runs?.kind !== 'unit') return undefined
  const { stdout } = await ctx.$({ quiet: true, nothrow: true })`systemctl show -p User --value ${runs.unit}`
  return stdout.trim() === '' ? undefined : `${stdout.trim()}:`
}

/** Puts etcd's data in place; the data of before is moved aside. */
export const placeData: StepDefinition<Needs> = where<Needs>(ofEtcd, {
  plan: ctx => `move the data under ${etcdAccess(layoutOf(ctx)).data} aside, and put that of the snapshot in its place`,
  run: async ctx => {
    // Whoever goes on with a run does not know what was started meanwhile.
    await stopped(ctx)
    await putDataInPlace(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data)
  },
  rollback: async ctx => {
    await stopped(ctx)
    await putDataBack(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data)
  },
})

/** Removes the archive that was brought to a host: all keys lie in it. What was there before stays, for the way back. */
export const forgetFiles: StepDefinition<Needs> = where<Needs>(ofFiles, {
  plan: ctx => `remove ${broughtTo(ctx, 'host.tgz')}`,
  run: ctx => forget(ctx, broughtTo(ctx, 'host.tgz')),
  rollback: nothing,
})

async function forget({ $ }: HostSession, path: string): Promise<void> {
  await $`rm -f ${path}; rmdir ${splitPath(path).folder} 2>/dev/null || :`
}
