// etcd and the API servers started anew, in the order that keeps the API away for the shortest time, and what shows that they are back.
import { HostFailedError } from '../../errors.ts'
import { etcdHealthy, etcdServes } from '../../kubernetes/components/etcd.ts'
import { killStaticPod, startedAnew } from '../../kubernetes/components/static-pods.ts'
import * as kubeadm from '../../kubernetes/layout/kubeadm/index.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { masters } from '../given/hosts.ts'

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

const severalMasters = { when: (ctx: Pick<OnHost, 'hosts'>) => orderOfMembers(ctx.hosts(masters)).spared.length > 0 }

/**
 * Restarts etcd on the masters that the others can do without, one after the other: those keep the quorum of before, and their API servers
 * go on. A member that starts asks the others for a hash of their data before it serves anybody. One that listens and does not serve yet,
 * since it asks in turn, keeps it waiting for 7 s; those that are gone, serve, or have another CA do not.
 */
export const sparedEtcd: StepDefinition<OnHost> = {
  id: 'restart-spared-etcd',
  runOnce: true,
  ...severalMasters,
  plan: ctx => orderOfMembers(ctx.hosts(masters)).spared.map(killedMember),
  run: ctx => restartMembers(ctx, orderOfMembers(ctx.hosts(masters)).spared),
}

/**
 * Restarts the API servers of those masters, and waits until they listen: from there on they wait for a quorum, and are ready a moment after
 * there is one. One that does not listen in time is no reason to wait longer.
 */
export const sparedApiServers: StepDefinition<OnHost> = {
  id: 'restart-spared-api-servers',
  runOnce: true,
  ...severalMasters,
  plan: ctx => orderOfMembers(ctx.hosts(masters)).spared.map(({ name }) => `kill kube-apiserver on ${name}`),
  run: async ctx => {
    await Promise.all(
      orderOfMembers(ctx.hosts(masters)).spared.map(async host => {
        const session = await ctx.on(host)
        await restartInPlace(ctx, session, 'kube-apiserver')
        await apiServerListens(session, ctx.signal)
      }),
    )
  },
}

/** Restarts etcd on the other masters, one after the other: from the first of them on, the new members have the quorum. */
export const etcd: StepDefinition<OnHost> = {
  id: 'restart-etcd',
  runOnce: true,
  plan: ctx => orderOfMembers(ctx.hosts(masters)).deciding.map(killedMember),
  run: ctx => restartMembers(ctx, orderOfMembers(ctx.hosts(masters)).deciding),
}

const killedMember = ({ name }: Host) => `kill etcd on ${name}; its kubelet starts it again`

async function restartMembers(ctx: OnHost, members: readonly Host[]): Promise<void> {
  for (const host of members) {
    const session = await ctx.on(host)
    await restartInPlace(ctx, session, 'etcd')
    await waitFor(
      `etcd of ${host.name} to serve its peers`,
      { within: seconds(90), every: 100, signal: ctx.signal, host: host.name },
      () => etcdServes(session),
    )
  }
}

/** Waits until a master's etcd answers what needs a quorum. */
export const quorum: StepDefinition<OnHost> = {
  ...afterwards,
  run: async ctx => {
    await waitFor(
      `etcd of ${ctx.host.name} to have a quorum`,
      { within: seconds(90), every: 250, signal: ctx.signal, host: ctx.host.name },
      () => etcdHealthy(ctx),
    )
  },
}

/** Restarts the API server of a master, but for those that were restarted already. */
export const apiServer: StepDefinition<OnHost> = {
  id: 'restart-the-api-server',
  when: ctx => orderOfMembers(ctx.hosts(masters)).deciding.some(({ name }) => name === ctx.host.name),
  plan: () => 'kill kube-apiserver; its kubelet starts it again',
  run: ctx => restartInPlace(ctx, ctx, 'kube-apiserver'),
}

/** Waits until a master's API server is ready, for the administrator whose kubeconfig lies there now. */
export const apiServerAnswers: StepDefinition<OnCluster> = {
  ...afterwards,
  run: async ctx => {
    ctx.cluster.forget('the API servers were restarted')
    await ctx.cluster.apiServerReady(ctx.host, { within: seconds(180) })
  },
}

/** How long an API server may take until it listens. Nobody misses it meanwhile: the others have their quorum. */
const listensWithin = seconds(20)

/**
 * Waits until an API server listens: from there on it waits for etcd, for 20 s at most. A member of etcd that waits for a quorum opens its
 * port and does not shake hands, and an API server that waits for it does neither. No longer than `listensWithin`.
 */
async function apiServerListens({ host, forward }: HostSession, signal: AbortSignal): Promise<void> {
  await waitFor(
    `the API server of ${host.name} to listen`,
    { within: listensWithin, every: 100, signal, host: host.name },
    async () => {
      ;(await forward('127.0.0.1', kubeadm.apiServerPort)).destroy()
      return true
    },
  ).catch((error: Error) => {
    signal.throwIfAborted()
    if (!(error instanceof HostFailedError)) throw error
  })
}

async function restartInPlace(ctx: OnHost, session: HostSession, pod: 'etcd' | 'kube-apiserver'): Promise<void> {
  const before = await killStaticPod(session, pod)
  await startedAnew(session, pod, before, { within: seconds(90), signal: ctx.signal })
}
