// What the legacy procedure goes by: its variables, what was kept, and how far it has come, for whoever goes on with it or back.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import * as begun from '../../kubernetes/begun.ts'
import { confirm, requireTyped } from '../../kubernetes/confirmed.ts'
import type { RunContext, StepContext } from '../../playbook/model.ts'
import { type KopsServices, variables } from '../context.ts'
import { keepWhole } from '../kept.ts'
import type { StateStore } from '../store/store.ts'

export const recreateVariables = {
  ...variables,
  confirm,
  /** Where instances of the control plane have the volumes of etcd mounted. */
  etcd_volumes: z
    .string()
    .regex(
      /^\/(mnt(\/|$)|(?!(etc|usr|var|proc|sys|dev|home|root|boot)(\/|$))[^/]+\/[^/])/,
      'it is no folder of volumes, as /mnt is',
    )
    .refine(path => !path.split('/').includes('..'), 'it is no plain path')
    .default('/mnt'),
  /** Nothing else is possible: the API knows nobody any more while instances are replaced. */
  cloudonly: z.literal(true).default(true),
}

export type Variables = z.output<z.ZodObject<typeof recreateVariables>>

/** A step of the legacy procedure. */
export type Recreation = StepContext<Variables> & KopsServices

/** The state store. Throws where rekey has no means to read it: kops itself shows no secret, and deletes no key pair. */
export function storeOf(ctx: Recreation): StateStore {
  const { store } = ctx.kops
  if (store) return store
  throw new HostFailedError(`rekey can't read ${ctx.vars.state}: nothing could be kept, and nothing deleted`, {
    code: 'kops.state-store',
    hint: 'It knows s3:// and file://.',
  })
}

const keptFile = ({ folder }: Pick<RunContext, 'folder'>) => join(folder, 'credentials-before.json')

/** Whether a path of the state store is where a credential of the cluster lies: nothing else is deleted or written. */
export const isCredential = (path: string, cluster: string): boolean =>
  path.startsWith(`${cluster}/`) &&
  /^(pki\/(private|issued)|secrets)\/./.test(path.slice(cluster.length + 1)) &&
  path.split('/').every(part => part !== '' && part !== '.' && part !== '..')

const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

/** What the run knows of what it kept: how many objects, and the hash of their file. Plain data. */
export interface Kept {
  readonly objects: number
  readonly hash: string
}

/** Keeps objects of the state store by their paths, for the run's user alone, and reads them back. */
export async function keepObjects(ctx: Recreation, objects: Readonly<Record<string, string>>): Promise<Kept> {
  const text = JSON.stringify(objects)
  await keepWhole(keptFile(ctx), Buffer.from(text))
  return { objects: Object.keys(objects).length, hash: hashOf(text) }
}

/**
 * What was kept; nothing where the run has kept nothing: then it deleted nothing either.
 * @throws HostFailedError where the file is gone, or is not the one that was kept
 */
export async function keptObjects(ctx: Recreation): Promise<Readonly<Record<string, string>>> {
  const kept = ctx.registered<Kept>('keep-the-credentials')
  if (!kept) return {}
  const text = await readFile(keptFile(ctx), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text !== undefined && hashOf(text) === kept.hash) {
    const objects = JSON.parse(text) as Record<string, string>
    const strange = Object.keys(objects).find(path => !isCredential(path, ctx.vars.cluster))
    if (strange === undefined) return objects
    throw new HostFailedError(
      `${keptFile(ctx)} names ${JSON.stringify(strange)}, which is no credential of the cluster`,
      {
        code: 'kops.not-kept',
      },
    )
  }
  throw new HostFailedError(
    `${keptFile(ctx)} ${text === undefined ? 'is gone' : 'is not what was kept there'}: the credentials of before can’t be put back`,
    {
      code: 'kops.not-kept',
      hint: 'There is no way back from here without it: put the file back from a backup, or go on with the new credentials (rekey resume).',
    },
  )
}

/**
 * Sees that somebody has typed the cluster's name.
 * @param page where it stands what users will notice
 */
export function requireConfirmed({ vars: { confirm, cluster } }: Recreation, page: string): void {
  requireTyped(confirm, cluster, { what: 'may be interrupted', page, code: 'kops.not-confirmed' })
}

/**
 * Sees that a step was not come to by leaving out what must come before it, as with --start-at-step or --tags.
 * @param steps what the run must have done by now
 * @throws HostFailedError before anything is changed
 */
export async function requireBegun(ctx: Recreation, ...steps: readonly string[]): Promise<void> {
  requireConfirmed(ctx, 'docs/runbooks/recreate-kops-credentials.md')
  const missing = ['read-the-credentials', 'keep-the-credentials', ...steps].filter(
    id => ctx.registered(id) === undefined,
  )
  if (missing.length > 0)
    throw new HostFailedError(`the run has not done what comes before: ${missing.join(', ')}`, {
      code: 'kops.no-plan',
      hint: 'None of these steps can be left out. Go on with the run that has begun: rekey resume; or begin with all of them.',
    })
  await keptObjects(ctx)
}

/** What can't be seen from outside once a run was cut off in the middle of it. */
type Begun = 'etcd-certificates' | 'tokens'

/** Whether a part was begun with, by this run. */
export const isBegun: (ctx: Recreation, what: Begun) => boolean = begun.isBegun

/** Notes that a part is begun with, before anything of it is done. */
export const begin: (ctx: Recreation, what: Begun) => Promise<void> = begun.begin
