// Pods that hold tokens or the old CA: replaced, those first that others need.
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { limiter } from '../connection/limiter.ts'
import { kubeProxyPort, restartComponent } from '../kubernetes/components/control.ts'
import { forgetUdpFlows, kubeProxySynced } from '../kubernetes/components/kube-proxy.ts'
import {
  readyAddresses,
  replaceDaemonPods,
  restartWorkload,
  type Workload,
  workload,
  workloadName,
} from '../kubernetes/workloads.ts'
import { waitFor } from '../operations/wait.ts'
import type { Host } from '../playbook/host.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from './given/context.ts'
import { componentOf, conditionsOf, type Looking, must, runsAs } from './given/found.ts'
import { machines } from './given/hosts.ts'

export const variables = {
  /** Restarted before everything else that runs in pods. */
  cni_workloads: z.array(workload).default([]),
  /** Restarted after CoreDNS and kube-proxy: what holds tokens, or the old CA. */
  restart_workloads: z.array(workload).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** Left out where the cluster has none. */
const whereThereIsDns = { when: (ctx: Looking) => conditionsOf(ctx).workloads.dns !== undefined }
const kubeProxyPods = (ctx: Looking) => conditionsOf(ctx).workloads.kubeProxy
/** The hosts on which kube-proxy is a unit. */
const withKubeProxyUnit = (ctx: OnHost) =>
  ctx.hosts(machines).filter(({ name }) => runsAs(ctx, 'kube-proxy', name)?.kind === 'unit')

/** Replaces the pods of kube-proxy, and restarts its units, where there are any. */
export const kubeProxy: StepDefinition<OnCluster> = {
  id: 'restart-kube-proxy',
  runOnce: true,
  when: ctx => kubeProxyPods(ctx) !== undefined || withKubeProxyUnit(ctx).length > 0,
  plan: ctx => {
    const pods = kubeProxyPods(ctx)
    return [
      ...(pods ? [`replace the pods of ${workloadName(pods)}, all at once: the rules stay in the kernel`] : []),
      ...withKubeProxyUnit(ctx).map(({ name }) => `restart kube-proxy on ${name}: the rules stay in the kernel`),
    ]
  },
  run: async ctx => {
    const { absent } = conditionsOf(ctx)
    const pods = kubeProxyPods(ctx)
    if (pods)
      await replaceDaemonPods(() => ctx.cluster.api(), pods, { absent, within: seconds(120), signal: ctx.signal })
    const limit = limiter(atOnce)
    await Promise.all(
      withKubeProxyUnit(ctx).map(host =>
        limit(async () => {
          ctx.signal.throwIfAborted()
          const found = componentOf(ctx, 'kube-proxy', host.name)
          await restartComponent(await ctx.on(host), found, { within: seconds(90), signal: ctx.signal })
        }),
      ),
    )
  },
}

/** On how many hosts units are restarted at once. */
const atOnce = 16

/** Waits until a node follows what the API says. */
export const kubeProxyRules: StepDefinition<OnHost> = {
  ...afterwards,
  when: ctx => afterwards.when(ctx) && (kubeProxyPods(ctx) !== undefined || runsAs(ctx, 'kube-proxy')?.kind === 'unit'),
  run: async ctx => {
    let asked = 0
    await waitFor(
      `kube-proxy of ${ctx.host.name} to write its rules`,
      { within: seconds(90), signal: ctx.signal, host: ctx.host.name },
      async () => {
        const synced = await kubeProxySynced(ctx, metricsPort(ctx))
        // Where it shows no metrics, a while is all that can be given.
        return synced ?? ++asked > 20
      },
    )
  },
}

/** Where the kube-proxy of a host shows its metrics; its usual port, where it is a pod that is told by a ConfigMap. */
function metricsPort(ctx: OnHost, host = ctx.host.name): number | undefined {
  return runsAs(ctx, 'kube-proxy', host)?.kind === 'unit'
    ? kubeProxyPort(componentOf(ctx, 'kube-proxy', host))
    : undefined
}

/** Restarts workloads, all together; left out where there are none. */
function restart<Vars>(workloads: (vars: Vars) => readonly Workload[]): StepDefinition<OnCluster<Vars>> {
  return {
    runOnce: true,
    when: ctx => workloads(ctx.vars).length > 0,
    plan: ctx => workloads(ctx.vars).map(one => `rolling restart of ${workloadName(one)}`),
    run: ctx => restartAll(ctx, workloads(ctx.vars)),
  }
}

/** Restarts the pod network, before everything else that runs in pods. */
export const podNetwork = restart(({ cni_workloads }: Pick<Variables, 'cni_workloads'>) => cni_workloads)

/** Restarts what the inventory lists as holding tokens, or the old CA. */
export const listed = {
  ...restart(({ restart_workloads }: Pick<Variables, 'restart_workloads'>) => restart_workloads),
  id: 'restart-workloads',
}

/**
 * Restarts CoreDNS. Each of its old pods still answers for some seconds while it ends (`lameduck`); by then no machine may lead there
 * any more, or a question that gets a port of before is lost, and whoever asked it waits for the 5 s of their resolver.
 */
export const coreDns: StepDefinition<OnCluster> = {
  id: 'restart-coredns',
  runOnce: true,
  ...whereThereIsDns,
  plan: ctx => [
    `rolling restart of ${workloadName(must(conditionsOf(ctx).workloads.dns, 'no DNS was found'))}`,
    'have every machine forget the UDP flows that lead to its old pods (conntrack -D)',
  ],
  run: restartCoreDns,
}

/** Restarts CoreDNS, then what the inventory lists. */
export const coreDnsAndListed: StepDefinition<OnCluster<Pick<Variables, 'restart_workloads'>>> = {
  runOnce: true,
  run: async ctx => {
    await restartCoreDns(ctx)
    await restartAll(ctx, ctx.vars.restart_workloads)
  },
}

async function restartAll(ctx: OnCluster, workloads: readonly Workload[]): Promise<void> {
  const { absent } = conditionsOf(ctx)
  await Promise.all(
    workloads.map(async one => {
      await restartWorkload(() => ctx.cluster.api(), one, { absent, within: seconds(300), signal: ctx.signal })
      ctx.log(workloadName(one))
    }),
  )
}

async function restartCoreDns(ctx: OnCluster): Promise<void> {
  const { dns, dnsService } = conditionsOf(ctx).workloads
  if (!dns || !dnsService) return
  const left = new Set(await readyAddresses(await ctx.cluster.api(), dnsService))
  const failed = new AbortController()
  let rolledOut = false
  const rollout = restartAll(ctx, [dns]).then(
    () => {
      rolledOut = true
    },
    error => {
      failed.abort(error)
      throw error
    },
  )
  const forgotten: Promise<unknown>[] = []
  const ended = waitFor(
    'the old pods of CoreDNS to end',
    { within: seconds(330), every: 200, signal: AbortSignal.any([ctx.signal, failed.signal]) },
    async () => {
      const ready = new Set(await readyAddresses(await ctx.cluster.api(), dnsService))
      const ending = [...left].filter(address => !ready.has(address))
      for (const address of ending) left.delete(address)
      if (ending.length > 0) forgotten.push(Promise.all(ctx.hosts(machines).map(host => forgetPods(ctx, host, ending))))
      return rolledOut && left.size === 0
    },
  )
  await Promise.all([rollout, ended])
  await Promise.all(forgotten)
}

/** Has a machine lead nobody to UDP ports of these pods any more, once its kube-proxy has written that they are ending. */
async function forgetPods(ctx: OnHost, host: Host, addresses: readonly string[]): Promise<void> {
  const { name } = host
  try {
    const session = await ctx.on(host)
    // Its kube-proxy must have heard of it: what is forgotten while new questions are led there is lost itself.
    await delay(seconds(2), undefined, { signal: ctx.signal })
    await waitFor(
      `kube-proxy of ${name} to write its rules`,
      { within: seconds(3), every: 200, signal: ctx.signal, host: name },
      async () => (await kubeProxySynced(session, metricsPort(ctx, name))) ?? true,
    )
    if (!(await forgetUdpFlows(session, addresses)))
      ctx.log(`${name}: conntrack -D did not work: a question to DNS may take 5 s`)
  } catch (error) {
    // Nothing but a delay depends on it.
    if (!ctx.signal.aborted) ctx.log(`${name}: ${(error as Error).message}`)
  }
}
