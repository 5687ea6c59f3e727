// What a stage holds in memory beside what every procedure does.
import type { RunContext } from '../../playbook/model.ts'
import { type Services as Others, openServices as open } from '../given/services.ts'
import type { Variables } from '../given/vault.ts'
import type { WithVisitors } from './credentials.ts'

/** What the stages of a rotation of keysets need. */
export type Services = Others & WithVisitors

/** Opens them; nothing is connected before a step asks. */
export function openServices(run: RunContext<Variables>): Services & { close(): Promise<void> } {
  return { ...open(run), visitors: new Map() }
}
