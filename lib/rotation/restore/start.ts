// The control plane stopped on all hosts of a restore, and started again in the order in which its parts need each other; the same on the way back.
import { HostFailedError } from '../../errors.ts'
import { componentServes, restartComponent, restartUnit } from '../../kubernetes/components/control.ts'
import { type EtcdMember, etcdMembers } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { waitFor, wasInTime } from '../../operations/wait.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { membersOf } from '../backup.ts'
import { afterwards, firstChange, nothing, type OnCluster, type OnHost, seconds, where } from '../given/context.ts'
import { apiServerHosts, layoutOf, readingOf } from '../given/found.ts'
import { etcdHosts, machines } from '../given/hosts.ts'
import { well as wellAgain } from '../rescue/well.ts'
import { nodesReady as allReady, kubelet, longestPause } from '../restart/kubelets.ts'
import { memberWell } from '../restart/members.ts'
import { has, type Variables } from './given.ts'
import { ranOn } from './now.ts'
import { isMember, kubeletOf, own, processesOn, stopped, units } from './stop.ts'

/** Has units of a host start, whatever came of their starts before, and waits for none. */
async function begin(ctx: OnHost, names: readonly string[]): Promise<void> {
  for (const unit of names) await ctx.$`systemctl reset-failed ${unit} 2>/dev/null; systemctl start --no-block ${unit}`
}

/** Stops the control plane on all hosts of the run. Undone by starting it again, once all that was put in place is back. */
export const stop: StepDefinition<OnHost> = where<OnHost>(isMember, {
  plan: ctx => `stop ${[...kubeletOf(ctx), ...own(ctx).map(({ component }) => component)].join(', ')}`,
  run: async ctx => {
    ctx.milestone(firstChange)
    await stopped(ctx)
  },
  rollback: async ctx => {
    await begin(ctx, [...units(own(ctx)).toReversed(), ...kubeletOf(ctx)])
    const ran = own(ctx, ranOn(ctx))
    for (const { component } of own(ctx).filter(one => !ran.includes(one)))
      ctx.log(`WARNING: ${component} of ${ctx.host.name} did not run before, and is not waited for`)
    await waitFor(
      `the control plane of ${ctx.host.name} to be started again`,
      { within: seconds(180), every: 500, signal: ctx.signal, host: ctx.host.name },
      async () => (await Promise.all(ran.map(one => processesOn(ctx, one)))).every(one => one.length > 0),
    )
  },
})

/** What of a host knows the API and was not stopped with the control plane. */
const clients = (ctx: OnHost) =>
  units(own(ctx, ['kubelet', 'kube-proxy'])).filter(unit => !kubeletOf(ctx).includes(unit))

/**
 * Does nothing on the way there. On the way back, once the control plane is what it was before, it has kubelets and kube-proxies start anew that have
 * seen the API of the backup: its revisions were higher, and they would wait for such.
 */
export const clientsOnTheWayBack: StepDefinition<OnHost> = {
  id: 'restart-clients-on-the-way-back',
  when: ctx => clients(ctx).length > 0,
  plan: () => [],
  run: () => ({ noted: 'restart-clients-on-the-way-back' }),
  rollback: async ctx => {
    for (const unit of clients(ctx)) await ctx.$`systemctl try-restart ${unit}`
  },
}

/** Starts etcd, and the kubelets that start it and the others. On the way back nothing may run on what is taken away: all of it is stopped. */
export const members: StepDefinition<OnHost> = where<OnHost>(isMember, {
  plan: ctx => `start ${[...units(own(ctx, ['etcd'])), ...kubeletOf(ctx)].join(', ') || 'nothing yet'}`,
  run: ctx => begin(ctx, [...units(own(ctx, ['etcd'])), ...kubeletOf(ctx)]),
  rollback: stopped,
})

/** Waits until every member of etcd answers what needs a quorum; fails where they are not the members of the snapshot, and one cluster. */
export const quorum: StepDefinition<OnHost<Variables>> = {
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const hosts = etcdHosts(ctx)
    await Promise.all(hosts.map(host => memberWell(ctx, host)))
    if (!has(ctx, 'etcd')) return
    const wanted = membersOf(ctx).map(({ name }) => name)
    const ids = new Set<string>()
    for (const host of hosts) {
      const found = await etcdMembers(await ctx.on(host), etcdAccess(layoutOf(ctx, host.name)))
      if (namesOf(found) !== wanted.toSorted().join(', '))
        throw new HostFailedError(
          `etcd of ${host.name} has the members ${namesOf(found)}, and ${wanted.join(', ')} were made from the snapshot`,
          { code: 'etcd.other-members', host: host.name, hint: 'rekey rollback puts the data of before back.' },
        )
      ids.add(
        found
          .map(({ id }) => id)
          .sort()
          .join(' '),
      )
    }
    if (ids.size > 1)
      throw new HostFailedError('the members of etcd are several clusters', {
        code: 'etcd.other-members',
        hint: 'rekey rollback puts the data of before back.',
      })
  },
}

const namesOf = (members: readonly EtcdMember[]) =>
  members
    .map(({ name }) => name)
    .sort()
    .join(', ')

/** Starts API servers, controller-managers and schedulers that are units: those that are pods are being started already. */
export const rest: StepDefinition<OnHost> = where<OnHost>(isMember, {
  plan: ctx => `start ${units(own(ctx).toReversed()).join(', ') || 'nothing more'}`,
  run: ctx => begin(ctx, units(own(ctx).toReversed())),
  rollback: nothing,
})

/** Waits until the API servers are ready. */
export const apiServersReady: StepDefinition<OnCluster> = {
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    ctx.cluster.forget('a backup was put back')
    const ready = apiServerHosts(ctx).map(host => ctx.cluster.apiServerReady(host, { within: seconds(300) }))
    await Promise.all(ready)
    ctx.milestone('the API answers')
  },
}

/** Restarts the kubelet of a host: what it knows is of another time. A node that the restored API does not know comes back with it. */
export const kubelets: StepDefinition<OnCluster> = {
  ...kubelet,
  run: async ctx => {
    const { nodeName = '' } = readingOf(ctx)
    if (await wasInTime(ctx.cluster.heartbeat(nodeName), ctx.signal)) return kubelet.run(ctx)
    for (const unit of units(own(ctx, ['kubelet']))) await restartUnit(ctx, unit)
    return ''
  },
  rollback: nothing,
}

/** Waits until every node is Ready. */
export const nodesReady = allReady(machines, { after: kubelet.id ?? '', milestone: 'nodes ready' })

/** Restarts kube-proxy where it is a unit: its kubeconfig may be another one. */
export const kubeProxies: StepDefinition<OnHost<Variables>> = where<OnHost<Variables>>(
  ctx => has(ctx, 'files') && units(own(ctx, ['kube-proxy'])).length > 0,
  {
    plan: ctx => `restart ${units(own(ctx, ['kube-proxy'])).join(', ')}`,
    run: async ctx => {
      for (const one of own(ctx, ['kube-proxy']))
        await restartComponent(ctx, one, { within: seconds(90), signal: ctx.signal })
    },
    rollback: nothing,
  },
)

/** Waits until controller-managers and schedulers serve. */
export const controllers: StepDefinition<OnHost> = {
  ...afterwards,
  run: async ctx => {
    for (const found of own(ctx, ['kube-controller-manager', 'kube-scheduler']))
      await waitFor(
        `${found.component} of ${ctx.host.name} to serve`,
        { within: longestPause, every: 500, signal: ctx.signal, host: ctx.host.name },
        () => componentServes(ctx, found),
      )
  },
}

/** Waits until the cluster is well, as `rekey validate` looks at it. */
export const well: StepDefinition<OnCluster> = { ...wellAgain, when: afterwards.when }
