// Backups before the first change: of every host's keys and configuration, of token Secrets, of etcd. Each is read back before it
// counts, stays on its host, and is copied into the run's folder.
import { createHash } from 'node:crypto'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { secret } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import {
  archiveIn,
  backupOfRun,
  manifestHead,
  type SnapshotManifest,
  snapshotIn,
  writeManifest,
} from '../kubernetes/backups/manifest.ts'
import { countObjects, etcdMembers, type ObjectCounts, saveSnapshot } from '../kubernetes/components/etcd.ts'
import { etcdAccess, registryOf } from '../kubernetes/components/etcd-access.ts'
import { backedUp, withoutLinks } from '../kubernetes/components/kept.ts'
import { backupForm, tokenIn, tokenSecretsByNamespace } from '../kubernetes/trust/tokens.ts'
import { backUpFiles, fetchFile } from '../operations/backup.ts'
import type { HostSession, RunContext, StepDefinition } from '../playbook/model.ts'
import type { OnCluster, OnHost } from './given/context.ts'
import { apiServerHosts, filesOf, layoutOf, must, readingOf } from './given/found.ts'
import { etcdHosts } from './given/hosts.ts'

export const variables = {
  /** Where backups stay on the hosts: a folder of its own in it for each run. */
  backup_directory: z.string().startsWith('/').default('/var/backups/rekey'),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Run = Pick<RunContext<Variables>, 'vars' | 'run'>

/** The folder of a run's backups on a host. */
export function folderOf({ vars, run }: Run): string {
  return join(vars.backup_directory, run)
}

/** The archive of a host: all that a rotation changes there lies in it as it was. */
export function archiveOf(run: Run): string {
  return join(folderOf(run), 'host.tgz')
}

/**
 * Archives a host's keys and configuration.
 * @param more further files to keep, where there are
 * @param isDescribed whether it says what it holds, and can be restored: not where that is another reading's than the host's of now
 */
export function hostsWith<Needs extends OnHost<Variables>>(
  more: (ctx: Needs) => readonly string[],
  { isDescribed = true }: { isDescribed?: boolean } = {},
): StepDefinition<Needs> {
  const keptOf = (ctx: Needs) => backedUp(layoutOf(ctx), [...filesOf(ctx), ...more(ctx)])
  return {
    plan: ctx => `archive ${keptOf(ctx).join(', ')} to ${archiveOf(ctx)}, read it back, and fetch it`,
    run: async ctx => {
      const saved = await backUpFiles(ctx, archiveOf(ctx), await withoutLinks(ctx, keptOf(ctx)))
      await fetchFile(ctx, saved.path, archiveIn(backupOfRun(ctx.folder), { host: ctx.host.name }), saved.sha256)
      const { sha256, size, entries } = saved
      if (isDescribed)
        await writeManifest(ctx.folder, {
          ...{ ...manifestHead(ctx.run), kind: 'files', host: ctx.host.name, sha256, size, entries },
          ...{ address: ctx.host.connection.address, machine: await machineId(ctx), reading: readingOf(ctx) },
        })
      ctx.log(`${entries} files, ${size} bytes, sha256 ${sha256}`)
      return saved
    },
    irreversible: 'a backup stays',
  }
}

/** By what a machine is known as the one that it was: its `/etc/machine-id`; empty where it has none. */
export async function machineId({ $ }: Pick<HostSession, '$'>): Promise<string> {
  return (await $({ quiet: true, nothrow: true })`cat /etc/machine-id 2>/dev/null`).stdout.trim()
}

/** The same with what is found on any host. */
export const hosts: StepDefinition<OnHost<Variables>> = hostsWith(() => [])

/** Saves the service-account-token Secrets, a file for each namespace. */
export const tokens: StepDefinition<OnCluster<Variables>> = {
  runOnce: true,
  plan: ctx => `save the service-account-token Secrets, a file for each namespace, to ${folderOf(ctx)}/tokens`,
  run: async ctx => {
    const api = await ctx.cluster.api()
    const local = join(ctx.folder, 'backups', 'tokens')
    const remote = join(folderOf(ctx), 'tokens')
    await mkdir(local, { recursive: true, mode: 0o700 })
    await ctx.$`umask 077; mkdir -p ${remote}`
    const namespaces = new Set<string>()
    const files = new Map<string, string>()
    let count = 0
    for await (const { namespace, secrets } of tokenSecretsByNamespace(api, ctx.signal)) {
      // JSON is YAML: kubectl apply takes it as it is.
      const text = `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items: secrets.map(backupForm) }, null, 2)}\n`
      // One that comes again holds what was made while they were read.
      const file = namespaces.has(namespace) ? `${namespace}.${files.size}.yaml` : `${namespace}.yaml`
      await writeFile(join(local, file), text, { mode: 0o600 })
      const content = secret(text, { parts: secrets.map(({ data }) => tokenIn(data)) })
      await ctx.files.write(join(remote, file), content, { mode: 0o600 })
      namespaces.add(namespace)
      files.set(file, createHash('sha256').update(text).digest('hex'))
      count += secrets.length
    }
    const kept = new Set((await ctx.$`ls ${remote}`).lines())
    const missing = [...files.keys()].filter(file => !kept.has(file))
    if (missing.length > 0) {
      throw new HostFailedError(`${missing.join(', ')} are not in ${remote}`, {
        code: 'backup.tokens',
        host: ctx.host.name,
      })
    }
    await writeManifest(ctx.folder, {
      ...{ ...manifestHead(ctx.run), kind: 'tokens', secrets: count, files: Object.fromEntries(files) },
    })
    ctx.log(`${count} Secrets of ${namespaces.size} namespaces`)
    return { secrets: count, namespaces: [...namespaces], path: remote }
  },
  irreversible: 'a backup stays',
}

/** Saves a snapshot of etcd on the first host that has a member. */
export const etcd: StepDefinition<OnHost<Variables>> = {
  runOnce: true,
  plan: ctx => `etcdctl snapshot save ${folderOf(ctx)}/etcd.db, check it with etcdutl, and fetch it`,
  run: async ctx => {
    const [first] = etcdHosts(ctx)
    const host = must(first, 'the inventory has no host for etcd')
    const session = await ctx.on(host)
    const path = join(folderOf(ctx), 'etcd.db')
    await session.$`umask 077; mkdir -p ${folderOf(ctx)}`
    const access = etcdAccess(layoutOf(ctx, host.name))
    const status = await saveSnapshot(session, access, path)
    const local = snapshotIn(backupOfRun(ctx.folder), { host: host.name })
    const sha256 = await fetchFile(session, path, local)
    const { revision, keys } = status
    const { size } = await stat(local)
    await writeManifest(ctx.folder, {
      ...{ ...manifestHead(ctx.run), kind: 'etcd', host: host.name, sha256, size, revision, keys },
      ...{
        members: membersOf(ctx),
        listed: (await etcdMembers(session, access)).map(({ name }) => name),
        objects: await objectsUpTo(ctx, revision, countObjects(session, access, registryIn(ctx), revision)),
      },
    })
    ctx.log(
      `${status.keys} keys at revision ${status.revision}, ${status.size} bytes, hash ${status.hash}, sha256 ${sha256}`,
    )
    return { path, sha256, ...status }
  },
  irreversible: 'a backup stays',
}

/** The members of etcd as the hosts of the run have them, by what they are started with. */
export function membersOf(ctx: OnHost): SnapshotManifest['members'] {
  return etcdHosts(ctx).flatMap(host => {
    const flags = layoutOf(ctx, host.name).components.etcd?.flags
    if (!flags) return []
    const peers = flags['initial-advertise-peer-urls']?.flatMap(one => one.split(',')) ?? ['http://localhost:2380']
    return [{ host: host.name, name: flags['name']?.at(-1) ?? 'default', peers }]
  })
}

/** Where the API servers of the cluster keep what they have in etcd. */
export const registryIn = (ctx: OnHost): string =>
  registryOf(
    apiServerHosts(ctx).map(({ name }) => layoutOf(ctx, name).components['kube-apiserver']?.flags ?? {})[0] ?? {},
  )

/** What was there at a revision, by kind; where it can't be counted, the backup is as good without. */
async function objectsUpTo({ log, signal }: OnHost, revision: number, counting: Promise<ObjectCounts>) {
  try {
    const { kinds, created } = await counting
    return Object.fromEntries(Object.entries(kinds).map(([kind, count]) => [kind, count - (created[kind] ?? 0)]))
  } catch (error) {
    signal.throwIfAborted()
    log(`what lies in etcd at revision ${revision} could not be counted: ${(error as Error).message}`)
    return undefined
  }
}
