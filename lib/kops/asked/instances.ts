// The cluster's instances, and which of them run with another configuration than their group has now.
import { isIP } from 'node:net'
import { HostFailedError } from '../../errors.ts'
import type { Context } from '../context.ts'
import { kopsJson, listed } from './command.ts'

/** An instance, as its cloud and kOps know it. */
export interface Instance {
  readonly id: string
  readonly group: string
  readonly needsUpdate: boolean
  readonly isControlPlane: boolean
  /** An API server on a machine of its own. */
  readonly isApiServer: boolean
  /** Within its network, and from outside where it has one. */
  readonly addresses: readonly string[]
}

/**
 * Reads the instances.
 * @throws HostFailedError where there are none: kops would call a rolling update of nothing completed
 */
export async function readInstances(ctx: Context): Promise<Instance[]> {
  const answer = await kopsJson(ctx, ['get', 'instances'], {
    what: 'the cloud to name the cluster’s instances',
    within: ctx.vars.update_within,
  })
  const found = listed(answer).map(one => {
    const { id, status, instanceGroup, roles = [], internalIP, externalIP } = one
    if (typeof id !== 'string' || typeof status !== 'string') {
      throw new HostFailedError(`'kops get instances' names one without an id or a status: ${JSON.stringify(one)}`, {
        code: 'kops.unexpected-answer',
      })
    }
    // On GCE an id is an address of the cloud's API that stays with the name of the machine, and no status is said.
    if (id.includes('/') || status === '') {
      throw new HostFailedError(`kops names ${JSON.stringify(id)} in a way by which nobody sees that it was replaced`, {
        code: 'kops.unsupported-cloud',
        hint: 'rekey goes by ids that are new after a replacement, and by a status, as kOps has them on AWS. Go by its own page here: https://kops.sigs.k8s.io/operations/rotate-secrets/',
      })
    }
    return {
      ...{ id, group: String(instanceGroup ?? ''), needsUpdate: /^needs[ _-]?update$/i.test(status) },
      isControlPlane: has(roles, /^(control-?plane|master)$/i),
      isApiServer: has(roles, /^api-?server$/i),
      addresses: [internalIP, externalIP].filter(address => typeof address === 'string').filter(isAddress),
    }
  })
  if (found.length > 0) return found
  throw new HostFailedError('kops sees no instance of this cluster', {
    code: 'kops.no-instances',
    hint: 'See that the credentials are those of its account and region. Clusters of --cloud=metal can’t be rotated like this: kops replaces no machine there, and says that it has.',
  })
}

const has = (roles: unknown, role: RegExp) => Array.isArray(roles) && roles.some(one => role.test(String(one)))
const isAddress = (text: string) => isIP(text) !== 0

/** `i-1 (nodes-a)`, with commas. */
export const named = (instances: readonly Instance[]) =>
  instances.map(({ id, group }) => (group === '' ? id : `${id} (${group})`)).join(', ')
