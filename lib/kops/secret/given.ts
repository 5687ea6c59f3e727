// Which secret is replaced, by which file.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import type { StepContext } from '../../playbook/model.ts'
import { type KopsServices, variables } from '../context.ts'
import { keepWhole } from '../kept.ts'

export const secretVariables = {
  ...variables,
  /** Which, by kOps' names. */
  secret: z.enum(['encryptionconfig', 'ciliumpassword', 'dockerconfig']),
  /** The file with the new one, on this machine. */
  file: z.string().min(1),
  /**
   * Takes an encryptionconfig that drops a key or can't be held against the one of before, once every value was counted, as the operator says; or keys of
   * Cilium that don't follow those of before.
   */
  as_it_is: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof secretVariables>>

/** A step of the replacement of a secret. */
export type SecretContext = StepContext<Variables> & KopsServices

const newFile = ({ folder }: Pick<SecretContext, 'folder'>) => join(folder, 'secret-new')

/**
 * The new one, as it was looked at: what the operator's file holds by now says nothing. A check keeps none, and reads that.
 * @throws HostFailedError where nobody has looked at one
 */
export async function readNew(ctx: SecretContext): Promise<Buffer> {
  if (ctx.check) return readGiven(ctx)
  if (existsSync(newFile(ctx))) return readFile(newFile(ctx))
  throw new HostFailedError(`nobody has looked at ${ctx.vars.file} in this run`, {
    code: 'kops.no-plan',
    hint: "Its step 'see-that-the-file-fits' can't be left out.",
  })
}

/** Keeps what was looked at in the run's folder: every later step goes by that. */
export async function keepNew(ctx: SecretContext, data: Buffer): Promise<void> {
  if (!ctx.check) await keepWhole(newFile(ctx), data)
}

/**
 * The operator's file.
 * @throws HostFailedError where it can't be read
 */
export async function readGiven({ vars: { file } }: SecretContext): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    throw new HostFailedError(`${file} can't be read: ${(cause as Error).message}`, {
      code: 'kops.secret-unreadable',
      cause,
    })
  }
}
