// What a rotation tells at its end: how long what took, which CAs and certificates are new, what users noticed, where to look.
import { join } from 'node:path'
import { z } from 'zod'
import { canaryReport, type GapReport, type ServerGaps, type StandingReport } from '../kubernetes/probes/probes.ts'
import { parseCertificate } from '../pki/certificates/certificate.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { ReportSection, RunContext } from '../playbook/model.ts'
import * as drift from './as-found/drift.ts'
import { type Mounts, madeSoFar, plansOf } from './authorities.ts'
import { type Variables as BackupVariables, folderOf } from './backup.ts'
import { firstChange } from './given/context.ts'
import { conditionsOf, type Looking, type Plan, planStep } from './given/found.ts'
import { everyMachine } from './given/hosts.ts'
import { verifiedUntil } from './issue.ts'
import * as leftBehind from './left-behind.ts'
import {
  canaries,
  canariesBefore,
  type Variables as ObserveVariables,
  probedAddresses,
  type WithProbes,
} from './observe.ts'
import * as tokens from './tokens.ts'
import { toldAfterwards } from './verify.ts'

export const variables = {
  /** What to tell at the end: commands to look around with. */
  look_around: z.array(z.string()).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Row = readonly [string, string]
type LookAround = RunContext<BackupVariables & Variables>

/** How long each play took. */
export function plays({ timeline }: Pick<RunContext, 'timeline'>): ReportSection {
  return {
    title: 'Phases',
    rows: timeline.plays.map(({ title, milliseconds }) => [title, formatDuration(milliseconds)]),
  }
}

/** How long it took from the first change until the API answered, where it had been away. */
export function untilTheApiAnswers({ timeline: { milestones } }: Pick<RunContext, 'timeline'>): ReportSection[] {
  const [began, answers] = [milestones.get(firstChange), milestones.get('the API answers')]
  if (began === undefined || answers === undefined) return []
  return [{ title: 'The API', rows: [['answers after', formatDuration(answers - began)]] }]
}

/** How long each play took, and what came when after the first change. */
export function phases(ctx: Pick<RunContext, 'mode' | 'timeline'>): ReportSection[] {
  const {
    mode,
    timeline: { milestones },
  } = ctx
  const since = (name: string) => {
    const [from, to] = [milestones.get(firstChange), milestones.get(name)]
    return from === undefined || to === undefined ? 'not reached' : formatDuration(to - from)
  }
  const sections = [plays(ctx)]
  if (mode === 'rollback' || !milestones.has(firstChange)) return sections
  const rows: Row[] = [
    ['until the nodes are Ready', since('nodes ready')],
    ['until all is verified', since('verified')],
  ]
  return [...sections, { title: 'From the first change', rows }]
}

/** The old CAs and the new ones, and how many files hold new certificates. Nothing where none were made. */
export function trust(ctx: RunContext<Mounts>): ReportSection[] {
  const plan = ctx.registered<Plan>(planStep)
  const made = madeSoFar(ctx)
  if (!plan || !made) return []
  const rows = plansOf(ctx).flatMap(({ mount, authorities }) =>
    authorities.map((name): Row => {
      const old = plan.oldAuthorities[name]
      const next = made[mount]
      return [
        name,
        `old ${old ? parseCertificate(old).fingerprint : 'none'}\nnew ${next?.fingerprint}\nuntil ${next?.notAfter.slice(0, 10)}`,
      ]
    }),
  )
  const sections: ReportSection[] = [{ title: 'CAs (SHA-256)', rows }]
  if (!ctx.timeline.milestones.has(firstChange)) return sections
  return [...sections, { title: 'Certificates replaced', rows: replaced(ctx, plan) }]
}

/** How many files hold new certificates, by component, and until when the first of them holds. */
function replaced(ctx: Pick<RunContext<unknown>, 'registered' | 'hosts'>, { specs }: Plan): Row[] {
  const verified = ctx.hosts(everyMachine).map(({ name }) => verifiedUntil(ctx, name))
  return [...Map.groupBy(specs, ({ component }) => component)].map(([component, group]) => {
    const files = group.reduce((sum, { hosts }) => sum + hosts.length, 0)
    const [until] = verified
      .map(one => one[component])
      .filter(one => one !== undefined)
      .sort()
    return [component, `${files} ${files === 1 ? 'file' : 'files'}, until ${until?.slice(0, 10) ?? 'unknown'}`]
  })
}

/** How long the API did not answer, and what canaries counted. Ends the probes; nothing where none were started. */
export async function noticed(ctx: RunContext<ObserveVariables> & WithProbes): Promise<ReportSection[]> {
  const { began, milestones } = ctx.timeline
  const changed = milestones.get(firstChange)
  const seen = await ctx.probes.stop(changed === undefined ? undefined : began + changed)
  if (!seen) return []
  const { endpoint, servers } = probedAddresses(ctx)
  const addresses = servers.map(([, address]) => address)
  const gapTo = (address: string) => describeGaps(seen.servers.get(address))
  const unseen = -(changed ?? 0)
  const all = [...seen.servers.values()]
    .filter(one => !nobodyAnswered(one))
    .flatMap(({ read, write, standing }) => (standing ? [read, write, ...Object.values(standing)] : []))
  const sum = (what: 'calls' | 'failures') => all.reduce((so, one) => so + one[what], 0)
  const api: ReportSection = {
    title: 'API gap: reads and writes that failed',
    rows: [
      ...(endpoint === undefined ? [] : [[new URL(endpoint).host, gapTo(endpoint)] as const]),
      ...servers.map(([name, address]): Row => [name, gapTo(address)]),
      ...(servers.length > 1 ? [['any of them', describeGaps(seen.anyOf(addresses))] as const] : []),
      ...[...ctx.probes.inside].map(([name, { address }]): Row => [name, gapTo(address)]),
      ...(all.length > 0 ? [['in all', `${sum('failures')} of ${sum('calls')} calls failed`] as const] : []),
      ...(unseen > 0
        ? [['not seen', `the ${formatDuration(unseen)} from the first change until this part of the run`] as const]
        : []),
    ],
    curves: [
      ...(endpoint === undefined ? [] : seen.curvesOf(new URL(endpoint).host, endpoint)),
      ...servers.flatMap(([name, address]) => seen.curvesOf(name, address)),
      ...[...ctx.probes.inside].flatMap(([name, { address }]) => seen.curvesOf(name, address)),
    ],
  }
  const counted = canaryReport(canariesBefore(ctx), await canaries(ctx))
  const calls = (kind: string, what: string): Row[] => {
    const one = counted.get(kind)
    if (!one) return []
    const last = one.lastError ? `\nlast: ${one.lastError.slice(0, 60)}` : ''
    return [[what, `${one.failures} of ${one.calls} failed, ${one.refused} of them refused${last}`]]
  }
  const rows = [
    ...calls('service', 'calls to a Service'),
    ...calls('token', 'API calls with a pod’s token'),
    ...calls('legacy-token', 'API calls with a token from a Secret'),
  ]
  return rows.length > 0 ? [api, { title: 'Workloads', rows }] : [api]
}

/** Nobody was ever there, also before the first change: that is no gap, but nothing known. */
const nobodyAnswered = ({ read: { calls, failures, earlier } }: ServerGaps) =>
  calls > 0 && failures === calls && (earlier?.failures ?? 0) === (earlier?.calls ?? 0)

function describeGaps(seen: ServerGaps | undefined): string {
  if (!seen) return 'not asked'
  const { read, write } = seen
  const gap = ({ calls, failures, longest, total }: GapReport) =>
    failures === 0
      ? `none (${calls} calls)`
      : `longest ${formatDuration(longest)}, in total ${formatDuration(total)} (${failures} of ${calls} failed)`
  const apart = ({ earlier, unheard }: GapReport) =>
    [
      ...(earlier && earlier.failures > 0
        ? [`, ${earlier.failures} of ${earlier.calls} failed before the first change`]
        : []),
      ...(unheard ? [`, of ${unheard} nothing is known: this machine was too busy to hear`] : []),
    ].join('')
  if (nobodyAnswered(seen))
    return `not known: nobody answered, from the beginning (${read.reasons.map(([reason]) => reason).join(', ')})`
  const why = (one: GapReport) =>
    (one.failures === 0 ? '' : `: ${one.reasons.map(([reason, calls]) => `${calls} ${reason}`).join(', ')}`) +
    apart(one)
  const stood = (what: string, { again, later, ...one }: StandingReport, repeated: string) =>
    [
      `${what} ${gap(one)}${why(one)}`,
      ...(again > 0 ? [`${again} ${repeated}`] : []),
      ...(later > 0 ? [`${later} told to come later`] : []),
    ].join(', ')
  const { kept, http2, watch } = seen.standing ?? {}
  return [
    `reads ${gap(read)}${why(read)}`,
    `writes ${gap(write)}${why(write)}`,
    ...(kept ? [stood('kept alive', kept, 'asked again')] : []),
    ...(http2 ? [stood('HTTP/2', http2, 'asked again')] : []),
    ...(watch ? [stood('watch', watch, 'times taken up again')] : []),
  ].join('\n')
}

/** What was out of the ordinary before the first change, and what has changed since by itself. */
export function outOfTheOrdinary(ctx: Looking & Pick<RunContext, 'hosts' | 'mode'>): ReportSection[] {
  return unusual([
    ['before', [...conditionsOf(ctx).told, ...drift.toldOf(ctx, ctx.hosts(everyMachine))].join('\n')],
    refusedTokens(ctx),
    ['at the end', toldAfterwards(ctx).join('\n')],
  ])
}

const refusedTokens = (ctx: Parameters<typeof tokens.notRenewed>[0]): Row => [
  'tokens that are refused',
  tokens.notRenewed(ctx).join('\n'),
]

function unusual(rows: readonly Row[]): ReportSection[] {
  const told = rows.filter(([, lines]) => lines !== '')
  return told.length > 0 ? [{ title: 'Out of the ordinary', rows: told }] : []
}

/** Where backups, the log and the new kubeconfig are, and what to look around with. */
export function whereToLook(ctx: LookAround): ReportSection {
  const fetched = ctx.mode !== 'rollback' && ctx.timeline.milestones.has('verified')
  return {
    title: 'Where to look',
    rows: [
      ['backups on the hosts', folderOf(ctx)],
      ['backups here', join(ctx.folder, 'backups')],
      ...(fetched ? [['new kubeconfig', join(ctx.folder, 'admin.conf')] as const] : []),
      ['log', join(ctx.folder, 'events.jsonl')],
      ...(ctx.vars.look_around.length > 0 ? [['look around', ctx.vars.look_around.join('\n')] as const] : []),
    ],
  }
}

/** All of it: nothing for a check, and after a way back nothing of CAs and certificates, nor of what was found before it. */
export async function whole(
  ctx: LookAround & RunContext<Mounts & ObserveVariables> & WithProbes,
): Promise<ReportSection[]> {
  if (ctx.check) return []
  if (ctx.mode === 'rollback')
    return [...phases(ctx), ...(await noticed(ctx)), ...unusual([refusedTokens(ctx)]), whereToLook(ctx)]
  return [
    ...phases(ctx),
    ...trust(ctx),
    ...(await noticed(ctx)),
    ...outOfTheOrdinary(ctx),
    ...leftBehind.report(ctx),
    whereToLook(ctx),
  ]
}
