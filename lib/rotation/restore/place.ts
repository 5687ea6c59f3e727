// What a restore puts in place while the control plane stands still: files of hosts, and etcd's data. All of it is made ready beside what it
// replaces first; what was there is kept, and comes back by a rollback.
import { join } from 'node:path'
import { safeFolders, splitPath } from '../../connection/safe-folder.ts'
import { raw } from '../../connection/shell.ts'
import { dataFromSnapshot, putDataBack, putDataInPlace } from '../../kubernetes/backups/etcd-data.ts'
import { archiveIn } from '../../kubernetes/backups/manifest.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { compareFiles } from '../../operations/copy.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { readArchive } from '../../operations/tar-reading.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables, folderOf, hostsWith, membersOf } from '../backup.ts'
import { type OnHost, where } from '../given/context.ts'
import { layoutOf, must } from '../given/found.ts'
import { isEtcd } from '../given/hosts.ts'
import { backupOf, filesFor, has, type Variables } from './given.ts'
import { snapshotHere } from './look.ts'
import { stopped } from './start.ts'
import { archiveFor } from './tell.ts'

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

const keeping = hostsWith<Needs>(() => ['/etc/hostname'])

/** Archives what a host has now where the archive of then has something. Of one that has nothing of it any more, its name is kept. */
export const keepFiles: StepDefinition<Needs> = where<Needs>(ofFiles, keeping)

/** Files and links of an archive: what is put in place one by one. */
async function pathsIn(ctx: Needs): Promise<string[]> {
  return [...(await archiveFor(ctx))].flatMap(([path, { kind }]) => (kind === 'folder' ? [] : [path]))
}

/** Puts the files of a host back, and has systemd read its units anew. */
export const placeFiles: StepDefinition<Needs> = where<Needs>(ofFiles, {
  plan: async ctx => `put ${(await pathsIn(ctx)).length} files back as they were`,
  run: async ctx => {
    const paths = await pathsIn(ctx)
    await makeFolders(ctx, broughtTo(ctx, 'host.tgz'), paths)
    await restoreFiles(ctx, ctx.run, broughtTo(ctx, 'host.tgz'), paths)
    await ctx.$`systemctl daemon-reload`
  },
  rollback: async ctx => {
    // An empty folder in the place of a file is nobody's wish.
    const before = await readArchive(join(ctx.folder, 'backups', ctx.host.name, 'host.tgz'))
    const paths = (await pathsIn(ctx)).filter(path => before.get(path)?.kind !== 'folder')
    await restoreFiles(ctx, ctx.run, archiveOf(ctx), paths)
    await ctx.$`systemctl daemon-reload`
  },
})

/**
 * Makes the folders of files that are gone, as the archive has them where it has them; and takes away empty folders in the place of files:
 * where a pod mounts a file that is gone, its runtime makes one.
 */
async function makeFolders(ctx: Needs, archive: string, paths: readonly string[]): Promise<void> {
  const own = [...(await archiveFor(ctx))].flatMap(([path, { kind }]) => (kind === 'folder' ? [path] : []))
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
      ...{ data: etcdAccess(layoutOf(ctx)).data, user: await userOf(ctx), name, peers, token: `rekey-${ctx.run}` },
      members: all.flatMap(one => one.peers.map(url => `${one.name}=${url}`)),
    })
    await forget(ctx, path)
  },
  rollback: async ctx => {
    await forget(ctx, broughtTo(ctx, 'etcd.db'))
    await putDataBack(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data)
  },
})

/** As which user etcd runs; nothing where that is root, or a pod's. */
async function userOf(ctx: Needs): Promise<string | undefined> {
  const runs = layoutOf(ctx).components.etcd?.runs
  if (runs?.kind !== 'unit') return undefined
  return (await ctx.$({ quiet: true, nothrow: true })`systemctl show -p User --value ${runs.unit}`).stdout.trim()
}

/** Puts etcd's data in place; the data of before is moved aside. */
export const placeData: StepDefinition<Needs> = where<Needs>(ofEtcd, {
  plan: ctx => `move the data under ${etcdAccess(layoutOf(ctx)).data} aside, and put that of the snapshot in its place`,
  run: ctx => putDataInPlace(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data),
  rollback: async ctx => {
    await stopped(ctx)
    await putDataBack(ctx, ctx.run, etcdAccess(layoutOf(ctx)).data)
  },
})

async function forget({ $ }: HostSession, path: string): Promise<void> {
  await $`rm -f ${path}; rmdir ${splitPath(path).folder} 2>/dev/null || :`
}
