// The door `rekey/encryption`: what playbooks that rotate the key of etcd's values, or what is behind their KMS plugin, are made of.
import type { ReportSection, RunContext } from '../playbook/model.ts'
import { type Context, keyAfter, keyBefore, planOf, type Variables } from './key-rotation/given.ts'
import { type Restarting, restartLast, restartOne, standIn, startAnew } from './key-rotation/restarts.ts'
import { wayBack, wayBackToTheFile } from './key-rotation/way-back.ts'

export * as atRest from './at-rest.ts'
export { type Context, type Variables, variables } from './key-rotation/given.ts'
export * as prepare from './key-rotation/prepare.ts'
export { everyServer } from './key-rotation/servers.ts'
export * as stages from './key-rotation/stages.ts'
export * as hsm from './kms/hsm.ts'
export * as kmsKey from './kms/key.ts'
export * as plugin from './kms/plugin.ts'
export * as ledger from './ledger/destroy.ts'
export { type Misfit, misfitOf } from './replacement.ts'
export { etcdIsReadable, snapshotIsReadable } from './snapshot-keys.ts'

/** The steps that restart API servers, and the ways back, which do so too. `restarting`: `restart` of `rekey/rotation`. */
export const restartsBy = <In extends Context>(restarting: Restarting<In>) => ({
  standIn: standIn(restarting),
  startAnew: (stage: Parameters<typeof startAnew>[0]) => startAnew(stage, restarting),
  restartOne: restartOne(restarting),
  restartLast: restartLast(restarting),
  wayBack: wayBack(restarting),
  wayBackToTheFile: wayBackToTheFile(restarting),
})

/** What was rotated, and how long it took. */
export function report(run: RunContext<Variables>): ReportSection[] {
  const rewritten = run.registered<{ done: number; gone: number; seconds: number }>('write-everything-anew')
  const counted = ['count-before-the-drop', 'count-at-the-end']
    .map(step => run.registered<{ covered: number }>(step))
    .find(one => one !== undefined)
  if (run.mode === 'rollback' || !run.registered('plan-the-key')) return []
  const { resources } = planOf(run)
  return [
    {
      title: 'Encryption at rest',
      rows: [
        ['resources', resources.flat().join(', ')],
        ['from', keyBefore(run)],
        ['to', keyAfter(run)],
        ...(rewritten
          ? [['written anew', `${rewritten.done} objects in ${rewritten.seconds.toFixed(1)} s`] as const]
          : []),
        ...(counted ? [['counted in etcd', `${counted.covered} values, none under another key`] as const] : []),
      ],
    },
  ]
}
