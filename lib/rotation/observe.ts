// What users notice, from before the first change to the end; and what was true before it: credentials, Secrets, counts of canaries.
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type Secret, secret } from '../connection/shell.ts'
import type { Cluster } from '../kubernetes/api/cluster.ts'
import { readKubeconfig } from '../kubernetes/api/kubeconfig.ts'
import { adminKubeconfig } from '../kubernetes/layout/kubeadm/index.ts'
import {
  apiServerOf,
  type CanaryCounts,
  type GapReport,
  type Probes,
  probeApis,
  readCanaries,
} from '../kubernetes/probes/probes.ts'
import { type TokenSecret, tokenSecrets } from '../kubernetes/trust/tokens.ts'
import type { RunContext, StepDefinition } from '../playbook/model.ts'
import type { OnCluster, OnHost } from './given/context.ts'
import { type Looking, must } from './given/found.ts'
import { machines, masters } from './given/hosts.ts'

export const variables = {
  /** Where users reach the API: the load balancer in front of the masters. */
  api_server: z.url(),
  /** A folder on the hosts in which canaries write what they counted. */
  canary_results: z.string().optional(),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** The probes of a run, once it has started them. */
export interface RunProbes {
  start(addresses: readonly string[]): void
  /** Ends them and tells by address what they saw; undefined where none were started. */
  stop(): Promise<ReadonlyMap<string, GapReport> | undefined>
}

export interface WithProbes {
  readonly probes: RunProbes
}

export function openProbes(): RunProbes {
  let running: Probes | undefined
  return {
    start: addresses => {
      running = probeApis(addresses)
    },
    stop: async () => running?.stop(),
  }
}

const probesStep = 'start-the-probes'
const credentialsStep = 'note-credentials'

/** Asks the API servers, and whatever stands before them, many times a second; registers what the canaries had counted. */
export const startProbes: StepDefinition<OnHost<Variables> & WithProbes> = {
  id: probesStep,
  when: ctx => !ctx.check,
  runOnce: true,
  readOnly: true,
  run: async ctx => {
    ctx.probes.start([ctx.vars.api_server, ...ctx.hosts(masters).map(master => apiServerOf(master))])
    // A resumed run counts from where the first part of it began.
    return { canaries: ctx.registered<Counted>(probesStep)?.canaries ?? (await canaries(ctx)) }
  },
}

interface Counted {
  readonly canaries: CanaryCounts[]
}

/** What the canaries had counted before the first change. */
export function canariesBefore(ctx: Looking): CanaryCounts[] {
  return ctx.registered<Counted>(probesStep)?.canaries ?? []
}

/** What the canaries have counted by now; none where the inventory names no folder for them. */
export async function canaries(
  ctx: Pick<RunContext<Pick<Variables, 'canary_results'>>, 'vars' | 'hosts' | 'on'>,
): Promise<CanaryCounts[]> {
  const folder = ctx.vars.canary_results
  if (folder === undefined) return []
  return (await Promise.all(ctx.hosts(machines).map(async host => readCanaries(await ctx.on(host), folder)))).flat()
}

/** The credentials that worked before, and a digest of what must not change. */
export interface Before {
  readonly admin?: { readonly certificate: string; readonly key: Secret }
  readonly tokens: readonly TokenSecret[]
  readonly secrets: string
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
    const { certificate, key } = readKubeconfig(await ctx.files.readText(adminKubeconfig), adminKubeconfig)
    const api = await ctx.cluster.api()
    const tokens = await tokenSecrets(api)
    for (const { token } of tokens) ctx.redact(token.reveal())
    const admin = certificate && key ? { certificate, key: secret(key) } : undefined
    return { admin, tokens, secrets: await secretsDigest(api) }
  },
}

/** What all Secrets hold, but for the tokens, which change. One text to compare; nothing can be read out of it. */
export async function secretsDigest(api: Awaited<ReturnType<Cluster['api']>>): Promise<string> {
  const secrets = await api.list('/api/v1/secrets?fieldSelector=type%21%3Dkubernetes.io%2Fservice-account-token')
  const bootstrap = (type: unknown) => type === 'bootstrap.kubernetes.io/token'
  const entries = secrets
    .filter(one => !bootstrap(one['type']))
    .map(({ metadata, data }) => `${metadata.namespace}/${metadata.name} ${JSON.stringify(data ?? {})}`)
  return createHash('sha256').update(entries.sort().join('\n')).digest('hex')
}
