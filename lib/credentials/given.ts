// What rotations of credentials have in common: what is accepted by name, what was found by an earlier step, and what is refused before the first change.
import { z } from 'zod'
import { HostFailedError } from '../errors.ts'
import type { Cluster } from '../kubernetes/api/cluster.ts'
import { firstOf } from '../kubernetes/before/secrets.ts'
import type { MachineReading } from '../kubernetes/trust/machine.ts'
import type { StepContext } from '../playbook/model.ts'
import { listed } from '../playbook/variables.ts'
import { matchesWildcards } from '../wildcard.ts'

/** A step of a run that has the cluster open. */
export type OnCluster<Vars> = StepContext<Vars> & { readonly cluster: Cluster }

/** Gives what was read of a host, that of the step where none is named: `found.readingOf` of `rekey/rotation`. */
export type ReadingOf = (ctx: Pick<StepContext, 'registered' | 'host'>, host?: string) => MachineReading

/** Every machine with a kubelet. */
export const machines = 'masters:nodes'

export const list = <T extends z.ZodType>(one: T) => z.preprocess(listed, z.array(one))

/** For what looks at what was changed before it: in a check there is nothing to look at. */
export const afterwards = {
  readOnly: true,
  when: ({ check }: { readonly check: boolean }) => !check,
} as const

interface Accepting {
  readonly vars: { readonly accept: readonly string[] }
}

/** Whether the operator accepts something by its name; `*` stands for anything. */
export const isAccepted = ({ vars }: Accepting, name: string): boolean =>
  vars.accept.some(pattern => matchesWildcards(pattern, name))

/** What is refused, with what to do about it. */
export const refused = (code: string, message: string, hint: string, host?: string): HostFailedError =>
  new HostFailedError(message, { code, hint, host })

/** What an earlier step registered. Throws `HostFailedError` where it was left out. */
export function must<T>(value: T | undefined, step: string): T {
  if (value !== undefined) return value
  throw refused('credentials.missing', `nothing is known of what '${step}' found`, 'Begin the run at its first step.')
}

/** Refuses nodes that are not in the run, where they are not accepted by name. `why` says what of them nobody would know. */
export function requireInRun(ctx: Accepting, code: string, nodes: readonly string[], why: string): void {
  const unknown = nodes.filter(node => !isAccepted(ctx, `node/${node}`))
  if (unknown.length === 0) return
  const accept = unknown.slice(0, 3).map(node => `node/${node}`)
  throw refused(
    code,
    `nodes that are not in the run: ${firstOf(unknown)}`,
    `${why} Add them to the inventory, or accept it: ${accept.join(', ')}`,
  )
}

/** The nodes of the cluster that are no host of the run. Takes what each host registered as its node's name. */
export async function strangers<Vars>(
  ctx: OnCluster<Vars>,
  nodeOf: (host: string) => string | undefined,
): Promise<string[]> {
  const known = new Set(ctx.hosts(machines).map(({ name }) => nodeOf(name)))
  return (await ctx.cluster.nodes()).map(({ metadata }) => metadata.name).filter(name => !known.has(name))
}
