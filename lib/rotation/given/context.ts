// The contexts of steps: what a run's services give, each for those that need it.
import type { Cluster } from '../../kubernetes/api/cluster.ts'
import type { StepContext } from '../../playbook/model.ts'

/** A step on a host of any run. */
export type OnHost<Vars = unknown> = StepContext<Vars>

/** A step of a run that has the cluster open. */
export type OnCluster<Vars = unknown> = StepContext<Vars> & { readonly cluster: Cluster }

/** For what waits for, or looks at, what was changed before it: in a check there is nothing to look at. */
export const afterwards = {
  readOnly: true,
  when: ({ check }: { readonly check: boolean }) => !check,
} as const

/** Milliseconds. */
export const seconds = (count: number) => count * 1_000

/** The way back of a step that leaves nothing behind. */
export const nothing = () => {}
