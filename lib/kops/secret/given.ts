// Which secret is replaced, by which file.
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import type { StepContext } from '../../playbook/model.ts'
import { type KopsServices, variables } from '../context.ts'

export const secretVariables = {
  ...variables,
  /** Which, by kOps' names. */
  secret: z.enum(['encryptionconfig', 'ciliumpassword', 'dockerconfig']),
  /** The file with the new one, on this machine. */
  file: z.string().min(1),
  /** Takes an encryptionconfig that drops a key or can't be held against the one of before: once every value was counted, as the operator says. */
  as_it_is: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof secretVariables>>

/** A step of the replacement of a secret. */
export type SecretContext = StepContext<Variables> & KopsServices

/**
 * The new one.
 * @throws HostFailedError where its file can't be read
 */
export async function readNew(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    throw new HostFailedError(`${file} can't be read: ${(cause as Error).message}`, {
      code: 'kops.secret-unreadable',
      cause,
    })
  }
}
