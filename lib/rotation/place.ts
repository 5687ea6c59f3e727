// New files in place of the old, and the old ones back.

import { HostFailedError } from '../errors.ts'
import { changedAfterSwap, restoreFiles } from '../operations/restore.ts'
import { type Swap, swapFiles } from '../operations/staging.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { archiveOf, type Variables } from './backup.ts'
import { firstChange, type OnHost } from './given/context.ts'
import { swapOf } from './issue.ts'

/** Renames what is staged on a host into place, all at once. From here on the cluster has other CAs than before. */
export const swap: StepDefinition<OnHost<Variables>> = {
  plan: ctx => `rename the staged files into place, and keep the old ones in ${archiveOf(ctx)}`,
  run: async ctx => {
    ctx.milestone(firstChange)
    await swapFiles(ctx, ctx.run, swapOf(ctx))
  },
}

/** Fails where files that this run put in place were changed by somebody else since. */
export const checkUnchanged: StepDefinition<OnHost<Variables>> = {
  readOnly: true,
  run: async ctx => {
    await requireUnchanged(ctx, swapOf(ctx), 'Another rotation came after this one?')
  },
}

/**
 * Throws `HostFailedError` where somebody has changed files since a run put them in place.
 * @param perhaps what may have come since, as a question
 */
export async function requireUnchanged(ctx: OnHost<Variables>, swap: Swap, perhaps: string): Promise<void> {
  const changed = await changedAfterSwap(ctx, swap, archiveOf(ctx))
  if (changed.length === 0) return
  throw new HostFailedError(`${ctx.host.name}: changed since this run: ${changed.join(', ')}`, {
    code: 'rollback.changed',
    host: ctx.host.name,
    hint: `${perhaps} Undo that first. The files from before this one are in ${archiveOf(ctx)}.`,
  })
}

/** Puts the old files back as the archive of the host has them. */
export const putBack: StepDefinition<OnHost<Variables>> = {
  run: ctx => {
    const { rename, link, remove } = swapOf(ctx)
    return restoreFiles(ctx, ctx.run, archiveOf(ctx), [...rename, ...remove, ...link.map(({ path }) => path)])
  },
}
