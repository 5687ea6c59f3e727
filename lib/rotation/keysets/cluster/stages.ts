// What each stage makes of the cluster's own CA where clients believe servers by it, and with which CA the cluster signs then.

import type { Variables as CopiesVariables } from '../../copies.ts'
import type { OnCluster } from '../../given/context.ts'
import { nextOf } from '../issuers.ts'
import { type Needs, without, withStaged } from '../stages.ts'
import { formerOf, type KeysetState, primaryOf } from '../state.ts'
import { distrustedOf, type TrustNeeds } from '../trust/again.ts'
import { copies } from './published.ts'
import { signsWith } from './signing.ts'

/** What is trusted before the stage, PEM. */
const heldBefore = ({ items }: KeysetState): string[] =>
  items.flatMap(({ state, certificate }) => (state === 'primary' || state === 'trusted' ? [certificate] : []))

/** What the API keeps of the cluster's CA for clients: the new one behind the old one, too. */
export const stagedCopies = copies<Needs & OnCluster<CopiesVariables>>((ctx, state) => {
  const held = heldBefore(state)
  return { held, next: withStaged(ctx, state, held) }
})

/** The cluster signs with the CA of now, whatever its file of CAs comes to hold. */
export const signsWithPrimary = signsWith<Needs>((_, state) => [primaryOf(state)])

/** The cluster signs with it. */
export const signsWithNext = signsWith<Needs>((_, state) => [nextOf(state)])

/** The same in what the API keeps for clients. */
export const distrustedCopies = copies<Needs & OnCluster<CopiesVariables>>((_, state) => {
  const held = heldBefore(state)
  return { held, next: without(held, formerOf(state)) }
})

export const trustedCopies = copies<TrustNeeds & OnCluster<CopiesVariables>>((ctx, state) => {
  const held = heldBefore(state)
  return { held, next: [...held, ...distrustedOf(ctx, state).map(({ certificate }) => certificate)] }
})
