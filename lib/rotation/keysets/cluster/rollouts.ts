// Workloads whose pods hold the CAs of before, restarted. None ends a stage: what was unwell before is left alone, what does not come round is named.
import { HostFailedError } from '../../../errors.ts'
import { foundAt } from '../../../kubernetes/api/api.ts'
import {
  pathOf,
  restartedSince,
  restartWorkload,
  rolledOut,
  standsStill,
  type Workload,
  workloadName,
} from '../../../kubernetes/workloads.ts'
import { type OnCluster, seconds } from '../../given/context.ts'
import { conditionsOf } from '../../given/found.ts'

/** How many workloads of users are restarted at the same time. */
const atOnce = 5

/** How long one may take to be well before it is restarted, and to have another new pod since. */
const patience = { before: seconds(180), since: seconds(300) }

/**
 * Restarts workloads and waits until they have gone round: those of the cluster itself one after the other, then the others, some at a time.
 * Names those that are left as they are, or do not come round.
 * @param since a rolling restart that was begun since then is waited for alone: by a run that was gone on with
 * @param special restarts one in a way of its own, and says whether it has one
 */
export async function restartEach(
  ctx: OnCluster,
  workloads: readonly Workload[],
  since: Date | undefined,
  special: (workload: Workload) => Promise<boolean>,
  wait = patience,
): Promise<void> {
  const one = async (workload: Workload) => {
    if (await special(workload)) ctx.log(workloadName(workload))
    else await restart(ctx, workload, since, wait)
  }
  const isOwn = ({ namespace }: Workload) => namespace === 'kube-system'
  for (const workload of workloads.filter(isOwn)) await one(workload)
  const others = workloads.filter(workload => !isOwn(workload)).values()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const workload of others) await one(workload)
    }),
  )
}

async function restart(ctx: OnCluster, workload: Workload, since: Date | undefined, wait: typeof patience) {
  const { absent } = conditionsOf(ctx)
  const api = () => ctx.cluster.api()
  const within = (milliseconds: number) => ({ absent, within: milliseconds, signal: ctx.signal })
  const name = workloadName(workload)
  const found = await foundAt(await api(), pathOf(workload))
  if (!found) return ctx.log(`${name} is not there any more`)
  const still = standsStill(found)
  if (still !== undefined) return ctx.log(`${name} is left alone: ${still}`)
  if (!(since && restartedSince(found, since))) {
    const unwell = await timedOut(ctx, rolledOut(api, workload, within(wait.before)))
    if (unwell !== undefined) return ctx.log(`${name} is left alone, it was not well before: ${unwell}`)
  }
  const late = await timedOut(ctx, restartWorkload(api, workload, within(wait.since), since))
  ctx.log(late === undefined ? name : `${name} has not come round, and is left to do so: ${late}`)
}

/** What was waited for in vain. */
async function timedOut({ signal }: OnCluster, waiting: Promise<void>): Promise<string | undefined> {
  try {
    await waiting
    return undefined
  } catch (error) {
    if (signal.aborted || !(error instanceof HostFailedError) || error.code !== 'wait.timeout') throw error
    return error.message
  }
}
