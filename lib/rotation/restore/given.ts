// What a restore is given: whose backup, which parts of it, and the cluster's name as somebody has typed it.
import { dirname } from 'node:path'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import { type Backup, backupsIn, type FilesManifest, type SnapshotManifest } from '../../kubernetes/backups/manifest.ts'
import { confirm } from '../../kubernetes/confirmed.ts'
import type { RunContext } from '../../playbook/model.ts'
import { listed } from '../../playbook/variables.ts'
import type { OnHost } from '../given/context.ts'

const partNames = ['files', 'etcd'] as const

export const variables = {
  /** The run whose backup is put back: its id, a part of it, or the path of its folder; of one that went through several stages, `RUN:STAGE`. */
  from: z.string().min(1).optional(),
  /** What of it is put back: files of hosts, etcd, or both. */
  parts: z.preprocess(listed, z.array(z.enum(partNames)).min(1)).default([...partNames]),
  /** What the cluster is called, which is to be typed for `confirm`. */
  cluster_name: z.string().default('kubernetes'),
  confirm,
  /** Files of masters are put back although they have not the CAs and keys that the cluster goes by now, or nobody can say which these are. */
  accept_other_trust: z.boolean().default(false),
  /** The same although certificates of masters among them have ended. */
  accept_ended: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Run = Pick<RunContext<Variables>, 'vars' | 'otherRun' | 'registered'>

export const has = ({ vars }: Pick<RunContext<Variables>, 'vars'>, part: (typeof partNames)[number]) =>
  vars.parts.includes(part)

/** The step that registers which backup `from` meant when the run began: another one may fit the same words later. */
export const sourceStep = 'verify-the-backup'

/** Which backup it is. Plain data. */
export interface Source {
  /** The folder of its run. */
  readonly folder: string
  readonly id: string
}

/** What a run registers of its backup. */
export const sourceOf = ({ folder, id }: Backup): Source => ({
  folder: dirname(id.includes(':') ? dirname(dirname(folder)) : folder),
  id,
})

/** The backup that is put back. Throws `RekeyError` where there is no such run, `HostFailedError` where it has no such backup. */
export function backupOf({ vars, otherRun, registered }: Run): Backup {
  const source = registered<Source>(sourceStep)
  const same = source && backupsIn(otherRun(source.folder)).find(({ id }) => id === source.id)
  if (same) return same
  if (vars.from === undefined)
    throw new HostFailedError('nobody has said which backup is to be put back', {
      code: 'restore.no-from',
      hint: 'rekey backups lists those that there are: -e from=RUN',
    })
  const [, reference = '', stage] = /^(.*?)(?::([a-z0-9-]+))?$/s.exec(vars.from) ?? []
  const all = backupsIn(otherRun(reference))
  const found = all.find(({ id }) => (stage === undefined ? !id.includes(':') : id.endsWith(`:${stage}`)))
  if (found) return found
  throw new HostFailedError(`${vars.from} has no backup that says what it holds`, {
    code: 'restore.no-backup',
    hint:
      all.length > 0
        ? `It has ${all.map(({ id }) => id).join(', ')}.`
        : 'rekey backups lists those that there are. Those of an earlier rekey say nothing of themselves, and are put back by hand.',
  })
}

/** What the backup has of a host's files. Throws `HostFailedError` where it has none. */
export function filesFor(ctx: OnHost<Variables>, host = ctx.host.name): FilesManifest {
  const { id, files } = backupOf(ctx)
  const found = files.find(one => one.host === host)
  if (found) return found
  throw new HostFailedError(`${id} has no files of ${host}: it has those of ${files.map(one => one.host).join(', ')}`, {
    code: 'restore.no-host',
    host,
    hint: `Leave it out: -l '!${host}'.`,
  })
}

/** The snapshot of etcd. Throws `HostFailedError` where the backup has none. */
export function snapshotOf(ctx: Run): SnapshotManifest {
  const { id, snapshot } = backupOf(ctx)
  if (snapshot) return snapshot
  throw new HostFailedError(`${id} has no snapshot of etcd`, {
    code: 'restore.no-snapshot',
    hint: 'Its files alone are put back by -e parts=files; rekey backups says which backups have a snapshot.',
  })
}
