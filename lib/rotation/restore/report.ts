// What a restore tells at its end: what came back from when, how long it took, and where what was there before lies.

import { asideIn } from '../../kubernetes/backups/etcd-data.ts'
import { etcdAccess } from '../../kubernetes/components/etcd-access.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange } from '../given/context.ts'
import { readingStep } from '../given/found.ts'
import { etcdHosts } from '../given/hosts.ts'
import { phases, type Variables as ReportVariables, untilTheApiAnswers, whereToLook } from '../report.ts'
import { notWell } from '../rescue/well.ts'
import { has, type Variables } from './given.ts'

type Run = RunContext<Variables & BackupVariables & ReportVariables>

/** All of it; of a check what was told. */
export function report(ctx: Run): ReportSection[] {
  const told = ctx.registered<string[]>('say-what-will-be-lost') ?? []
  const before: ReportSection[] = told.length > 0 ? [{ title: 'Lost and changed', rows: [['', told.join('\n')]] }] : []
  if (ctx.check || ctx.mode === 'rollback' || !ctx.timeline.milestones.has(firstChange)) return before
  return [
    ...before,
    ...phases(ctx),
    ...untilTheApiAnswers(ctx),
    ...(has(ctx, 'etcd')
      ? [{ title: "etcd's data of before, to be removed once nobody needs it", rows: aside(ctx) }]
      : []),
    ...notWell(ctx),
    whereToLook(ctx),
  ]
}

function aside(ctx: Run): (readonly [string, string])[] {
  return etcdHosts(ctx).flatMap(({ name }) => {
    const layout = ctx.registered<MachineReading>(readingStep, name)?.layout
    return layout?.components.etcd ? [[name, asideIn(etcdAccess(layout).data, ctx.run)] as const] : []
  })
}
