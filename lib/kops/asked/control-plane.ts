// The control plane by SSH: the instances that kops names now, reached as the inventory's masters are. A rolling update gives them other addresses
// than the inventory had.
import { lookup } from 'node:dns/promises'
import { HostFailedError, RekeyError } from '../../errors.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, RunContext } from '../../playbook/model.ts'
import type { Context } from '../context.ts'
import { type Instance, named, readInstances } from './instances.ts'

/** The masters of the inventory; none where there is none, or it has no such hosts. */
export function mastersOf(ctx: Pick<RunContext<unknown>, 'hosts'>): Host[] {
  try {
    return ctx.hosts('masters')
  } catch (error) {
    if (error instanceof RekeyError && error.code === 'inventory.no-masters') return []
    throw error
  }
}

/** What says how to log in: for messages. */
export const howToReach =
  'Give an inventory with one master at least: kops names the addresses, the inventory says how to log in there (user, key, bastion, sudo). Without a file: -i "ADDRESS,ADDRESS," -e rekey_masters=all -e ansible_user=… -e ansible_become=true.'

/**
 * Logs in to each instance of the control plane.
 * @param whom also those that run API servers and no more
 * @throws HostFailedError where kops names none, or the inventory does not say how to log in; UnreachableError where one lets nobody in
 */
export async function onControlPlane(ctx: Context, whom?: 'and-api-servers'): Promise<HostSession[]> {
  const isMeant = (one: Instance) => one.isControlPlane || (one.isApiServer && whom !== undefined)
  const instances = (await readInstances(ctx)).filter(isMeant)
  if (instances.length === 0)
    throw new HostFailedError('kops names no instance of the control plane', { code: 'kops.no-instances' })
  const masters = mastersOf(ctx)
  const addresses = await addressesOf(masters)
  const [first] = masters
  if (!first) {
    throw new HostFailedError(`nothing says how to log in to the control plane: ${named(instances)}`, {
      code: 'kops.no-masters',
      hint: `${howToReach} Now: ${instances.map(({ addresses: [address] }) => address ?? 'none').join(', ')}.`,
    })
  }
  const hosts = hostsOf(instances, masters, addresses)
  return Promise.all(hosts.map(host => ctx.on(host)))
}

/**
 * Each instance as a host: the inventory's own where that is this instance and no other, else at its own address, reached as the inventory's first
 * one is. A name of several machines, as the API's is, only says how to log in.
 * @param addresses where each of the masters is, by name
 * @throws HostFailedError where two would be the same machine
 */
export function hostsOf(
  instances: readonly Instance[],
  masters: readonly Host[],
  addresses: ReadonlyMap<string, readonly string[]>,
): Host[] {
  const of = (host: Host) => addresses.get(host.name) ?? []
  const isThis = (instance: Instance) => (host: Host) => {
    const known = of(host)
    return known.length > 0 && known.every(one => instance.addresses.includes(one))
  }
  const [first] = masters as [Host]
  const hosts = instances.map(
    instance => masters.find(isThis(instance)) ?? hostOf(instance, first, of(first).some(isPrivate)),
  )
  const placeOf = ({ connection: { address, port } }: Host) => `${address}:${port}`
  const twice = hosts.find((one, at) => hosts.some((other, place) => place < at && placeOf(other) === placeOf(one)))
  if (!twice) return hosts
  throw new HostFailedError(`several instances of the control plane would be one host: ${placeOf(twice)}`, {
    code: 'kops.same-host',
    hint: `kops names ${named(instances)}. Put each into the inventory by an address of its own.`,
  })
}

/** Where each host is, whatever it is called in the inventory. A name that is not known is no address. */
async function addressesOf(hosts: readonly Host[]): Promise<ReadonlyMap<string, readonly string[]>> {
  const found = hosts.map(async ({ name, connection: { address } }) => {
    const all = await lookup(address, { all: true }).catch(() => [])
    return [name, all.map(one => one.address)] as const
  })
  return new Map(await Promise.all(found))
}

const isPrivate = (address: string) => /^(10\.|127\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|f[cd])/i.test(address)

/** An instance as a host: reached as another one is, at its own address, from inside its network or outside as that one. */
function hostOf(instance: Instance, like: Host, isLikeInside: boolean): Host {
  const fromInside = instance.addresses.find(isPrivate)
  const fromOutside = instance.addresses.find(address => !isPrivate(address))
  const { proxyJump, proxyCommand } = like.connection
  const isInside = isLikeInside || proxyJump !== undefined || proxyCommand !== undefined
  const address = isInside ? (fromInside ?? fromOutside) : (fromOutside ?? fromInside)
  if (address === undefined || !/^[\w.:-]{1,253}$/.test(instance.id)) {
    throw new HostFailedError(`kops names no address of ${JSON.stringify(instance.id)}`, {
      code: 'kops.unexpected-answer',
      hint: 'Put it into the inventory, among the masters.',
    })
  }
  const { openssh, ...connection } = like.connection
  return {
    ...{ name: instance.id, groups: like.groups, vars: like.vars },
    connection: { ...connection, address, ...(openssh && { openssh: { ...openssh, destination: address } }) },
  }
}
