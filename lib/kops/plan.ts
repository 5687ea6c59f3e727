// Which keysets a rotation takes through which stages: noted once, before anything is changed, from how they stand.
import { HostFailedError, RekeyError } from '../errors.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { readInstances } from './asked/instances.ts'
import { type Keyset, knownKeysets, madeAt, readKeysets, type Stage, stageOf } from './asked/keypairs.ts'
import { readPending, refuseForeign } from './asked/pending.ts'
import { type End, ends, goesOnTo, type Rotation } from './context.ts'

/** A keyset that is rotated. */
export interface Planned {
  readonly name: string
  /** Where it stood; `distrusted` where the old ones are, and that waits to be rolled out. */
  readonly stage: Stage | 'distrusted'
  /** The key pairs that are to be distrusted in the end: at the beginning the primary, and whatever is older. */
  readonly former: readonly string[]
}

/** What a run goes by. */
export interface Plan {
  readonly keysets: readonly Planned[]
  /** Those that rest, where others have been promoted: they are through already. */
  readonly through: readonly string[]
  /** Whether instances were behind, or changes pending, as a stage leaves them that was cut off: that stage is brought to its end. */
  readonly unfinished: boolean
}

const planStep = 'read-the-keysets'

/** Notes how the keysets stand. Refuses what was begun and can't be told apart, and changes of others that would be applied on the way. */
export const noteKeysets: StepDefinition<Rotation> = {
  id: planStep,
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const all = await readKeysets(ctx)
    const wanted = wantedOf(ctx.vars.keysets, [...all.keys()])
    const sets = wanted.map(name => all.get(name) as Keyset)
    const stages = new Map(sets.map(set => [set.name, stageOf(set)]))
    for (const { name, primary } of sets) ctx.log(`${name}: ${stages.get(name)}, primary ${primary}`)
    const begun = [...stages.values()].some(stage => stage !== 'resting')
    const unfinished = await wasCutOff(ctx, sets, begun)
    const promoted = sets.filter(({ name }) => stages.get(name) === 'promoted')
    const isThrough = ({ name }: Keyset) => stages.get(name) === 'resting' && promoted.length > 0
    // Those that were promoted beside it, or where the distrust is what is unfinished, anything.
    const since = Math.max(0, ...promoted.map(({ primary }) => madeAt(primary)))
    if (promoted.length > 0 || (unfinished && !begun))
      requireRotated(
        sets.filter(({ name }) => stages.get(name) === 'resting'),
        since,
      )
    const keysets = sets
      .filter(set => !isThrough(set))
      .map(({ name, primary, older, distrusted }): Planned => {
        const stage = stages.get(name) as Stage
        if (unfinished && !begun) return { name, stage: 'distrusted', former: distrusted }
        return { name, stage, former: stage === 'promoted' ? older : [...older, primary] }
      })
    return { keysets, through: sets.filter(isThrough).map(({ name }) => name), unfinished } satisfies Plan
  },
}

/** One that rests beside what was promoted is through only where its old key pairs were distrusted since: those of earlier rotations stay in it. */
function requireRotated(resting: readonly Keyset[], since: number): void {
  const untouched = resting.filter(({ distrustedAt = Number.NEGATIVE_INFINITY }) => !(distrustedAt >= since))
  if (untouched.length === 0) return
  const names = untouched.map(({ name }) => name).join(', ')
  throw new HostFailedError(`${names}: not begun with, where others are further: this rotation is not theirs`, {
    code: 'kops.not-begun',
    hint: `End that of the others first, by their names (-e keysets=…); then rotate these by a run of their own: -e keysets=${names.replaceAll(' ', '')}`,
  })
}

/** Whether what is pending is that of a stage that was cut off; what is anybody else's stops the run. */
async function wasCutOff(ctx: Rotation, sets: readonly Keyset[], begun: boolean): Promise<boolean> {
  const pending = await readPending(ctx)
  const isSaid = ctx.vars.unfinished === 'distrusted'
  // Nobody can tell from a key pair that was distrusted once whether that was rolled out: the operator says so.
  const orElse = sets.some(({ distrusted }) => distrusted.length > 0)
    ? ' Where it is what a rotation left that was cut off once it had distrusted: -e unfinished=distrusted.'
    : ''
  const hint = `Apply them and roll them out first (kops update cluster --yes, kops rolling-update cluster --yes), or take them back; then begin again.${orElse}`
  refuseForeign(ctx, pending, hint, begun || isSaid)
  const behind = (await readInstances(ctx)).filter(({ needsUpdate }) => needsUpdate)
  if (pending.length + behind.length > 0 && (begun || isSaid)) {
    ctx.log(
      `a stage was not brought to its end: ${behind.length} instances are behind, ${pending.length} changes pending`,
    )
    return true
  }
  if (isSaid && !begun) {
    throw new HostFailedError('no distrust is unfinished: nothing is pending, and no instance is behind', {
      code: 'kops.nothing-due',
      hint: 'Leave out -e unfinished=distrusted: then a rotation begins.',
    })
  }
  if (behind.length === 0) return false
  throw new HostFailedError(
    `${behind.length} instances run with another configuration than their groups have: ${behind.map(({ id }) => id).join(', ')}`,
    { code: 'kops.pending', hint },
  )
}

function wantedOf(said: string, there: readonly string[]): string[] {
  const known = new Set<string>(knownKeysets)
  const names = said === 'all' ? there : said.split(',').map(name => name.trim())
  const unknown = names.filter(name => !there.includes(name) || !known.has(name))
  if (unknown.length === 0 && names.length > 0) return [...new Set(names)].sort()
  throw new RekeyError(`there is no keyset ${unknown.join(', ')} that rekey rotates in this cluster`, {
    code: 'kops.no-keyset',
    hint: `It has: ${there.filter(name => known.has(name)).join(', ') || 'none'}. Name them with -e keysets=….`,
  })
}

/** What the run noted. Throws where it has not, as with --start-at-step. */
export function planOf(ctx: Pick<Rotation, 'registered'>): Plan {
  const plan = ctx.registered<Plan>(planStep)
  if (plan) return plan
  throw new HostFailedError('the run has not read the keysets', {
    code: 'kops.no-plan',
    hint: `Its step '${planStep}' can't be left out.`,
  })
}

/** A keyset of the plan, or undefined where it is none. */
export const planned = (ctx: Pick<Rotation, 'registered'>, name: string): Planned | undefined =>
  planOf(ctx).keysets.find(one => one.name === name)

const order = ['resting', ...ends]

/** Whether a run goes through a stage: some keyset has not come to it, or it was cut off there. */
export function passes(ctx: Pick<Rotation, 'registered' | 'vars' | 'check'>, end: End): boolean {
  if (!goesOnTo(end)(ctx)) return false
  const { keysets, unfinished } = planOf(ctx)
  return keysets.some(({ stage }) => order.indexOf(stage) < order.indexOf(end) || (unfinished && stage === end))
}

/** Whether the CA that users of the API go by is among those that are rotated. */
export const isAboutUsers = (ctx: Pick<Rotation, 'registered'>): boolean => planned(ctx, 'kubernetes-ca') !== undefined
