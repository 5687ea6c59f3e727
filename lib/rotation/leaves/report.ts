// What a renewal of leaves tells at its end: what is new and until when, what was started anew, what users noticed.
import { dayOfEnd } from '../../pki/certificates/certificate.ts'
import { placePath } from '../../pki/specs.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnHost } from '../given/context.ts'
import { planStep } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import { verifiedCertificates } from '../issue.ts'
import type { Variables as ObserveVariables, WithProbes } from '../observe.ts'
import { noticed, outOfTheOrdinary, phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { restart } from './place.ts'
import type { LeafPlan } from './plan.ts'

type Run = RunContext<BackupVariables & ObserveVariables & ReportVariables> &
  WithProbes & { readonly outcome: 'done' | 'failed' | 'interrupted' }

/** What was made anew, by host, and until when it holds; nothing where nothing was planned. */
export function newLeaves(ctx: Pick<RunContext, 'registered' | 'hosts'>): ReportSection[] {
  const plan = ctx.registered<LeafPlan>(planStep)
  return plan && plan.specs.length > 0 ? [renewed(ctx, plan)] : []
}

function renewed(ctx: Pick<RunContext, 'registered' | 'hosts'>, { specs }: LeafPlan): ReportSection {
  const rows = ctx.hosts(everyMachine).flatMap(({ name }) => {
    const certificates = verifiedCertificates(ctx, name)
    const lines = specs
      .filter(({ hosts }) => hosts.includes(name))
      .flatMap(({ place }) => {
        const pem = certificates[placePath(place)]
        return pem === undefined ? [] : [`${placePath(place)} until ${dayOfEnd(pem)}`]
      })
    return lines.length > 0 ? [[name, lines.join('\n')] as const] : []
  })
  return { title: 'New certificates', rows }
}

/** All of it; of a check nothing, and where nothing was due, that. */
export async function whole(ctx: Run): Promise<ReportSection[]> {
  const plan = ctx.registered<LeafPlan>(planStep)
  if (plan?.specs.length === 0)
    return [{ title: 'Certificates', rows: [['due', `none of ${plan.all.length}: nothing was changed`]] }]
  if (ctx.check) return []
  const changed = ctx.mode !== 'rollback' && ctx.timeline.milestones.has(firstChange)
  // Of a run that has looked at all hosts, any of them will do.
  const onHost = { ...ctx, host: ctx.hosts(everyMachine)[0] } as unknown as OnHost
  const started = changed ? restart.restarted(onHost) : []
  return [
    ...phases(ctx).slice(0, 1),
    ...(changed ? newLeaves(ctx) : []),
    ...(started.length > 0 ? [{ title: 'Started anew, one after the other', rows: started }] : []),
    ...(await noticed(ctx)),
    ...outOfTheOrdinary(ctx),
    whereToLook(ctx),
  ]
}
