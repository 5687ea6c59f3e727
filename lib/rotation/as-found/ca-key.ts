// What else the key of a CA signs: where that is the tokens of service accounts, it must be on the masters.
import { HostFailedError } from '../../errors.ts'
import { authoritySignsTokens } from '../../kubernetes/layout/authorities.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf } from '../given/found.ts'

interface Variables {
  readonly controller_manager_signs: boolean
  readonly rotate_service_account_keys: boolean
}

/**
 * Fails where the key of the CA signs the tokens of service accounts and would stay in Vault: an API server that signs tokens with a key that
 * is not there does not start. Tells where they all become others.
 */
export const checkKeyOfTheCa: StepDefinition<OnHost<Variables>> = {
  readOnly: true,
  run: ctx => {
    if (!authoritySignsTokens(layoutOf(ctx))) return
    if (!ctx.vars.controller_manager_signs) {
      throw new HostFailedError(
        `the API server of ${ctx.host.name} signs tokens of service accounts with the key of the CA`,
        {
          code: 'preflight.ca-key-signs-tokens',
          host: ctx.host.name,
          hint: 'With controller_manager_signs: false that key stays in Vault, and no API server would start. Leave it on, or give service accounts a key of their own first.',
        },
      )
    }
    if (ctx.vars.rotate_service_account_keys)
      ctx.log('the key of the CA signs the tokens of service accounts: those of before are refused from the new CA on')
  },
}
