// A variable of a playbook that is a secret.
import { z } from 'zod'
import { type Secret, secret } from '../connection/shell.ts'
import { RekeyError } from '../errors.ts'

/**
 * For a playbook's `vars`: text that must show nowhere, whoever sets it, the inventory or `-e`. Steps get it as a `secret()`.
 * @param text what it must be; any text where nothing is said
 */
export function secretText(text: z.ZodType<string> = z.string()) {
  return text.transform((value, context): Secret => {
    try {
      return secret(value)
    } catch (error) {
      if (!(error instanceof RekeyError)) throw error
      context.issues.push({ code: 'custom', message: error.message, input: undefined })
      return z.NEVER
    }
  })
}
