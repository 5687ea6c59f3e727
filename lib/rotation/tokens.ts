// Tokens of service accounts that are kept in Secrets: written anew once their CA is published.
import { namespacesWithOtherCa, regenerateToken, tokenSecrets } from '../kubernetes/trust/tokens.ts'
import { waitFor } from '../operations/wait.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { afterwards, type OnCluster, seconds } from './given/context.ts'

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

/**
 * Has the controller-manager write every token Secret anew, namespace by namespace.
 * @param ca the CA that Secrets must carry by then, PEM
 */
export function regenerate<Needs>(ca: (ctx: Needs) => string): StepDefinition<OnCluster & Needs> {
  return {
    id: 'regenerate-tokens',
    runOnce: true,
    plan: async ctx =>
      (await tokenSecrets(await ctx.cluster.api())).map(
        ({ namespace, name }) => `take the token out of Secret ${namespace}/${name}, and wait for the new one`,
      ),
    run: async ctx => {
      const api = await ctx.cluster.api()
      const namespaces = Map.groupBy(await tokenSecrets(api), ({ namespace }) => namespace)
      for (const [namespace, secrets] of namespaces) {
        const renewed = await Promise.all(
          secrets.map(one => regenerateToken(api, one, { ca: ca(ctx), within: seconds(60), signal: ctx.signal })),
        )
        for (const token of renewed) ctx.redact(token.reveal())
        ctx.log(`${namespace}: ${secrets.map(({ name }) => name).join(', ')}`)
      }
      return { namespaces: namespaces.size }
    },
  }
}
