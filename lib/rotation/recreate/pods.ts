// Every pod replaced, once tokens were written anew: all that were there before hold tokens that nobody accepts any more.
import {
  type NotedPods,
  networkWorkloads,
  podsOfNow,
  type Replaced,
  type Replacing,
  replaceFirst,
  replacePods,
} from '../../kubernetes/replaced-pods.ts'
import type { Workload } from '../../kubernetes/workloads.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { afterwards, beforehand, type OnCluster } from '../given/context.ts'
import type { Looking } from '../given/found.ts'
import { podsWithin } from '../verify.ts'
import type { Variables } from './given.ts'

type Needs = OnCluster<Pick<Variables, 'wait'>>

const replacing = (ctx: Needs): Replacing => ({
  ask: async work => work(await ctx.cluster.api()),
  signal: ctx.signal,
  within: ctx.vars.wait,
  log: line => ctx.log(line),
})

const networkStep = 'note-the-pod-network'

/** Registers what pods are connected by and is well before the first change: that is replaced first, and waited for. */
export const noteNetwork: StepDefinition<Needs> = {
  ...{ ...beforehand, id: networkStep, runOnce: true },
  run: async ctx => networkWorkloads(await ctx.cluster.api()),
}

/** The steps that follow tokens written anew, in their order; on the way back their ids end in `back`. */
function stepsOf(back = ''): Record<'note' | 'network' | 'others', StepDefinition<Needs>> {
  const noteId = `note-the-pods${back}`
  const noted = (ctx: Needs) => ctx.registered<NotedPods>(noteId) ?? { uids: [] }
  return {
    note: {
      ...{ ...afterwards, id: noteId, remember: true, runOnce: true },
      run: ctx => podsOfNow(replacing(ctx)),
    },
    network: {
      ...{ id: `replace-the-pod-network${back}`, runOnce: true },
      plan: () => 'delete the pods of DaemonSets of kube-system on the machines’ network',
      run: ctx => replaceFirst(replacing(ctx), noted(ctx), ctx.registered<Workload[]>(networkStep) ?? []),
    },
    others: {
      ...{ id: `replace-every-other-pod${back}`, runOnce: true },
      plan: () => 'delete every other pod of every namespace that somebody makes anew',
      run: ctx => replacePods(replacing(ctx), noted(ctx)),
    },
  }
}

export const { note, network, others } = stepsOf()

/** Pods that stay although their tokens are refused; nothing where none were replaced yet. */
export const leftOf = (ctx: Looking): readonly string[] => ctx.registered<Replaced>(others.id ?? '')?.left ?? []

/** The same on the way back. */
export const back = stepsOf('-back')

/** Waits until every pod that was well before the first change is so again; registers what is not, and was not. */
export const asBefore = podsWithin((ctx: Needs) => ctx.vars.wait)
