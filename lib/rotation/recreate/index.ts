// The disruptive way: every keyset, every certificate, every token and every pod at once, for clusters whose keys have leaked. Confirmed first, and made
// of the pieces of a rotation the hard way.
import type { StepDefinition } from '../../playbook/model.ts'
import type { OnCluster } from '../given/context.ts'
import { wellWithin } from '../rescue/well.ts'
import type { Variables } from './given.ts'

export { admission, noteAdmission } from './admission.ts'
export { backups, confirmed, guarded, swapStep } from './confirmed.ts'
export { type Variables, variables } from './given.ts'
export { asBefore, network, note, noteNetwork, others } from './pods.ts'
export { report } from './report.ts'
export { steps as wayBack } from './way-back.ts'

/** Waits until the cluster is well, as `rekey validate` looks at it. */
export const well: StepDefinition<OnCluster<Pick<Variables, 'wait'>>> = wellWithin(ctx => ctx.vars.wait)
