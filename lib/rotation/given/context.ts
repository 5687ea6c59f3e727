// The contexts of steps: what a run's services give, each for those that need it.
import type { Cluster } from '../../kubernetes/api/cluster.ts'
import type { StepContext, StepDefinition } from '../../playbook/model.ts'

/** A step on a host of any run. */
export type OnHost<Vars = unknown> = StepContext<Vars>

/** A step of a run that has the cluster open. */
export type OnCluster<Vars = unknown> = StepContext<Vars> & { readonly cluster: Cluster }

/** For what waits for, or looks at, what was changed before it: in a check there is nothing to look at. */
export const afterwards = {
  readOnly: true,
  when: ({ check }: { readonly check: boolean }) => !check,
} as const

/** A step that is left out where this is not so; where it is, as the step itself says. */
export function where<Context>(
  is: (ctx: Context) => boolean,
  definition: StepDefinition<Context>,
): StepDefinition<Context> {
  return { ...definition, when: async ctx => is(ctx) && ((await definition.when?.(ctx)) ?? true) }
}

/** The milestone of a run from which on nothing is as it was. */
export const firstChange = 'first change'

/**
 * For what is noted before the first change: a run that is gone on with takes it from the journal. Where that has nothing, since the run
 * was begun by a version that did not note it, it is left out once the first change was made: by then it would find something else, or
 * nobody who answers.
 */
export const beforehand = {
  readOnly: true,
  remember: true,
  when: ({ timeline }: Pick<StepContext, 'timeline'>) => !timeline.milestones.has(firstChange),
} as const

/**
 * Does nothing on the way there, and something on the way back once all that stands behind it is undone. It is undone where it was done: so it
 * notes that it was.
 */
export function onTheWayBack<In>(
  id: string,
  rollback: (ctx: In) => void | Promise<void>,
  when: (ctx: In) => boolean | Promise<boolean> = () => true,
): StepDefinition<In> {
  return { id, when, rollback, runOnce: true, plan: () => [], run: () => ({ noted: id }) }
}

/** Milliseconds. */
export const seconds = (count: number) => count * 1_000

/** The way back of a step that leaves nothing behind. */
export const nothing = () => {}
