// Tokens of service accounts that are kept in Secrets: written anew once their CA is published.
import { type RenewedTokens, renewTokens } from '../kubernetes/trust/renewed-tokens.ts'
import { namespacesWithOtherCa, tokenSecrets } from '../kubernetes/trust/tokens.ts'
import { waitFor } from '../operations/wait.ts'
import type { RunContext, StepDefinition } from '../playbook/model.ts'
import { afterwards, type OnCluster, seconds } from './given/context.ts'
import type { Looking } from './given/found.ts'

/**
 * Waits until every namespace has a CA in its `kube-root-ca.crt`.
 * @param ca which, PEM: the new one, or the old one on the way back
 */
export function rootCaEverywhere<Needs>(ca: (ctx: Needs) => string): StepDefinition<OnCluster & Needs> {
  return {
    id: 'wait-for-root-ca',
    ...afterwards,
    runOnce: true,
    run: async ctx => {
      const what = 'the CA in the kube-root-ca.crt of every namespace'
      await waitFor(what, { within: seconds(120), signal: ctx.signal }, async () => {
        const left = await namespacesWithOtherCa(await ctx.cluster.api(), ca(ctx))
        if (left.length > 0) throw new Error(`not yet in ${left.join(', ')}`)
        return true
      })
    },
  }
}

/** What is registered under these: of the way there, and of the way back, as `way-back.ts` names its steps. */
const [there, back] = ['regenerate-tokens', 'undo-tokens']

/**
 * Has the controller-manager write every token Secret anew, namespace by namespace. One that nobody fills in is told: it stops nothing else.
 * @param ca the CA that Secrets must carry by then, PEM
 */
export function regenerate<Needs>(ca: (ctx: Needs) => string): StepDefinition<OnCluster & Needs> {
  return {
    id: there,
    runOnce: true,
    plan: async ctx =>
      (await tokenSecrets(await ctx.cluster.api())).map(
        ({ namespace, name }) => `take the token out of Secret ${namespace}/${name}, and wait for the new one`,
      ),
    run: async ctx => {
      const { signal } = ctx
      return renewTokens(await ctx.cluster.api(), {
        ...{ ca: ca(ctx), signal, redact: value => ctx.redact(value), log: line => ctx.log(line) },
      })
    },
  }
}

/** Token Secrets that have no token of the key that signs now, each with the reason: what they hold is refused. Of a way back, those that it has left. */
export function notRenewed(ctx: Looking & Pick<RunContext, 'mode'>): readonly string[] {
  return ctx.registered<RenewedTokens>(ctx.mode === 'rollback' ? back : there)?.failed ?? []
}
