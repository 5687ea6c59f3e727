// Whether the keysets of a run stand as a stage needs them, before it changes anything. A run about all of them that finds some elsewhere says which it
// can go over.
import { HostFailedError } from '../../../errors.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { OnHost } from '../../given/context.ts'
import type { Looking } from '../../given/found.ts'
import { comingIn } from '../issuers.ts'
import {
  describe,
  everyKeyset,
  forgottenOf,
  formerOf,
  type Key,
  type KeysetState,
  namesOf,
  type TokenKeys,
} from '../state.ts'
import { orNamed } from './chosen.ts'

type Any = KeysetState | TokenKeys
type Asking = Looking & { readonly vars: unknown }

/** What is wrong with a keyset, and what to do about it. */
interface Elsewhere {
  readonly code: string
  readonly message: (state: Any) => string
  readonly hint: (state: Any) => string
}

/** Fails where a keyset of the run does not stand so. */
function requireEach(ctx: Asking, stands: (state: Any) => boolean, { code, message, hint }: Elsewhere): void {
  const all = everyKeyset(ctx)
  const other = all.find(state => !stands(state))
  if (!other) return
  const others = all.filter(stands).flatMap(namesOf)
  throw new HostFailedError(message(other), { code, hint: `${hint(other)}${orNamed(ctx, others)}` })
}

/** Fails where a rotation rests in a later stage: there can be no second one beside it. */
export const mayStage: StepDefinition<OnHost> = {
  readOnly: true,
  runOnce: true,
  // Afterwards it would find what this run has made.
  remember: true,
  run: ctx =>
    requireEach(ctx, state => formerOf<Key>(state).length === 0, {
      code: 'keysets.not-over',
      message: state => `a rotation of ${state.name} is not over: ${formerOf<Key>(state).map(describe)[0]}`,
      hint: () =>
        'Go on with it: distrust-keysets, or promote-keysets where that has stopped; or undo its last stage with rekey rollback.',
    }),
}

/** Whether a keyset has a key that is to follow, or has followed in part. */
const hasComing = (state: Any) =>
  'authority' in state
    ? comingIn(state) !== undefined
    : state.items.some(item => (item.state === 'staged' && item.kept) || item.state === 'trusted')

/** Fails where a keyset has nothing to promote. */
export const requireComing = (ctx: Asking): void =>
  requireEach(ctx, hasComing, {
    code: 'keysets.nothing-staged',
    message: state =>
      'authority' in state
        ? `${state.name} has no CA that is staged, and whose key Vault has`
        : `${state.name} has no key that is staged, and that masters keep`,
    hint: () => 'Run stage-keysets first: rekey keysets shows how they stand.',
  })

/** Fails where a keyset has nothing to distrust. */
export const requireFormer = (ctx: Asking): void =>
  requireEach(ctx, state => formerOf<Key>(state).length > 0, {
    code: 'keysets.nothing-to-distrust',
    message: state => `${state.name} ${'authority' in state ? 'trusts no CA' : 'has no key'} but the one that signs`,
    hint: () => 'Was it promoted? rekey keysets shows how they stand.',
  })

/** Fails where nothing of a keyset is kept that was distrusted. */
export const requireForgotten = (ctx: Asking): void =>
  requireEach(ctx, state => forgottenOf<Key>(state).length > 0, {
    code: 'keysets.nothing-to-finish',
    message: ({ name }) => `the masters keep no key of ${name} that was distrusted`,
    hint: ({ items }) =>
      `It has ${items.map(describe).join(', ') || 'none at all'}. Only what distrust-keysets has distrusted is destroyed.`,
  })

/** Fails where nothing of a keyset was distrusted that can be trusted again, or what is named. */
export const requireDistrusted = (ctx: Asking, named: readonly string[]): void =>
  requireEach(ctx, state => forgottenOf<Key>(state).length > 0 || isNamed(state, named), {
    code: 'keysets.nothing-to-trust',
    message: ({ name }) => `${name} has nothing that was distrusted and is still known`,
    hint: ({ items }) => `It has ${items.map(describe).join(', ') || 'none at all'}.`,
  })

const isNamed = ({ items }: Any, named: readonly string[]) =>
  (items as readonly Key[]).some(({ id, state }) => state === 'distrusted' && named.includes(id))
