// Whether the cluster is well at the end, as `rekey validate` looks at it; and what holds an ended CA although no file does.
import { HostFailedError } from '../../errors.ts'
import { systemWorkloads } from '../../kubernetes/before/conditions.ts'
import { apiFindings } from '../../kubernetes/health/api.ts'
import { type Finding, worstFirst } from '../../kubernetes/health/finding.ts'
import { componentsOf, servicesFrom } from '../../kubernetes/health/host.ts'
import { waitFor } from '../../operations/wait.ts'
import type { ReportSection, StepDefinition } from '../../playbook/model.ts'
import { afterwards, type OnCluster, type OnHost, seconds, where } from '../given/context.ts'
import { type Conditions, conditionsOf, conditionsStep, isAbsent, layoutOf, nodesOf } from '../given/found.ts'
import { everyMachine, isMaster, machines, masters } from '../given/hosts.ts'
import { allGoByTheNew as leavesGoByTheNew } from '../leaves/place.ts'
import { adminKubeconfigFetched } from '../verify.ts'
import { anyRenewed, anyTrouble } from './plan.ts'
import { goingByTheOld } from './start.ts'

/** Fails where something on a host still goes by what was there before; of what a CA was signed anew for, all of it. */
export const allGoByTheNew: StepDefinition<OnCluster> = {
  ...leavesGoByTheNew,
  when: ctx => !ctx.check && anyTrouble(ctx),
  run: async ctx => {
    if (!anyRenewed(ctx)) return (await leavesGoByTheNew.when?.(ctx)) ? leavesGoByTheNew.run(ctx) : undefined
    const old = await goingByTheOld(ctx)
    if (old.length === 0) return undefined
    throw new HostFailedError(`${ctx.host.name}: ${old.join(', ')} runs since before the CA was put in place`, {
      code: 'verify.renewal',
      host: ctx.host.name,
    })
  },
}

/** Registers what the cluster has for kube-proxy and its DNS, which could not be asked before: for the restarts of pods. */
export const lookForWorkloads: StepDefinition<OnCluster> = where<OnCluster>(anyRenewed, {
  ...afterwards,
  id: conditionsStep,
  runOnce: true,
  run: async (ctx): Promise<Conditions> => ({
    workloads: await systemWorkloads(await ctx.cluster.api(), ctx.signal),
    ...{ absent: [], told: [] },
  }),
})

const wellStep = 'verify-that-it-is-well'

/**
 * Waits until the cluster is well: API servers, etcd, the nodes of the inventory, controller-managers, kubelets, tokens. What is not well and
 * needs no certificate of the cluster's is told, and registered: it may have been so for long.
 * @param within how long it may take once its nodes are Ready, in milliseconds
 */
export const wellWithin = <Context extends OnCluster>(within: (ctx: Context) => number): StepDefinition<Context> => ({
  ...afterwards,
  id: wellStep,
  runOnce: true,
  run: async ctx => {
    const isOwn = waitedFor(ctx)
    let rest: Finding[] = []
    await waitFor('the cluster to be well', { within: within(ctx), every: 2_000, signal: ctx.signal }, async () => {
      const bad = worstFirst(await findings(ctx)).filter(({ state }) => state === 'not well')
      rest = bad.filter(one => !isOwn(one))
      const [first] = bad.filter(isOwn)
      if (first) throw new Error(tell(first))
      return true
    })
    for (const one of rest) ctx.log(tell(one))
    return rest.map(tell)
  },
})

/** What is waited for: the cluster's own, but for what is on nodes that were away before, and were accepted by name. */
export function waitedFor(ctx: Pick<OnHost, 'registered' | 'hosts' | 'host'>): (one: Finding) => boolean {
  const { absent } = conditionsOf(ctx)
  const nodes = new Set(nodesOf(ctx, ctx.hosts(machines)).filter(name => !absent.includes(name)))
  const isThere = (what: string, host: string) =>
    ctx
      .hosts(everyMachine)
      .some(({ name }) => name === host && what in layoutOf(ctx, name).components && !isAbsent(ctx, name))
  return ({ what, where }) =>
    ['API server', 'tokens', 'exec and logs', 'etcd'].includes(what) ||
    (what === 'node' ? nodes.has(where) : isThere(what, where))
}

/** The same where certificates had ended: pods that were away for long come back one after the other. */
export const well: StepDefinition<OnCluster> = where<OnCluster>(
  anyTrouble,
  wellWithin(() => seconds(300)),
)

const tell = ({ what, where, detail }: Finding) => `${what} (${where}): ${detail}`

async function findings(ctx: OnCluster): Promise<Finding[]> {
  const asked = await apiFindings(ctx.cluster, ctx.hosts(masters), ctx.signal)
  const onHosts = await Promise.all(
    ctx.hosts(everyMachine).map(async host => {
      const session = await ctx.on(host)
      const layout = layoutOf(ctx, host.name)
      return [
        ...(await componentsOf(session, layout, isMaster({ host }))),
        ...(layout.components.kubelet ? await servicesFrom(session, asked.services) : []),
      ]
    }),
  )
  return [...asked.findings, ...onHosts.flat()]
}

/** What was not well at the end and is not the certificates' doing. */
export function notWell(ctx: Pick<OnHost, 'registered'>): ReportSection[] {
  const left = ctx.registered<string[]>(wellStep) ?? []
  return left.length > 0 ? [{ title: 'Not well at the end, and not waited for', rows: [['', left.join('\n')]] }] : []
}

/** Fetches the administrator's kubeconfig into the run's folder. */
export const adminKubeconfig: StepDefinition<OnHost> = { ...adminKubeconfigFetched, when: anyTrouble }
