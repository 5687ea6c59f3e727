// Certificates that the ports of a machine present now, whatever lies on its disk. Reads only.
import { Socket } from 'node:net'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesObject } from '../api/api.ts'
import { presentedCertificates, type TlsEndpoint } from '../components/endpoints.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import { kubeletEndpoint, masterEndpoints } from '../layout/kubeadm/index.ts'
import { presentedBy } from '../layout/served.ts'
import { type CensusEntry, readable } from './entry.ts'
/** What the components of a machine present on their ports now, whatever lies on disk. Closed ports are left out. */
export async function servedCertificates(
  session: HostSession,
  notice: (text: string) => void,
  endpoints: readonly TlsEndpoint[],
): Promise<CensusEntry[]> {
  const host = session.host.name
  const all = await Promise.all(
    endpoints.map(async ({ address, port, component }) => {
      const where = `${host}:${port}`
      const open = await session.forward(address, port).catch(() => undefined)
      if (!open) return []
      if (open instanceof Socket) open.setNoDelay(true)
      try {
        const chain = await presentedCertificates(async () => open, where)
        return readable(certificatesWithin(chain), where, notice).map((facts, index) => ({
          ...{ where, kind: 'served' as const, host, place: String(port), facts },
          component: index === 0 ? component : `${component} (chain)`,
        }))
      } catch (error) {
        notice((error as Error).message)
        return []
      }
    }),
  )
  return all.flat()
}

/**
 * Every port that a machine of a cluster serves on, by what was found to run there; where nothing was, those that it may serve on, as a
 * master and as a node of kubeadm. There etcd's peers are served on the node's own address: `nodeAddress`, else the inventory's `node_ip`,
 * else where the machine is reached.
 */
export function endpointsOf(
  { vars, connection }: Pick<Host, 'vars' | 'connection'>,
  nodeAddress?: string,
  layout?: HostLayout,
): TlsEndpoint[] {
  const found = layout ? presentedBy(layout) : []
  if (found.length > 0) return found
  const { node_ip: named } = vars as { node_ip?: unknown }
  const address = nodeAddress ?? (typeof named === 'string' ? named : connection.address)
  return [...masterEndpoints(address), kubeletEndpoint]
}

/**
 * The address that the API has for the node that a machine is: by its inventory name, by the address where it is reached, or by
 * the host name that it has itself. Undefined where it is no node.
 */
export async function nodeAddress(
  session: Pick<HostSession, 'host' | '$'>,
  nodes: readonly KubernetesObject[],
): Promise<string | undefined> {
  const { name, connection } = session.host
  const addresses = (node: KubernetesObject) =>
    (node['status']?.addresses ?? []) as { readonly type: string; readonly address: string }[]
  const called = (hostName: string) =>
    nodes.find(
      node => node.metadata.name === hostName || addresses(node).some(one => one.address === connection.address),
    )
  const node = called(name) ?? (nodes.length > 0 ? called((await session.$`hostname`).stdout.trim()) : undefined)
  return node && addresses(node).find(({ type }) => type === 'InternalIP')?.address
}
