// Who came to API servers by which certificates: from their audit logs, which tell each certificate by its SHA-256. Reads only; no line of a log
// leaves its host.
import { readFileSync } from 'node:fs'
import { ownFile } from '../../package.ts'
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
function auditLogFrom(text: string, host: string): AuditLog {
  const since = dateOf(/^since (.*)$/m.exec(text)?.[1] ?? '')
  const clients = [...text.matchAll(/^\.\. ([0-9a-f]{64}) (\S+) (\d+)\t(.*)\t(.*)\t(.*)$/gm)].flatMap(
    ([, fingerprint = '', time = '', count, user = '', agent = '', address = '']) => {
      const last = dateOf(time)
      if (!last) return []
      return [
        { fingerprint, last, count: Number(count), user: plain(user), agent: plain(agent), address: plain(address) },
      ]
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
