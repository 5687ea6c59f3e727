// What each stage makes of the key of tokens: what files hold after it, who must know tokens of which key, who must hold none of the old one.
import { HostFailedError } from '../../../errors.ts'
import { tokenKeysOfHost } from '../../../kubernetes/keysets/token-keys.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type OnCluster, onTheWayBack } from '../../given/context.ts'
import { apiServerHosts, layoutOf } from '../../given/found.ts'
import { masters } from '../../given/hosts.ts'
import { finishedHint, keptTokenKeys } from '../kept.ts'
import { forgottenOf, primaryOf } from '../state.ts'
import { restartsAfter } from '../trust/restarts.ts'
import { type Rewritten, rewritten } from './files.ts'
import {
  currentKnown,
  gate,
  knownEverywhere,
  publishedEverywhere,
  refusedEverywhere,
  seenOn,
  signedEverywhere,
} from './gates.ts'
import { everyToken } from './holders.ts'
import {
  aboutTokens,
  before,
  keepOld,
  keptKey,
  madeKey,
  make as makePair,
  nextKey,
  primaryHere,
  privateHalf,
  stateOf,
} from './keys.ts'
import { former, nobodyHoldsTheOld as nobodyHolds } from './needed.ts'
import { signingWith, withKey, withoutKeys } from './pem.ts'

type Needs = OnCluster<BackupVariables>

/** Fails where an API server names no file to verify tokens by, or does not know who comes by a token of now. */
export const verifiable: StepDefinition<Needs> = {
  ...{ readOnly: true, runOnce: true },
  when: aboutTokens,
  run: async ctx => {
    const { files } = stateOf(ctx)
    for (const { name } of apiServerHosts(ctx)) {
      if (files[name]?.some(({ signs, component }) => !signs && component === 'kube-apiserver')) continue
      throw new HostFailedError(`the API server of ${name} names no file to verify tokens by`, {
        code: 'keysets.none',
        host: name,
        hint: 'Give it --service-account-key-file first: without, it goes by its serving key.',
      })
    }
    await currentKnown(ctx)
  },
}

/** The steps, whose way back is refused where something else has come since. */
function undoneIf(
  steps: Rewritten<Needs>,
  inTheWay: (ctx: Needs) => Promise<string | undefined>,
  hint = 'Was another stage run since? Undo that first.',
): Rewritten<Needs> {
  const { rollback } = steps.placed
  const refusing = async (ctx: Needs) => {
    const why = await inTheWay(ctx)
    if (why !== undefined) {
      throw new HostFailedError(`${ctx.host.name} can't go back: ${why}`, {
        code: 'rollback.changed',
        host: ctx.host.name,
        hint,
      })
    }
    await rollback?.(ctx)
  }
  return { ...steps, placed: { ...steps.placed, rollback: refusing } }
}

// Staging: the new key stands behind those that tokens are verified by.

/** Makes the key that is to follow; on the way back it goes, once no API server knows it. */
export const make: StepDefinition<Needs> = {
  ...makePair,
  rollback: async ctx => {
    const made = ctx.registered<ReturnType<typeof madeKey>>(makePair.id ?? '')
    const isNew = made && !stateOf(ctx).items.some(({ key }) => key === made.key)
    if (isNew && (await keptKey(ctx, made).catch(() => undefined))) await refusedEverywhere(ctx, [made])
    await makePair.rollback?.(ctx)
  },
}

const adding = rewritten<Needs>(
  (ctx, { isLast, where }, text) => (isLast ? withKey(text, madeKey(ctx).publicKey, where) : text),
  ({ isLast, path }) => (isLast ? `${path}: the new key behind the others` : undefined),
)

/** The new key behind the others; it goes again only while nobody signs with it, or holds what it signed. */
export const staged = undoneIf(
  adding,
  async ctx => {
    const { id, key } = madeKey(ctx)
    const unread: string[] = []
    const { files } = await tokenKeysOfHost(ctx, layoutOf(ctx), text => unread.push(text))
    const all = await everyToken(ctx)
    const { tokens } = all
    const users = [
      ...files.flatMap(file => (file.signs && file.keys[0] === key ? [`${ctx.host.name}:${file.path}`] : [])),
      ...tokens.flatMap(token => (token.key === key ? [token.where] : [])),
    ]
    if (users.length > 0) return `the key ${id} is in use: ${users.slice(0, 5).join(', ')}`
    const missed = [...new Set([...unread, ...all.unread])]
    return missed.length > 0
      ? `whether the key ${id} is in use is not known: ${missed.slice(0, 5).join('; ')}`
      : undefined
  },
  'Was another stage run since? Undo that first. Whoever holds what it signed is to get another token: users of a Secret by the first one, pods by a restart, a network plugin by that of calico-node.',
)

/** An API server that was started anew knows tokens of the new key, and those that it signs itself. */
export const stagedSeen = (ctx: Needs, session: Pick<HostSession, 'host'>): Promise<void> =>
  seenOn(ctx, session, () => ({ knows: [madeKey(ctx)] }))

/** Each API server publishes the new key, and knows who comes by a token of it. */
export const stagedKnown = gate<Needs>(async ctx => {
  await publishedEverywhere(ctx, madeKey(ctx))
  await knownEverywhere(ctx, [madeKey(ctx)])
})

// Promotion: the new key signs.

/** Fails where an API server does not know the key that is to be promoted. */
export const nextKnown = gate<Needs>(async ctx => {
  const next = nextKey(ctx)
  const { files, name } = stateOf(ctx)
  const behind = Object.entries(files).flatMap(([host, all]) => {
    const verifying = all.filter(({ signs }) => !signs)
    return verifying.length === 0 || verifying.some(({ keys }) => keys.includes(next.key)) ? [] : [host]
  })
  if (behind.length > 0) {
    throw new HostFailedError(`${next.id} of ${name} is not staged everywhere: ${behind.join(', ')} lacks it`, {
      code: 'keysets.behind',
      hint: 'Run stage-keysets again: it goes on where it is missing.',
    })
  }
  await publishedEverywhere(ctx, next)
  await knownEverywhere(ctx, [next])
})

const signing = rewritten<Needs>(
  async (ctx, { signs, verifies, where }, text) =>
    signs ? signingWith(text, await privateHalf(ctx, await keptKey(ctx, nextKey(ctx))), verifies, where) : text,
  ({ signs, path }) => (signs ? `${path}: the new key, to sign with` : undefined),
)

/** The new key to sign; the old one is kept before that. */
export const promoted: typeof signing = {
  ...undoneIf(signing, async ctx => {
    const { files } = await tokenKeysOfHost(ctx, layoutOf(ctx), () => {})
    const verifying = files.filter(({ signs }) => !signs)
    const { id, key } = primaryOf(stateOf(ctx))
    if (verifying.length === 0) return undefined
    const known = verifying.flatMap(({ keys }) => keys)
    // Where nothing could be read, nobody knows.
    if (known.length === 0) return `by which keys ${ctx.host.name} verifies tokens is not known`
    return known.includes(key) ? undefined : `${ctx.host.name} trusts the key ${id} no more`
  }),
  prepared: {
    ...signing.prepared,
    plan: async ctx => [
      ...keepOld.plan(ctx),
      ...[await signing.prepared.plan?.(ctx)].flat().filter(one => one !== undefined),
    ],
    run: async ctx => {
      await keepOld.run(ctx)
      return signing.prepared.run(ctx)
    },
    rollback: async ctx => {
      await signing.prepared.rollback?.(ctx)
      await keepOld.rollback(ctx)
    },
  },
}

/** An API server that was started anew signs with the new key, and knows tokens of the old one. */
export const promotedSeen = (ctx: Needs, session: Pick<HostSession, 'host'>): Promise<void> =>
  seenOn(ctx, session, () => ({ signs: nextKey(ctx), knows: before(ctx) }))

/** Each API server signs with the new key, and knows who comes by tokens of the old one still. */
export const promotedSigns = gate<Needs>(async ctx => {
  await signedEverywhere(ctx, nextKey(ctx))
  await knownEverywhere(ctx, before(ctx))
})

// Distrust: the old key goes.

export { podsHaveRead } from './needed.ts'

const signers = restartsAfter([promoted.changes])

/** Fails where there is nothing to distrust, or something signs with the old key still, or somebody holds a token of it (`needed.ts`). */
export const nobodyHoldsTheOld: typeof nobodyHolds = {
  ...nobodyHolds,
  run: async ctx => {
    if (former(ctx).length > 0) await requireNewSigners(ctx)
    await nobodyHolds.run(ctx)
  },
}

/** Fails where an API server or controller-manager runs since before the key that signs was put into its file: it signs with what it read. */
async function requireNewSigners(ctx: Needs): Promise<void> {
  const signing = ctx.hosts(masters).filter(({ name }) => stateOf(ctx).files[name]?.some(({ signs }) => signs))
  const due = await Promise.all(
    signing.map(async host => (await signers.due(ctx, host)).map(component => `${component} of ${host.name}`)),
  )
  if (due.flat().length === 0) return
  throw new HostFailedError(`they would sign with the old key, or don't run: ${due.flat().join(', ')}`, {
    code: 'keysets.behind',
    hint: 'Run promote-keysets again: it restarts what was started before the key that signs was put into its file.',
  })
}

/** Each API server signs with the key that is to stay alone, and knows who comes by its tokens. */
export const primaryKnown = gate<Needs>(async ctx => {
  await signedEverywhere(ctx, primaryOf(stateOf(ctx)))
  await knownEverywhere(ctx, [primaryOf(stateOf(ctx))])
})

const taking = rewritten<Needs>(
  async (ctx, { verifies, where }, text) => {
    const gone = former(ctx).map(({ key }) => key)
    return verifies ? withoutKeys(text, gone, await primaryHere(ctx), where) : text
  },
  ({ verifies, path }) => (verifies ? `${path}: the key alone that signs` : undefined),
)

/** The old key goes; it comes back only while masters keep it. */
export const distrusted = undoneIf(
  taking,
  async ctx => {
    const kept = await keptTokenKeys(ctx)
    const gone = former(ctx).filter(({ key }) => !kept.some(one => one.key === key && one.hosts.length > 0))
    return gone.length > 0 ? `masters keep nothing of ${gone.map(({ id }) => id).join(', ')} any more` : undefined
  },
  finishedHint,
)

/** Changes nothing on the way there; on the way back, once the files are what they were, each API server is seen to know the old key again. */
export const noteFormer = onTheWayBack<Needs>(
  'note-the-old-token-key',
  ctx => knownEverywhere(ctx, former(ctx)),
  aboutTokens,
)

/** An API server that was started anew refuses tokens of the old key, and knows those of the new one. */
export const distrustedSeen = (ctx: Needs, session: Pick<HostSession, 'host'>): Promise<void> =>
  seenOn(ctx, session, () => ({ signs: primaryOf(stateOf(ctx)), refuses: former(ctx) }))

/** Each API server refuses a token that is signed with the old key now, and knows those of the new one. */
export const formerRefused = gate<Needs>(async ctx => {
  await refusedEverywhere(ctx, former(ctx))
  await knownEverywhere(ctx, [primaryOf(stateOf(ctx))])
})

// The end.

export { noteTrusted, trusted, trustedKnown, trustedSeen } from './again.ts'

/** Each API server refuses what is signed now with a key that is to be destroyed: the last time that it can be tried. */
export const forgottenRefused: StepDefinition<Needs> = {
  ...gate<Needs>(ctx => refusedEverywhere(ctx, forgottenOf(stateOf(ctx)))),
  remember: true,
}
