// The time between promotion and distrust, in which whoever still uses the old CA is found.
import { waitFor } from '../operations/wait.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { StepDefinition } from '../playbook/model.ts'
import type { Rotation } from './context.ts'
import { passes } from './plan.ts'

const promotedStep = 'note-when-it-was-promoted'

/** Registers when the promotion had ended: a run that is gone on with waits no longer for it. */
export const notePromoted: StepDefinition<Rotation> = {
  id: promotedStep,
  ...{ readOnly: true, remember: true },
  when: ctx => passes(ctx, 'distrusted'),
  run: () => Date.now(),
}

/** Waits until it has soaked for as long as it is to. It may be interrupted, and gone on with by `rekey resume`. */
export const soak: StepDefinition<Rotation> = {
  id: 'let-it-soak',
  readOnly: true,
  when: ctx => passes(ctx, 'distrusted') && ctx.vars.soak > 0,
  run: async ctx => {
    const { signal } = ctx
    const until = (ctx.registered<number>(promotedStep) ?? Date.now()) + ctx.vars.soak
    ctx.log(`until ${new Date(until).toISOString()}; Ctrl-C, and rekey resume go on with it later`)
    const within = Math.max(0, until - Date.now()) + 60_000
    await waitFor(
      `${formatDuration(ctx.vars.soak)} to be over`,
      { within, every: 1_000, signal },
      async () => Date.now() >= until,
    )
  },
}
