// What a stage tells at its end: which CAs there are now, what users noticed, what comes next.
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Mounts } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange } from '../given/context.ts'
import { type Plan, planStep } from '../given/found.ts'
import type { Variables as ObserveVariables, WithProbes } from '../observe.ts'
import { noticed, phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { describe, type KeysetState, lookStep, namesOf, type TokenKeys } from './state.ts'
import type { StageRestarts } from './trust/restarts.ts'

type Run = RunContext<BackupVariables & ReportVariables & Mounts & ObserveVariables> &
  WithProbes & { readonly outcome: 'done' | 'failed' | 'interrupted' }

/** What was started anew by a stage that changed something; nothing where all read their files again. */
function started(restarts: Pick<StageRestarts, 'restarted'> | undefined, ctx: Run): ReportSection[] {
  const isDone = ctx.mode !== 'rollback' && ctx.outcome === 'done'
  const rows = isDone && ctx.timeline.milestones.has(firstChange) ? (restarts?.restarted(ctx as never) ?? []) : []
  return rows.length > 0 ? [{ title: 'Started anew, one after the other', rows }] : []
}

/** What comes next once the new ones sign. */
export const oncePromoted = [
  ['now', 'the new ones sign; old and new are trusted. It may stay like this.'],
  ['next', 'rekey run distrust-keysets, with the same keysets, once nobody uses the old any more'],
  ['back', 'rekey rollback of this run'],
] as const

/** The report of a stage; `then` says what comes next, and what users are to be given. */
export function reportOf(
  then: readonly (readonly [string, string])[],
  restarts?: Pick<StageRestarts, 'restarted'>,
): (ctx: Run) => Promise<ReportSection[]> {
  return async ctx => {
    if (ctx.check) return []
    const states = ctx.registered<(KeysetState | TokenKeys)[]>(lookStep) ?? []
    const { leftOut = [] } = ctx.registered<Plan>(planStep) ?? {}
    const rows = [
      ...states.map(state => [namesOf(state).join(', '), state.items.map(describe).join('\n')] as const),
      ...leftOut.map(({ keyset, why }) => [keyset, `left out: ${why}`] as const),
    ]
    return [
      // Nobody waits for nodes here.
      ...phases(ctx).slice(0, 1),
      ...(rows.length > 0 ? [{ title: 'Keys before this stage', rows }] : []),
      ...started(restarts, ctx),
      ...(await noticed(ctx)),
      ...(ctx.mode === 'rollback' || ctx.outcome !== 'done' ? [] : [{ title: 'What comes next', rows: then }]),
      whereToLook(ctx),
    ]
  }
}
