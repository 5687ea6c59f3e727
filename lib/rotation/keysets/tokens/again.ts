// The old key of tokens trusted again, which masters keep until the end: it stands before the one that signs.
import { HostFailedError } from '../../../errors.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type OnCluster, onTheWayBack } from '../../given/context.ts'
import { forgottenOf, type Key, primaryOf } from '../state.ts'
import { rewritten } from './files.ts'
import { gate, knownEverywhere, refusedEverywhere, seenOn } from './gates.ts'
import { aboutTokens, keptKey, stateOf } from './keys.ts'
import { withFormerKey } from './pem.ts'

/** The keys to trust again: those that were named; where none was, the last of those that are kept and were distrusted. */
function again(ctx: OnCluster<BackupVariables & { readonly items: readonly string[] }>): Key[] {
  const all = forgottenOf(stateOf(ctx))
  const named = all.filter(({ id }) => ctx.vars.items.includes(id))
  const found = named.length > 0 ? named : all.slice(0, 1)
  if (found.length > 0) return found
  throw new HostFailedError('masters keep no key of tokens that was distrusted', { code: 'keysets.nothing-to-trust' })
}

type TrustNeeds = OnCluster<BackupVariables & { readonly items: readonly string[] }>

export const trusted = rewritten<TrustNeeds>(
  async (ctx, { isLast, where }, text) => {
    let next = text
    for (const key of isLast ? again(ctx) : []) next = withFormerKey(next, (await keptKey(ctx, key)).publicKey, where)
    return next
  },
  ({ isLast, path }) => (isLast ? `${path}: the old key before the one that signs` : undefined),
)

/** Changes nothing on the way there; on the way back each API server is seen to refuse the old key again. */
export const noteTrusted: StepDefinition<TrustNeeds> = {
  ...onTheWayBack<TrustNeeds>('note-the-old-token-key', ctx => refusedEverywhere(ctx, again(ctx)), aboutTokens),
  // Where there is none, nothing is to be touched.
  run: ctx => ({ noted: again(ctx).map(({ id }) => id) }),
}

/** An API server that was started anew knows tokens of the old key again. */
export const trustedSeen = (ctx: TrustNeeds, session: Pick<HostSession, 'host'>): Promise<void> =>
  seenOn(ctx, session, () => ({ signs: primaryOf(stateOf(ctx)), knows: again(ctx) }))

export const trustedKnown = gate<TrustNeeds>(ctx => knownEverywhere(ctx, again(ctx)))
