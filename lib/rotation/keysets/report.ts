// What a stage tells at its end: which CAs there are now, what users noticed, what comes next.
import type { KeysetName } from '../../pki/keyset.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Mounts } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange } from '../given/context.ts'
import { type Plan, planStep } from '../given/found.ts'
import type { Variables as ObserveVariables, WithProbes } from '../observe.ts'
import { noticed, phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { describe, type KeysetState, lookStep, namesOf, type TokenKeys } from './state.ts'
import type { StageRestarts } from './trust/restarts.ts'
import { chosenKeysets, type Variables as KeysetVariables } from './which/chosen.ts'

type Run = RunContext<KeysetVariables & BackupVariables & ReportVariables & Mounts & ObserveVariables> &
  WithProbes & { readonly outcome: 'done' | 'failed' | 'interrupted' }

/** What was started anew by a stage that changed something; nothing where all read their files again. */
function started(restarts: Pick<StageRestarts, 'restarted'> | undefined, ctx: Run): ReportSection[] {
  const isDone = ctx.mode !== 'rollback' && ctx.outcome === 'done'
  const rows = isDone && ctx.timeline.milestones.has(firstChange) ? (restarts?.restarted(ctx as never) ?? []) : []
  return rows.length > 0 ? [{ title: 'Started anew, one after the other', rows }] : []
}

/** How far a stage has brought the keysets. */
export type Stage = 'staged' | 'promoted' | 'distrusted' | 'trusted'

/** What comes next, by what has been done. */
const next: Readonly<Record<Stage, readonly (readonly [string, string])[]>> = {
  staged: [
    ['now', 'old and new are trusted; the old ones sign. It may stay like this.'],
    ['next', 'rekey run promote-keysets, with the same keysets; or rotate-keysets, which goes on from here'],
  ],
  promoted: [
    ['now', 'the new ones sign; old and new are trusted. It may stay like this.'],
    [
      'next',
      'rekey run distrust-keysets, with the same keysets, once nobody uses the old any more; or rotate-keysets, which goes on from here',
    ],
  ],
  distrusted: [['now', 'nobody trusts the old ones. What there is of them is kept on the masters.']],
  trusted: [
    ['now', 'old and new are trusted; the new ones sign. It may stay like this.'],
    ['next', 'rekey run distrust-keysets, once nobody uses the old any more'],
  ],
}

/** The way back, where there is another one than that of any run. */
const back = (stage: Stage) =>
  `rekey rollback of this run${stage === 'distrusted' ? ', or from anywhere: rekey run trust-keysets, with the same keysets' : ''}`

/** What users are to be handed, and which of theirs works still. */
const ofUsers: Readonly<Record<Stage, Partial<Readonly<Record<KeysetName, string>>>>> = {
  staged: {
    'kubernetes-ca':
      'hand them a kubeconfig that trusts both before it is promoted: rekey kubeconfig -i INVENTORY --merge FILE. Until then all that they have works',
    'service-account': 'their tokens work',
  },
  promoted: {
    'kubernetes-ca':
      'a kubeconfig that trusts the old CA alone works no more; certificates that it has signed work until it is distrusted: rekey kubeconfig -i INVENTORY --admin, or --user NAME',
    'service-account':
      'tokens of the old key work until it is distrusted: hand them that of the second Secret, NAME-ID',
  },
  distrusted: {
    'kubernetes-ca': 'certificates that the old CA has signed, and kubeconfigs that trust it alone, work no more',
    'service-account': 'tokens of the old key work no more',
  },
  trusted: {
    'kubernetes-ca': 'certificates that the old CA has signed work again',
    'service-account': 'tokens of the old key work again',
  },
}

/**
 * What comes next once a stage is over, and what users are to be handed.
 * @param keysets which it was about
 */
export function whatComesNext(stage: Stage, keysets: readonly KeysetName[]): (readonly [string, string])[] {
  const told = keysets.flatMap(name => ofUsers[stage][name] ?? [])
  // No other keyset is of any user's.
  const users = told.length > 0 ? told.join('.\n') : 'nothing of theirs has to do with it'
  return [...next[stage], ['users', users], ['back', back(stage)]]
}

/** The report of a run that has come to the end of a stage. */
export function reportOf(
  stage: Stage,
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
    const then = () => whatComesNext(stage, chosenKeysets(ctx))
    return [
      // Nobody waits for nodes here.
      ...phases(ctx).slice(0, 1),
      ...(rows.length > 0 ? [{ title: 'Keys before this stage', rows }] : []),
      ...started(restarts, ctx),
      ...(await noticed(ctx)),
      ...(ctx.mode === 'rollback' || ctx.outcome !== 'done' ? [] : [{ title: 'What comes next', rows: then() }]),
      whereToLook(ctx),
    ]
  }
}
