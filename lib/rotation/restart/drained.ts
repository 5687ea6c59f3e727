// A master's API server, and the member of etcd beside it, started anew with no call failing: its new connections are handed to another
// master, what it has begun is ended, it is told to go, etcd hands its leadership on and starts anew, and the traffic comes back once the
// server is ready. One master at a time, and the next only when all are well. docs/decisions/0018 says why so, and what was measured.
import type { z } from 'zod'
import { endComponent, processesOf, servedAt, startedAnew } from '../../kubernetes/components/control.ts'
import { connectionsOf, takeBack, toolsOf } from '../../kubernetes/components/handover.ts'
import { readyAddresses } from '../../kubernetes/workloads.ts'
import { waitFor } from '../../operations/wait.ts'
import { duration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, layoutOf } from '../given/found.ts'
import { etcdHosts, isMaster, masters } from '../given/hosts.ts'
import { freshKubelet } from './kubelets.ts'
import { memberWell, restartMember, startsWithin, wellWithin } from './members.ts'
import { ending } from './told.ts'
import { handedToAnother, variables as ofTraffic, reachedAt } from './traffic.ts'

export const variables = {
  ...ofTraffic,
  /** How long calls that an API server has begun may take to end, once it takes no new ones. */
  drain_timeout: duration.default(seconds(20)),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What is started anew together. */
export type Drained = 'kube-apiserver' | 'etcd'

type Drains = OnCluster<Variables>

/** For how long the number of connections must stand still to be of those that watch, and would never end. */
const still = seconds(2)
/** How long an API server may take to stop listening, its own `--shutdown-delay-duration` among it. */
const stopsWithin = seconds(180)

/**
 * Restarts the API server of a master drained, and its member of etcd with it, where both are wanted: a step of a play over the masters, one
 * after the other (`serial: 1`). Where API servers ask the member beside them alone, no member is restarted without its API server.
 * @param wanted which of them, of those that the master has; both where nothing is said
 */
export function drained<Vars extends Variables>(
  wanted: (ctx: OnCluster<Vars>) => readonly Drained[] = () => ['kube-apiserver', 'etcd'],
): StepDefinition<OnCluster<Vars>> {
  const of = (ctx: OnCluster<Vars>) => together(ctx, wanted(ctx))
  return {
    when: ctx => of(ctx).length > 0,
    plan: ctx => [
      ...(of(ctx).includes('kube-apiserver') ? ["hand its API server's new connections to another master"] : []),
      ...of(ctx).map(component => ending(ctx, component)),
    ],
    run: ctx => restartDrained(ctx, ctx, of(ctx)),
    rollback: ctx => backInTraffic(ctx, ctx),
  }
}

/** Tells of masters that can't hand their traffic over, and of what they lack for it: a step over the masters, before anything is changed. */
export const lookForHandover: StepDefinition<OnHost> = {
  readOnly: true,
  when: ctx => layoutOf(ctx).components['kube-apiserver'] !== undefined,
  run: async ctx => {
    const { missing } = await toolsOf(ctx, reachedAt(ctx, ctx.host).address)
    if (missing.length > 0) ctx.log(`${ctx.host.name} can't hand its traffic over: it has no ${missing.join(', no ')}`)
  },
}

/** Restarts a member of etcd on a host of its own, its leadership handed on before: a step of a play over those hosts, `serial: 1`. */
export function memberDrained<Vars extends Variables>(
  wanted: (ctx: OnCluster<Vars>) => boolean = () => true,
): StepDefinition<OnCluster<Vars>> {
  return {
    when: ctx => wanted(ctx) && !isMaster(ctx) && layoutOf(ctx).components.etcd !== undefined,
    plan: ctx => ending(ctx, 'etcd'),
    run: ctx => restartDrained(ctx, ctx, ['etcd']),
    rollback: ctx => allWell(ctx),
  }
}

/**
 * Restarts what is wanted of a master, drained. What goes wrong before its API server was told to end gives it its traffic back; afterwards
 * the traffic stays with the other master, until the server is back.
 * @throws HostFailedError where there is no other master and no gap is accepted, or something does not come back in time
 */
export async function restartDrained(ctx: Drains, session: HostSession, wanted: readonly Drained[]): Promise<void> {
  const { name } = session.host
  await allWell(ctx)
  await freshKubelet(ctx, session, wanted)
  ctx.milestone(firstChange)
  if (!wanted.includes('kube-apiserver')) {
    await restartMember(ctx, session)
    return
  }
  const handed = await handedToAnother(ctx, session)
  const found = componentOf(ctx, 'kube-apiserver', name)
  const before = await endComponent(session, found)
  await ended(ctx, session, before)
  if (wanted.includes('etcd')) await restartMember(ctx, session)
  await startedAnew(session, found, before, { within: startsWithin, signal: ctx.signal })
  await serverReady(ctx, session.host)
  await handed?.takeBack()
  await inTheService(ctx, session.host)
  ctx.log(`the API server of ${name} is back in traffic`)
}

/** Those of them that a master has; and the API server with the member that it alone asks. */
export function together(ctx: OnHost, wanted: readonly Drained[], host = ctx.host.name): Drained[] {
  const { 'kube-apiserver': apiServer, etcd } = layoutOf(ctx, host).components
  const servers = (apiServer?.flags['etcd-servers'] ?? []).flatMap(urls => urls.split(','))
  const member = wanted.includes('etcd') && etcd !== undefined
  const server = apiServer !== undefined && (wanted.includes('kube-apiserver') || (member && servers.length === 1))
  return [...(server ? (['kube-apiserver'] as const) : []), ...(member ? (['etcd'] as const) : [])]
}

/** Waits until every API server is ready, and every member of etcd answers what needs a quorum. */
async function allWell(ctx: OnCluster): Promise<void> {
  await Promise.all([
    ...ctx.hosts(masters).map(host => ctx.cluster.apiServerReady(host, { within: wellWithin })),
    ...etcdHosts(ctx).map(host => memberWell(ctx, host)),
  ])
}

/**
 * Waits until an API server that was told to end has ended what it had begun, and has it go. Those that watch would keep it for a minute: they
 * ask another one as soon as they are cut off. Told a second time to end, it does.
 */
async function ended(ctx: Drains, session: HostSession, before: readonly number[]): Promise<void> {
  const { name } = session.host
  const found = componentOf(ctx, 'kube-apiserver', name)
  const { port } = servedAt(found)
  const isGone = async () => {
    const now = await processesOf(session, found)
    return before.every(pid => !now.includes(pid))
  }
  let [stopped, since, count]: [number | undefined, number, number] = [undefined, 0, -1]
  const options = { within: stopsWithin, every: 250, signal: ctx.signal, host: name }
  await waitFor(`the API server of ${name} to end what it had begun`, options, async () => {
    if (await isGone()) return true
    const { listens, standing } = await connectionsOf(session, port)
    const now = performance.now()
    if (listens) return false
    stopped ??= now
    if (standing !== count) [since, count] = [now, standing]
    return standing === 0 || now - since >= still || now - stopped >= ctx.vars.drain_timeout
  })
  if (await isGone()) return
  if (count > 0) ctx.log(`${count} connections to the API server of ${name} still watch, and are cut off`)
  await session.$({ nothrow: true, quiet: true })`kill -TERM ${before}`
  await waitFor(`the API server of ${name} to be gone`, { ...options, within: seconds(60) }, isGone)
}

async function serverReady(ctx: OnCluster, host: Host): Promise<void> {
  // Another stage of the same run restarts it, too.
  ctx.cluster.forget(`the API server of ${host.name} was restarted by ${ctx.run}`)
  await ctx.cluster.apiServerReady(host, { within: startsWithin })
}

/** Waits until the Service of the API leads to a master again: it puts itself there when it is ready. */
async function inTheService(ctx: OnCluster, host: Host): Promise<void> {
  const { address } = reachedAt(ctx, host)
  await waitFor(
    `the Service of the API to lead to ${host.name} again`,
    { within: seconds(60), every: 500, signal: ctx.signal, host: host.name },
    async () =>
      (await readyAddresses(await ctx.cluster.api(), { namespace: 'default', name: 'kubernetes' })).includes(address),
  )
}

/** Gives a master its traffic back, once its API server is ready: nothing where it has it. */
export async function backInTraffic(ctx: OnCluster, session: HostSession): Promise<void> {
  await serverReady(ctx, session.host)
  await takeBack(session)
}
