// A member of etcd started anew with its leadership handed on before, and what shows that it is back.
import { endComponent, startedAnew } from '../../kubernetes/components/control.ts'
import { etcdHealthy, etcdMembers, etcdStanding, moveLeadership } from '../../kubernetes/components/etcd.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, layoutOf } from '../given/found.ts'
import { etcdHosts } from '../given/hosts.ts'
import { nextTo, requireAccepted, type Variables } from './traffic.ts'

/** How long all API servers and members of etcd may take to be well before one is taken away. */
export const wellWithin = seconds(180)
/** How long a member of etcd or an API server may take to be there again. */
export const startsWithin = seconds(180)

/** Throws `HostFailedError` where no gap is accepted, and etcd has too few members for one to be restarted while the others are a quorum. */
export function requireQuorum(ctx: Pick<OnHost<Variables>, 'hosts' | 'vars'>): void {
  const { length } = etcdHosts(ctx)
  if (length === 0 || length > 2) return
  const many = length === 1 ? 'one member' : 'two members'
  const why = `etcd has ${many}: while one is restarted there is no quorum, and no API server answers`
  requireAccepted(ctx, why, { code: 'drained.quorum' })
}

/** Fails where a restart of a member of etcd that is wanted would leave no quorum, and nobody has accepted that. */
export function quorumStays<Vars extends Variables>(
  wanted: (ctx: OnCluster<Vars>) => boolean,
): StepDefinition<OnCluster<Vars>> {
  return { readOnly: true, runOnce: true, when: wanted, run: requireQuorum }
}

/** Waits until a member of etcd answers what needs a quorum. */
export async function memberWell(ctx: OnHost, host: Host): Promise<void> {
  const session = await ctx.on(host)
  await waitFor(
    `etcd of ${host.name} to answer what needs a quorum`,
    { within: wellWithin, every: 500, signal: ctx.signal, host: host.name },
    () => etcdHealthy(session, etcdAccess(layoutOf(ctx, host.name))),
  )
}

/** Restarts the member of etcd of a host, after another one was made the leader where it was it. */
export async function restartMember(ctx: OnHost, session: HostSession): Promise<void> {
  const { host } = session
  const found = componentOf(ctx, 'etcd', host.name)
  const access = etcdAccess(layoutOf(ctx, host.name))
  // On a host that is busy etcdctl gives up after its five seconds: by then the API server may have been ended, so it is asked again.
  await waitFor(
    `another member of etcd than that of ${host.name} to lead`,
    { within: seconds(60), signal: ctx.signal, host: host.name },
    async () => {
      const { id, leader } = await etcdStanding(session, access)
      const another = id === leader ? await nextLeader(ctx, session, id) : undefined
      if (!another) return true
      ctx.log(`${another.name} leads etcd from now on, instead of ${host.name}`)
      await moveLeadership(session, access, another.id)
      return true
    },
  )
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
