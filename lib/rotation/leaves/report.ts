// What a renewal of leaves tells at its end: what is new and until when, what was started anew, what users noticed.
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import { type AuthorityName, placePath } from '../../pki/specs.ts'
import type { ReportMetric, ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnHost } from '../given/context.ts'
import { planStep, readingStep } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import { verifiedCertificates } from '../issue.ts'
import { swapIn } from '../keysets/leaves.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
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

/** What there is and how much of it is due, the first to end; for `--metrics` the first of each component on each host, and each CA. */
function found(ctx: Pick<RunContext, 'registered'>, plan: LeafPlan): ReportSection {
  const { specs, all, oldAuthorities } = plan
  const ends = all.flatMap(({ hosts, place, component }) =>
    hosts.flatMap(host => {
      // What was put in place there is what was verified before.
      const now = ctx.registered(swapIn.id ?? '', host) === undefined ? {} : verifiedCertificates(ctx, host)
      const path = placePath(place)
      const pem = now[path] ?? ctx.registered<MachineReading>(readingStep, host)?.certificates[path]
      return pem ? [{ host, component, path, pem, end: endOf(pem) }] : []
    }),
  )
  const sorted = ends.toSorted((one, other) => one.end - other.end)
  const [first] = sorted
  return {
    title: 'Certificates',
    rows: [
      ['due', specs.length > 0 ? `${specs.length} of ${all.length}` : `none of ${all.length}: nothing was changed`],
      ...(first ? [['ends first', `${first.host}:${first.path} on ${dayOfEnd(first.pem)}`] as const] : []),
    ],
    metrics: [
      ...[...Map.groupBy(sorted, ({ host, component }) => `${host} ${component}`).values()].flatMap(([one]) =>
        one
          ? endMetric('certificate', 'the first certificate of a component on a host', one.end, {
              host: one.host,
              component: one.component,
            })
          : [],
      ),
      ...Object.entries(oldAuthorities).flatMap(([role, pem]) =>
        pem ? endMetric('authority', 'a CA', endOf(pem), { authority: keysetOf(role as AuthorityName) }) : [],
      ),
    ],
  }
}

/**
 * A time and not what is left: it stays true until the next run, also where that fails before it has looked.
 * @param end in milliseconds since 1970
 */
const endMetric = (name: string, what: string, end: number, labels: Record<string, string>): ReportMetric => ({
  ...{ name: `rekey_${name}_end_timestamp_seconds`, help: `When ${what} ends, in seconds since 1970.` },
  ...{ value: end / 1_000, labels },
})

/** In milliseconds since 1970. */
const endOf = (pem: string) => parseCertificate(pem).notAfter.getTime()

/** All of it; of a check, and where nothing was due, what was found. */
export async function whole(ctx: Run): Promise<ReportSection[]> {
  const plan = ctx.registered<LeafPlan>(planStep)
  if (ctx.check || plan?.specs.length === 0) return plan ? [found(ctx, plan)] : []
  const changed = ctx.mode !== 'rollback' && ctx.timeline.milestones.has(firstChange)
  // Of a run that has looked at all hosts, any of them will do.
  const onHost = { ...ctx, host: ctx.hosts(everyMachine)[0] } as unknown as OnHost
  const started = changed ? restart.restarted(onHost) : []
  return [
    ...phases(ctx).slice(0, 1),
    ...(changed ? newLeaves(ctx) : []),
    ...(plan && ctx.mode !== 'rollback' ? [found(ctx, plan)] : []),
    ...(started.length > 0 ? [{ title: 'Started anew, one after the other', rows: started }] : []),
    ...(await noticed(ctx)),
    ...outOfTheOrdinary(ctx),
    whereToLook(ctx),
  ]
}
