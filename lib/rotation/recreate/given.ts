// What the disruptive way goes by: the word that it takes, and the backups that come before it.
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import { requireTyped } from '../../kubernetes/confirmed.ts'
import { duration } from '../../playbook/duration.ts'
import type { RunContext, StepDefinition } from '../../playbook/model.ts'
import * as backup from '../backup.ts'
import { seconds } from '../given/context.ts'
import type { Looking } from '../given/found.ts'

export const variables = {
  /** The cluster's name once more: whoever types it has read what users will notice. */
  confirm: z.string().optional(),
  /** How long, at most, until all is well again at the end. */
  wait: duration.default(seconds(600)),
  /** All keysets are made anew here: no key may stay. */
  rotate_service_account_keys: z
    .literal(true, {
      error: 'the key of service accounts is made anew with all others: leave it out, or set it to true',
    })
    .default(true),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Named = Pick<RunContext<Pick<Variables, 'confirm'> & { readonly cluster_name: string }>, 'vars'>

const notice = [
  'This is the disruptive way: every CA, certificate, key and token is made anew at once. What users will notice:',
  '- The API answers nobody while etcd and the API servers are restarted: half a minute and more.',
  '- Every kubeconfig, client certificate and token of before is refused afterwards, those of CI and of monitoring, too.',
  '- Pods can’t ask the API from then on until each was replaced. All are, at once and without draining: whatever runs there is cut off.',
  '- Pods that nobody makes anew stay, and their tokens are refused: start them anew yourself.',
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

/**
 * Fails where nobody has typed the cluster's name.
 * @param page where it stands what users will notice
 */
function requireConfirmed({ vars: { confirm, cluster_name: name } }: Named, page: string): void {
  requireTyped(confirm, name, { what: 'may be interrupted', page, code: 'recreate.not-confirmed' })
}

/** The backups that nothing is changed without: each a step. */
export const backups = {
  hosts: { ...backup.hosts, id: 'back-up-the-hosts' },
  tokens: { ...backup.tokens, id: 'back-up-the-tokens' },
  etcd: { ...backup.etcd, id: 'back-up-etcd' },
}

/**
 * A step that is not come to by leaving out what comes before it, as with --start-at-step or --tags: the word of whoever has read what users will
 * notice, and the backups.
 */
export function onlyConfirmed<Context extends Named & Looking>(
  definition: StepDefinition<Context>,
): StepDefinition<Context> {
  return {
    ...definition,
    run: ctx => {
      requireConfirmed(ctx, 'docs/runbooks/recreate-credentials.md')
      const missing = Object.values(backups).filter(({ id }) => ctx.registered(id) === undefined)
      if (missing.length === 0) return definition.run(ctx)
      throw new HostFailedError(`the run has not done what comes before: ${missing.map(({ id }) => id).join(', ')}`, {
        code: 'recreate.no-backup',
        hint: 'None of these steps can be left out: begin with all of them.',
      })
    },
  }
}
