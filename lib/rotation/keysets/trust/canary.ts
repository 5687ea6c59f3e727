// The first API server as a canary: what a stage changes there is watched by its log before the others get it. Where that tells of clients that can't
// follow, the change is taken back there by itself, the clients are named, and the stage stops.
import { isIP } from 'node:net'
import type { z } from 'zod'
import { HostFailedError } from '../../../errors.ts'
import { foreignWords } from '../../../foreign-words.ts'
import { clockOf, type Logging, loggedLines } from '../../../kubernetes/probes/log.ts'
import { waitFor } from '../../../operations/wait.ts'
import { parseCertificate } from '../../../pki/certificates/certificate.ts'
import { duration, formatDuration } from '../../../playbook/duration.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type Variables as ConditionVariables, isAccepted } from '../../conditions.ts'
import { type OnCluster, seconds } from '../../given/context.ts'
import { apiServerHosts, layoutOf, planOf, readingOf } from '../../given/found.ts'
import { keptCertificates } from '../kept.ts'
import { clusterKeysetOf, formerOf } from '../state.ts'
import { keysetOf } from '../which/chosen.ts'

export const variables = {
  /** How long the first API server's log is watched for clients that can't follow, before the others are changed; where nothing is said, not at all. */
  canary_watch: duration.default(0),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Canary = OnCluster<Variables & ConditionVariables & BackupVariables>

/** Somebody who can't follow. */
export interface Behind {
  /** As `accept` has it, behind `client/`. */
  readonly name: string
  readonly what: string
}

/** How an API server's log tells of clients that can't follow a change. */
export interface Sign<in Needs> {
  /** What is looked for, an expression of grep -Ei; undefined where this change shuts out nobody. */
  pattern(ctx: Needs): string | undefined
  /** Who it was, by the lines in which it was found. */
  behind(ctx: Needs, lines: readonly string[]): Promise<Behind[]>
  /** Whether the API server writes these lines only where it is told to say much. */
  readonly traced?: true
  /** Waits until the change is in force on its host. */
  inForce?(ctx: Needs): unknown
  /** Reads what the way back takes away; what it returns makes that ready once more, for a run that is gone on with. */
  prepared?(ctx: Needs): Promise<() => Promise<void>>
}

/** How many of the last lines of the log are looked through each time. */
const most = 50_000

/** A step over the hosts that changes what an API server presents, or whom it lets in, with the first of them as a canary. */
export function asCanary<Needs extends Canary>(
  change: StepDefinition<Needs>,
  sign: Sign<Needs>,
): StepDefinition<Needs> {
  return {
    ...change,
    run: async ctx => {
      const watch = await begin(ctx, sign)
      if (!watch) return change.run(ctx)
      const behind = async () => {
        const lines = await loggedLines(ctx, watch.log, watch.pattern, most)
        const all = await sign.behind(
          ctx,
          lines.filter(({ at }) => at >= watch.since).map(({ line }) => line),
        )
        return all.filter(({ name }) => !isAccepted(ctx, `client/${name}`))
      }
      try {
        const done = await change.run(ctx)
        await sign.inForce?.(ctx)
        if (!(await seenWithin(ctx, async () => (await behind()).length > 0))) return done
        const again = await sign.prepared?.(ctx)
        await change.rollback?.(ctx)
        await again?.()
        throw leftBehind(ctx, await behind())
      } finally {
        await watch.end()
      }
    },
  }
}

/** What is watched, from when on; undefined where nothing is. */
async function begin<Needs extends Canary>(ctx: Needs, sign: Sign<Needs>) {
  const { name } = ctx.host
  if (!(ctx.vars.canary_watch > 0) || apiServerHosts(ctx)[0]?.name !== name) return undefined
  const pattern = sign.pattern(ctx)
  if (pattern === undefined) return undefined
  const { runs, flags } = layoutOf(ctx).components['kube-apiserver']!
  const cannot = (why: string) =>
    ctx.log(`${name}: nobody is watched for clients that can’t follow: ${foreignWords(why)}`)
  if (runs.kind === 'pod') return void cannot('its API server is a pod of the API')
  const log: Logging = runs.kind === 'unit' ? runs : { ...runs, node: readingOf(ctx).nodeName }
  try {
    if ((await loggedLines(ctx, log, '.', 1)).length === 0) return void cannot('its API server has logged nothing')
    const said = sign.traced ? await tracing(ctx, flags['v']?.at(-1)) : undefined
    const end = async () =>
      said?.().catch(({ message }: Error) =>
        ctx.log(`${name}: its API server goes on to say more: ${foreignWords(message)}`),
      )
    return { log, pattern, since: await clockOf(ctx), end }
  } catch (error) {
    ctx.signal.throwIfAborted()
    return void cannot((error as Error).message)
  }
}

/** Handshakes are told of at this verbosity. No secret is: bodies of requests begin at 8. */
const handshakes = 5

/** Has an API server say as much. Returns what makes it say what it did again. */
async function tracing(ctx: OnCluster, own = '0'): Promise<() => Promise<void>> {
  if (Number(own) >= handshakes) return async () => {}
  const api = await ctx.cluster.apiOf(ctx.host)
  await api.putText('/debug/flags/v', String(handshakes))
  return async () => {
    const again = await ctx.cluster.apiOf(ctx.host)
    await again.putText('/debug/flags/v', own)
  }
}

/** Whether something is seen within the time that is watched. */
async function seenWithin({ vars, signal, log }: Canary, isSeen: () => Promise<boolean>): Promise<boolean> {
  const until = performance.now() + vars.canary_watch
  const outcome = await waitFor(
    'clients',
    // It ends by itself, however long a look takes.
    { within: vars.canary_watch + seconds(600), every: 1_000, signal },
    async () => ((await isSeen()) ? 'seen' : performance.now() >= until && 'none'),
  )
  if (outcome === 'none') log(`nobody was seen for ${formatDuration(vars.canary_watch)} who can’t follow`)
  return outcome === 'seen'
}

function leftBehind({ host }: Canary, behind: readonly Behind[]): HostFailedError {
  const accepted = behind.map(({ name }) => `client/${name}`).join(', ')
  return new HostFailedError(
    `clients can’t follow, and the API server of ${host.name} is as it was again: ${behind.map(({ what }) => what).join('; ')}`,
    {
      code: 'keysets.clients-behind',
      host: host.name,
      hint: `Hand them what is trusted now (rekey kubeconfig), restart their pods, and go on with rekey resume; or undo with rekey rollback. Or let them be shut out: accept: [${accepted}].`,
    },
  )
}

/** Clients that end the handshake since they don't believe what the API server presents: after the promotion of the CA by which it is believed. */
export const unbelieving: Sign<Canary> = {
  traced: true,
  pattern: ctx => (clusterKeysetOf(ctx) ? 'TLS handshake error from [^ ]+: (remote|local) error: tls: ' : undefined),
  behind: async (ctx, lines) => {
    const addresses = new Set(lines.flatMap(line => addressIn(line) ?? []))
    return Promise.all([...addresses].map(async name => ({ name, what: await whoHas(ctx, name) })))
  },
}

/**
 * What clients that don't believe a server make of a handshake: Go's and Java's alerts; and OpenSSL's of TLS 1.3, which comes before it has changed to the
 * keys that the server reads it with.
 */
const unbelievingClient =
  /TLS handshake error from \[?([0-9A-Fa-f.:]+?)\]?:\d+: (?:remote error: tls: (?:bad certificate|unknown certificate|unknown certificate authority|expired certificate)|local error: tls: bad record MAC)(?:$|[^a-z ])/

/** The address of a client that did not believe an API server, of a line of its log. */
export function addressIn(line: string): string | undefined {
  const [, address = ''] = unbelievingClient.exec(line) ?? []
  return isIP(address) ? address : undefined
}

/** Whose address it is: a pod's, a host's, somebody's. */
async function whoHas(ctx: Canary, address: string): Promise<string> {
  const host = Object.entries(planOf(ctx).addresses ?? {}).find(([, own]) => own === address)?.[0]
  if (host !== undefined) return `somebody on ${host} (${address})`
  const api = await ctx.cluster.api()
  const pods = await api.list(`/api/v1/pods?fieldSelector=${encodeURIComponent(`status.podIP=${address}`)}`)
  const names = pods.map(({ metadata }) => `Pod ${metadata.namespace}/${metadata.name}`)
  return names.length > 0 ? `${names.join(', ')} (${address})` : `somebody at ${address}`
}

/** Clients that come by a certificate that the old CA has signed: at its distrust. */
export const outdated: Sign<Canary> = {
  pattern: ctx => {
    const state = clusterKeysetOf(ctx)
    const keys = (state ? formerOf(state) : []).flatMap(
      ({ certificate }) => parseCertificate(certificate).subjectKeyId ?? [],
    )
    if (keys.length === 0) return undefined
    const written = keys.map(key => key.replaceAll(':', '').replace(/..(?!$)/g, '$&:'))
    return `verifying certificate SN=[0-9]+, SKID=[0-9A-F:]*, AKID=(${written.join('|')}) failed`
  },
  behind: async (ctx, lines) => {
    const serials = new Set(lines.flatMap(line => serialIn(line) ?? []))
    if (serials.size === 0) return []
    const kept = (await keptCertificates(ctx, keysetOf('kubernetes'))).map(pem => parseCertificate(pem))
    return [...serials].map(name => {
      const one = kept.find(({ serialNumber }) => serialNumber.replace(/^0+/, '') === name)
      return {
        name,
        what: one
          ? `somebody with the old certificate of ${one.subject}`
          : `somebody with a certificate of the serial number ${name}`,
      }
    })
  },
}

/** The serial number of a certificate that an API server has refused, in hex, of a line of its log. */
export function serialIn(line: string): string | undefined {
  const [, decimal] = /verifying certificate SN=(\d{1,60}),/.exec(line) ?? []
  return decimal === undefined ? undefined : BigInt(decimal).toString(16)
}
