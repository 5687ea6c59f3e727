// What the disruptive way tells at its end: what a rotation does, and whom it has left with nothing.
import type { ReportSection } from '../../playbook/model.ts'
import { whole } from '../report.ts'
import { notWell } from '../rescue/well.ts'
import { leftOf } from './pods.ts'

/** All of it; nothing for a check. */
export async function report(ctx: Parameters<typeof whole>[0]): Promise<ReportSection[]> {
  const sections = await whole(ctx)
  if (ctx.check || ctx.mode === 'rollback' || !ctx.timeline.milestones.has('verified')) return sections
  const left = leftOf(ctx)
  return [
    ...sections,
    ...notWell(ctx),
    {
      title: 'What is left to do',
      rows: [
        ['kubeconfigs', 'hand out new ones: nobody is let in with what was handed out before'],
        [
          'backups',
          'they hold the keys of before, here and on the hosts: remove them once there is no way back any more',
        ],
        ...(left.length > 0
          ? [['pods that nobody makes anew', `start them yourself: ${left.join(', ')}`] as const]
          : []),
      ],
    },
  ]
}
