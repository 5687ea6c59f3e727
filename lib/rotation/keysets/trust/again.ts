// Trust again: CAs that were distrusted come back behind the others.
import { z } from 'zod'
import { HostFailedError } from '../../../errors.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { listed } from '../../../playbook/variables.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import type { WithVault } from '../../given/vault.ts'
import type { Variables as DrainVariables } from '../../restart/drained.ts'
import { bundles } from '../bundles.ts'
import type { WithVisitors } from '../credentials.ts'
import * as gates from '../gates.ts'
import { aboutAuthorities, describe, everyKeyset, type Item, type Key, type KeysetState } from '../state.ts'
import * as tokens from '../tokens/stages.ts'
import { requireDistrusted } from '../which/standing.ts'
import { anchored } from './anchors.ts'
import { takenBack } from './client-trust.ts'
import { bundlesBy, restartsAfter } from './restarts.ts'

export const trustVariables = {
  /** The ids of CAs to trust again, of whichever keyset; of one that has none of them, the one that was distrusted last. */
  items: z.preprocess(listed, z.array(z.string())).default([]),
}

type TrustVariables = z.output<z.ZodObject<typeof trustVariables>>

/** What it takes. */
export type TrustNeeds = OnCluster<Mounts & BackupVariables> & WithVault & WithVisitors & OnHost<TrustVariables>

/** The CAs of a keyset to trust again: those that were named; where none of it was, the one that was distrusted last. */
export function distrustedOf({ vars }: Pick<TrustNeeds, 'vars'>, { name, items }: KeysetState): Item[] {
  const all = items.filter(({ state }) => state === 'distrusted')
  const named = all.filter(({ id }) => vars.items.includes(id))
  // What Vault has besides may be another cluster's.
  const last = all.filter(({ kept }) => kept === true).slice(0, 1)
  const found = named.length > 0 ? named : last
  if (found.length > 0) return found
  throw new HostFailedError(`${name} has no CA that was distrusted and is still known`, {
    code: 'keysets.nothing-to-trust',
    hint: vars.items.length > 0 ? `It has ${items.map(describe).join(', ') || 'none at all'}.` : undefined,
  })
}

/** Fails where a keyset has nothing to trust again, and where an id that was named is of nothing that was distrusted, in whichever keyset of the run. */
export const namedAreKnown: StepDefinition<TrustNeeds> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  run: ctx => {
    requireDistrusted(ctx, ctx.vars.items)
    const all = everyKeyset(ctx)
    const known = new Set(
      all.flatMap(({ items }) => (items as Key[]).flatMap(({ id, state }) => (state === 'distrusted' ? [id] : []))),
    )
    const strange = ctx.vars.items.filter(id => !known.has(id))
    if (strange.length === 0) return
    const told = all.flatMap(({ name, items }) => (items as Key[]).map(one => `${name}: ${describe(one)}`))
    throw new HostFailedError(`nothing that was distrusted and is still known is called ${strange.join(', ')}`, {
      code: 'keysets.nothing-to-trust',
      hint: `There is ${told.join('; ') || 'none at all'}.`,
    })
  },
}

const again = (ctx: TrustNeeds, state: KeysetState) => distrustedOf(ctx, state)
const againVisitors = (ctx: TrustNeeds) => gates.oldOf(ctx, again)

export const noteTrusted = takenBack<TrustNeeds>(again, ctx => gates.refusedEverywhere(ctx, againVisitors(ctx)))
export const trustAgain = bundles<TrustNeeds>(
  'trust-the-old-cas-again',
  (ctx, state, held) => [
    ...held,
    ...again(ctx, state)
      .filter(({ key }) => !held.some(pem => publicKeyOf(pem) === key))
      .map(({ certificate }) => certificate),
  ],
  ctx => gates.refusedOnHost(ctx, againVisitors(ctx)),
)
/** Machines that trust a CA of the keyset in all they do trust the old one, too. */
export const trustAnchors = anchored<TrustNeeds>('have-machines-trust-the-old-cas-again', (ctx, state, held) => [
  ...held.map(certificate => ({ certificate })),
  ...again(ctx, state),
])
/** What goes by these files without reading them again. */
export const trustRestarts = restartsAfter<TrustNeeds & OnCluster<DrainVariables>>(
  [bundlesBy('trust-the-old-cas-again'), tokens.trusted.changes],
  async (ctx, session) => {
    await gates.acceptedSinceRestart(ctx, session, againVisitors(ctx))
    await tokens.trustedSeen(ctx, session)
  },
)
export const trustedAgain: StepDefinition<TrustNeeds> = {
  readOnly: true,
  when: gates.asksHost,
  run: ctx => gates.acceptedOnHost(ctx, againVisitors(ctx)),
}
export const trustedAgainEverywhere: StepDefinition<TrustNeeds> = {
  readOnly: true,
  runOnce: true,
  when: ctx => !ctx.check && aboutAuthorities(ctx),
  run: ctx => gates.acceptedEverywhere(ctx, againVisitors(ctx)),
}
