// Whom a rotation works on, by the groups of the inventory.
import type { StepContext, StepDefinition } from '../../playbook/model.ts'

/** The control plane. */
export const masters = 'masters'

/** Every machine of the cluster. */
export const machines = 'masters:nodes'

/** Whether a host is one of the control plane. */
export function isMaster({ host }: Pick<StepContext, 'host'>): boolean {
  return host.groups.includes(masters)
}

/** A step that is left out on all hosts but masters, in a play over every machine. */
export function onMasters<Context extends Pick<StepContext, 'host'>>(
  definition: StepDefinition<Context>,
): StepDefinition<Context> {
  return { ...definition, when: async ctx => isMaster(ctx) && ((await definition.when?.(ctx)) ?? true) }
}
