// What users notice, from before the first change to the end; and what was true before it: credentials, Secrets, counts of canaries.
import { z } from 'zod'
import { type Secret, secret } from '../connection/shell.ts'
import { readAdministrator } from '../kubernetes/api/cluster.ts'
import { type PodsBefore, podsBefore } from '../kubernetes/before/pods.ts'
import { type SecretsBefore, secretsBefore } from '../kubernetes/before/secrets.ts'
import type { ProbeIdentity } from '../kubernetes/probes/api-prober.ts'
import { type WayInside, wayInside } from '../kubernetes/probes/inside.ts'
import {
  apiServerOf,
  type CanaryCounts,
  type ProbeReport,
  type Probes,
  probeApis,
  readCanaries,
  unreachable,
} from '../kubernetes/probes/probes.ts'
import { type TokenSecret, tokenSecrets } from '../kubernetes/trust/tokens.ts'
import { serviceOfTheApi } from '../kubernetes/workloads.ts'
import type { RunContext, StepDefinition } from '../playbook/model.ts'
import { administratorOf, apiServerOf as apiServerAt } from './given/administrator.ts'
import { afterwards, type OnCluster, type OnHost } from './given/context.ts'
import { conditionsOf, type Looking, must } from './given/found.ts'
import { isMaster, machines, masters } from './given/hosts.ts'

export const variables = {
  /** Where users reach the API: the load balancer in front of the masters. */
  api_server: z.url(),
  /** A folder on the hosts in which canaries write what they counted. */
  canary_results: z.string().optional(),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

interface ProbeOptions {
  readonly standing?: boolean
  readonly inside?: ReadonlyMap<string, WayInside>
}

/** The probes of a run, once it has started them. */
export interface RunProbes {
  start(addresses: readonly string[], identities: readonly ProbeIdentity[], options?: ProbeOptions): void
  /** Has them ask as somebody else, too; nothing where none were started. */
  also(identity: ProbeIdentity): void
  /** Ends them and tells what they saw; undefined where none were started. */
  stop(since?: number): Promise<ProbeReport | undefined>
  /** The ways inside that they ask through, by what they are called. */
  readonly inside: ReadonlyMap<string, WayInside>
}

export interface WithProbes {
  readonly probes: RunProbes
}

export function openProbes(): RunProbes {
  let running: Probes | undefined
  const inside = new Map<string, WayInside>()
  return {
    start: (addresses, identities, { standing = false, inside: ways = new Map() } = {}) => {
      for (const [name, way] of ways) inside.set(name, way)
      running ??= probeApis([...addresses, ...[...inside.values()].map(({ address }) => address)], identities, {
        standing,
      })
    },
    also: identity => running?.also(identity),
    stop: async since => {
      const seen = await running?.stop(since)
      for (const way of inside.values()) way.close()
      return seen
    },
    inside,
  }
}

const probesStep = 'start-the-probes'
const credentialsStep = 'note-credentials'

/** Where the API is asked: at each server, and where users reach it, if that is another place. */
export function probedAddresses(
  ctx: Pick<RunContext<Pick<Variables, 'api_server'>>, 'vars' | 'hosts' | 'registered'>,
): {
  readonly endpoint?: string
  readonly servers: readonly (readonly [master: string, address: string])[]
} {
  const servers = ctx
    .hosts(masters)
    .map(master => [master.name, apiServerOf(master, apiServerAt(ctx, master).port)] as const)
  const endpoint = new URL(ctx.vars.api_server).origin
  return { servers, endpoint: servers.some(([, address]) => address === endpoint) ? undefined : endpoint }
}

/** Tells from where the API can't be asked: a figure of the report is missing then, and nothing else. */
export const lookForTheApi: StepDefinition<OnHost<Variables>> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const { endpoint, servers } = probedAddresses(ctx)
    const asked = [...(endpoint === undefined ? [] : [['api_server', endpoint] as const]), ...servers]
    const told = await Promise.all(
      asked.map(async ([name, address]) => ({ name, address, reason: await unreachable(address) })),
    )
    for (const { name, address, reason } of told) {
      if (reason !== undefined)
        ctx.log(`${name}: ${address} can't be reached from here (${reason}): its gap will not be known`)
    }
  },
}

/**
 * Asks the API servers, and whatever stands before them, many times a second, as the administrator whose kubeconfig lies there now and
 * the one of before; registers what the canaries had counted.
 */
export const startProbes: StepDefinition<OnHost<Variables> & WithProbes> = {
  id: probesStep,
  when: ctx => !ctx.check,
  runOnce: true,
  readOnly: true,
  run: ctx => start(ctx, {}),
}

/**
 * The same over connections that stand, too: kept alive, HTTP/2, a watch; and of the Service of the API, as a master and a node reach it. For
 * procedures in which no call may fail.
 */
export const startProbesOfAllKinds: StepDefinition<OnCluster<Variables> & WithProbes> = {
  ...startProbes,
  run: async ctx => start(ctx, { standing: true, inside: await waysInside(ctx) }),
}

/** Ways to the Service of the API through a master and, where there is one, a machine that is none. */
async function waysInside(ctx: OnCluster): Promise<Map<string, WayInside>> {
  // On a way back nobody may answer yet: it goes on without.
  const [service] = await ctx.cluster
    .api()
    .then(serviceOfTheApi)
    .catch((error: Error) => {
      ctx.signal.throwIfAborted()
      ctx.log(`the Service of the API is not asked: ${error.message}`)
      return []
    })
  if (!service) return new Map()
  const [master, node] = [ctx.hosts(masters)[0], ctx.hosts(machines).find(host => !isMaster({ host }))]
  const ways = await Promise.all(
    [master, node]
      .filter(host => host !== undefined)
      .map(async host => {
        try {
          const session = await ctx.on(host)
          const socket = await session.forward(service.address, service.port)
          socket.destroy()
          return [`the Service, from ${host.name}`, await wayInside(session, service.address, service.port)] as const
        } catch (error) {
          // One way that is closed, or a host that is lost by now, takes none of the others away.
          ctx.signal.throwIfAborted()
          ctx.log(`the Service of the API can't be reached from ${host.name}: ${(error as Error).message}`)
          return undefined
        }
      }),
  )
  return new Map(ways.filter(way => way !== undefined))
}

async function start(ctx: OnHost<Variables> & WithProbes, options: ProbeOptions): Promise<Counted> {
  const { endpoint, servers } = probedAddresses(ctx)
  const addresses = servers.map(([, address]) => address)
  const before = ctx.registered<Before>(credentialsStep)?.admin
  const identities = [await administrator(ctx), before && { ...before, key: before.key.reveal() }]
  ctx.probes.start(
    endpoint === undefined ? addresses : [endpoint, ...addresses],
    identities.filter(one => one !== undefined),
    options,
  )
  // A resumed run counts from where the first part of it began.
  return { canaries: counted(ctx)?.canaries ?? (await canaries(ctx)) }
}

/** Has the probes ask as the administrator whose kubeconfig lies there now, too: those that reread their files refuse the one of before. */
export async function askAsAdministrator(ctx: OnHost & WithProbes): Promise<void> {
  const now = await administrator(ctx)
  if (now) ctx.probes.also(now)
}

export const probeAsAdministrator: StepDefinition<OnHost & WithProbes> = {
  ...afterwards,
  runOnce: true,
  run: askAsAdministrator,
}

async function administrator(ctx: OnHost): Promise<ProbeIdentity | undefined> {
  const { host, path } = administratorOf(ctx, ctx.host)
  const { files } = await ctx.on(host)
  const { certificate, key } = await readAdministrator(one => files.readText(one), path, `${host.name}:${path}`)
  return certificate && key ? { certificate, key } : undefined
}

interface Counted {
  readonly canaries: CanaryCounts[]
}

/** What the canaries had counted before the first change, of the rotation or of its way back. */
export function canariesBefore(ctx: Looking & Pick<RunContext, 'mode'>): CanaryCounts[] {
  return counted(ctx)?.canaries ?? []
}

function counted({ mode, registered }: Looking & Pick<RunContext, 'mode'>): Counted | undefined {
  return registered<Counted>(mode === 'rollback' ? `undo-${probesStep}` : probesStep)
}

/** What the canaries have counted by now; none where the inventory names no folder for them. */
export async function canaries(
  ctx: Pick<RunContext<Pick<Variables, 'canary_results'>>, 'vars' | 'hosts' | 'on'>,
): Promise<CanaryCounts[]> {
  const folder = ctx.vars.canary_results
  if (folder === undefined) return []
  return (await Promise.all(ctx.hosts(machines).map(async host => readCanaries(await ctx.on(host), folder)))).flat()
}

/** The credentials that worked before, and what Secrets and pods were like. */
export interface Before {
  readonly admin?: { readonly certificate: string; readonly key: Secret }
  readonly tokens: readonly TokenSecret[]
  /** Runs of earlier versions noted one digest of all. */
  readonly secrets: SecretsBefore | string
  readonly pods?: PodsBefore
}

/** What was noted before the first change. Throws `HostFailedError` where nothing was. */
export function beforeOf(ctx: Looking): Before {
  return must(ctx.registered<Before>(credentialsStep), 'the old credentials were not noted')
}

/** Registers what `beforeOf` gives: of the administrator and of token Secrets what must be refused, of Secrets what must stay. */
export const noteCredentials: StepDefinition<OnCluster> = {
  id: credentialsStep,
  runOnce: true,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<Before> => {
    const admin = await administrator(ctx)
    const api = await ctx.cluster.api()
    const tokens = await tokenSecrets(api)
    for (const { token } of tokens) ctx.redact(token.reveal())
    return {
      admin: admin && { ...admin, key: secret(admin.key) },
      tokens,
      secrets: await secretsBefore(api, ctx.signal),
      pods: await podsBefore(api, { absent: conditionsOf(ctx).absent, signal: ctx.signal }),
    }
  },
}
