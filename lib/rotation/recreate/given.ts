// What the disruptive way is given.
import { z } from 'zod'
import { confirm } from '../../kubernetes/confirmed.ts'
import { duration } from '../../playbook/duration.ts'
import { seconds } from '../given/context.ts'

export const variables = {
  confirm,
  /** The same for the way back. */
  confirm_rollback: confirm,
  /** How long, at most, until all is well again at the end. */
  wait: duration.default(seconds(600)),
  /** All keysets are made anew here, whatever the inventory says for rotate-ca: no key may stay. */
  rotate_service_account_keys: z
    .boolean()
    .default(true)
    .transform(() => true),
}

export type Variables = z.output<z.ZodObject<typeof variables>>
