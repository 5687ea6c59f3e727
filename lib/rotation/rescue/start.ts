// What is down, or goes by what has ended, started anew: etcd, the API servers, the rest. All hosts at once, since nobody is served anyway; what
// serves is left alone, so that each step may be done again from anywhere.
import {
  componentServes,
  killComponent,
  processesOf,
  restartComponent,
  startTimesOf,
} from '../../kubernetes/components/control.ts'
import { etcdHealthy } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import type { ComponentName, FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import * as extra from '../as-found/extra.ts'
import { afterwards, nothing, type OnCluster, type OnHost, seconds, where } from '../given/context.ts'
import { apiServerHosts, layoutOf, must, readingOf } from '../given/found.ts'
import { etcdHosts, machines } from '../given/hosts.ts'
import { changedOn as leavesChangedOn } from '../leaves/place.ts'
import { filesOf as renewedFiles } from '../renewal/files.ts'
import { restartsOf } from '../restart/due.ts'
import { nodesReady as allReadyOf, kubelet, longestPause, remembered } from '../restart/kubelets.ts'
import { memberWell } from '../restart/members.ts'
import { anyChange, anyRenewed, anyTrouble } from './plan.ts'

const allReady = allReadyOf(machines, { after: kubelet.id ?? '', milestone: 'nodes ready' })

/** The files of a host that hold something else than before. */
const changedOn = (ctx: OnHost, host: string): string[] => [...renewedFiles(ctx, host), ...leavesChangedOn(ctx, host)]

/** What goes by a changed file, whether it would read it again or not. */
const changes = restartsOf({ files: changedOn })

/** What of a host goes by what was there before. */
export const goingByTheOld = (ctx: OnHost): Promise<ComponentName[]> => changes.notStartedSince(ctx)

/** Whether a component has no process, or only such as were there before the first change. */
async function runsSinceBefore(ctx: OnHost, found: FoundComponent): Promise<boolean> {
  const now = await processesOf(ctx, found)
  return now.every(pid => found.processes.includes(pid))
}

/** What does not even answer does not serve. Throws where the run is being stopped. */
const quietly = ({ signal }: OnHost, asked: Promise<boolean>): Promise<boolean> =>
  asked.catch(() => {
    signal.throwIfAborted()
    return false
  })

/**
 * Whether a component of a host is to be started anew. What reads its files again and serves is left alone, but for those that go by a CA
 * that was signed anew: nobody reads that again.
 */
async function isDue(ctx: OnHost, found: FoundComponent, serves: () => Promise<boolean>): Promise<boolean> {
  const old = (await goingByTheOld(ctx)).includes(found.component)
  if (old && anyRenewed(ctx)) return true
  if (!old && !(await runsSinceBefore(ctx, found))) return false
  return !(await quietly(ctx, serves()))
}

const own = (ctx: OnHost, component: ComponentName): FoundComponent | undefined => {
  const found = layoutOf(ctx).components[component]
  return found?.runs.kind === 'pod' ? undefined : found
}

/** A step that starts something anew on each host that has it, and needs no way back. */
const start = <Context extends OnHost>(
  component: ComponentName,
  run: (ctx: Context, found: FoundComponent) => Promise<void>,
): StepDefinition<Context> => ({
  ...where<Context>(anyTrouble, {
    when: ctx => own(ctx, component) !== undefined,
    plan: () => `start ${component} anew, where it does not serve or goes by what has ended`,
    run: async ctx => run(ctx, must(own(ctx, component), `no ${component} was found on ${ctx.host.name}`)),
    rollback: nothing,
  }),
})

/** Starts etcd anew where it does not answer what needs a quorum. A pod is started by its kubelet. */
export const etcd = start<OnHost>('etcd', async (ctx, found) => {
  if (await isDue(ctx, found, () => etcdHealthy(ctx, etcdAccess(layoutOf(ctx))))) await killComponent(ctx, found)
})

const ofPods = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const

/** What of the control plane a host's kubelet starts. */
const podsOf = (ctx: OnHost): FoundComponent[] =>
  ofPods.flatMap(component => {
    const one = own(ctx, component)
    return one?.runs.kind === 'static-pod' ? [one] : []
  })

/**
 * Starts the kubelets anew that are to start something of the control plane and can't, or would wait with it: those that gave up,
 * and those that have seen it end again and again. A kubelet that begins without an API takes half a minute until it starts anything: one that
 * need not is left for later.
 */
export const kubeletsOfMasters: StepDefinition<OnHost> = where<OnHost>(
  ctx => podsOf(ctx).length > 0,
  start<OnHost>('kubelet', async (ctx, found) => {
    const isOld = (await goingByTheOld(ctx)).includes('kubelet') || (await runsSinceBefore(ctx, found))
    if (!isOld) return
    const mayBegin = (await quietly(ctx, componentServes(ctx, found))) && !(await anyYoung(ctx, podsOf(ctx)))
    if (!mayBegin) await killComponent(ctx, found)
  }),
)

/** Whether one of these has no process, or one that was started a short while ago. */
async function anyYoung(ctx: OnHost, pods: readonly FoundComponent[]): Promise<boolean> {
  const now = Number((await ctx.$({ quiet: true })`date +%s`).stdout)
  const started = await Promise.all(pods.map(found => startTimesOf(ctx, found)))
  return started.some(times => times.length === 0 || times.some(one => now - one < remembered))
}

/**
 * Waits for all of these, and goes on where one came: the others are told, and `well` fails for them at the end, once the cluster is up without them.
 * @throws what the first of them threw, where none came
 */
async function anyOf(ctx: OnHost, all: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(all)).flatMap(one =>
    one.status === 'rejected' ? [one.reason as Error] : [],
  )
  ctx.signal.throwIfAborted()
  if (failed.length === all.length && failed[0]) throw failed[0]
  for (const { message } of failed) ctx.log(`WARNING: ${message}`)
}

/** Waits until the members of etcd answer what needs a quorum. One that does says that there is one. */
export const quorum: StepDefinition<OnHost> = where<OnHost>(anyTrouble, {
  ...afterwards,
  runOnce: true,
  run: ctx =>
    anyOf(
      ctx,
      etcdHosts(ctx).map(host => memberWell(ctx, host)),
    ),
})

/** Starts API servers anew that are not ready, but for those that were started since. */
export const apiServers = start<OnCluster>('kube-apiserver', async (ctx, found) => {
  ctx.cluster.forget('certificates were put in place')
  const ready = () => ctx.cluster.apiServerReady(ctx.host, { within: seconds(3) }).then(() => true)
  if (await isDue(ctx, found, ready)) await killComponent(ctx, found)
})

/** Waits until the API servers are ready. */
export const apiServersReady: StepDefinition<OnCluster> = where<OnCluster>(anyTrouble, {
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const ready = apiServerHosts(ctx).map(host => ctx.cluster.apiServerReady(host, { within: seconds(240) }))
    await anyOf(ctx, ready)
    ctx.milestone('the API answers')
  },
})

/** Whether a component that nobody waits for with something else goes by what has ended, or does not serve. */
const lacks = async (ctx: OnHost, found: FoundComponent): Promise<boolean> =>
  (await goingByTheOld(ctx)).includes(found.component) || !(await quietly(ctx, componentServes(ctx, found)))

/** Starts one of those two anew where it goes by what has ended or does not serve, and waits until it does; one that does not is told. */
const controller = (component: 'kube-controller-manager' | 'kube-scheduler') =>
  start<OnHost>(component, async (ctx, found) => {
    if (!(await lacks(ctx, found))) return
    // What it lacks may be another host's doing: `well` fails for it at the end.
    const started = restartComponent(ctx, found, { within: longestPause, signal: ctx.signal })
    await started.catch((error: Error) => {
      ctx.signal.throwIfAborted()
      ctx.log(`WARNING: ${error.message}`)
    })
  })

export const controllerManagers = controller('kube-controller-manager')
export const schedulers = controller('kube-scheduler')

/** Restarts the kubelets that go by what has ended or do not serve; registers as `restart.kubelet` does, for `restart.nodesReady`. */
export const kubelets: StepDefinition<OnCluster> = where<OnCluster>(anyTrouble, {
  ...kubelet,
  when: async ctx => {
    const found = own(ctx, 'kubelet')
    if (!found || readingOf(ctx).nodeName === undefined) return false
    if (ctx.check) return true
    return lacks(ctx, found)
  },
  run: async ctx => {
    const node = must(readingOf(ctx).nodeName, `no kubelet was found on ${ctx.host.name}`)
    // Somebody may have deleted the node meanwhile: it comes back with its kubelet.
    const heartbeat = await ctx.cluster.heartbeat(node).catch(() => '')
    ctx.signal.throwIfAborted()
    await killComponent(ctx, must(own(ctx, 'kubelet'), `no kubelet was found on ${ctx.host.name}`))
    return heartbeat
  },
  rollback: nothing,
})

/** Restarts kube-proxy where it is a unit that goes by what has ended or does not serve. */
export const kubeProxies = start<OnHost>('kube-proxy', async (ctx, found) => {
  if (await lacks(ctx, found)) await restartComponent(ctx, found, { within: seconds(90), signal: ctx.signal })
})

/** Waits until the node of every machine is Ready. */
export const nodesReady: StepDefinition<OnCluster> = {
  ...allReady,
  when: ctx => !ctx.check && anyTrouble(ctx),
}

/** Restarts the units that the inventory names for certificates of its own, where any was put in place. */
export const extraUnits: StepDefinition<OnHost<extra.Variables>> = {
  ...where(anyChange, extra.restarted),
  rollback: nothing,
}
