// Whatever goes by a file that was put in place, and does not read it again, started anew: one master at a time, gracefully, and the next one
// when that is well. What was started since is left alone, so that it may be done again from anywhere.
import { restartComponent, startTimesOf } from '../../kubernetes/components/control.ts'
import { restartKubelet } from '../../kubernetes/components/kubelet.ts'
import type { ComponentName, FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { layoutOf, must, readingOf } from '../given/found.ts'
import { etcdHosts, everyMachine, machines, masters } from '../given/hosts.ts'
import { backInTraffic, type Variables as DrainVariables, restartDrained, together } from '../restart/drained.ts'
import { wentRound } from '../restart/kubelets.ts'
import { requireGapAccepted } from '../restart/traffic.ts'
import { filesOf, placedAt } from './files.ts'

type Drains = OnCluster<DrainVariables>

/** The component of a host, where one of its files gets another content; none that the API gave to the node, which goes on with what it has. */
function holderOf(ctx: OnHost, component: ComponentName, host: string): FoundComponent | undefined {
  const found = layoutOf(ctx, host).components[component]
  if (!found || found.runs.kind === 'pod') return undefined
  const changed = new Set(filesOf(ctx, host))
  return found.files.some(({ real }) => changed.has(real)) ? found : undefined
}

/** Whether a component runs with what was put in place: all of its processes were started since. */
async function isStartedSince(ctx: OnHost, session: HostSession, found: FoundComponent): Promise<boolean> {
  const started = await startTimesOf(session, found)
  return started.length > 0 && started.every(at => at >= placedAt(ctx, session.host.name))
}

/** A component of a host that still goes by what it read before. */
async function dueOf(ctx: OnHost, component: ComponentName, host: Host) {
  const found = holderOf(ctx, component, host.name)
  if (!found) return undefined
  const session = await ctx.on(host)
  return (await isStartedSince(ctx, session, found)) ? undefined : { session, found }
}

/** The hosts that have such a component, in the order that they are restarted in. */
const holders = (ctx: OnHost, component: ComponentName, hosts: readonly Host[]) =>
  hosts.filter(({ name }) => holderOf(ctx, component, name) !== undefined)

const told = (ctx: OnHost, component: ComponentName, hosts: readonly Host[]) =>
  holders(ctx, component, hosts).map(
    ({ name }) => `restart ${component} of ${name} gracefully, and wait until it is well`,
  )

/** How many nodes' kubelets are restarted at once: nothing that runs there notices. */
const nodesAtOnce = 5

/**
 * Restarts the kubelets: those of masters one after the other, each until it went round its pods, since what is ended before that is started
 * half a minute later; the others a few at a time.
 */
export const kubelets: StepDefinition<OnCluster> = {
  id: 'restart-the-kubelets',
  runOnce: true,
  plan: ctx => told(ctx, 'kubelet', ctx.hosts(machines)),
  run: async ctx => {
    const leading = new Set(ctx.hosts(masters).map(({ name }) => name))
    for (const host of ctx.hosts(masters)) await kubelet(ctx, host, true)
    const others = ctx.hosts(machines).filter(({ name }) => !leading.has(name))
    for (let first = 0; first < others.length; first += nodesAtOnce)
      await Promise.all(others.slice(first, first + nodesAtOnce).map(host => kubelet(ctx, host, false)))
    ctx.milestone('nodes ready')
  },
}

async function kubelet(ctx: OnCluster, host: Host, startsPods: boolean): Promise<void> {
  const due = await dueOf(ctx, 'kubelet', host)
  if (!due) return
  const node = must(readingOf(ctx, host.name).nodeName, `no kubelet was found on ${host.name}`)
  const { runs } = due.found
  const heartbeat = await restartKubelet(ctx.cluster, due.session, node, runs.kind === 'unit' ? runs.unit : undefined)
  await ctx.cluster.nodesReady([node], { within: seconds(120), notBy: { [node]: heartbeat } })
  if (startsPods) await wentRound(ctx, host)
}

/** Restarts etcd where it is on machines of its own, one member after the other, another one leading. */
export const etcdMembers: StepDefinition<Drains> = {
  id: 'restart-the-members-of-etcd',
  runOnce: true,
  plan: ctx => told(ctx, 'etcd', etcdBeside(ctx)),
  run: async ctx => {
    for (const host of etcdBeside(ctx)) {
      const due = await dueOf(ctx, 'etcd', host)
      if (due) await restartDrained(ctx, due.session, ['etcd'])
    }
  },
}

function etcdBeside(ctx: OnHost): Host[] {
  const leading = new Set(ctx.hosts(masters).map(({ name }) => name))
  return etcdHosts(ctx).filter(({ name }) => !leading.has(name))
}

/** What serves the API on a master, in the order that it is told in. */
const serving = ['kube-apiserver', 'etcd'] as const

/** Fails where the only API server would be restarted, and nobody has accepted that the API is away meanwhile. */
export const mayBeAway: StepDefinition<Drains> = {
  readOnly: true,
  runOnce: true,
  run: ctx => {
    const [alone, ...others] = ctx.hosts(masters)
    if (!alone || others.length > 0 || serving.every(component => !holderOf(ctx, component, alone.name))) return
    requireGapAccepted(ctx, alone)
  },
}

/**
 * Restarts what serves the API, master by master: an API server and the member of etcd beside it, while another master answers. One whose run
 * ended between its start and the return of its traffic gets that back.
 */
export const apiServers: StepDefinition<Drains> = {
  id: 'restart-etcd-and-the-api-servers',
  runOnce: true,
  plan: ctx => ctx.hosts(masters).flatMap(host => serving.flatMap(component => told(ctx, component, [host]))),
  run: async ctx => {
    for (const host of ctx.hosts(masters)) {
      const session = await ctx.on(host)
      const due = await Promise.all(serving.map(component => dueOf(ctx, component, host)))
      const wanted = serving.filter((_, index) => due[index] !== undefined)
      if (wanted.length > 0) await restartDrained(ctx, session, together(ctx, wanted, host.name))
      else if (layoutOf(ctx, host.name).components['kube-apiserver']) await backInTraffic(ctx, session)
    }
  },
}

const controllerNames = ['kube-controller-manager', 'kube-scheduler'] as const

/** Restarts controller-managers and schedulers: those that lead last, so that the lead changes once. */
export const controllers: StepDefinition<OnCluster> = {
  id: 'restart-controller-managers-and-schedulers',
  runOnce: true,
  plan: ctx => controllerNames.flatMap(component => told(ctx, component, ctx.hosts(masters))),
  run: async ctx => {
    for (const component of controllerNames) {
      const leader = await leaderOf(ctx, component)
      const isLeader = ({ name }: Host) => readingOf(ctx, name).nodeName === leader || name === leader
      for (const host of ctx.hosts(masters).toSorted((a, b) => Number(isLeader(a)) - Number(isLeader(b)))) {
        const due = await dueOf(ctx, component, host)
        if (due) await restartComponent(due.session, due.found, { within: seconds(120), signal: ctx.signal })
      }
    }
  },
}

/** The machine whose controllers lead, as its lease calls it; undefined where none has one. */
async function leaderOf(ctx: OnCluster, component: string): Promise<string | undefined> {
  const api = await ctx.cluster.api()
  const leases = await api.list('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases')
  const holder = leases.find(({ metadata }) => metadata.name === component)?.spec?.holderIdentity
  return typeof holder === 'string' ? holder.replace(/_[0-9a-f-]+$/, '') : undefined
}

/** Restarts kube-proxy where it is a unit with a kubeconfig of its own. */
export const kubeProxies: StepDefinition<OnHost> = {
  id: 'restart-kube-proxies',
  when: ctx => holderOf(ctx, 'kube-proxy', ctx.host.name) !== undefined,
  plan: ctx => told(ctx, 'kube-proxy', [ctx.host]),
  run: async ctx => {
    const due = await dueOf(ctx, 'kube-proxy', ctx.host)
    if (due) await restartComponent(due.session, due.found, { within: seconds(90), signal: ctx.signal })
  },
}

const components: readonly ComponentName[] = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
]

/** What of a host still goes by a file that was there before: nothing, once all is done. */
export async function notStartedSince(ctx: OnHost): Promise<string[]> {
  const due = await Promise.all(components.map(component => dueOf(ctx, component, ctx.host)))
  return due.flatMap(one => (one ? [one.found.component] : []))
}

/** What of the cluster is started anew, a line each, for a plan and a report. */
export function restarted(ctx: OnHost): [component: string, hosts: string][] {
  return components.flatMap((component): [string, string][] => {
    const hosts = holders(ctx, component, ctx.hosts(everyMachine)).map(({ name }) => name)
    return hosts.length > 0 ? [[component, hosts.join(', ')]] : []
  })
}
