#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Backs up what a rotation touches: keys and configuration of every host, token Secrets, etcd. Each backup is read back
// before it counts, stays on its host, and is copied into the run's folder.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  archive,
  backupForm,
  type Cluster,
  fetchFile,
  HostFailedError,
  openCluster,
  type Play,
  play,
  playbook,
  type RunContext,
  type StepContext,
  saveSnapshot,
  secret,
  step,
} from '../lib/index.ts'

export const backupVariables = {
  /** Where backups stay on the hosts: a folder of its own in it for each run. */
  backup_directory: z.string().startsWith('/').default('/var/backups/rekey'),
}

type BackupContext = StepContext<{ backup_directory: string }> & { readonly cluster: Cluster }

/** The folder of a run's backups on a host. */
export function backupFolder({ vars, run }: Pick<RunContext<{ backup_directory: string }>, 'vars' | 'run'>): string {
  return join(vars.backup_directory, run)
}

/** What the archive of a host holds. */
export const backedUpPaths = ['/etc/kubernetes', '/var/lib/kubelet/pki', '/var/lib/kubelet/config.yaml']

/** The plays of a backup, for this playbook and for those that begin with one. */
export function backupPlays(): Play<BackupContext>[] {
  return [
    play('Back up the hosts', { hosts: 'masters:nodes', tags: ['backup'] }, [
      step('Back up keys and configuration', {
        plan: ctx => `archive ${backedUpPaths.join(', ')} to ${backupFolder(ctx)}/host.tgz, read it back, and fetch it`,
        run: async ctx => {
          const saved = await archive(ctx, join(backupFolder(ctx), 'host.tgz'), backedUpPaths)
          await fetchFile(ctx, saved.path, join(ctx.folder, 'backups', ctx.host.name, 'host.tgz'), saved.sha256)
          ctx.log(`${saved.entries} files, ${saved.size} bytes, sha256 ${saved.sha256}`)
          return saved
        },
        irreversible: 'a backup stays',
      }),
    ]),
    play('Back up the cluster', { hosts: 'masters', tags: ['backup'] }, [
      step('Back up the token Secrets of every namespace', {
        runOnce: true,
        plan: ctx =>
          `save the service-account-token Secrets, a file for each namespace, to ${backupFolder(ctx)}/tokens`,
        run: async ctx => {
          const api = await ctx.cluster.api()
          const found = await api.list('/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token')
          const local = join(ctx.folder, 'backups', 'tokens')
          const remote = join(backupFolder(ctx), 'tokens')
          await mkdir(local, { recursive: true, mode: 0o700 })
          await ctx.$`umask 077; mkdir -p ${remote}`
          const namespaces = Map.groupBy(found, ({ metadata }) => metadata.namespace ?? '')
          for (const [namespace, secrets] of namespaces) {
            // JSON is YAML: kubectl apply takes it as it is.
            const text = `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items: secrets.map(backupForm) }, null, 2)}\n`
            await writeFile(join(local, `${namespace}.yaml`), text, { mode: 0o600 })
            await ctx.files.write(join(remote, `${namespace}.yaml`), secret(text), { mode: 0o600 })
          }
          const kept = (await ctx.$`ls ${remote}`).lines().length
          if (kept !== namespaces.size) {
            throw new HostFailedError(`${kept} of ${namespaces.size} namespaces are in ${remote}`, {
              code: 'backup.tokens',
              host: ctx.host.name,
            })
          }
          ctx.log(`${found.length} Secrets of ${namespaces.size} namespaces`)
          return { secrets: found.length, namespaces: [...namespaces.keys()], path: remote }
        },
        irreversible: 'a backup stays',
      }),
      step('Save a snapshot of etcd', {
        runOnce: true,
        plan: ctx => `etcdctl snapshot save ${backupFolder(ctx)}/etcd.db, check it with etcdutl, and fetch it`,
        run: async ctx => {
          const path = join(backupFolder(ctx), 'etcd.db')
          const status = await saveSnapshot(ctx, path)
          const sha256 = await fetchFile(ctx, path, join(ctx.folder, 'backups', ctx.host.name, 'etcd.db'))
          ctx.log(
            `${status.keys} keys at revision ${status.revision}, ${status.size} bytes, hash ${status.hash}, sha256 ${sha256}`,
          )
          return { path, sha256, ...status }
        },
        irreversible: 'a backup stays',
      }),
    ]),
  ]
}

export default playbook({
  name: 'backup',
  summary: 'Back up keys, configuration, token Secrets and etcd of a cluster, and read every backup back',
  vars: z.object(backupVariables),
  services: (run: RunContext<{ backup_directory: string }>) => {
    const cluster = openCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: backupPlays(),
  report: ctx => [
    {
      title: 'Backups',
      rows: [
        ['on every host', `${backupFolder(ctx)}/host.tgz`],
        ['here', join(ctx.folder, 'backups')],
      ],
    },
  ],
})
