// What each stage makes of the keysets: which CAs it is about, what files hold after it, what must be so before it may begin.
import { HostFailedError } from '../../errors.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Mounts } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { archiveOf } from '../backup.ts'
import { type Variables as ConditionVariables, isAccepted } from '../conditions.ts'
import type { OnCluster, OnHost } from '../given/context.ts'
import { isAbsent } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import type { Variables as DrainVariables } from '../restart/drained.ts'
import { bundles, bundlesOf, type Wanted } from './bundles.ts'
import type { WithVisitors } from './credentials.ts'
import * as gates from './gates.ts'
import { madeItem, nextOf } from './issuers.ts'
import { finishedHint, keptAuthorities } from './kept.ts'
import { everyKeyFile, holdingKeyOf, keyFilesBeside } from './key-files.ts'
import { before, nextFirst } from './leaves.ts'
import { formerOf, type Item, type KeysetState, primaryOf, statesOf } from './state.ts'
import * as tokens from './tokens/stages.ts'
import { anchored } from './trust/anchors.ts'
import { asCanary, type Variables as CanaryVariables, outdated } from './trust/canary.ts'
import { heldOnMasters, takenBack, tightened } from './trust/client-trust.ts'
import { bundlesBy, restartsAfter } from './trust/restarts.ts'
import { requireComing, requireFormer } from './which/standing.ts'

/** What stages need. */
export type Needs = OnCluster<Mounts & BackupVariables> & WithVault & WithVisitors

type Drains = Needs & OnCluster<DrainVariables>

export const without = (held: readonly string[], items: readonly Pick<Item, 'key'>[]) =>
  held.filter(pem => !items.some(({ key }) => key === publicKeyOf(pem)))

// Staging: the new CA stands behind those that are trusted.

const staged = (ctx: Needs, { authority }: KeysetState) => [madeItem(ctx, authority)]
export const withStaged: Wanted<Needs> = (ctx, state, held) => {
  const made = staged(ctx, state)
  return [...held, ...made.filter(({ key }) => !held.some(pem => publicKeyOf(pem) === key)).map(one => one.certificate)]
}

export { mayStage } from './which/standing.ts'

/** Of these, those that no file held before the run: where it was run again for a host that was behind, the others stay. */
const newlyStaged = (ctx: Needs, state: KeysetState) =>
  staged(ctx, state).filter(({ key }) => !heldAnywhere(state).some(pem => publicKeyOf(pem) === key))

const heldAnywhere = ({ bundles: held }: KeysetState) =>
  Object.values(held).flatMap(files => Object.values(files).flat())

/** Whom others are told to trust: taken back with the stage. */
export const noteStaged = takenBack<Needs>(newlyStaged, ctx =>
  gates.refusedEverywhere(ctx, gates.clientsOf(ctx, newlyStaged)),
)
/** The new CA beside the old one in every file of a host that trusts the keyset. */
export const stage = bundles<Needs>('trust-the-new-cas', withStaged, ctx =>
  gates.refusedOnHost(ctx, gates.clientsOf(ctx, staged)),
)
/** Machines that trust a CA of the keyset in all they do trust the new one, too. */
export const stageAnchors = anchored<Needs>('have-machines-trust-the-new-cas', (ctx, state, held) => [
  ...held.map(certificate => ({ certificate })),
  ...staged(ctx, state),
])
/** What goes by these files without reading them again. */
export const stageRestarts = restartsAfter<Drains>(
  [bundlesBy('trust-the-new-cas'), tokens.staged.changes],
  async (ctx, session) => {
    await gates.acceptedSinceRestart(ctx, session, gates.clientsOf(ctx, staged))
    await tokens.stagedSeen(ctx, session)
  },
)
/** A host's servers let in a client of the new CA. */
export const stagedLetIn = gates.letsIn<Needs>(staged)
/** Every server does. */
export const stagedEverywhere = gates.allLetIn<Needs>(staged)

// Promotion: the new CA signs, and stands before the old one.

const next = (_: Needs, state: KeysetState) => [nextOf(state)]

/** The files that trust a keyset and hold these, `HOST:PATH`. */
const filesThat = ({ bundles: all }: KeysetState, holds: (keys: readonly (string | undefined)[]) => boolean) =>
  Object.entries(all).flatMap(([host, files]) =>
    Object.entries(files).flatMap(([path, held]) => (holds(held.map(publicKeyOf)) ? [`${host}:${path}`] : [])),
  )

const asOnOthers =
  'A machine has joined since, or somebody has put an earlier file back: have it hold what the same file of another host holds, and begin anew.'

/** Fails where a file lacks the CA that is to be promoted: its host was away when it was staged, or has come since. */
export const noneBehind: StepDefinition<Needs> = {
  readOnly: true,
  runOnce: true,
  remember: true,
  run: ctx => {
    requireComing(ctx)
    for (const state of statesOf(ctx)) {
      const { key, id, state: now } = nextOf(state)
      const behind = filesThat(state, keys => !keys.includes(key))
      if (behind.length === 0) continue
      throw new HostFailedError(`${id} of ${state.name} is not staged everywhere: ${behind.join(', ')} lacks it`, {
        code: 'keysets.behind',
        // Once it is promoted, in part or as a whole, nothing can be staged.
        hint: now === 'staged' ? 'Run stage-keysets again: it goes on where it is missing.' : asOnOthers,
      })
    }
  },
}

/** Fails where something goes by what its files held before they were staged: it would not believe what the new CA signs. */
export const allGoByStaged: StepDefinition<Needs> = {
  readOnly: true,
  runOnce: true,
  remember: true,
  // One that was broken off has put the new CA first since, which changes files, and nobody's trust.
  when: ctx => statesOf(ctx).some(state => nextOf(state).state === 'staged'),
  run: async ctx => {
    const behind = await Promise.all(
      ctx.hosts(everyMachine).map(async host => {
        if (isAbsent(ctx, host.name)) return []
        const due = await stageRestarts.due(ctx, host)
        return due.map(component => `${component} of ${host.name}`)
      }),
    )
    if (behind.flat().length === 0) return
    throw new HostFailedError(`started before the new CAs were put into their files: ${behind.flat().join(', ')}`, {
      code: 'keysets.behind',
      hint: 'Run stage-keysets again: it restarts them.',
    })
  },
}

/** Every server lets in clients of the CA that is to be promoted. */
export const nextEverywhere = gates.allLetIn<Needs>(next)
/** The new CA before the others in every file of a host that trusts the keyset. */
export const reorder = bundles<Needs>(
  'put-the-new-cas-first',
  (_, state, held) => nextFirst(state, held),
  async () => {},
)
/** A host's servers still let in its clients. */
export const nextLetIn = gates.letsIn<Needs>(next)

/** Takes the keys of old CAs away from beside the files of the new ones, which they don't fit; they are kept with the old CAs. */
export const oldKeysGone: StepDefinition<Needs> = {
  id: 'take-the-old-keys-away',
  when: ctx => bundlesOf(ctx).length > 0,
  plan: ctx => everyKeyFile(ctx).map(path => `rm ${path}, where it is there, and an old CA's key`),
  check: async ctx => (await oldKeyFiles(ctx)).length === 0,
  run: async ctx => {
    const gone = await oldKeyFiles(ctx)
    await ctx.$`rm -f ${gone}`
    if (gone.length > 0) ctx.log(`rm ${gone.join(' ')}`)
  },
  rollback: async ctx => {
    // What is there was not taken away, or somebody has put it there since.
    const there = await Promise.all(everyKeyFile(ctx).map(async path => ((await ctx.files.exists(path)) ? [] : [path])))
    await restoreFiles(ctx, ctx.run, archiveOf(ctx), there.flat())
  },
}

/** Those files of a host that hold the key of a CA that is followed by the new one. */
const oldKeyFiles = async (ctx: OnHost): Promise<string[]> => {
  const found = statesOf(ctx).map(state => holdingKeyOf(ctx, keyFilesBeside(ctx, state), before(state)))
  return (await Promise.all(found)).flat()
}

// Distrust: the old CA goes.

const former = (_: Needs, state: KeysetState) => formerOf(state)
const withoutFormer: Wanted<Needs> = (_, state, held) => without(held, formerOf(state))
const primary = (_: Needs, state: KeysetState) => [primaryOf(state)]

/** Fails where there is nothing to distrust, or somebody still signs with the old CA, or has what it signed, and it was not accepted by name. */
export const nobodyNeedsTheOld: StepDefinition<Needs & OnCluster<ConditionVariables>> = {
  readOnly: true,
  runOnce: true,
  remember: true,
  run: ctx => {
    requireFormer(ctx)
    const left: string[] = []
    for (const state of statesOf(ctx)) {
      const old = formerOf(state)
      for (const { where, key } of state.uses) {
        if (!old.some(one => one.key === key)) continue
        const name = `certificate/${where}`
        if (isAccepted(ctx, name)) ctx.log(`${where} is of the old CA, and will be refused: accepted`)
        else left.push(name)
      }
      const signers = state.signers?.filter(({ key }) => old.some(one => one.key === key)) ?? []
      if (signers.length > 0) {
        throw new HostFailedError(
          `controller-managers sign with the old CA of ${state.name}: ${signers.map(({ where }) => where).join(', ')}`,
          {
            code: 'keysets.other-signer',
            hint: 'Run promote-keysets again: it has them sign with the one that follows.',
          },
        )
      }
      if (state.unread.length === 0 || isAccepted(ctx, 'certificate/unread')) continue
      throw new HostFailedError(
        `who has a certificate of the old CA of ${state.name} is not known: ${state.unread.join('; ')}`,
        {
          code: 'keysets.unread',
          hint: 'Have it readable, and begin again; or let it be: accept: [certificate/unread].',
        },
      )
    }
    if (left.length === 0) return
    throw new HostFailedError(
      `certificates of the old CA that would be refused: ${left.map(name => name.replace('certificate/', '')).join(', ')}`,
      {
        code: 'keysets.old-in-use',
        hint: `Have them made anew (promote-keysets makes those that components name), or remove them; or let them be refused: accept: [${left.join(', ')}].`,
      },
    )
  },
}

/** Fails where a file has an old CA and not the one that signs: it would be left without any, or with others alone. */
export const noneHasTheOldAlone: StepDefinition<Needs> = {
  readOnly: true,
  runOnce: true,
  remember: true,
  run: ctx => {
    for (const state of statesOf(ctx)) {
      const { key, id } = primaryOf(state)
      const old = formerOf(state)
      const alone = filesThat(state, keys => !keys.includes(key) && old.some(one => keys.includes(one.key)))
      if (alone.length === 0) continue
      throw new HostFailedError(`${id} of ${state.name} is not trusted everywhere: ${alone.join(', ')} lacks it`, {
        code: 'keysets.behind',
        hint: asOnOthers,
      })
    }
  },
}

/** Every server lets in clients of the CA that signs. */
export const primaryEverywhere = gates.allLetIn<Needs>(primary)
/** Whom others are told to trust: on the way back, until they trust the old CA again. */
export const noteFormer = takenBack<Needs>(
  () => [],
  ctx => gates.acceptedEverywhere(ctx, gates.oldOf(ctx, former)),
)
type Watched = Needs & OnCluster<CanaryVariables & ConditionVariables>

/** The old CA out of every file of a host that trusts the keyset; the first API server is a canary. */
export const distrust: StepDefinition<Watched> = asCanary<Watched>(
  bundles<Needs>(
    'distrust-the-old-cas',
    withoutFormer,
    ctx => gates.acceptedOnHost(ctx, gates.oldOf(ctx, former)),
    stillKept,
  ),
  outdated,
)

/** Machines that trusted the old CA in all they do trust the one that signs, alone. */
export const distrustAnchors = anchored<Needs>('have-machines-distrust-the-old-cas', (ctx, state) =>
  primary(ctx, state),
)

/** Fails where masters kept an old CA and do not any more: nobody could see whether servers let in again what it signed. */
async function stillKept(ctx: Needs): Promise<void> {
  for (const state of statesOf(ctx)) {
    const known = formerOf(state).filter(({ kept }) => kept)
    const now = known.length > 0 ? (await keptAuthorities(ctx, state.name)).map(publicKeyOf) : []
    const gone = known.filter(({ key }) => !now.includes(key)).map(({ id }) => id)
    if (gone.length === 0) continue
    throw new HostFailedError(
      `${ctx.host.name} can't go back: masters keep nothing of ${gone.join(', ')} of ${state.name} any more`,
      { code: 'rollback.changed', host: ctx.host.name, hint: finishedHint },
    )
  }
}

/** What goes by these files without reading them again. */
export const distrustRestarts = restartsAfter<Drains>(
  [bundlesBy('distrust-the-old-cas'), tokens.distrusted.changes],
  async (ctx, session) => {
    await gates.acceptedSinceRestart(ctx, session, gates.clientsOf(ctx, primary))
    await gates.refusedSinceRestart(ctx, session, gates.oldOf(ctx, former))
    await tokens.distrustedSeen(ctx, session)
  },
)
export const primaryLetIn = gates.letsIn<Needs>(primary)
export const formerRefused = gates.refuses<Needs>(former)
export const untold = tightened<Needs>((ctx, state) => ({
  next: without(heldOnMasters(ctx, state), formerOf(state)),
  gone: formerOf(state),
}))
export const formerRefusedEverywhere = gates.allRefuse<Needs>(former)
