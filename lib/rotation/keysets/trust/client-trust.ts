// Whom extension API servers and the scheduler let in: what API servers tell them in a ConfigMap, to which they only add.
import { clientTrustName, tightenClientTrust } from '../../../kubernetes/trust/client-trust.ts'
import { waitFor } from '../../../operations/wait.ts'
import { joinBundle } from '../../../pki/certificates/certificate.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { nothing, type OnCluster, onTheWayBack, seconds } from '../../given/context.ts'
import { masters } from '../../given/hosts.ts'
import { aboutAuthorities, byRole, type Item, type KeysetState, statesOf } from '../state.ts'

/** What of a keyset clients are to be trusted by, and what no longer. */
export interface TrustChange {
  readonly next: readonly string[]
  readonly gone: readonly Pick<Item, 'certificate'>[]
}

/**
 * Changes nothing on the way there, where API servers add what they trust by themselves; on the way back it takes out what they have added,
 * once all of them trust it no more. So it stands before the step that has them trust it.
 */
export function takenBack<Needs extends OnCluster>(
  gone: (ctx: Needs, state: KeysetState) => readonly Item[],
  proven: (ctx: Needs) => Promise<void>,
): StepDefinition<Needs> {
  const undo = async (ctx: Needs) => {
    for (const state of statesOf(ctx).flatMap(byRole))
      await tighten(ctx, state, { next: heldOnMasters(ctx, state), gone: gone(ctx, state) })
    await proven(ctx)
  }
  return onTheWayBack('note-client-trust', undo, aboutAuthorities)
}

/** Takes CAs that no API server trusts any more out of what they have told others. */
export function tightened<Needs extends OnCluster>(
  change: (ctx: Needs, state: KeysetState) => TrustChange,
): StepDefinition<Needs> {
  return {
    id: 'tighten-client-trust',
    when: aboutAuthorities,
    runOnce: true,
    plan: ctx =>
      statesOf(ctx)
        .filter(({ authority }) => authority !== 'etcd')
        .flatMap(state =>
          change(ctx, state).gone.map(() => `take the old CA of ${state.name} out of ${clientTrustName}`),
        ),
    run: async ctx => {
      for (const state of statesOf(ctx).flatMap(byRole)) await tighten(ctx, state, change(ctx, state))
    },
    // API servers add again what they trust.
    rollback: nothing,
  }
}

/** What masters trusted before the run, PEM. */
export function heldOnMasters(ctx: OnCluster, { bundles }: KeysetState): string[] {
  return ctx.hosts(masters).flatMap(({ name }) => Object.values(bundles[name] ?? {}).flat())
}

async function tighten(ctx: OnCluster, { authority }: KeysetState, { next, gone }: TrustChange): Promise<void> {
  // Whom etcd lets in is told to nobody.
  if (gone.length === 0 || authority === 'etcd') return
  const bundle = (pems: readonly string[]) => {
    const joined = joinBundle(...pems)
    return authority === 'front-proxy' ? { frontProxy: joined } : { kubernetes: joined }
  }
  const change = { old: bundle(gone.map(({ certificate }) => certificate)), next: bundle(next) }
  await waitFor(`no other CA in ${clientTrustName}`, { within: seconds(60), signal: ctx.signal }, async () => {
    const removed = await tightenClientTrust(await ctx.cluster.api(), change)
    for (const { subject, fingerprint } of removed)
      ctx.log(`${clientTrustName}: without ${subject} (${fingerprint.slice(0, 11)})`)
    return removed.length === 0
  })
}
