// What else the key of a CA signs: where it signs the tokens of service accounts, they are other ones with the new CA.
import { HostFailedError } from '../../errors.ts'
import { authoritySignsTokens } from '../../kubernetes/components/files.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as AuthorityVariables } from '../authorities.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf } from '../given/found.ts'

type Variables = Pick<AuthorityVariables, 'controller_manager_signs'>

/**
 * Tells where the key of the CA signs the tokens of service accounts. Fails where it would stay in Vault: an API server that signs tokens
 * with a key that is not there does not start.
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
    ctx.log(
      'The key of the CA signs the tokens of service accounts: with the new CA they are others, and pods are refused until their kubelet gives them new ones',
    )
  },
}
