// What the legacy procedure goes by: its variables, what was kept, and how far it has come, for whoever goes on with it or back.
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import type { RunContext, StepContext } from '../../playbook/model.ts'
import { type KopsServices, variables } from '../context.ts'
import type { StateStore } from '../store/store.ts'

export const recreateVariables = {
  ...variables,
  /** The cluster's name once more: whoever types it has read what users will notice. */
  confirm: z.string().optional(),
  /** Where instances of the control plane have the volumes of etcd mounted. */
  etcd_volumes: z.string().startsWith('/').default('/mnt'),
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

/** Keeps objects of the state store by their paths, for the run's user alone, and reads them back. */
export async function keepObjects(ctx: Recreation, objects: Readonly<Record<string, string>>): Promise<void> {
  const text = JSON.stringify(objects)
  await writeFile(`${keptFile(ctx)}.next`, text, { mode: 0o600, flush: true })
  await rename(`${keptFile(ctx)}.next`, keptFile(ctx))
  if ((await readFile(keptFile(ctx), 'utf8')) === text) return
  throw new HostFailedError(`${keptFile(ctx)} does not hold what was written`, { code: 'kops.not-kept' })
}

/** What was kept, or undefined where nothing was: then nothing was deleted either. */
export async function keptObjects(ctx: Recreation): Promise<Record<string, string> | undefined> {
  return existsSync(keptFile(ctx)) ? JSON.parse(await readFile(keptFile(ctx), 'utf8')) : undefined
}

/** What can't be seen from outside once a run was cut off in the middle of it. */
export type Begun = 'etcd-certificates' | 'tokens'

const begunFile = ({ folder }: Pick<RunContext, 'folder'>, what: Begun) => join(folder, 'begun', what)

/** Whether a part was begun with, by this run. */
export const isBegun = (ctx: Recreation, what: Begun): boolean => existsSync(begunFile(ctx, what))

/** Notes that a part is begun with, before anything of it is done. */
export async function begin(ctx: Recreation, what: Begun): Promise<void> {
  await mkdir(join(ctx.folder, 'begun'), { recursive: true, mode: 0o700 })
  await writeFile(begunFile(ctx, what), '', { flush: true })
}
