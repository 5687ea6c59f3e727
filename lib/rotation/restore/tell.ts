// What a restore will lose and change, told before it is done, and the word that it takes.

import { createHash } from 'node:crypto'
import { HostFailedError } from '../../errors.ts'
import { archiveIn, madeAt } from '../../kubernetes/backups/manifest.ts'
import { archivedFile } from '../../kubernetes/backups/verify.ts'
import { countObjects } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { requireTyped } from '../../kubernetes/confirmed.ts'
import { inRealFolders } from '../../operations/backup.ts'
import { readArchive } from '../../operations/tar-reading.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import { formatDuration } from '../../playbook/duration.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { registryIn } from '../backup.ts'
import { beforehand, type OnHost, where } from '../given/context.ts'
import { layoutOf, must } from '../given/found.ts'
import { etcdHosts, everyMachine } from '../given/hosts.ts'
import { backupOf, filesFor, has, snapshotOf, type Variables } from './given.ts'
import { own } from './stop.ts'

type Needs = OnHost<Variables>

/** What becomes of a host's files. Plain data: what is put in place, and what comes back, goes by it. */
interface Compared {
  /** All files and links of the archive. */
  readonly paths: readonly string[]
  readonly folders: readonly string[]
  readonly changed: readonly string[]
  readonly missing: readonly string[]
  /** What came since into folders of the archive, and stays. */
  readonly since: readonly string[]
}

const compareStep = 'compare-the-files'

/** The files of a host in its archive, by path. */
export async function archiveFor(ctx: Needs) {
  return readArchive(archiveIn(backupOf(ctx), filesFor(ctx)))
}

/** What was registered of a host's files. Throws `HostFailedError` where nothing was. */
export const comparedOn = (ctx: OnHost): Compared =>
  must(ctx.registered<Compared>(compareStep, ctx.host.name), `the files of ${ctx.host.name} were not compared`)

/**
 * Registers which files of a host are others than in the backup, and which are gone. Fails where folders lead elsewhere than they did: what is put
 * into them would come to lie where nobody looked.
 */
export const compareFiles: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'files'), {
  id: compareStep,
  ...beforehand,
  run: async (ctx): Promise<Compared> => {
    const archive = await archiveFor(ctx)
    const of = (...kinds: string[]) => [...archive].flatMap(([path, { kind }]) => (kinds.includes(kind) ? [path] : []))
    const [files, links, folders] = [of('file'), of('link'), of('folder')]
    const paths = [...files, ...links]
    const real = await inRealFolders(ctx, paths)
    const moved = paths.filter((path, index) => real[index] !== path)
    if (moved.length > 0)
      throw new HostFailedError(
        `folders of ${ctx.host.name} lead elsewhere than when it was backed up: ${moved.slice(0, 3).join(', ')}${moved.length > 3 ? ` and ${moved.length - 3} more` : ''}`,
        {
          code: 'restore.moved',
          host: ctx.host.name,
          hint: 'Put the folders back as they were, without the links; or put these files back by hand.',
        },
      )
    const { stdout } = await ctx.$({
      quiet: true,
      input: files.map(path => `${path}\n`).join(''),
    })`while IFS= read -r p; do h=$(sha256sum <"$p" | cut -c1-64) 2>/dev/null; echo "\${h:-none}"; done`
    const hashes = stdout.split('\n')
    const { stdout: lying } = await ctx.$({
      quiet: true,
      input: ['', ...folders, ...links].map(path => `${path}\n`).join(''),
    })`
while IFS= read -r p; do
  if [ -L "$p" ]; then echo "l$p"; elif [ -d "$p" ]; then find "$p" -maxdepth 1 ! -type d | sed s/^/f/; fi
done`
    const there = lying.split('\n').filter(Boolean)
    const then = (path: string) =>
      createHash('sha256')
        .update(archivedFile(archive, path) ?? '')
        .digest('hex')
    return {
      ...{ paths, folders },
      missing: [
        ...files.filter((_, index) => hashes[index] === 'none'),
        ...links.filter(path => !there.includes(`l${path}`)),
      ],
      changed: files.filter((path, index) => hashes[index] !== 'none' && hashes[index] !== then(path)),
      since: there.flatMap(line => (line.startsWith('f') && !archive.has(line.slice(1)) ? [line.slice(1)] : [])),
    }
  },
})

/** Tells what will be lost and changed, a line each, and registers it. Changes nothing. */
export const tell: StepDefinition<Needs> = {
  id: 'say-what-will-be-lost',
  ...beforehand,
  runOnce: true,
  run: async ctx => {
    const backup = backupOf(ctx)
    const made = madeAt(backup) ?? 0
    const lines = [
      `the backup ${backup.id} of ${new Date(made).toISOString()}, ${formatDuration(Date.now() - made)} ago`,
      ...(has(ctx, 'files') ? ctx.hosts(everyMachine).map(({ name }) => fileLine(ctx, name)) : []),
      ...(has(ctx, 'etcd') ? await etcdLines(ctx, made) : []),
      'no API server answers while it is done; kubelets, controller-managers and schedulers are started anew; pods go on running, and what the restored API does not know is ended',
    ]
    for (const line of lines) ctx.log(line)
    return lines
  },
}

/** Certificates of the files of a host that have ended since; of those of components of masters they would not start, or nobody let them in. */
function endedOf(ctx: Needs, host: string): string[] {
  const { certificates } = filesFor(ctx, host).reading
  return Object.entries(certificates).flatMap(([path, pem]) => {
    const ended = pem === '' || parseCertificate(pem, path).notAfter.getTime() > Date.now() ? [] : [path]
    return ended
  })
}

/** Fails where certificates of masters have ended since the backup: the cluster would be down with them. */
export const noneEnded: StepDefinition<Needs> = where<Needs>(ctx => has(ctx, 'files'), {
  ...beforehand,
  run: ctx => {
    const ended = endedOf(ctx, ctx.host.name)
    if (ended.length === 0) return
    ctx.log(`WARNING: certificates in the backup of ${ctx.host.name} have ended: ${ended.join(', ')}`)
    const named = new Set(own(ctx).flatMap(({ files }) => files.map(({ path }) => path)))
    const needed = ended.filter(path => named.has(path))
    if (needed.length === 0 || ctx.vars.accept_ended) return
    throw new HostFailedError(
      `certificates that the control plane of ${ctx.host.name} goes by have ended since the backup: ${needed.join(', ')}`,
      {
        code: 'restore.ended',
        host: ctx.host.name,
        hint: 'Put etcd alone back (parts=etcd); or, with -e accept_ended=true, these files, and have rekey run rescue make them anew.',
      },
    )
  },
})

function fileLine(ctx: Needs, host: string): string {
  const { changed = [], missing = [], since = [] } = ctx.registered<Compared>(compareStep, host) ?? {}
  if (changed.length + missing.length + since.length === 0) return `${host}: all files are as in the backup`
  const parts = [
    ...(changed.length > 0 ? [`${changed.length} files get what they held then: ${changed.join(', ')}`] : []),
    ...(missing.length > 0 ? [`${missing.length} are gone, and come back: ${missing.join(', ')}`] : []),
    ...(since.length > 0 ? [`${since.length} came since, and stay: ${since.join(', ')}`] : []),
  ]
  return `${host}: ${parts.join('; ')}`
}

/** What of etcd is younger than the snapshot, and would be lost; and what was deleted since, and comes back. */
async function etcdLines(ctx: Needs, made: number): Promise<string[]> {
  const { revision, objects = {} } = snapshotOf(ctx)
  const hosts = etcdHosts(ctx).map(({ name }) => name)
  const into = `etcd on ${hosts.join(', ')} begins anew at revision ${revision}; its data of now is moved aside, and stays on the hosts`
  for (const host of hosts) {
    try {
      const now = await countObjects(await ctx.on(host), etcdAccess(layoutOf(ctx, host)), registryIn(ctx), revision)
      if (now.revision < revision)
        return [
          into,
          `etcd is another one than then, or begun anew (revision ${now.revision}): all it has is lost: ${counted(now.kinds)}`,
        ]
      const kinds = [...new Set([...Object.keys(objects), ...Object.keys(now.kinds)])].sort()
      const back = Object.fromEntries(
        kinds.map(kind => [kind, (objects[kind] ?? 0) - ((now.kinds[kind] ?? 0) - (now.created[kind] ?? 0))]),
      )
      return [
        into,
        `written since, and lost: ${counted(now.created)}`,
        `changed since, and as it was then: ${counted(now.changed)}`,
        ...(Object.keys(objects).length > 0 ? [`deleted since, and back again: ${counted(back)}`] : []),
      ]
    } catch (error) {
      ctx.signal.throwIfAborted()
      ctx.log(`etcd of ${host} can't be asked what it has: ${(error as Error).message}`)
    }
  }
  return [into, `no etcd answers: whatever was written since ${new Date(made).toISOString()} is lost`]
}

function counted(kinds: Readonly<Record<string, number>>): string {
  const some = Object.entries(kinds).filter(([, count]) => count > 0)
  return some.length > 0 ? some.map(([kind, count]) => `${count} ${kind}`).join(', ') : 'nothing'
}

/** Fails where nobody has typed the cluster's name. */
export const confirmed: StepDefinition<Needs> = {
  readOnly: true,
  runOnce: true,
  when: ({ check }) => !check,
  run: ({ vars: { confirm, cluster_name: name } }) =>
    requireTyped(confirm, name, {
      what: 'is to be put back to what it was',
      page: 'above what will be lost, and docs/runbooks/restore.md',
      code: 'restore.not-confirmed',
    }),
}
