// This machine as a host of a cluster, and entries of a census.
import 'reflect-metadata'
import { connect } from '../../../lib/connection/connect.ts'
import { remoteFiles } from '../../../lib/connection/files.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { withOwnMounts } from '../../_mounts.ts'

/** This machine, as the host `m1`. */
export async function thisMachine(): Promise<HostSession> {
  const settings = {
    kind: 'local',
    address: '127.0.0.1',
    port: 22,
    user: 'me',
    hostKeyChecking: 'yes',
    connectTimeout: 5,
  } as const
  const connection = await connect('m1', settings)
  const host = { name: 'm1', groups: [], vars: {}, connection: settings }
  return {
    host,
    $: remoteShell(connection),
    files: remoteFiles(connection),
    forward: (address, port) => connection.forward(address, port),
  }
}

export function entry(where: string, { pem }: { pem: string }, more: Partial<CensusEntry> = {}): CensusEntry {
  const [host, place] = where.split(':')
  return { where, kind: 'file', host, place, component: 'x', facts: parseCertificate(pem), ...more }
}
export const blobOf = (text: string) => Buffer.from(text).toString('base64')

/** This machine with folders of its own mounted over those of the system, for one script. */
export async function withMounts(mounts: Record<string, string>): Promise<{ session: HostSession; said: string[] }> {
  const machine = await thisMachine()
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
