// What a rotation tells at its end: how long what took, which CAs and certificates are new, what users noticed, where to look.
import { join } from 'node:path'
import { z } from 'zod'
import { apiServerOf, canaryReport, type GapReport } from '../kubernetes/probes/probes.ts'
import { parseCertificate } from '../pki/certificates/certificate.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { ReportSection, RunContext } from '../playbook/model.ts'
import { type Mounts, madeSoFar, plansOf } from './authorities.ts'
import { type Variables as BackupVariables, folderOf } from './backup.ts'
import { type Plan, planStep } from './given/found.ts'
import { machines, masters } from './given/hosts.ts'
import { verifiedUntil } from './issue.ts'
import { canaries, canariesBefore, type Variables as ObserveVariables, type WithProbes } from './observe.ts'

export const variables = {
  /** What to tell at the end: commands to look around with. */
  look_around: z.array(z.string()).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Row = readonly [string, string]
type LookAround = RunContext<BackupVariables & Variables>

/** How long each play took, and what came when after the first change. */
export function phases({ timeline: { plays, milestones } }: Pick<RunContext, 'timeline'>): ReportSection[] {
  const since = (name: string) => {
    const [from, to] = [milestones.get('first change'), milestones.get(name)]
    return from === undefined || to === undefined ? 'not reached' : formatDuration(to - from)
  }
  const sections: ReportSection[] = [
    { title: 'Phases', rows: plays.map(({ title, milliseconds }) => [title, formatDuration(milliseconds)]) },
  ]
  if (!milestones.has('first change')) return sections
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
  if (!ctx.timeline.milestones.has('first change')) return sections
  return [...sections, { title: 'Certificates replaced', rows: replaced(ctx, plan) }]
}

/** How many files hold new certificates, by component, and until when the first of them holds. */
function replaced(ctx: Pick<RunContext<unknown>, 'registered' | 'hosts'>, { specs }: Plan): Row[] {
  const verified = ctx.hosts(machines).map(({ name }) => verifiedUntil(ctx, name))
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
  const gaps = await ctx.probes.stop()
  if (!gaps) return []
  const gap = ({ calls, failures, longest, total }: GapReport) =>
    `longest ${formatDuration(longest)}, in total ${formatDuration(total)} (${failures} of ${calls} calls failed)`
  const gapTo = (address: string) => {
    const seen = gaps.get(address)
    return seen ? gap(seen) : 'not asked'
  }
  const api: ReportSection = {
    title: 'API gap',
    rows: [
      ['load balancer', gapTo(ctx.vars.api_server)],
      ...ctx.hosts(masters).map((master): Row => [master.name, gapTo(apiServerOf(master))]),
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

/** All of it: nothing for a check, and after a way back only where to look. */
export async function whole(
  ctx: LookAround & RunContext<Mounts & ObserveVariables> & WithProbes,
): Promise<ReportSection[]> {
  if (ctx.check) return []
  if (ctx.mode === 'rollback') return [whereToLook(ctx)]
  return [...phases(ctx), ...trust(ctx), ...(await noticed(ctx)), whereToLook(ctx)]
}
