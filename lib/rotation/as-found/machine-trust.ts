// CAs of the cluster that whole machines trust, whatever they do: Kubespray has them trust etcd's. The file is replaced with the other copies
// of the CA; what programs read is made of it by a command of the machine, and is seen to follow.
import { isAnchor } from '../../kubernetes/layout/discover.ts'
import { keysOfAnchors, updateAnchors } from '../../kubernetes/trust/machine-anchors.ts'
import { publicKeysOf } from '../../pki/certificates/bundle-text.ts'
import type { RunContext, StepDefinition } from '../../playbook/model.ts'
import type { OnHost } from '../given/context.ts'
import { type LookingOnHost, planOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'

const followStep = 'have-machines-trust-the-new-ca'

/** The files of the CAs that a host trusts in all it does and that this run replaces. */
const anchorsOf = (ctx: LookingOnHost): string[] =>
  (planOf(ctx).authorityCopies?.[ctx.host.name] ?? []).map(({ real }) => real).filter(isAnchor)

/**
 * Has a machine take what lies in its folder of CAs now, and nothing of before. Where it does not, that is told, in the report as well, and the
 * run goes on: nothing of the cluster depends on it.
 */
export const follow: StepDefinition<OnHost> = {
  id: followStep,
  when: ctx => anchorsOf(ctx).length > 0,
  plan: ctx =>
    `update-ca-certificates, or update-ca-trust: ${ctx.host.name} trusts the CA in ${anchorsOf(ctx).join(', ')}`,
  run: async (ctx): Promise<string[]> => {
    const anchors = anchorsOf(ctx)
    const updated = await updateAnchors(ctx)
    const seen = await keysOfAnchors(ctx)
    const now = publicKeysOf((await Promise.all(anchors.map(path => ctx.files.readText(path)))).join('\n'))
    const before = [...publicKeysOf(Object.values(planOf(ctx).oldAuthorities).join('\n'))].filter(key => !now.has(key))
    if (updated && [...now].every(key => seen.has(key)) && !before.some(key => seen.has(key))) return []
    const told = anchors.map(path => `${ctx.host.name} does not trust what is in ${path} now, or more than that`)
    for (const line of told) ctx.log(line)
    return told
  },
}

/** The machines that did not follow, a line each. */
export function toldOf(ctx: Pick<RunContext<unknown>, 'registered' | 'hosts'>): string[] {
  return ctx.hosts(everyMachine).flatMap(({ name }) => ctx.registered<string[]>(followStep, name) ?? [])
}
