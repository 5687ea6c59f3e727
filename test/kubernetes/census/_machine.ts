// This machine as a host of a cluster, and entries of a census.
import 'reflect-metadata'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { withOwnMounts } from '../../_mounts.ts'
import { localSession } from '../_local.ts'

export function entry(where: string, { pem }: { pem: string }, more: Partial<CensusEntry> = {}): CensusEntry {
  const [host, place] = where.split(':')
  return { where, kind: 'file', host, place, component: 'x', facts: parseCertificate(pem), ...more }
}
export const blobOf = (text: string) => Buffer.from(text).toString('base64')

/** This machine with folders of its own mounted over those of the system, for one script. */
export async function withMounts(mounts: Record<string, string>): Promise<{ session: HostSession; said: string[] }> {
  const machine = await localSession()
  const said: string[] = []
  const lines = Object.entries(mounts).map(([from, to]) => `mkdir -p ${to} 2>/dev/null; mount --bind ${from} ${to}`)
  const $ = (options: object) => async (_: TemplateStringsArray, script: string, folders: string[]) => {
    const inner = [...lines, 'exec sh -c "$@"'].join('\n')
    const result = await machine.$(options)`${withOwnMounts} sh -c ${inner} sh ${script} rekey ${folders}`
    said.push(result.stdout)
    return result
  }
  return { session: { ...machine, $ } as unknown as HostSession, said }
}
