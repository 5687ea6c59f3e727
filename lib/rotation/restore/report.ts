// What a restore tells at its end: what came back from when, how long it took, and where what was there before lies.

import { asideIn } from '../../kubernetes/backups/etcd-data.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { formatDuration } from '../../playbook/duration.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange } from '../given/context.ts'
import { readingStep } from '../given/found.ts'
import { etcdHosts } from '../given/hosts.ts'
import { phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { leftOf } from '../rescue/well.ts'
import { has, type Variables } from './given.ts'

type Run = RunContext<Variables & BackupVariables & ReportVariables>

/** All of it; of a check what was told. */
export function report(ctx: Run): ReportSection[] {
  const told = ctx.registered<string[]>('say-what-will-be-lost') ?? []
  const before: ReportSection[] = told.length > 0 ? [{ title: 'Lost and changed', rows: [['', told.join('\n')]] }] : []
  const { milestones } = ctx.timeline
  if (ctx.check || ctx.mode === 'rollback' || !milestones.has(firstChange)) return before
  const [began, answers] = [milestones.get(firstChange), milestones.get('the API answers')]
  const left = leftOf(ctx)
  return [
    ...before,
    ...phases(ctx),
    ...(began === undefined || answers === undefined
      ? []
      : [{ title: 'The API', rows: [['answers after', formatDuration(answers - began)]] as const }]),
    ...(has(ctx, 'etcd')
      ? [{ title: "etcd's data of before, to be removed once nobody needs it", rows: aside(ctx) }]
      : []),
    ...(left.length > 0
      ? [{ title: 'Not well at the end, and not waited for', rows: [['', left.join('\n')]] as const }]
      : []),
    whereToLook(ctx),
  ]
}

function aside(ctx: Run): (readonly [string, string])[] {
  return etcdHosts(ctx).flatMap(({ name }) => {
    const layout = ctx.registered<MachineReading>(readingStep, name)?.layout
    return layout?.components.etcd ? [[name, asideIn(etcdAccess(layout).data, ctx.run)] as const] : []
  })
}
