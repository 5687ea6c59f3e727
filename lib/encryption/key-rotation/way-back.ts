// The way back once servers write with the new key: the same machine run backwards. The new key stays readable until nothing lies under it; the
// file of before comes back when the step that added the key is undone, after this.
import { type Step, type StepDefinition, step } from '../../playbook/model.ts'
import type { Context } from './given.ts'
import * as stages from './stages.ts'

const undo = (id: string, { undoneWith: _, ...definition }: StepDefinition<Context>): StepDefinition<Context> => ({
  ...definition,
  id: `undo-${id}`,
})

/** From wherever it stopped. */
export const wayBack: readonly Step<Context>[] = [
  step('Have every API server read with the old key', undo('old-key-back', stages.oldKeyBack)),
  step('Wait until every API server reads with it', undo('wait-to-read', stages.converged('undo-wait-to-read'))),
  step('Have every API server write with the old key', undo('old-key-first', stages.oldKeyFirst)),
  step('Wait until every API server writes with it', undo('wait-to-write', stages.converged('undo-wait-to-write'))),
  step('Write everything anew with the old key', undo('write-everything-anew', stages.reencrypt)),
  step('Count what lies in etcd under which key', undo('count', stages.counted('undo-count'))),
]
