// Pods that hold the CAs of before in memory: made anew where something does that, workload by workload, or named.
import { z } from 'zod'
import { HostFailedError } from '../../../errors.ts'
import { type BehindPod, podsBehind } from '../../../kubernetes/trust/published/pods.ts'
import { type Workload, workloadName } from '../../../kubernetes/workloads.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type Variables as ConditionVariables, isAccepted } from '../../conditions.ts'
import { nothing, type OnCluster, type OnHost } from '../../given/context.ts'
import { conditionsOf } from '../../given/found.ts'
import { coreDns } from '../../workloads.ts'
import { comingIn, madeItem } from '../issuers.ts'
import { clusterKeysetOf } from '../state.ts'
import { reachedPodsAt } from './new-keys.ts'
import { some } from './published.ts'
import { restartEach } from './rollouts.ts'

export const variables = {
  /** Whether pods that hold the CAs of before are made anew; else they are named, and time does it. */
  restart_pods: z.boolean().default(true),
}

type Variables = z.output<z.ZodObject<typeof variables>>
type Needs = OnCluster<Variables & BackupVariables & Mounts>

/** The pods that hold the CAs of before alone. What was published since the new one reached them holds that, too, in whichever order. */
async function behind(ctx: OnCluster<BackupVariables>): Promise<BehindPod[]> {
  const state = clusterKeysetOf(ctx)
  const next = state && comingIn(state)
  const since = next ? await reachedPodsAt(ctx, state, next) : undefined
  return podsBehind(await ctx.cluster.api(), since, ctx.signal)
}

/** When everything that is published had reached every pod, as this run has noted it. */
async function publishedAt(ctx: Needs): Promise<Date | undefined> {
  const state = clusterKeysetOf(ctx)
  return state && reachedPodsAt(ctx, state, madeItem(ctx, state.authority))
}

const isBelieved = (ctx: OnHost) => clusterKeysetOf(ctx) !== undefined

/** Restarts the workloads whose pods were started before what is published had reached them, the cluster's own first. */
export const restartBehind: StepDefinition<Needs> = {
  id: 'restart-the-pods-that-hold-the-cas-of-before',
  runOnce: true,
  when: isBelieved,
  plan: ctx =>
    ctx.vars.restart_pods
      ? 'restart the workloads whose pods were started before, those of the cluster itself one after the other, where their PodDisruptionBudgets let it'
      : 'name the pods that were started before',
  run: async ctx => {
    const pods = await behind(ctx)
    const { dns } = conditionsOf(ctx).workloads
    if (ctx.vars.restart_pods) {
      await restartEach(ctx, workloadsOf(pods), await publishedAt(ctx), async workload => {
        if (!dns || workloadName(dns) !== workloadName(workload)) return false
        await coreDns.run(ctx)
        return true
      })
    }
    const left = ctx.vars.restart_pods ? pods.filter(({ workload, guardedBy }) => !workload || guardedBy) : pods
    for (const pod of left) ctx.log(`${nameOf(pod)} ${why(pod)}`)
  },
  // What they hold is right before the stage and after it.
  rollback: nothing,
}

const nameOf = ({ namespace, name }: BehindPod) => `pod/${namespace}/${name}`

const why = ({ workload, guardedBy }: BehindPod): string => {
  if (guardedBy !== undefined) return `is left alone: ${guardedBy} lets none be away`
  return workload ? 'holds the CAs of before' : 'holds the CAs of before, and nothing makes it anew'
}

/** The workloads of pods, those of the cluster itself first, but for what a budget guards. */
function workloadsOf(pods: readonly BehindPod[]): Workload[] {
  const guarded = new Set(
    pods.flatMap(({ workload, guardedBy }) => (workload && guardedBy ? [workloadName(workload)] : [])),
  )
  const all = new Map(pods.flatMap(({ workload }) => (workload ? [[workloadName(workload), workload]] : [])))
  return [...all.values()]
    .filter(workload => !guarded.has(workloadName(workload)))
    .toSorted((a, b) => Number(b.namespace === 'kube-system') - Number(a.namespace === 'kube-system'))
}

/** Fails where pods hold the CAs of before still, and nobody has accepted that: they would believe no server that has a certificate of the new one. */
export const noneBehind: StepDefinition<OnCluster<ConditionVariables & BackupVariables>> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  when: isBelieved,
  run: async ctx => {
    const pods = await behind(ctx)
    const left = pods.filter(pod => !isAccepted(ctx, nameOf(pod)))
    if (left.length === 0) return
    const names = left.map(nameOf)
    for (const name of names) ctx.log(name)
    throw new HostFailedError(`pods that hold the CAs of before: ${some(names)}`, {
      code: 'keysets.pods-behind',
      hint: `Restart them, or run stage-keysets again; or let them fail: accept: [${names.length > 5 ? 'pod/NAMESPACE/NAME' : names.join(', ')}].${names.length > 5 ? ' The output names all.' : ''}`,
    })
  },
}
