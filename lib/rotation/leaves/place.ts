// New leaves in place of the old ones: what reads its files again is seen to have done so, what does not is started anew, one master at a time.
// Old and new hold under the same CA: nobody is cut off, here or on the way back.

import { HostFailedError } from '../../errors.ts'
import type { Swap } from '../../operations/staging.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { afterwards, nothing, type OnCluster, type OnHost, onTheWayBack } from '../given/context.ts'
import { issueStep, verifiedCertificates } from '../issue.ts'
import { swapIn } from '../keysets/leaves.ts'
import type { Variables as DrainVariables } from '../restart/drained.ts'
import { keepsWhatItRead, restartsOf } from '../restart/due.ts'
import { presents } from '../verify.ts'
import { hasDue } from './issue.ts'
import { anyDue, ifDue } from './plan.ts'

type Drains = OnCluster<DrainVariables>

/** The files of a host that get another content, and the links that lead elsewhere. */
export function changedOn(ctx: OnHost, host: string): string[] {
  const swap = ctx.registered<Swap>(issueStep, host)
  return swap ? [...swap.rename, ...swap.link.map(({ path }) => path)] : []
}

const restarts = restartsOf<Drains>({
  files: changedOn,
  keeps: keepsWhatItRead,
  placedAt: (ctx, host) => ctx.registered<{ at?: number }>(swapIn.id ?? '', host)?.at,
})

/** On the way there; the way back of all of them is `undone`. */
const there = (definition: StepDefinition<Drains>) => ({ ...ifDue(definition), rollback: nothing })

/** What goes by the certificates of a host and does not read them again, restarted: each a step. */
export const restart = {
  mayBeAway: there(restarts.mayBeAway),
  etcdMembers: there(restarts.etcdMembers),
  apiServers: there(restarts.apiServers),
  controllers: there(restarts.controllers),
  kubelets: there(restarts.kubelets),
  kubeProxies: there(restarts.kubeProxies),
  /** What of the cluster is started anew, a line each. */
  restarted: restarts.restarted,
}

/**
 * Changes nothing on the way there; on the way back it restarts what was started with the new certificates. So it stands before the step that
 * puts them in place.
 */
export const undone: StepDefinition<Drains> = onTheWayBack<Drains>(
  'note-what-goes-by-the-certificates',
  async ctx => {
    const { etcdMembers, apiServers, controllers, kubelets, kubeProxies } = restarts
    for (const { when, run } of [etcdMembers, apiServers, controllers, kubelets, kubeProxies])
      if (await when?.(ctx)) await run(ctx)
  },
  anyDue,
)

/** Waits until the ports of a host present the very certificates that were put in place. */
export const presented: StepDefinition<OnHost> = {
  id: 'see-what-is-presented',
  ...afterwards,
  when: ctx => !ctx.check && hasDue(ctx),
  run: ctx => presents(ctx, verifiedCertificates(ctx, ctx.host.name), 'the new certificate'),
}

/** Fails where something on a host still goes by a certificate that it read before: it runs since before the new one was there. */
export const allGoByTheNew: StepDefinition<OnCluster> = {
  id: 'verify-what-runs',
  ...afterwards,
  when: ctx => !ctx.check && hasDue(ctx),
  run: async ctx => {
    const due = await restarts.notStartedSince(ctx)
    if (due.length === 0) return
    throw new HostFailedError(
      `${ctx.host.name}: ${due.join(', ')} runs since before its certificate was put in place`,
      {
        code: 'verify.renewal',
        host: ctx.host.name,
      },
    )
  },
}
