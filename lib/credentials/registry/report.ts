// What a rotation of a registry's credential tells at its end.
import { firstOf } from '../../kubernetes/before/secrets.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import { machines } from '../given.ts'
import { type Context, ids, type Plan, type Variables } from './given.ts'

/** What was changed, what is left to do, and whether the old one may be revoked. */
export function report(
  run: RunContext<Variables> & Partial<Pick<Context, 'cluster'>> & { readonly outcome: string },
): ReportSection[] {
  const plan = run.registered<Plan>(ids.find)
  const next = run.registered<{ user: string }>(ids.read)
  if (run.mode === 'rollback' || !plan || !next) return []
  const { registry, registry_user: user } = run.vars
  const onNodes = run
    .hosts(machines)
    .map(({ name }) => [name, run.registered<{ changed: string[] }>(ids.files, name)?.changed.length ?? 0] as const)
    .filter(([, count]) => count > 0)
  const isDone = run.outcome === 'done' && !run.check
  const rows: (readonly [string, string] | false)[] = [
    ['registry', registry],
    ['from', user],
    ['to', next.user === user ? `${user}, another password` : next.user],
    ['Secrets', `${plan.holders.length} in ${new Set(plan.holders.map(({ namespace }) => namespace)).size} namespaces`],
    plan.accounts.length > 0 && ['service accounts that hand them to pods', firstOf(plan.accounts)],
    onNodes.length > 0 && ['files on nodes', onNodes.map(([name, count]) => `${name}: ${count}`).join(', ')],
    plan.left.length > 0 && ['left as they are', firstOf(plan.left)],
    plan.others.length > 0 && [
      'Secrets of other types that hold the old one: nobody has changed them',
      firstOf(plan.others),
    ],
    away(run).length > 0 && ['nodes that were not looked at, as was accepted', firstOf(away(run))],
    isDone && ['next', nextOf(run, plan)],
  ]
  return [{ title: 'The credential of a registry', rows: rows.filter(row => row !== false) }]
}

const away = (run: RunContext<Variables>) => run.registered<{ left: string[] }>(ids.everyNode)?.left ?? []

function nextOf(run: RunContext<Variables>, plan: Plan): string {
  const { registry_user: user, registry_log: log } = run.vars
  if (plan.others.length + plan.left.length + away(run).length > 0)
    return `change what is left, then revoke the old credential of ${user}`
  const seen = run.registered(ids.quiet) !== undefined
  return seen
    ? `the old credential of ${user} may be revoked`
    : `${log === undefined ? 'see in the registry’s log (registry_log)' : 'see at the registry'} that nobody uses the old credential of ${user} outside of the cluster, then revoke it`
}
