// Who came to API servers by a certificate of a CA that is on its way out. Asks nobody.
import { type CertificateFacts, issuedBy } from '../../pki/certificates/certificate.ts'
import type { Keyset } from '../../pki/keyset.ts'
import type { AuditedClient, AuditLog } from './audit-log.ts'
import type { ClusterKeys } from './facts.ts'

/** Somebody who came by a certificate that another CA than the primary signed, or may have signed. */
export interface OldClient extends Omit<AuditedClient, 'fingerprint' | 'count'> {
  readonly hosts: readonly string[]
  /** The SHA-256 of that CA's public key; undefined where the certificate was found nowhere. */
  readonly key?: string
}

/** Milliseconds within which whoever got another certificate may still come by the one before: it is started anew. */
const grace = 10 * 60_000

/** As rekey calls those by whom it asks servers whom they let in. */
const ownVisitor = 'rekey-probe'

/**
 * Those who came by certificates that would be refused once only the primary of a keyset is trusted. Of a certificate that was found nowhere
 * nobody knows which CA signed it: it counts unless its user has one of the primary since, or there is no other CA.
 * @param known certificates, wherever they were found
 */
export function oldClientsOf(
  { items }: Keyset,
  logs: readonly AuditLog[],
  known: readonly CertificateFacts[],
): OldClient[] {
  const primary = items.find(({ state }) => state === 'primary')
  if (!primary || items.length === 1) return []
  const signers = items.flatMap(({ key, certificates }) => certificates.map(facts => ({ key, facts })))
  const keyOf = (leaf: CertificateFacts) => signers.find(({ facts }) => issuedBy(leaf, facts))?.key
  const leaves = new Map(
    known
      .filter(({ isAuthority }) => !isAuthority)
      .map(one => [one.fingerprint.replaceAll(':', '').toLowerCase(), one]),
  )
  const renewed = new Map<string, number>()
  for (const leaf of leaves.values()) {
    if (keyOf(leaf) !== primary.key) continue
    renewed.set(leaf.commonName, Math.max(renewed.get(leaf.commonName) ?? 0, leaf.notBefore.getTime()))
  }
  const found = logs.flatMap(({ host, clients }) =>
    clients.flatMap((client): OldClient[] => {
      const leaf = leaves.get(client.fingerprint)
      const key = leaf && keyOf(leaf)
      // What none of these signed is another keyset's.
      if (client.user === ownVisitor || (leaf && (key === undefined || key === primary.key))) return []
      const since = renewed.get(client.user)
      if (since !== undefined && client.last.getTime() <= since + grace) return []
      const { user, agent, address, last } = client
      return [{ user, agent, address, last, hosts: [host], ...(key !== undefined && { key }) }]
    }),
  )
  return [
    ...Map.groupBy(found, ({ user, agent, address, key }) => JSON.stringify([user, agent, address, key])).values(),
  ]
    .map(same => ({
      ...same.toSorted((a, b) => b.last.getTime() - a.last.getTime())[0]!,
      hosts: [...new Set(same.flatMap(({ hosts }) => hosts))],
    }))
    .toSorted((a, b) => b.last.getTime() - a.last.getTime())
}

/** One in words: who came, where from, when last, to whose API server. */
export function describeClient({ user, agent, address, last, hosts }: OldClient): string {
  return `${user} came to ${hosts.join(' and ')} (${agent} from ${address}, last at ${last.toISOString().slice(0, 16)}Z)`
}

/** The same of what was read of a cluster. */
export function oldClientsIn({ hosts, api }: ClusterKeys, keyset: Keyset): OldClient[] {
  const entries = [...hosts.flatMap(one => one.entries), ...(api?.entries ?? [])]
  const logs = hosts.flatMap(({ audit }) => audit ?? [])
  return oldClientsOf(
    keyset,
    logs,
    entries.map(({ facts }) => facts),
  )
}

/** Of which API servers no audit log was read, in a sentence; undefined where each was. */
export function unaudited(hosts: ClusterKeys['hosts']): string | undefined {
  const without = hosts.filter(({ found, audit }) => found?.layout.components['kube-apiserver'] && !audit)
  if (without.length === 0) return undefined
  return `no audit log of the API server was read on ${without.map(({ host }) => host).join(', ')}: who else comes there by certificates of kubernetes-ca is not known`
}
