// What the disruptive way takes before anything is changed: the word of whoever has read what users will notice, on the way there and back; and, whatever
// steps were chosen, all that must come before one.
import { HostFailedError } from '../../errors.ts'
import { begin, isBegun } from '../../kubernetes/begun.ts'
import { requireTyped } from '../../kubernetes/confirmed.ts'
import {
  type Play,
  type PlayItem,
  play,
  type RunContext,
  type StepContext,
  type StepDefinition,
} from '../../playbook/model.ts'
import { isBlock } from '../../playbook/steps.ts'
import * as backup from '../backup.ts'
import { firstChange } from '../given/context.ts'
import type { Variables } from './given.ts'

type Named = Pick<
  RunContext<Pick<Variables, 'confirm' | 'confirm_rollback'> & { readonly cluster_name: string }>,
  'vars'
>

const page = 'docs/runbooks/recreate-credentials.md'

const notice = [
  'This is the disruptive way: every CA, certificate, key and token is made anew at once. What users will notice:',
  '- The API answers nobody while etcd and the API servers are restarted: half a minute and more.',
  '- Every kubeconfig, client certificate and token of before is refused afterwards, those of CI and of monitoring, too.',
  '- Pods can’t ask the API from then on until each was replaced. All are, at once and without draining, whatever budgets say: whatever runs there is cut off.',
  '- Pods that nobody makes anew stay, and their tokens are refused: start them anew yourself. A running pod of a Job counts as failed.',
  'Where nothing has leaked yet, rekey run rotate-keysets does the same without an outage.',
]

/** Says what users will notice, and goes on where the cluster's name was typed. */
export const confirmed: StepDefinition<Named & Pick<RunContext, 'log' | 'check'>> = {
  id: 'say-what-users-will-notice',
  readOnly: true,
  runOnce: true,
  run: ctx => {
    for (const line of notice) ctx.log(line)
    if (!ctx.check) requireConfirmed(ctx, 'what is said above')
  },
}

/** @param where it stands what users will notice */
function requireConfirmed({ vars: { confirm, cluster_name: name } }: Named, where: string): void {
  requireTyped(confirm, name, { what: 'may be interrupted', page: where, code: 'recreate.not-confirmed' })
}

/** The part of a run from which on pods may hold tokens of the new key: what comes right after the swap. */
const afterSwap = 'after-the-swap'

/** Whether API servers may have given out tokens of the new key: then pods hold what the way back makes worth nothing. */
export const mayHaveNewTokens = (ctx: Pick<RunContext, 'folder'>): boolean => isBegun(ctx, afterSwap)

const noticeBack = [
  'The way back is as disruptive as the way there: the API answers nobody for half a minute and more, and what was handed out since is refused.',
  'Every pod is replaced once more, at once and without draining: whatever runs there is cut off. Pods that nobody makes anew stay.',
]

/** The same for the way back, which somebody may have begun out of habit; where it was taken from the swap alone, no pod is replaced. */
export const confirmedBack: StepDefinition<Named & Pick<RunContext, 'log' | 'folder'>> = {
  id: 'undo-say-what-users-will-notice',
  ...{ readOnly: true, remember: true, runOnce: true },
  run: ctx => {
    for (const line of mayHaveNewTokens(ctx) ? noticeBack : noticeBack.slice(0, 1)) ctx.log(line)
    const { confirm_rollback: typed, cluster_name: name } = ctx.vars
    requireTyped(typed, name, {
      ...{ what: 'may be interrupted once more', page: 'what is said above', code: 'recreate.not-confirmed' },
      variable: 'confirm_rollback',
      hint: ', with whatever else the run was given by -e',
    })
    return { confirmed: name }
  },
}

/** The backups that nothing is changed without: each a step. */
export const backups = {
  hosts: { ...backup.hosts, id: 'back-up-the-hosts' },
  tokens: { ...backup.tokens, id: 'back-up-the-tokens' },
  etcd: { ...backup.etcd, id: 'back-up-etcd' },
}

/** The step from which on the cluster has other credentials than before. */
export const swapStep = 'swap-certificates'

/** What must have come before a step that changes something, by where it stands. */
type Stage = 'before the backups' | 'before the swap' | 'the swap' | 'after the swap'

/**
 * Plays whose steps are not come to by leaving out what must come before them, as with --start-at-step or --tags: each that changes something takes the
 * word, from the backups on these, and after the swap that.
 */
export function guarded<Context extends Named & StepContext>(plays: readonly Play<Context>[]): Play<Context>[] {
  const keeping = Object.values(backups).map(({ id }) => id)
  let left = keeping.length
  let stage: Stage = 'before the backups'
  const guard = (item: PlayItem<Context>): PlayItem<Context> => {
    if (isBlock(item)) return { ...item, steps: item.steps.map(guard) }
    if (item.readOnly) return item
    if (keeping.includes(item.id)) left--
    else if (item.id === swapStep) stage = 'the swap'
    else if (stage === 'the swap') stage = 'after the swap'
    else if (stage === 'before the backups' && left === 0) stage = 'before the swap'
    const own = stage
    return {
      ...item,
      run: async (ctx: Context) => {
        await requireCome(ctx, own)
        return item.run(ctx)
      },
    }
  }
  return plays.map(({ title, steps, ...rest }) => play(title, rest, steps.map(guard)))
}

async function requireCome(ctx: Named & StepContext<unknown>, stage: Stage): Promise<void> {
  requireConfirmed(ctx, page)
  if (stage === 'before the backups') return
  const { hosts, tokens, etcd } = backups
  const missing = [
    ...(ctx.registered(hosts.id, ctx.host.name) === undefined ? [`the backup of ${ctx.host.name}`] : []),
    ...(ctx.registered(tokens.id) === undefined ? ['the backup of token Secrets'] : []),
    ...(ctx.registered(etcd.id) === undefined ? ['the snapshot of etcd'] : []),
  ]
  if (missing.length > 0)
    throw new HostFailedError(`the run has not done what comes before: ${missing.join(', ')}`, {
      code: 'recreate.no-backup',
      host: ctx.host.name,
      hint: `None of these steps can be left out. Begin with all of them: rekey run recreate-credentials, without --start-at-step and --tags; ${page}`,
    })
  if (stage !== 'after the swap') return
  if (!ctx.timeline.milestones.has(firstChange))
    throw new HostFailedError('the new credentials are not in place: this is nothing to do by itself', {
      code: 'recreate.no-swap',
      host: ctx.host.name,
      hint: `It follows them in one run: rekey run recreate-credentials, without --start-at-step and --tags; ${page}`,
    })
  await begin(ctx, afterSwap)
}
