// Certificates of the new CA put in place with the first API server as a canary.
import { secret } from '../../../connection/shell.ts'
import { stageFiles } from '../../../operations/staging.ts'
import { privateKeysWithin } from '../../../pki/certificates/bundle-text.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type * as extra from '../../as-found/extra.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { Variables as ConditionVariables } from '../../conditions.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import { isMaster } from '../../given/hosts.ts'
import { swapOf } from '../../issue.ts'
import { askAsAdministrator, type WithProbes } from '../../observe.ts'
import { asItLiesNow } from '../bundles.ts'
import { presented, swapIn } from '../leaves.ts'
import { asCanary, type Variables as CanaryVariables, unbelieving } from './canary.ts'

type Swaps = OnCluster<Mounts & BackupVariables & extra.Variables & CanaryVariables & ConditionVariables> & WithProbes

/** Renames the certificates of a host into place, with the first API server as a canary: clients that don't believe what it presents then are looked for. */
export const swapInWatched: StepDefinition<Swaps> = {
  ...asCanary<Swaps>(swapIn, {
    ...unbelieving,
    inForce: ctx => presented.run(ctx),
    prepared: stagedOnceMore,
  }),
  rollback: async ctx => {
    await swapIn.rollback?.(ctx)
    // The CA that signed for the one who is asked as so far may be trusted by nobody further on the way back.
    if (!isMaster(ctx)) return
    await askAsAdministrator(ctx).catch((error: Error) => {
      // No more than a figure depends on it: the way back goes on.
      ctx.signal.throwIfAborted()
      ctx.log(`the probes of ${ctx.host.name} go on to ask as before: ${error.message}`)
    })
  },
}

/** Reads what a swap has put in place, to be staged once more when that is taken back: a run that is gone on with puts it in place again. */
async function stagedOnceMore(ctx: OnHost): Promise<() => Promise<void>> {
  const files = await Promise.all(
    swapOf(ctx).rename.map(async path => {
      const text = await ctx.files.readText(path)
      return { ...(await asItLiesNow(ctx, path)), content: secret(text, { parts: privateKeysWithin(text) }) }
    }),
  )
  return () => stageFiles(ctx, ctx.run, files)
}
