// The way back under each stage, as kOps' own procedure has it: by ids, each with an update and a rolling update of its own.
import type { Play, Step } from '../playbook/model.ts'
import { step } from '../playbook/model.ts'
import { exportKubeconfig } from './asked/kubeconfigs.ts'
import type { Context, End, Rotation } from './context.ts'
import { requireDue } from './due.ts'
import { passes } from './plan.ts'
import { applyUpdate, rollOut, type Updated } from './update.ts'
import { distrustNew, each, promoteFormer, trustAgain } from './verbs.ts'

/** Whether the run that is undone had gone into a stage. */
const wentThrough = (end: End) => (ctx: Rotation) => passes(ctx, end)

const exportBack = (end: End): Step<Rotation> =>
  step('Export the admin credential of the CA that signs now', {
    id: `export-back-${end}`,
    when: wentThrough(end),
    run: async ctx => {
      await exportKubeconfig(ctx as Context, 'back', true)
    },
  })

const updateBack = (end: End): Step<Rotation> =>
  step('Update the cluster', {
    id: `update-back-${end}`,
    when: wentThrough(end),
    run: async ctx => {
      const updated = await applyUpdate(ctx)
      // Where nothing was noted, nothing was changed on this way back.
      await requireDue(ctx, `back-${end}`, {
        due: updated.due,
        all: [],
        what: `key pairs that were ${end} were taken back`,
      })
      return updated
    },
  })

const rollBack = (end: End, force = false): Step<Rotation> =>
  step('Replace the instances', {
    id: `roll-back-${end}`,
    when: wentThrough(end),
    run: ctx => rollOut(ctx, ctx.registered<Updated>(`update-back-${end}`) ?? { all: [], due: [] }, { force }),
  })

/** What undoes each stage. Before a key pair is distrusted, the admin credential is one of the CA that stays. */
export const wayBack: Readonly<Record<End, NonNullable<Play<Rotation>['rollback']>>> = {
  staged: [
    exportBack('staged'),
    ...each('Distrust by id what was made for', distrustNew),
    updateBack('staged'),
    rollBack('staged'),
  ],
  promoted: [
    ...each('Promote by id what signed before for', promoteFormer),
    updateBack('promoted'),
    rollBack('promoted'),
  ],
  // What is trusted again is what the instances may have had all along: kOps' page has all of them replaced.
  distrusted: [
    ...each('Trust by id what was distrusted of', trustAgain),
    updateBack('distrusted'),
    rollBack('distrusted', true),
  ],
}
