// What decides whether a stage may begin, and whether it is done: each server asked now, by somebody of the CA that is meant. Files and
// revisions are hints.
import { restartComponent } from '../../kubernetes/components/control.ts'
import type { ComponentName, FileRole } from '../../kubernetes/layout/host-layout.ts'
import {
  type Door,
  doorOf,
  etcdDoors,
  extensionDoors,
  fittingFor,
  isKnown,
  type Visitor,
} from '../../kubernetes/probes/doors.ts'
import { waitFor, wasInTime } from '../../operations/wait.ts'
import type { AuthorityName } from '../../pki/specs.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import type { Mounts } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { isAbsent, layoutOf } from '../given/found.ts'
import { everyMachine, masters } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { isController } from '../restart/controllers.ts'
import { currentVisitor, oldVisitors, visitorOf, type WithVisitors } from './credentials.ts'
import { aboutAuthorities, byRole, type Item, type KeysetState, statesOf } from './state.ts'
import { answering, answers, patience, patienceForOthers, requireKnown, requireUnknown } from './trust/known.ts'
import { notedUnknowing, type Unknowing, unknowingStep } from './which/unknowing.ts'

type OnServer = OnHost<Mounts & BackupVariables> & WithVault & WithVisitors
type OnServers = OnCluster<Mounts & BackupVariables> & WithVault & WithVisitors

/** Which items of a keyset a gate is about. */
export type Which<Needs> = (ctx: Needs, state: KeysetState) => readonly Item[]

/** Those who ask, of a keyset. */
export type Visitors = (state: KeysetState) => Promise<readonly (Visitor & { readonly what?: string })[]>

/** The components that know clients by certificates of a CA, and what the file of that is to them. */
const serversOf: Partial<Readonly<Record<AuthorityName, { components: readonly ComponentName[]; role: FileRole }>>> = {
  'front-proxy': {
    components: ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
    role: 'front-proxy-ca',
  },
  kubernetes: {
    components: ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet'],
    role: 'client-ca',
  },
}

/** The servers of a host that know clients of a keyset: those that go by a file of theirs, and those that hear of its CAs through the API. */
function doorsOf(
  ctx: OnHost,
  session: HostSession,
  { authority }: KeysetState,
): [byFile: Door[], others: (Door & { readonly component: ComponentName })[]] {
  const { name } = session.host
  const layout = layoutOf(ctx, name)
  if (authority === 'etcd') return [etcdDoors(session, layout), []]
  const { components = [], role = undefined } = serversOf[authority] ?? {}
  // The kubelet of a node that was accepted as away would be waited for in vain.
  const asked = components.filter(one => one !== 'kubelet' || !isAbsent(ctx, name))
  const doors = asked.map(component => {
    const door = doorOf(session, layout, component)
    return {
      door: door && { ...door, component },
      byFile: layout.components[component]?.files.some(one => one.role === role) ?? false,
    }
  })
  const those = (wanted: boolean) => doors.flatMap(({ door, byFile }) => (door && byFile === wanted ? [door] : []))
  return [those(true), those(false)]
}

/** The keysets of the run, once for each role of their CAs: who serves in it is asked by a client of it. */
const everyRole = (ctx: OnHost) => statesOf(ctx).flatMap(byRole)

/**
 * Registers which servers know no client of these CAs now, and need not afterwards: a scheduler that was started before the API was there goes
 * without until it is started anew. Fails where an API server or controller-manager, which goes by its own files, does not.
 */
export const noteUnknowing: StepDefinition<OnServers> = {
  id: unknowingStep,
  ...{ readOnly: true, remember: true, runOnce: true },
  run: async (ctx): Promise<Unknowing[]> => {
    const unknowing: Unknowing[] = []
    for (const state of everyRole(ctx)) {
      const visitor = await currentVisitor(ctx, state)
      const [own, others] = await everyDoor(ctx, state)
      const known = own.map(async door => {
        const one = door.peersOf === undefined ? visitor : await currentVisitor(ctx, state, door.peersOf)
        const what = state.authority === 'front-proxy' ? 'API servers' : one.user
        if (!(await answers(ctx, door, one, patience)))
          await requireKnown(ctx, door, { ...one, what }, state, seconds(1))
      })
      await Promise.all(known)
      const notKnown = others.map(async door => {
        let silent = true
        try {
          const isKnownNow = await answers(ctx, door, visitor, patienceForOthers)
          silent = false
          if (!isKnownNow)
            await waitFor('it to know them', { within: seconds(1), signal: ctx.signal }, () => isKnown(door, visitor))
          return []
        } catch (error) {
          ctx.signal.throwIfAborted()
          return [{ where: door.where, silent, why: (error as Error).message }]
        }
      })
      for (const { where, silent, why } of (await Promise.all(notKnown)).flat()) {
        unknowing.push(silent ? { where, silent } : { where })
        ctx.log(`${where} knows no client of ${state.name} now, and is not asked afterwards: ${why}`)
      }
    }
    return unknowing
  },
}

/**
 * Starts schedulers and controller-managers anew that hear of these CAs through the API, and know none of their clients any more. Where the only
 * API server is away they end, and one that is started before it is back reads nothing of whom to let in, and never asks again. Those that knew
 * nobody at the beginning stay. Fails where one knows none afterwards, either.
 * @param within milliseconds that one that answers may take until it knows clients again
 */
export async function startUnknowingAnew(ctx: OnServers, within = seconds(10)): Promise<void> {
  const { signal } = ctx
  const unknowing = notedUnknowing(ctx)
  for (const host of ctx.hosts(masters)) {
    const session = await ctx.on(host)
    const layout = layoutOf(ctx, host.name)
    for (const state of everyRole(ctx)) {
      const [, others] = doorsOf(ctx, session, state)
      for (const door of others) {
        const found = layout.components[door.component]
        if (!found || !isController(door.component) || unknowing(door)) continue
        const visitor = await currentVisitor(ctx, state)
        // It may be on its way back from its end.
        if (await answers(ctx, door, visitor, patience)) continue
        const knows = waitFor('it to know them', { within, signal }, () => isKnown(door, visitor))
        if (await wasInTime(knows, signal)) continue
        ctx.log(`${door.where} knows no client of ${state.name} any more, and is started anew`)
        await restartComponent(session, found, { within: seconds(120), signal })
        await requireKnown(ctx, door, visitor, state)
      }
    }
  }
}

/** A client of each of these CAs. */
export const clientsOf =
  <Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Visitors =>
  state =>
    Promise.all(which(ctx, state).map(item => visitorOf(ctx, state, item)))

/** What each of these CAs has signed before, and a client that is made now. */
export const oldOf =
  <Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Visitors =>
  async state =>
    (await Promise.all(which(ctx, state).map(item => oldVisitors(ctx, state, item)))).flat()

/** Whether a host has a server that goes by its files: in a check nobody is asked. */
export const asksHost = (ctx: OnServer) => !ctx.check && everyRole(ctx).some(state => onHost(ctx)(state).length > 0)

/** Fails unless the servers of a host that go by its files let in a client of each of these CAs. */
export function letsIn<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: asksHost, run: ctx => acceptedOnHost(ctx, clientsOf(ctx, which)) }
}

/** The same for every server of the cluster, extension API servers among them. */
export function allLetIn<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    ...{ readOnly: true, runOnce: true },
    when: ctx => !ctx.check && aboutAuthorities(ctx),
    run: ctx => acceptedEverywhere(ctx, clientsOf(ctx, which)),
  }
}

/** Fails unless the servers of a host that go by its files refuse old clients of these CAs, and one that is made now. */
export function refuses<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: asksHost, run: ctx => refusedOnHost(ctx, oldOf(ctx, which)) }
}

/** The same for every server of the cluster. */
export function allRefuse<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    ...{ readOnly: true, runOnce: true },
    when: ctx => !ctx.check && aboutAuthorities(ctx),
    run: ctx => refusedEverywhere(ctx, oldOf(ctx, which)),
  }
}

/** Waits until the servers of a host that go by its files know these. */
export const acceptedOnHost = (ctx: OnServer, visitors: Visitors): Promise<void> =>
  ask(ctx, onHost(ctx), visitors, requireKnown)

/** Waits until they know none of these. */
export const refusedOnHost = (ctx: OnServer, visitors: Visitors): Promise<void> =>
  ask(ctx, onHost(ctx), visitors, requireUnknown)

/** Waits until what was started anew on a host knows these. */
export const acceptedSinceRestart = (ctx: OnServer, session: HostSession, visitors: Visitors): Promise<void> =>
  ask(ctx, restartedOn(ctx, session), visitors, requireKnown)

/** Waits until it knows none of these. */
export const refusedSinceRestart = (ctx: OnServer, session: HostSession, visitors: Visitors): Promise<void> =>
  ask(ctx, restartedOn(ctx, session), visitors, requireUnknown)

/** Waits until every server of the cluster knows these. */
export const acceptedEverywhere = async (ctx: OnServers, visitors: Visitors): Promise<void> =>
  ask(ctx, state => knowingDoors(ctx, state), visitors, requireKnown)

/** Waits until none of them does. */
export const refusedEverywhere = async (ctx: OnServers, visitors: Visitors): Promise<void> =>
  ask(ctx, async (state, all) => answering(ctx, (await everyDoor(ctx, state)).flat(), all), visitors, requireUnknown)

async function ask(
  ctx: OnServer,
  doorsFor: (state: KeysetState, all: readonly Visitor[]) => readonly Door[] | Promise<readonly Door[]>,
  visitors: Visitors,
  requirement: typeof requireKnown | typeof requireUnknown,
) {
  const asked = new Set<string>()
  for (const state of everyRole(ctx)) {
    const all = await visitors(state)
    const doors = await doorsFor(state, all)
    for (const { where } of doors) asked.add(where)
    for (const visitor of all) {
      const fitting = doors.filter(door => fittingFor(door, all).includes(visitor))
      await Promise.all(fitting.map(door => requirement(ctx, door, visitor, state)))
    }
  }
  if (asked.size > 0) ctx.log(`asked: ${[...asked].join(', ')}`)
}

/** Those of a host that read their files again by themselves: members of etcd go by the old ones until they are started anew. */
const onHost = (ctx: OnHost) => (state: KeysetState) => (state.authority === 'etcd' ? [] : doorsOf(ctx, ctx, state)[0])

/** Those of a host that do not. */
const restartedOn = (ctx: OnHost, session: HostSession) => (state: KeysetState) =>
  state.authority === 'etcd' ? doorsOf(ctx, session, state)[0] : []

/** Every server of the cluster that knows clients of a keyset by their certificates: those that go by files, those that go by the API. */
async function everyDoor(ctx: OnServers, state: KeysetState): Promise<[byFiles: Door[], byTheApi: Door[]]> {
  const own = await Promise.all(ctx.hosts(everyMachine).map(async host => doorsOf(ctx, await ctx.on(host), state)))
  const extensions = state.authority === 'etcd' ? [] : await extensionDoors(ctx, await ctx.cluster.api(), ctx.signal)
  return [own.flatMap(([byFile]) => byFile), [...own.flatMap(([, others]) => others), ...extensions]]
}

/** Those of them that knew somebody before. */
async function knowingDoors(ctx: OnServers, state: KeysetState): Promise<Door[]> {
  const unknowing = notedUnknowing(ctx)
  return (await everyDoor(ctx, state)).flat().filter(door => !unknowing(door))
}
