// Who admits pods: refused by name before the first change where it would have to admit itself, else started anew before all others.
import { HostFailedError } from '../../errors.ts'
import { foundAt } from '../../kubernetes/api/api.ts'
import { type PodAdmission, podAdmissions } from '../../kubernetes/before/admission.ts'
import { ownerParts } from '../../kubernetes/before/pods.ts'
import type { Workload } from '../../kubernetes/workloads.ts'
import {
  notRolledOutBut,
  pathOf,
  restartWorkload,
  standsStill,
  workload,
  workloadName,
} from '../../kubernetes/workloads.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Variables as ConditionsVariables, isAccepted } from '../conditions.ts'
import { beforehand, type OnCluster } from '../given/context.ts'
import { conditionsOf } from '../given/found.ts'
import type { Variables } from './given.ts'

const admissionStep = 'note-what-admits-pods'

/** Registers what runs webhooks without which no pod may be started; fails where one is asked about its own pods, and nobody accepted that. */
export const noteAdmission: StepDefinition<OnCluster<ConditionsVariables>> = {
  ...{ ...beforehand, id: admissionStep, runOnce: true },
  run: async (ctx): Promise<Workload[]> => {
    const api = await ctx.cluster.api()
    const found = await podAdmissions(api, ctx.signal)
    const refused = found.filter(({ what, asksForItself }) => asksForItself && !isAccepted(ctx, `change/${what}`))
    if (refused.length > 0)
      throw new HostFailedError(
        `asked about their own pods, too, and not to be passed over: ${refused.map(({ what, service }) => `${what} (Service ${service})`).join('; ')}`,
        {
          code: 'recreate.webhooks',
          hint: `Once all tokens are refused, nobody may be able to start these, and without them no pod. Leave their namespaces out of them (namespaceSelector), have them passed over meanwhile (failurePolicy: Ignore), or accept it: accept: [${refused.map(({ what }) => `change/${what}`).join(', ')}].`,
        },
      )
    const { absent } = conditionsOf(ctx)
    const rolled: Workload[] = []
    for (const [name, one] of workloadsOf(found)) {
      const why = standsStill(await api.get(pathOf(one)))
      if (why === undefined && (await notRolledOutBut(api, one, absent)) === undefined) rolled.push(one)
      else ctx.log(`${name} admits pods, and is replaced with all others (${why ?? 'it is not rolled out'})`)
    }
    return rolled
  },
}

/** What can be started anew of what owns the pods behind them, by name: pods of a DaemonSet have one owner on all nodes. */
function workloadsOf(found: readonly PodAdmission[]): Map<string, Workload> {
  const all = found.flatMap(({ owners }) => owners).map(owner => workload.safeParse(ownerParts(owner)).data)
  return new Map(all.filter(one => one !== undefined).map(one => [workloadName(one), one]))
}

/** The step after the pod network and DNS; on the way back its id ends in `back`. */
const restarted = (back = ''): StepDefinition<OnCluster<Pick<Variables, 'wait'>>> => {
  const noted = (ctx: OnCluster) => ctx.registered<Workload[]>(admissionStep) ?? []
  return {
    ...{ id: `restart-what-admits-pods${back}`, runOnce: true },
    when: ctx => noted(ctx).length > 0,
    plan: ctx => noted(ctx).map(one => `rolling restart of ${workloadName(one)}: others answer meanwhile`),
    run: async ctx => {
      const { absent } = conditionsOf(ctx)
      const options = { absent, within: ctx.vars.wait, signal: ctx.signal }
      await Promise.all(
        noted(ctx).map(async one => {
          // Who has gone since admits nothing.
          if (await foundAt(await ctx.cluster.api(), pathOf(one)))
            await restartWorkload(() => ctx.cluster.api(), one, options)
        }),
      )
    },
  }
}

export const admission = restarted()

/** The same on the way back. */
export const admissionBack = restarted('-back')
