// Who came to API servers by a certificate of a CA that is on its way out: from their audit logs, which tell each certificate by its SHA-256.
// Reads only; no line of a log leaves its host.
import { readFileSync } from 'node:fs'
import { ownFile } from '../../package.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import type { CertificateFacts } from '../../pki/certificates/certificate.ts'
import type { Keyset } from '../../pki/keyset.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { HostLayout } from '../layout/host-layout.ts'

/** Somebody who came by a certificate. */
export interface AuditedClient {
  /** The SHA-256 of the certificate, in lower-case hex. */
  readonly fingerprint: string
  readonly user: string
  readonly agent: string
  readonly address: string
  /** The last time, and how often. */
  readonly last: Date
  readonly count: number
}

/** What the audit log of a host's API server says. */
export interface AuditLog {
  readonly host: string
  /** From when on it was read; undefined where nothing is in it. */
  readonly since?: Date
  readonly clients: readonly AuditedClient[]
}

/** More than this is not read: its last part, then. */
const mostBytes = 1024 ** 3

/**
 * Reads the audit log of a host's API server.
 * @param missed is told what could not be read
 * @returns undefined where it keeps none that can be read here
 */
export async function auditLogOf(
  { $, host: { name: host } }: Pick<HostSession, '$' | 'host'>,
  { components }: HostLayout,
  missed: (text: string) => void,
): Promise<AuditLog | undefined> {
  const server = components['kube-apiserver']
  const path = server?.flags['audit-log-path']?.at(-1)
  const pid = server?.processes[0]
  if (path === undefined || path === '-' || pid === undefined) return undefined
  const script = readFileSync(ownFile('lib/kubernetes/keysets/find-audited.sh'), 'utf8')
  const { stdout } = await $({ quiet: true })`sh -c ${script} rekey ${pid} ${path} ${mostBytes}`
  if (stdout.startsWith('?') || !stdout.endsWith('.. end\n')) {
    missed(`${host}: the audit log of its API server (${path}) can't be read`)
    return undefined
  }
  if (/^lost$/m.test(stdout)) missed(`${host}: more clients came to its API server than are told of its audit log`)
  return auditLogFrom(stdout, host)
}

/** The same from what the script printed. */
export function auditLogFrom(text: string, host: string): AuditLog {
  const since = dateOf(/^since (.*)$/m.exec(text)?.[1] ?? '')
  const clients = [...text.matchAll(/^\.\. ([0-9a-f]{64}) (\S+) (\d+)\t(.*)\t(.*)\t(.*)$/gm)].flatMap(
    ([, fingerprint = '', time = '', count, user = '', agent = '', address = '']) => {
      const last = dateOf(time)
      if (!last) return []
      return [{ fingerprint, last, count: Number(count), user: plain(user), agent: plain(agent), address: plain(address) }]
    },
  )
  return { host, ...(since && { since }), clients }
}

function dateOf(text: string): Date | undefined {
  const date = new Date(text)
  return Number.isNaN(date.getTime()) ? undefined : date
}

/** A text as it was before it stood in JSON; one that is cut within a sign stays as it stands. */
function plain(text: string): string {
  try {
    return String(JSON.parse(`"${text}"`))
  } catch {
    return text
  }
}

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
 * Those who came by certificates that would be refused once only the primary of a keyset is trusted. Of a certificate that was found nowhere nobody knows which CA
 * signed it: it counts unless its user has one of the primary since, or it is the only CA there is.
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
  const keyOf = (leaf: CertificateFacts) => signers.find(({ facts }) => isSignedBy(leaf, facts))?.key
  const leaves = new Map(
    known.filter(({ isAuthority }) => !isAuthority).map(one => [one.fingerprint.replaceAll(':', '').toLowerCase(), one]),
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
  return [...Map.groupBy(found, ({ user, agent, address, key }) => JSON.stringify([user, agent, address, key])).values()]
    .map(same => ({
      ...same.toSorted((a, b) => b.last.getTime() - a.last.getTime())[0]!,
      hosts: [...new Set(same.flatMap(({ hosts }) => hosts))],
    }))
    .toSorted((a, b) => b.last.getTime() - a.last.getTime())
}

const isSignedBy = (leaf: CertificateFacts, authority: CertificateFacts) =>
  issuedBy(leaf, authority)
