// Whom a rotation works on, by the roles of the inventory. A host may have several of them: masters are nodes in many clusters.
import type { Host } from '../../playbook/host.ts'
import type { RunContext, StepContext, StepDefinition } from '../../playbook/model.ts'
import { where } from './context.ts'

/** The control plane. */
export const masters = 'masters'

/** Every machine with a kubelet. */
export const machines = 'masters:nodes'

/** The machines with a member of etcd: the masters, or others. */
export const etcd = 'etcd'

/** Every machine of the cluster, each once. */
export const everyMachine = 'masters:nodes:etcd'

type Hosts = Pick<RunContext, 'hosts'>

/** The hosts of the run with a member of etcd. */
export function etcdHosts(ctx: Hosts): Host[] {
  return ctx.hosts(etcd)
}

/** The hosts of the run that have a member of etcd, and no part of the control plane: none where etcd is on the masters. */
export function etcdOnly(ctx: Hosts): Host[] {
  return etcdHosts(ctx).filter(host => !isMaster({ host }))
}

/** Whether a host is one of the control plane. */
export function isMaster({ host }: Pick<StepContext, 'host'>): boolean {
  return host.groups.includes(masters)
}

/** Whether a host has a member of etcd. */
export function isEtcd({ host }: Pick<StepContext, 'host'>): boolean {
  return host.groups.includes(etcd)
}

/** A step that is left out on all hosts but masters, in a play over every machine. */
export function onMasters<Context extends Pick<StepContext, 'host'>>(
  definition: StepDefinition<Context>,
): StepDefinition<Context> {
  return where(isMaster, definition)
}

/** A step that is left out on all hosts but those of etcd, in a play over every machine. */
export function onEtcd<Context extends Pick<StepContext, 'host'>>(
  definition: StepDefinition<Context>,
): StepDefinition<Context> {
  return where(isEtcd, definition)
}
