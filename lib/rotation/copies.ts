// The copies of the cluster's CA in its API that nobody else renews, and whom the API's clients are trusted by.
import { authorityCopies } from '../kubernetes/trust/authority-copies.ts'
import { type ClientAuthorities, clientTrustName, tightenClientTrust } from '../kubernetes/trust/client-trust.ts'
import { waitFor } from '../operations/wait.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { type OnCluster, seconds } from './context.ts'

/** Puts the CA of `next` wherever the API has a copy of that of `old`, and has nobody trust clients of `old`. */
export function replace<Old, Next>(
  old: (ctx: Old) => ClientAuthorities,
  next: (ctx: Next) => ClientAuthorities,
): StepDefinition<OnCluster & Old & Next> {
  return {
    id: 'update-copies',
    runOnce: true,
    plan: async ctx => [
      ...(await authorityCopies(await ctx.cluster.api(), old(ctx).kubernetes)).map(
        ({ where }) => `put the new CA into ${where}`,
      ),
      `take the old CAs out of ${clientTrustName}, to which API servers only add`,
    ],
    run: async ctx => {
      const [before, after] = [old(ctx), next(ctx)]
      const copies = await authorityCopies(await ctx.cluster.api(), before.kubernetes)
      for (const { where, replace } of copies) {
        await replace(after.kubernetes)
        ctx.log(where)
      }
      await waitFor(`no other CA in ${clientTrustName}`, { within: seconds(60), signal: ctx.signal }, async () => {
        const removed = await tightenClientTrust(await ctx.cluster.api(), { old: before, next: after })
        for (const { subject, fingerprint } of removed)
          ctx.log(`${clientTrustName}: without ${subject} (${fingerprint.slice(0, 11)})`)
        return removed.length === 0
      })
      return copies.map(({ where }) => where)
    },
  }
}
