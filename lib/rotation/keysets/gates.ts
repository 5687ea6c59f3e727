// What decides whether a stage may begin, and whether it is done: each server asked now, by somebody of the CA that is meant. Files and
// revisions are hints.
import { HostFailedError } from '../../errors.ts'
import type { ComponentName } from '../../kubernetes/layout/host-layout.ts'
import { type Door, doorOf, extensionDoors, isKnown, type Visitor } from '../../kubernetes/probes/doors.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
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

/** How long a server may take until it has read its files again, or heard of it from the API. */
const patience = seconds(75)

/** Servers that go by files of their host, and those that hear of the CAs through the API. */
const byFiles: readonly ComponentName[] = ['kube-apiserver', 'kube-controller-manager']
const byTheApi: readonly ComponentName[] = ['kube-scheduler']

/** Fails unless the servers of a host that go by its files let in a client of each of these CAs. */
export function letsIn<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: ctx => !ctx.check, run: ctx => knownOnHost(ctx, which) }
}

/** The same for every server of the cluster, extension API servers among them: a gate. */
export function allLetIn<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    readOnly: true,
    runOnce: true,
    when: ctx => !ctx.check,
    run: async ctx => {
      const doors = await everyDoor(ctx)
      for (const state of statesOf(ctx)) {
        for (const item of which(ctx, state)) {
          const visitor = await visitorOf(ctx, state, item)
          await Promise.all(doors.map(door => requireKnown(ctx, door, visitor, state, item)))
        }
      }
      ctx.log(`${doors.length} servers asked`)
    },
  }
}

/** Fails unless the servers of a host that go by its files refuse clients of these CAs, old ones and one that is made now. */
export function refuses<Needs extends OnServer>(which: Which<Needs>): StepDefinition<Needs> {
  return { readOnly: true, when: ctx => !ctx.check, run: ctx => unknownOnHost(ctx, which) }
}

/** The same for every server of the cluster. */
export function allRefuse<Needs extends OnServers>(which: Which<Needs>): StepDefinition<Needs> {
  return {
    readOnly: true,
    runOnce: true,
    when: ctx => !ctx.check,
    run: async ctx => {
      const doors = await everyDoor(ctx)
      for (const state of statesOf(ctx)) {
        for (const item of which(ctx, state)) {
          for (const visitor of await oldVisitors(ctx, state, item))
            await Promise.all(doors.map(door => requireUnknown(ctx, door, visitor, state, visitor.what)))
        }
      }
      ctx.log(`${doors.length} servers asked`)
    },
  }
}

/** Waits until the servers of a host that go by its files know clients of these CAs. */
export async function knownOnHost<Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Promise<void> {
  for (const state of statesOf(ctx)) {
    for (const item of which(ctx, state)) {
      const visitor = await visitorOf(ctx, state, item)
      await Promise.all(doorsOf(ctx, byFiles).map(door => requireKnown(ctx, door, visitor, state, item)))
    }
  }
}

/** Waits until they know none of these CAs' clients any more. */
export async function unknownOnHost<Needs extends OnServer>(ctx: Needs, which: Which<Needs>): Promise<void> {
  for (const state of statesOf(ctx)) {
    for (const item of which(ctx, state)) {
      for (const visitor of await oldVisitors(ctx, state, item))
        await Promise.all(
          doorsOf(ctx, byFiles).map(door => requireUnknown(ctx, door, visitor, state, visitor.what)),
        )
    }
  }
}

const doorsOf = (ctx: OnHost, components: readonly ComponentName[]): Door[] =>
  components.flatMap(component => doorOf(ctx, layoutOf(ctx), component) ?? [])

/** Every server of the cluster that knows its clients by certificates of the front proxy. */
async function everyDoor(ctx: OnServers): Promise<Door[]> {
  const hosts = ctx.hosts(masters)
  const own = await Promise.all(
    hosts.map(async (host: Host) => {
      const session = await ctx.on(host)
      return [...byFiles, ...byTheApi].flatMap(component => doorOf(session, layoutOf(ctx, host.name), component) ?? [])
    }),
  )
  return [...own.flat(), ...(await extensionDoors(ctx, await ctx.cluster.api(), ctx.signal))]
}

async function requireKnown(ctx: OnHost, door: Door, visitor: Visitor, { name }: KeysetState, { id }: Item): Promise<void> {
  await waitFor(
    `${door.where} to know clients of ${id}, a CA of ${name}`,
    { within: patience, every: 500, signal: ctx.signal },
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

async function requireUnknown(
  ctx: OnHost,
  door: Door,
  visitor: Visitor,
  { name }: KeysetState,
  what: string,
): Promise<void> {
  await waitFor(
    `${door.where} to refuse ${what} (${name})`,
    { within: patience, every: 500, signal: ctx.signal },
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
