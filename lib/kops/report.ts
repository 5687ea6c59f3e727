// What a rotation tells at its end.
import type { ReportSection, RunContext } from '../playbook/model.ts'
import { type Exported, kubeconfigFile } from './asked/places.ts'
import type { End, KopsServices, RotationVariables, Variables } from './context.ts'
import type { Plan } from './plan.ts'

type Ended<V> = RunContext<V> & KopsServices & { readonly outcome: string }

const now: Record<End, readonly (readonly [string, string])[]> = {
  staged: [
    ['now', 'old and new are trusted; the old ones sign. It may stay like this.'],
    ['next', 'hand out the kubeconfig with both CAs; then rekey run rotate-kops again'],
  ],
  promoted: [
    ['now', 'the new ones sign; old and new are trusted. It may stay like this.'],
    ['next', 'hand out the admin credential; once nobody uses the old CA, rekey run rotate-kops again'],
  ],
  distrusted: [
    ['now', 'nobody trusts the old ones'],
    ['next', 'hand out the kubeconfig with the new CA alone'],
  ],
}

/** How it ended, for whoever holds the lock of the cluster next, and where the kubeconfigs are. */
export function report(ctx: Ended<RotationVariables>): ReportSection[] {
  ended(ctx)
  const plan = ctx.registered<Plan>('read-the-keysets')
  if (!plan) return []
  const handedOut = (['both', 'admin', 'after'] as readonly Exported[])
    .filter(name =>
      ctx.registered(
        { both: 'export-both-cas', admin: 'export-the-admin-credential', after: 'export-the-new-ca-alone' }[
          name as 'both'
        ],
      ),
    )
    .map(name => [`kubeconfig (${name})`, kubeconfigFile(ctx, name)] as const)
  const scalers = ctx.registered<string[]>('name-the-autoscalers') ?? []
  return [
    {
      title: `Keysets of ${ctx.vars.cluster}`,
      rows: [
        ...plan.keysets.map(({ name, stage, former }) => [name, `was ${stage}; before: ${former.join(', ')}`] as const),
        ...plan.through.map(name => [name, 'was through already'] as const),
        ...(scalers.length > 0 ? [['scaled by', scalers.join('; ')] as const] : []),
        ...(ctx.vars.cloudonly
          ? [['not looked at', 'the API: --cloudonly drains nothing and validates nothing'] as const]
          : []),
        ...handedOut,
        ...(ctx.outcome === 'done' && ctx.mode !== 'rollback' ? now[ctx.vars.until] : []),
      ],
    },
  ]
}

/** For playbooks that have no more to tell. */
export function ended(ctx: Ended<Variables>): ReportSection[] {
  ctx.kops.ended(ctx.outcome)
  return []
}
