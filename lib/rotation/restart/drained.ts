// A master's API server, and the member of etcd beside it, started anew with no call failing: its new connections are handed to another
// master, what it has begun is ended, it is told to go, etcd hands its leadership on and starts anew, and the traffic comes back once the
// server is ready. One master at a time, and the next only when all are well. docs/decisions/0018 says why so, and what was measured.
import { isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import { endComponent, processesOf, servedAt, startedAnew } from '../../kubernetes/components/control.ts'
import { presentedCertificates } from '../../kubernetes/components/endpoints.ts'
import { etcdHealthy, etcdMembers, etcdStanding, moveLeadership } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import {
  connectionsOf,
  type Destination,
  type HandedOver,
  handOver,
  takeBack,
  toolsOf,
} from '../../kubernetes/components/handover.ts'
import { readyAddresses, serviceOfTheApi } from '../../kubernetes/workloads.ts'
import { waitFor } from '../../operations/wait.ts'
import { duration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, layoutOf } from '../given/found.ts'
import { etcdHosts, isMaster, machines, masters } from '../given/hosts.ts'
import { freshKubelet } from './nodes.ts'
import { ending } from './told.ts'

export const variables = {
  /** How long calls that an API server has begun may take to end, once it takes no new ones. */
  drain_timeout: duration.default(seconds(20)),
  /** Whether the only API server of a cluster may be away while it starts anew. */
  accept_gap: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What is started anew together. */
export type Drained = 'kube-apiserver' | 'etcd'

type Drains = OnCluster<Variables>

/** How long all API servers and members of etcd may take to be well before one is taken away. */
const wellWithin = seconds(180)
/** How long after the handover an API server is left alone: who has connected just before has asked by then. */
const connectedWithin = seconds(2)
/** For how long the number of connections must stand still to be of those that watch, and would never end. */
const still = seconds(2)
/** How long an API server may take to stop listening, its own `--shutdown-delay-duration` among it. */
const stopsWithin = seconds(180)
const startsWithin = seconds(180)

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

async function memberWell(ctx: OnHost, host: Host): Promise<void> {
  const session = await ctx.on(host)
  await waitFor(
    `etcd of ${host.name} to answer what needs a quorum`,
    { within: wellWithin, every: 500, signal: ctx.signal, host: host.name },
    () => etcdHealthy(session, etcdAccess(layoutOf(ctx, host.name))),
  )
}

/**
 * Hands the traffic of a master over, and proves it from every other host. Undefined where there is no other API server, or the host can't hand
 * anything over: that is told, and its clients then have what load balancers and kube-proxies do for them.
 */
async function handedToAnother(ctx: Drains, session: HostSession): Promise<HandedOver | undefined> {
  const { host } = session
  const another = nextTo(ctx.hosts(masters), host)
  if (!another) {
    requireGapAccepted(ctx, host)
    ctx.log(`${host.name} has the only API server: the API is away until it is back`)
    return undefined
  }
  const own = reachedAt(ctx, host)
  const services = await serviceOfTheApi(await ctx.cluster.api())
  let handed: HandedOver | undefined
  try {
    handed = await handOver(session, { port: own.port, to: reachedAt(ctx, another), services })
    await proven(ctx, session, handed, [own, ...services])
    ctx.log(`new connections to the API server of ${host.name} go to ${another.name}`)
    await delay(connectedWithin, undefined, { signal: ctx.signal })
    return handed
  } catch (error) {
    await handed?.takeBack()
    ctx.signal.throwIfAborted()
    if (!(error instanceof HostFailedError)) throw error
    ctx.log(`${error.message}. Calls to its API server fail from its end until load balancers and nodes have noticed`)
    return undefined
  }
}

/** Throws `HostFailedError` where no gap is accepted, for a master whose API server no other can stand in for. */
export function requireGapAccepted({ vars }: { readonly vars: Variables }, { name }: Host): void {
  if (vars.accept_gap) return
  throw new HostFailedError(`${name} has the only API server: no other can take its traffic`, {
    code: 'drained.alone',
    host: name,
    hint: 'With -e accept_gap=true it is restarted, and the API is away until it is back.',
  })
}

function nextTo(all: readonly Host[], { name }: Host): Host | undefined {
  const at = all.findIndex(one => one.name === name)
  return [...all.slice(at + 1), ...all.slice(0, at)][0]
}

/** Where other hosts reach a master's API server. */
function reachedAt(ctx: OnHost, { name, connection }: Host): Destination {
  const found = componentOf(ctx, 'kube-apiserver', name)
  const address = found.flags['advertise-address']?.at(-1) ?? connection.address
  const { port } = servedAt(found)
  if (isIP(address)) return { address, port }
  throw new HostFailedError(`the API server of ${name} says nowhere at which address it is reached`, {
    code: 'drained.address',
    host: name,
    hint: `Set its --advertise-address, or ansible_host of ${name} to its address: ${address} is a name.`,
  })
}

/**
 * Proves that who asks for a master's API server from another host, or for the Service from that one, is answered by another: it shakes
 * hands, and the kernel has counted it.
 */
async function proven(
  ctx: OnHost,
  session: HostSession,
  handed: HandedOver,
  [own, ...services]: readonly [Destination, ...Destination[]],
): Promise<void> {
  const { name } = session.host
  const askers = await Promise.all(
    ctx
      .hosts(machines)
      .filter(host => host.name !== name)
      .map(host => ctx.on(host)),
  )
  const family = services.filter(({ address }) => isIP(address) === isIP(own.address))
  const asked = [...askers.map(asker => [asker, own] as const), ...family.map(service => [session, service] as const)]
  await waitFor(
    `connections to the API server of ${name} to be handed over`,
    { within: seconds(30), every: 500, signal: ctx.signal, host: name },
    async () => {
      const before = await handed.count()
      await Promise.all(
        asked.map(([asker, { address, port }]) =>
          presentedCertificates(
            () => asker.forward(address, port),
            `${address}:${port}, as ${asker.host.name} reaches it,`,
          ),
        ),
      )
      const more = (await handed.count()) - before
      if (more >= asked.length) return true
      throw new Error(`of ${asked.length} only ${more} were`)
    },
  )
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

/** Restarts the member of etcd of a host, after another one was made the leader where it was it. */
async function restartMember(ctx: OnHost, session: HostSession): Promise<void> {
  const { host } = session
  const found = componentOf(ctx, 'etcd', host.name)
  const access = etcdAccess(layoutOf(ctx, host.name))
  const { id, leader } = await etcdStanding(session, access)
  if (id === leader) {
    const another = await nextLeader(ctx, session, id)
    if (another) {
      ctx.log(`${another.name} leads etcd from now on, instead of ${host.name}`)
      await moveLeadership(session, access, another.id)
    }
  }
  const before = await endComponent(session, found)
  await startedAnew(session, found, before, { within: startsWithin, signal: ctx.signal })
  await memberWell(ctx, host)
}

/**
 * Who leads etcd next: the member of the host before this one, which has been restarted already, or is the last to be. A write that is on its
 * way to the leader as it hands on may get lost, and is answered seconds later: the fewer times, the better.
 */
async function nextLeader(
  ctx: OnHost,
  session: HostSession,
  own: string,
): Promise<{ readonly id: string; readonly name: string } | undefined> {
  const { host } = session
  const access = etcdAccess(layoutOf(ctx, host.name))
  const members = (await etcdMembers(session, access)).filter(one => one.id !== own && !one.learner)
  const before = nextTo(etcdHosts(ctx).toReversed(), host)
  const { id } = before
    ? await etcdStanding(await ctx.on(before), etcdAccess(layoutOf(ctx, before.name)))
    : { id: undefined }
  return members.find(one => one.id === id) ?? members.at(-1)
}

async function serverReady(ctx: OnCluster, host: Host): Promise<void> {
  ctx.cluster.forget(`the API server of ${host.name} was restarted`)
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
