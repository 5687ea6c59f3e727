// The control plane stopped on all hosts of a restore, so that nothing writes and no API server keeps what it remembers; and started again in the
// order in which its parts need each other.
import { HostFailedError } from '../../errors.ts'
import { componentServes, processesOf, restartComponent } from '../../kubernetes/components/control.ts'
import type { ComponentName, FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import { waitFor } from '../../operations/wait.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { afterwards, firstChange, nothing, type OnCluster, type OnHost, seconds, where } from '../given/context.ts'
import { apiServerHosts, layoutOf } from '../given/found.ts'
import { etcdHosts, machines } from '../given/hosts.ts'
import { well as wellAgain } from '../rescue/well.ts'
import { nodesReady as allReady, kubelet } from '../restart/kubelets.ts'
import { memberWell } from '../restart/members.ts'
import { has, type Variables } from './given.ts'

/** In the order in which they are stopped; the other way round they are started. */
const controlPlane = ['kube-scheduler', 'kube-controller-manager', 'kube-apiserver', 'etcd'] as const

const own = (ctx: OnHost, names: readonly ComponentName[] = controlPlane): FoundComponent[] =>
  names.flatMap(name => {
    const found = layoutOf(ctx).components[name]
    return found && found.runs.kind !== 'pod' ? [found] : []
  })

const units = (found: readonly FoundComponent[]) =>
  found.flatMap(({ runs }) => (runs.kind === 'unit' ? [runs.unit] : []))

/** The kubelet of a host, where it starts something of the control plane. */
const kubeletOf = (ctx: OnHost): string[] =>
  own(ctx).some(({ runs }) => runs.kind === 'static-pod')
    ? units(own(ctx, ['kubelet'])).concat(own(ctx, ['kubelet']).length === 0 ? ['kubelet.service'] : [])
    : []

/** How long what is told to end may take until it is killed. */
const patience = 20

/**
 * Stops what a host has of the control plane: the kubelet first that would start it again, where it is pods. Graceful, for a while; then killed.
 * @throws HostFailedError where something of it goes on
 */
export async function stopped(ctx: OnHost): Promise<void> {
  const found = own(ctx)
  const pods = found.filter(({ runs }) => runs.kind === 'static-pod')
  for (const unit of [...kubeletOf(ctx), ...units(found)])
    await ctx.$({ nothrow: true, quiet: true })`timeout 60 systemctl stop ${unit} || systemctl kill -s KILL ${unit}`
  const running = (await Promise.all(pods.map(one => processesOf(ctx, one)))).flat()
  if (running.length > 0)
    await ctx.$({ nothrow: true })`kill -TERM ${running} 2>/dev/null; n=0
while [ $n -lt ${patience * 5} ]; do
  left=; for p in ${running}; do ! kill -0 $p 2>/dev/null || left="$left $p"; done
  [ "$left" ] || exit 0
  sleep 0.2; n=$((n + 1))
done
kill -KILL $left 2>/dev/null || :`
  await waitFor(
    `the control plane of ${ctx.host.name} to end`,
    { within: seconds(30), every: 250, signal: ctx.signal, host: ctx.host.name },
    async () => (await Promise.all(found.map(one => processesOf(ctx, one)))).flat().length === 0,
  )
}

/** Has units of a host start, whatever came of their starts before, and waits for none. */
async function begin(ctx: OnHost, names: readonly string[]): Promise<void> {
  for (const unit of names) await ctx.$`systemctl reset-failed ${unit} 2>/dev/null; systemctl start --no-block ${unit}`
}

const isMember = (ctx: OnHost) => own(ctx).length > 0

/** Stops the control plane on all hosts of the run. Undone by starting it again, once all that was put in place is back. */
export const stop: StepDefinition<OnHost> = where<OnHost>(isMember, {
  plan: ctx => `stop ${[...kubeletOf(ctx), ...own(ctx).map(({ component }) => component)].join(', ')}`,
  run: async ctx => {
    ctx.milestone(firstChange)
    await stopped(ctx)
  },
  rollback: async ctx => {
    await begin(ctx, [...units(own(ctx)).toReversed(), ...kubeletOf(ctx)])
    await waitFor(
      `the control plane of ${ctx.host.name} to be started again`,
      { within: seconds(180), every: 500, signal: ctx.signal, host: ctx.host.name },
      async () => (await Promise.all(own(ctx).map(one => processesOf(ctx, one)))).every(one => one.length > 0),
    )
  },
})

/** Starts etcd, and the kubelets that start it and the others. */
export const members: StepDefinition<OnHost> = where<OnHost>(isMember, {
  plan: ctx => `start ${[...units(own(ctx, ['etcd'])), ...kubeletOf(ctx)].join(', ') || 'nothing yet'}`,
  run: ctx => begin(ctx, [...units(own(ctx, ['etcd'])), ...kubeletOf(ctx)]),
  rollback: nothing,
})

/** Waits until every member of etcd answers what needs a quorum. */
export const quorum: StepDefinition<OnHost> = {
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    await Promise.all(etcdHosts(ctx).map(host => memberWell(ctx, host)))
  },
}

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

/** Restarts the kubelet of a host: what it knows is of another time. */
export const kubelets: StepDefinition<OnCluster> = { ...kubelet, rollback: nothing }

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

/** A kubelet that has seen something end again and again waits for five minutes before it starts it once more. */
const longestPause = seconds(330)

/** Waits until controller-managers and schedulers serve. */
export const controllers: StepDefinition<OnHost> = {
  ...afterwards,
  run: async ctx => {
    for (const found of own(ctx, ['kube-controller-manager', 'kube-scheduler']))
      await waitFor(
        `${found.component} of ${ctx.host.name} to serve`,
        { within: longestPause, every: 500, signal: ctx.signal, host: ctx.host.name },
        () => componentServes(ctx, found).catch(notYet),
      )
  },
}

function notYet(error: unknown): boolean {
  if (error instanceof HostFailedError) return false
  throw error
}

/** Waits until the cluster is well, as `rekey validate` looks at it. */
export const well: StepDefinition<OnCluster> = { ...wellAgain, when: afterwards.when }
