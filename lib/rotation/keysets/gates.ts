// What decides whether a stage may begin, and whether it is done: each server asked now, by somebody of the CA that is meant. Files and
// revisions are hints.
import { HostFailedError } from '../../errors.ts'
import type { ComponentName } from '../../kubernetes/layout/host-layout.ts'
import { type Door, doorOf, extensionDoors, isKnown, type Visitor } from '../../kubernetes/probes/doors.ts'
import { waitFor } from '../../operations/wait.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Mounts } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { layoutOf } from '../given/found.ts'
import { masters } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { oldVisitors, visitorOf, type WithVisitors } from './credentials.ts'
import { type Item, type KeysetState, statesOf } from './state.ts'

type OnServer = OnHost<Mounts & BackupVariables> & WithVault & WithVisitors
type OnServers = OnCluster<Mounts & BackupVariables> & WithVault & WithVisitors

/** Which items of a keyset a gate is about. */
export type Which<Needs> = (ctx: Needs, state: KeysetState) => readonly Item[]

/** Those who ask, of a keyset. */
export type Visitors = (state: KeysetState) => Promise<readonly (Visitor & { readonly what?: string })[]>

/** How long a server may take until it has read its files again, or heard of it from the API. */
const patience = seconds(75)

/** Servers that go by files of their host, and those that hear of the CAs through the API. */
const byFiles: readonly ComponentName[] = ['kube-apiserver', 'kube-controller-manager']
const byTheApi: readonly ComponentName[] = ['kube-scheduler']

const clientsOf =
  <Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Visitors =>
  state =>
    Promise.all(which(ctx, state).map(item => visitorOf(ctx, state, item)))

const oldOf =
  <Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Visitors =>
  async state =>
    (await Promise.all(which(ctx, state).map(item => oldVisitors(ctx, state, item)))).flat()

/** Fails unless the servers of a host that go by its files let in a client of each of these CAs. */
export function letsIn<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: ctx => !ctx.check, run: ctx => acceptedOnHost(ctx, clientsOf(ctx, which)) }
}

/** The same for every server of the cluster, extension API servers among them. */
export function allLetIn<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    ...{ readOnly: true, runOnce: true },
    when: ctx => !ctx.check,
    run: ctx => acceptedEverywhere(ctx, clientsOf(ctx, which)),
  }
}

/** Fails unless the servers of a host that go by its files refuse old clients of these CAs, and one that is made now. */
export function refuses<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: ctx => !ctx.check, run: ctx => refusedOnHost(ctx, oldOf(ctx, which)) }
}

/** The same for every server of the cluster. */
export function allRefuse<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    ...{ readOnly: true, runOnce: true },
    when: ctx => !ctx.check,
    run: ctx => refusedEverywhere(ctx, oldOf(ctx, which)),
  }
}

/** Waits until the servers of a host that go by its files know these. */
export const acceptedOnHost = (ctx: OnServer, visitors: Visitors): Promise<void> =>
  ask(ctx, onHost(ctx), visitors, requireKnown)

/** Waits until they know none of these. */
export const refusedOnHost = (ctx: OnServer, visitors: Visitors): Promise<void> =>
  ask(ctx, onHost(ctx), visitors, requireUnknown)

/** Waits until every server of the cluster knows these. */
export const acceptedEverywhere = async (ctx: OnServers, visitors: Visitors): Promise<void> =>
  ask(ctx, await everyDoor(ctx), visitors, requireKnown)

/** Waits until none of them does. */
export const refusedEverywhere = async (ctx: OnServers, visitors: Visitors): Promise<void> =>
  ask(ctx, await everyDoor(ctx), visitors, requireUnknown)

async function ask(ctx: OnServer, doors: readonly Door[], visitors: Visitors, requirement: typeof requireKnown) {
  for (const state of statesOf(ctx)) {
    for (const visitor of await visitors(state))
      await Promise.all(doors.map(door => requirement(ctx, door, visitor, state)))
  }
  ctx.log(`asked: ${doors.map(({ where }) => where).join(', ')}`)
}

const onHost = (ctx: OnHost): Door[] => byFiles.flatMap(component => doorOf(ctx, layoutOf(ctx), component) ?? [])

/** Every server of the cluster that knows its clients by certificates of the front proxy. */
async function everyDoor(ctx: OnServers): Promise<Door[]> {
  const own = await Promise.all(
    ctx.hosts(masters).map(async host => {
      const session = await ctx.on(host)
      return [...byFiles, ...byTheApi].flatMap(component => doorOf(session, layoutOf(ctx, host.name), component) ?? [])
    }),
  )
  return [...own.flat(), ...(await extensionDoors(ctx, await ctx.cluster.api(), ctx.signal))]
}

async function requireKnown(ctx: OnHost, door: Door, visitor: Visitor & { what?: string }, { name }: KeysetState) {
  await waitFor(
    `${door.where} to know ${visitor.what ?? 'a client of the new CA'} (${name})`,
    { within: patience, signal: ctx.signal },
    () => isKnown(door, visitor),
  ).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(error.message, {
      code: 'keysets.not-let-in',
      hint: 'Its file may hold the CA, and the server not have read it again: a hard link to the file, or one that was moved away and back, stops that until the server is restarted. An extension API server that reads the ConfigMap once needs a restart, too. Then go on with rekey resume, or undo with rekey rollback.',
      cause: error,
    })
  })
}

async function requireUnknown(ctx: OnHost, door: Door, visitor: Visitor & { what?: string }, { name }: KeysetState) {
  await waitFor(
    `${door.where} to refuse ${visitor.what ?? 'a client of the CA that is taken back'} (${name})`,
    { within: patience, signal: ctx.signal },
    async () => !(await isKnown(door, visitor)),
  ).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(error.message, {
      code: 'keysets.still-let-in',
      hint: 'It has not read its files again, or has them from elsewhere: restart it, and go on with rekey resume; or undo with rekey rollback.',
      cause: error,
    })
  })
}
