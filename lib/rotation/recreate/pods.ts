// Every pod replaced, once tokens were written anew: all that were there before hold tokens that nobody accepts any more.
import { type NetworkWorkload, networkWorkloads } from '../../kubernetes/pod-network.ts'
import {
  type NotedPods,
  podsOfNow,
  type Replaced,
  type Replacing,
  replaceNetwork,
  replacePods,
} from '../../kubernetes/replaced-pods.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { afterwards, beforehand, type OnCluster } from '../given/context.ts'
import { conditionsOf, type Looking } from '../given/found.ts'
import { podsWithin } from '../verify.ts'
import type { Variables as WorkloadVariables } from '../workloads.ts'
import type { Variables } from './given.ts'

type Needs = OnCluster<Pick<Variables, 'wait'>>

const replacing = (ctx: Needs): Replacing => ({
  ask: async work => work(await ctx.cluster.api()),
  signal: ctx.signal,
  within: ctx.vars.wait,
  absent: conditionsOf(ctx).absent,
  log: line => ctx.log(line),
})

const networkStep = 'note-the-pod-network'

/** Registers what pods are connected by and is well before the first change: that is replaced first, and waited for. */
export const noteNetwork: StepDefinition<Needs & OnCluster<Pick<WorkloadVariables, 'cni_workloads'>>> = {
  ...{ ...beforehand, id: networkStep, runOnce: true },
  run: async ctx =>
    networkWorkloads(await ctx.cluster.api(), {
      ...{ named: ctx.vars.cni_workloads, absent: conditionsOf(ctx).absent, signal: ctx.signal },
      log: line => ctx.log(line),
    }),
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
      plan: () =>
        'delete the pods of the pod network: what it needs itself, its DaemonSets, then what else cni_workloads names',
      run: ctx => replaceNetwork(replacing(ctx), noted(ctx), ctx.registered<NetworkWorkload[]>(networkStep) ?? []),
    },
    others: {
      ...{ id: `replace-every-other-pod${back}`, runOnce: true },
      plan: () => 'delete every other pod of every namespace that runs and has an owner',
      run: ctx => replacePods(replacing(ctx), noted(ctx)),
    },
  }
}

export const { note, network, others } = stepsOf()

/** The same on the way back. */
export const back = stepsOf('-back')

/** What was replaced last, there or on the way back; nothing where none was yet. */
export const replacedIn = (ctx: Looking): Replaced | undefined =>
  ctx.registered<Replaced>(back.others.id ?? '') ?? ctx.registered<Replaced>(others.id ?? '')

/** Waits until every pod that was well before the first change is so again; registers what is not, and was not. */
export const asBefore = podsWithin((ctx: Needs) => ctx.vars.wait)
