// kOps' verbs on a keyset: create, promote, distrust, trust. Each by the key pair's id, and each seen in the state store afterwards: kops ends
// with 0 also where it did nothing.
import { HostFailedError } from '../errors.ts'
import { type Step, type StepDefinition, step } from '../playbook/model.ts'
import { kops } from './asked/command.ts'
import { isYounger, type Keyset, knownKeysets, readKeyset } from './asked/keypairs.ts'
import { goesOnTo, type Rotation } from './context.ts'
import { noteWhoHasIt } from './due.ts'
import { type Planned, planned } from './plan.ts'

/** A step for each keyset that there may be; those that the cluster does not have, or that are not rotated, are left out when it comes. */
export const each = (title: string, of: (keyset: string) => StepDefinition<Rotation>): Step<Rotation>[] =>
  knownKeysets.map(keyset => step(`${title} ${keyset}`, of(keyset)))

/** The key pairs that a rotation has made: trusted, and younger than all that there were. */
const madeOf = (set: Keyset, former: readonly string[]): string[] =>
  [...set.older, set.primary, ...set.newer].filter(id => former.every(old => isYounger(id, old)))

const formerOf = (ctx: Rotation, keyset: string) => planned(ctx, keyset)?.former ?? []

/** Whether it is rotated, and stood at one of these when the run began. */
const stoodAt = (ctx: Rotation, keyset: string, ...stages: readonly Planned['stage'][]) => {
  const found = planned(ctx, keyset)
  return found !== undefined && stages.includes(found.stage)
}

const what = (verb: string, keyset: string) => `kops to ${verb} a key pair of ${keyset}`

/** Makes a key pair where there is none that is younger: kops would make another one each time. */
export const create = (keyset: string): StepDefinition<Rotation> => ({
  id: `create-${keyset}`,
  when: ctx => goesOnTo('staged')(ctx) && stoodAt(ctx, keyset, 'resting'),
  check: async ctx => madeOf(await readKeyset(ctx, keyset), formerOf(ctx, keyset)).length > 0,
  plan: () => `kops create keypair ${keyset}`,
  run: async ctx => {
    await kops(ctx, ['create', 'keypair', keyset], { what: what('create', keyset) })
    return { done: true }
  },
  verify: async ctx => {
    const set = await readKeyset(ctx, keyset)
    const former = formerOf(ctx, keyset)
    const made = madeOf(set, former)
    if (made.length === 1) return
    const strange = [...set.older, ...set.newer].filter(id => !former.includes(id) && !made.includes(id))
    throw new HostFailedError(
      made.length > 1
        ? `${keyset} has ${made.length} new key pairs: ${made.join(', ')}`
        : `the new key pair of ${keyset}${strange.length > 0 ? `, ${strange.join(', ')},` : ''} is not younger than its primary ${set.primary}`,
      made.length > 1
        ? { code: 'kops.several-staged', hint: `Distrust all but one by id: kops distrust keypair ${keyset} ID` }
        : {
            code: 'kops.clock',
            hint: `Ids come from this machine’s clock, which is behind the one that made the primary: 'kops promote' and 'kops distrust' would do nothing, and end with 0. Set the clock, distrust that key pair by id (kops distrust keypair ${keyset} ID), and go on.`,
          },
    )
  },
})

/** Has the new key pair sign. */
export const promote = (keyset: string): StepDefinition<Rotation> => ({
  id: `promote-${keyset}`,
  when: ctx => goesOnTo('promoted')(ctx) && stoodAt(ctx, keyset, 'resting', 'staged'),
  check: async ctx => isPromoted(await readKeyset(ctx, keyset), formerOf(ctx, keyset)),
  run: async ctx => {
    const [id, another] = madeOf(await readKeyset(ctx, keyset), formerOf(ctx, keyset))
    if (id === undefined || another !== undefined) {
      throw new HostFailedError(`${keyset} has ${another ? 'more than one' : 'no'} key pair to promote`, {
        code: another ? 'kops.several-staged' : 'kops.nothing-staged',
        hint: another
          ? `Distrust all but one by id: kops distrust keypair ${keyset} ID`
          : 'Somebody distrusted what was staged: look at kops get keypairs --distrusted, and begin anew.',
      })
    }
    await kops(ctx, ['promote', 'keypair', keyset, id], { what: what('promote', keyset) })
    return { done: true, id }
  },
  verify: async ctx => {
    const set = await readKeyset(ctx, keyset)
    if (isPromoted(set, formerOf(ctx, keyset))) return
    throw new HostFailedError(`${keyset} has the primary ${set.primary} still, after it was promoted`, {
      code: 'kops.not-promoted',
      hint: 'kops ends with 0 where it finds nothing younger to promote. See what there is: kops get keypairs --distrusted',
    })
  },
})

const isPromoted = (set: Keyset, former: readonly string[]) =>
  set.newer.length === 0 && madeOf(set, former).includes(set.primary)

/** Ends the trust in every older key pair. */
export const distrust = (keyset: string): StepDefinition<Rotation> => ({
  id: `distrust-${keyset}`,
  when: ctx => goesOnTo('distrusted')(ctx) && stoodAt(ctx, keyset, 'resting', 'staged', 'promoted'),
  check: async ctx => {
    const { primary, older, newer } = await readKeyset(ctx, keyset)
    return older.length + newer.length === 0 && !formerOf(ctx, keyset).includes(primary)
  },
  run: async ctx => {
    const set = await readKeyset(ctx, keyset)
    requireNew(set, formerOf(ctx, keyset))
    const { older } = set
    for (const id of older) await kops(ctx, ['distrust', 'keypair', keyset, id], { what: what('distrust', keyset) })
    return { done: true }
  },
  verify: async ctx => {
    const { older, newer } = await readKeyset(ctx, keyset)
    if (older.length + newer.length === 0) return
    throw new HostFailedError(
      `${keyset} has other trusted key pairs than its primary still: ${[...older, ...newer].join(', ')}`,
      {
        code: 'kops.not-distrusted',
        hint: `Distrust each by id: kops distrust keypair ${keyset} ID`,
      },
    )
  },
})

/**
 * Sees that what signs is none of those of before.
 * @throws HostFailedError where somebody has promoted it back
 */
export function requireNew({ name, primary }: Keyset, former: readonly string[]): void {
  if (!former.includes(primary)) return
  throw new HostFailedError(`${name} has the primary ${primary} again, which was to be distrusted`, {
    code: 'kops.not-promoted',
    hint: 'Somebody promoted it back. Find out why; then rekey rollback, or rekey run rotate-kops anew.',
  })
}

/** The way back of `distrust`: trusts those of before again. */
export const trustAgain = (keyset: string): StepDefinition<Rotation> => ({
  id: `trust-again-${keyset}`,
  when: ctx => stoodAt(ctx, keyset, 'resting', 'staged', 'promoted'),
  run: async ctx => {
    const { distrusted } = await readKeyset(ctx, keyset)
    const former = formerOf(ctx, keyset).filter(id => distrusted.includes(id))
    for (const id of former) await kops(ctx, ['trust', 'keypair', keyset, id], { what: what('trust', keyset) })
  },
  verify: async ctx => {
    const { distrusted } = await readKeyset(ctx, keyset)
    requireNone(
      keyset,
      formerOf(ctx, keyset).filter(id => distrusted.includes(id)),
      'distrusted',
    )
  },
})

/** The way back of `promote`: has the one of before sign again. */
export const promoteFormer = (keyset: string): StepDefinition<Rotation> => ({
  id: `promote-former-${keyset}`,
  when: ctx => stoodAt(ctx, keyset, 'resting', 'staged'),
  run: async ctx => {
    const { primary } = await readKeyset(ctx, keyset)
    const id = formerOf(ctx, keyset).at(-1) ?? primary
    if (id === primary) return
    await noteWhoHasIt(ctx, 'back-promoted')
    await kops(ctx, ['promote', 'keypair', keyset, id], { what: what('promote', keyset) })
  },
  verify: async ctx => {
    const { primary } = await readKeyset(ctx, keyset)
    requireNone(keyset, formerOf(ctx, keyset).includes(primary) ? [] : [primary], 'primary')
  },
})

/** The way back of `create`: distrusts by id whatever is trusted that was not there before. It is younger, and `distrust all` would leave it. */
export const distrustNew = (keyset: string): StepDefinition<Rotation> => ({
  id: `distrust-new-${keyset}`,
  when: ctx => stoodAt(ctx, keyset, 'resting'),
  run: async ctx => {
    const former = formerOf(ctx, keyset)
    const { older, newer } = await readKeyset(ctx, keyset)
    const abandoned = [...older, ...newer].filter(id => !former.includes(id))
    if (abandoned.length > 0) await noteWhoHasIt(ctx, 'back-staged')
    for (const id of abandoned) await kops(ctx, ['distrust', 'keypair', keyset, id], { what: what('distrust', keyset) })
  },
  verify: async ctx => {
    const { older, newer } = await readKeyset(ctx, keyset)
    requireNone(
      keyset,
      [...older, ...newer].filter(id => !formerOf(ctx, keyset).includes(id)),
      'trusted',
    )
  },
})

function requireNone(keyset: string, ids: readonly string[], are: string): void {
  if (ids.length === 0) return
  throw new HostFailedError(`${keyset}: ${ids.join(', ')} ${ids.length === 1 ? 'is' : 'are'} ${are} still`, {
    code: 'kops.not-undone',
    hint: 'See what there is: kops get keypairs --distrusted',
  })
}
