// What a rotation of keysets through all of its stages has beside those: where it stops, and how long it waits before nobody trusts the old.
import { z } from 'zod'
import { waitFor } from '../../../operations/wait.ts'
import { duration, formatDuration } from '../../../playbook/duration.ts'
import type { Play, PlayItem, ReportSection, RunContext, StepContext, StepDefinition } from '../../../playbook/model.ts'
import type { Looking } from '../../given/found.ts'
import { lookAround, probesTitle } from '../beginning.ts'
import { stagedIn } from '../issuers.ts'
import { reportOf } from '../report.ts'
import { everyKeyset, formerOf, type Key, type KeysetState, type TokenKeys } from '../state.ts'

/** How far a rotation may go, in order. */
const ends = ['staged', 'promoted', 'distrusted'] as const

type End = (typeof ends)[number]

export const variables = {
  /** After which stage it ends. */
  until: z.enum(ends).default('distrusted'),
  /** How long both are trusted, and the new one signs, before the old one is distrusted. */
  soak: duration.default(0),
}

type Variables = z.output<z.ZodObject<typeof variables>>

type Asking = Pick<StepContext<Variables>, 'vars' | 'check'>

/**
 * Whether a run goes on to a stage. A check looks at the first alone: what the others would do hangs on what that has done.
 */
export const goesOnTo =
  (end: End) =>
  ({ vars, check }: Asking): boolean =>
    !check && ends.indexOf(end) <= ends.indexOf(vars.until)

/** The plays of a stage but the one that begins to ask the API: it has been asked since the first stage. */
export const withoutProbes = <In>(plays: readonly Play<In>[]): Play<In>[] =>
  plays.filter(({ title }) => title !== probesTitle)

/**
 * The plays of the first stage, for a run that may find a rotation that rests after its promotion: then nothing is staged, and what was promoted
 * is promoted to its end.
 */
export function unlessPromoted<In extends Looking>(plays: readonly Play<In>[]): Play<In & Asking>[] {
  const always = new Set([...lookAround.map(({ title }) => title), probesTitle])
  return plays.map(play => {
    if (always.has(play.title)) return play
    const steps = play.steps.map(
      ({ when, ...item }): PlayItem<In & Asking> => ({
        ...item,
        when: ctx => !restsPromoted(ctx) && (when?.(ctx) ?? true),
      }),
    )
    return { ...play, steps }
  })
}

/** Whether each keyset has an old CA that is trusted still, and none that is staged, and the run is to go further than that. */
function restsPromoted(ctx: Looking & Asking): boolean {
  const isStaged = (state: KeysetState | TokenKeys) =>
    'authority' in state ? stagedIn(state) !== undefined : state.items.some(item => item.state === 'staged')
  const rests = everyKeyset(ctx).every(state => formerOf<Key>(state).length > 0 && !isStaged(state))
  return rests && ctx.vars.until !== 'staged'
}

/** The play between two stages. */
export const betweenTitle = 'Between promotion and distrust'

const promotedStep = 'note-when-it-was-promoted'

/** Registers when the promotion had ended: a run that is gone on with waits no longer for it. */
export const notePromoted: StepDefinition<StepContext<Variables>> = {
  id: promotedStep,
  ...{ readOnly: true, remember: true, runOnce: true },
  when: goesOnTo('distrusted'),
  run: () => Date.now(),
}

/** Waits until it has soaked for as long as it is to. It may be interrupted, and gone on with by `rekey resume`. */
export const soak: StepDefinition<StepContext<Variables>> = {
  ...{ readOnly: true, runOnce: true },
  when: ctx => goesOnTo('distrusted')(ctx) && ctx.vars.soak > 0,
  run: async ctx => {
    const { signal } = ctx
    const until = (ctx.registered<number>(promotedStep) ?? Date.now()) + ctx.vars.soak
    ctx.log(`until ${new Date(until).toISOString()}; Ctrl-C, and rekey resume go on with it later`)
    const left = Math.max(0, until - Date.now())
    // A little more than what is waited for: it ends by the clock.
    const within = left + 60_000
    await waitFor(
      `${formatDuration(ctx.vars.soak)} to be over`,
      { within, every: 1_000, signal },
      async () => Date.now() >= until,
    )
  },
}

/** How long each stage of a run took, what lies between two of them apart. */
export function stageTimes({ timeline }: Pick<RunContext, 'timeline'>): ReportSection {
  const stageOf = (title: string) => /^(Promote|Distrust): /.exec(title)?.[1]?.toLowerCase() ?? 'stage'
  const own = timeline.plays.filter(({ title }) => title !== betweenTitle)
  const sums = [...Map.groupBy(own, ({ title }) => stageOf(title))].map(
    ([stage, all]) => [stage, all.reduce((sum, { milliseconds }) => sum + milliseconds, 0)] as const,
  )
  return { title: 'Stages', rows: sums.map(([stage, milliseconds]) => [stage, formatDuration(milliseconds)]) }
}

/** The report of the run. */
export const report = async (
  ctx: Parameters<ReturnType<typeof reportOf>>[0] & { readonly vars: Variables },
): Promise<ReportSection[]> => (ctx.check ? [] : [stageTimes(ctx), ...(await reportOf(ctx.vars.until)(ctx))])
