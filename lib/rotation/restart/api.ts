// etcd and the API servers started anew, in the order that keeps the API away for the shortest time, and what shows that they are back.
import { HostFailedError } from '../../errors.ts'
import { killComponent, servedAt, startedAnew } from '../../kubernetes/components/control.ts'
import { etcdHealthy, etcdServes } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, layoutOf } from '../given/found.ts'
import { etcdHosts, masters } from '../given/hosts.ts'
import { killing } from './told.ts'

/**
 * The order of etcd's members: those that the others can do without, and the others. The first of these takes the quorum from the members
 * of before, and gives one to the new ones.
 */
export function orderOfMembers<T>(all: readonly T[]): {
  readonly spared: readonly T[]
  readonly deciding: readonly T[]
} {
  const spared = Math.ceil(all.length / 2) - 1
  return { spared: all.slice(0, spared), deciding: all.slice(spared) }
}

type Hosts = Pick<OnHost, 'hosts'>

const sparedMembers = (ctx: Hosts) => orderOfMembers(etcdHosts(ctx)).spared

/**
 * The masters whose API servers are restarted while the others have their quorum: those with such a member. Where etcd is on no master, any
 * that the others can do without: each of them knows all members.
 */
function sparedMasters(ctx: Hosts): readonly Host[] {
  const spared = new Set(sparedMembers(ctx).map(({ name }) => name))
  if (spared.size === 0) return []
  const members = new Set(etcdHosts(ctx).map(({ name }) => name))
  const all = ctx.hosts(masters)
  return all.some(({ name }) => members.has(name))
    ? all.filter(({ name }) => spared.has(name))
    : orderOfMembers(all).spared
}

/**
 * Restarts etcd on the hosts that the others can do without, one after the other: those keep the quorum of before, and their API servers
 * go on. A member that starts asks the others for a hash of their data before it serves anybody. One that listens and does not serve yet,
 * since it asks in turn, keeps it waiting for 7 s; those that are gone, serve, or have another CA do not.
 */
export const sparedEtcd: StepDefinition<OnHost> = {
  id: 'restart-spared-etcd',
  runOnce: true,
  when: ctx => sparedMembers(ctx).length > 0,
  plan: ctx => sparedMembers(ctx).map(({ name }) => killing(ctx, 'etcd', name)),
  run: ctx => restartMembers(ctx, sparedMembers(ctx)),
}

/**
 * Restarts the API servers of those hosts, and waits until they listen: from there on they wait for a quorum, and are ready a moment after
 * there is one. One that does not listen in time is no reason to wait longer.
 */
export const sparedApiServers: StepDefinition<OnHost> = {
  id: 'restart-spared-api-servers',
  runOnce: true,
  when: ctx => sparedMasters(ctx).length > 0,
  plan: ctx => sparedMasters(ctx).map(({ name }) => killing(ctx, 'kube-apiserver', name)),
  run: async ctx => {
    await Promise.all(
      sparedMasters(ctx).map(async host => {
        const session = await ctx.on(host)
        await restartInPlace(ctx, session, 'kube-apiserver')
        await apiServerListens(ctx, session)
      }),
    )
  },
}

/** Restarts etcd on the other hosts, one after the other: from the first of them on, the new members have the quorum. */
export const etcd: StepDefinition<OnHost> = {
  id: 'restart-etcd',
  runOnce: true,
  plan: ctx => orderOfMembers(etcdHosts(ctx)).deciding.map(({ name }) => killing(ctx, 'etcd', name)),
  run: ctx => restartMembers(ctx, orderOfMembers(etcdHosts(ctx)).deciding),
}

async function restartMembers(ctx: OnHost, members: readonly Host[]): Promise<void> {
  for (const host of members) {
    const session = await ctx.on(host)
    await restartInPlace(ctx, session, 'etcd')
    await waitFor(
      `etcd of ${host.name} to serve its peers`,
      { within: seconds(90), every: 100, signal: ctx.signal, host: host.name },
      () => etcdServes(session, etcdAccess(layoutOf(ctx, host.name))),
    )
  }
}

/**
 * Waits until every member of etcd answers what needs a quorum: before the API servers of the others are restarted where each asks the
 * member beside it, which it would end without.
 */
export const quorum: StepDefinition<OnHost> = {
  ...afterwards,
  when: ctx => afterwards.when(ctx) && !askAllMembers(ctx),
  runOnce: true,
  run: membersAnswer,
}

/**
 * Whether API servers ask every member of etcd. Those of before then try the members of after with certificates that these refuse, each with
 * a hundred clients: where processors are scarce, that alone takes the leader from etcd again. They are restarted at once.
 */
function askAllMembers(ctx: OnHost): boolean {
  return ctx.hosts(masters).some(({ name }) => {
    const { 'kube-apiserver': found } = layoutOf(ctx, name).components
    return (found?.flags['etcd-servers'] ?? []).flatMap(urls => urls.split(',')).length > 1
  })
}

async function membersAnswer(ctx: OnHost): Promise<void> {
  await Promise.all(
    etcdHosts(ctx).map(async host => {
      const { name } = host
      const session = await ctx.on(host)
      await waitFor(
        `etcd of ${name} to have a quorum`,
        { within: seconds(90), every: 250, signal: ctx.signal, host: name },
        () => etcdHealthy(session, etcdAccess(layoutOf(ctx, name))),
      )
    }),
  )
}

/** Restarts the API server of a master, but for those that were restarted already. */
export const apiServer: StepDefinition<OnHost> = {
  id: 'restart-the-api-server',
  when: ctx => !sparedMasters(ctx).some(({ name }) => name === ctx.host.name),
  plan: ctx => killing(ctx, 'kube-apiserver'),
  run: ctx => restartInPlace(ctx, ctx, 'kube-apiserver'),
}

/**
 * Waits until a master's API server is ready, for the administrator whose kubeconfig lies there now; on the first one until every member of
 * etcd answers, too, where nobody has waited for that before.
 */
export const apiServerAnswers: StepDefinition<OnCluster> = {
  ...afterwards,
  run: async ctx => {
    ctx.cluster.forget('the API servers were restarted')
    await ctx.cluster.apiServerReady(ctx.host, { within: seconds(180) })
    if (askAllMembers(ctx) && ctx.host.name === ctx.hosts(masters)[0]?.name) await membersAnswer(ctx)
  },
}

/** How long an API server may take until it listens. Nobody misses it meanwhile: the others have their quorum. */
const listensWithin = seconds(20)

/**
 * Waits until an API server listens: from there on it waits for etcd, for 20 s at most. A member of etcd that waits for a quorum opens its
 * port and does not shake hands, and an API server that waits for it does neither. No longer than `listensWithin`.
 */
async function apiServerListens(ctx: OnHost, { host, forward }: HostSession): Promise<void> {
  const { address, port } = servedAt(componentOf(ctx, 'kube-apiserver', host.name))
  await waitFor(
    `the API server of ${host.name} to listen`,
    { within: listensWithin, every: 100, signal: ctx.signal, host: host.name },
    async () => {
      ;(await forward(address, port)).destroy()
      return true
    },
  ).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    if (!(error instanceof HostFailedError)) throw error
  })
}

async function restartInPlace(ctx: OnHost, session: HostSession, component: 'etcd' | 'kube-apiserver'): Promise<void> {
  const found = componentOf(ctx, component, session.host.name)
  const before = await killComponent(session, found)
  await startedAnew(session, found, before, { within: seconds(90), signal: ctx.signal })
}
