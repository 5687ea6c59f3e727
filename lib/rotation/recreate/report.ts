// What the disruptive way tells at its end: what a rotation does, and whom it has left with nothing; that of a run that failed before its end, too.
import { firstOf } from '../../kubernetes/before/secrets.ts'
import type { ReportSection } from '../../playbook/model.ts'
import { firstChange } from '../given/context.ts'
import { whole } from '../report.ts'
import { notWell } from '../rescue/well.ts'
import { replacedIn } from './pods.ts'

/** All of it; nothing for a check. */
export async function report(ctx: Parameters<typeof whole>[0]): Promise<ReportSection[]> {
  const sections = await whole(ctx)
  if (ctx.check) return sections
  const isBack = ctx.mode === 'rollback'
  if (!isBack && !ctx.timeline.milestones.has(firstChange)) return sections
  const { left = [], cut = [] } = replacedIn(ctx) ?? {}
  const handedOut: ReportSection['rows'] = isBack
    ? []
    : [
        ['kubeconfigs', 'hand out new ones: nobody is let in with what was handed out before'],
        [
          'backups',
          'they hold the keys of before, here and on the hosts: remove them once there is no way back any more',
        ],
      ]
  const rows = [
    ...handedOut,
    ...(left.length > 0 ? [['pods that nobody makes anew', `start them yourself: ${firstOf(left)}`] as const] : []),
    ...(cut.length > 0
      ? [['pods that were cut off', `see whether they are to run again: ${firstOf(cut)}`] as const]
      : []),
  ]
  // What was not well at the end of the way there is nothing that the way back has looked at.
  const unwell = isBack ? [] : notWell(ctx)
  return [...sections, ...unwell, ...(rows.length > 0 ? [{ title: 'What is left to do', rows }] : [])]
}
