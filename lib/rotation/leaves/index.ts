// Leaves made anew under the CAs that are there: what is due, who signs it, how it gets in place.
import type { RunContext } from '../../playbook/model.ts'
import type { Services } from '../given/services.ts'
import { openIssued } from '../issue.ts'
import { openServices as openOthers } from '../renewal/authorities.ts'
import type { Variables } from './plan.ts'

export { pairReread, swapIn } from '../keysets/leaves.ts'
export { issueAndStage, keysOf, rolesWouldIssue, verifyIssued, writeRoles } from './issue.ts'
export { allGoByTheNew, presented, restart, undone } from './place.ts'
export { ifDue, isDue, nextEndUnder, plan, planBy, variables } from './plan.ts'
export { whole as report } from './report.ts'

/** What a run holds in memory; nothing is connected before a step asks, and no Vault where none is named. */
export function openServices(run: RunContext<Variables>): Services & { close(): Promise<void> } {
  return { ...openOthers(run), issued: openIssued() }
}
