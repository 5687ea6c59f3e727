// The ways back. Once servers write with the new key: the same machine run backwards. The new key stays readable until nothing lies under it; the file
// of before comes back when the stage that added the key is undone, after this.
import { type Step, type StepDefinition, step } from '../../playbook/model.ts'
import { healthy, oneKey } from '../kms/plugin.ts'
import { tryPlugin } from '../kms/socket.ts'
import { type Context, planOf } from './given.ts'
import { type Restarting, startAnew } from './restarts.ts'
import * as stages from './stages.ts'

/** A stage as a step of a way back. */
export const undo = <In extends Context>(
  id: string,
  { undoneWith: _, ...definition }: StepDefinition<In>,
): StepDefinition<In> => ({ ...definition, id: `undo-${id}` })

const restarts = 'Restart those API servers that read their file only when they start'

/** Back to the file of before, byte for byte, and in force: nothing lies under the new key. */
export const wayBackToTheFile = <In extends Context>(restarting: Restarting<In>): readonly Step<In>[] => [
  step('Put the file of before back', undo<In>('file-back', stages.fileBack)),
  step(restarts, undo('restart-to-be-as-before', startAnew('read', restarting))),
  step(
    'Wait until every API server goes by it',
    undo<In>('wait-for-the-file', stages.converged('undo-wait-for-the-file')),
  ),
]

const oldEndpoint = (ctx: Context) => {
  const { old } = planOf(ctx)
  return old.kind === 'kms' ? old.endpoint : undefined
}

/** A plugin that was taken away is back, and does its work, before any API server hears of it again. */
const oldPlugin: StepDefinition<Context> = {
  id: 'undo-try-the-old-plugin',
  readOnly: true,
  when: ctx => oldEndpoint(ctx) !== undefined,
  run: async ctx => {
    const endpoint = oldEndpoint(ctx)!
    await healthy(ctx, endpoint, undefined)
    return { keyId: await tryPlugin(ctx, endpoint) }
  },
}

const oldPluginsKey: StepDefinition<Context> = {
  id: 'undo-old-key-everywhere',
  readOnly: true,
  runOnce: true,
  when: ctx => oldEndpoint(ctx) !== undefined,
  run: async ctx => ({ keyId: await oneKey(ctx, oldEndpoint(ctx)!) }),
}

/** From wherever it stopped. */
export const wayBack = <In extends Context>(restarting: Restarting<In>): readonly Step<In>[] => [
  step('Try the plugin of before', oldPlugin),
  step('It has one key on every master', oldPluginsKey),
  step('Have every API server read with the old key', undo<In>('old-key-back', stages.oldKeyBack)),
  step(restarts, undo('restart-to-read', startAnew('read', restarting))),
  step('Wait until every API server reads with it', undo<In>('wait-to-read', stages.converged('undo-wait-to-read'))),
  step('Have every API server write with the old key', undo<In>('old-key-first', stages.oldKeyFirst)),
  step(restarts, undo('restart-to-write', startAnew('write', restarting))),
  step('Wait until every API server writes with it', undo<In>('wait-to-write', stages.converged('undo-wait-to-write'))),
  step('Write everything anew with the old key', undo<In>('write-everything-anew', stages.reencrypt)),
  step('Count what lies in etcd under which key', undo<In>('count', stages.counted('undo-count'))),
]
