// etcd on masters that kubeadm laid out: stacked members, their client certificates beside the API server's.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { getFromLoopback } from '../api/loopback.ts'
import * as kubeadm from '../layout/kubeadm/index.ts'

/** One member as etcd lists it. */
export interface EtcdMember {
  readonly name: string
  readonly id: string
  readonly clientUrls: readonly string[]
  readonly learner: boolean
}

const { etcd } = kubeadm

// The host's own etcdctl where there is one, else the one in etcd's container.
const client = raw(`etcdctl() {
  if command -v etcdctl >/dev/null; then command etcdctl "$@"
  else crictl exec "$(crictl ps --name '^etcd$' -q | head -n 1)" etcdctl "$@"; fi
}
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=${etcd.client}
export ETCDCTL_CACERT=${etcd.ca} ETCDCTL_CERT=${etcd.healthcheck.certificate} ETCDCTL_KEY=${etcd.healthcheck.key}
`)

/** The members of the cluster that a master's etcd belongs to. */
export async function etcdMembers({ $ }: HostSession): Promise<EtcdMember[]> {
  const listed = JSON.parse((await $`${client}etcdctl member list -w json`).stdout) as {
    members: { ID: number; name?: string; clientURLs?: string[]; isLearner?: boolean }[]
  }
  return listed.members.map(({ ID, name = '', clientURLs = [], isLearner = false }) => ({
    id: ID.toString(16),
    name,
    clientUrls: clientURLs,
    learner: isLearner,
  }))
}

/**
 * Whether a master's etcd answers a read that needs a quorum. Asks the health endpoint that kubeadm opens on loopback, which
 * costs no process and needs no certificate, so it works in the middle of a rotation.
 */
export async function etcdHealthy(session: HostSession): Promise<boolean> {
  return (await getFromLoopback(session, etcd.healthPort, '/health'))?.includes('"health":"true"') ?? false
}

/**
 * Whether a master's etcd is there for its peers and clients, quorum or not: it opens kubeadm's health endpoint on loopback last.
 * Rejects with `HostFailedError` where it does not listen there.
 */
export async function etcdServes(session: HostSession): Promise<boolean> {
  return (await getFromLoopback(session, etcd.healthPort, '/livez')) !== undefined
}

/**
 * Saves a snapshot of etcd on a master and checks it.
 * @param path where it goes, a file in a folder that exists; 0600
 * @returns what `etcdutl snapshot status` says of it
 */
export async function saveSnapshot(
  { $, host }: HostSession,
  path: string,
): Promise<{ hash: string; revision: number; keys: number; size: number }> {
  const inside = `${etcd.data}/.rekey-snapshot.db`
  await $`umask 077
${client}rm -f ${inside} ${inside}.part
etcdctl snapshot save ${inside} >/dev/null && mv ${inside} ${path}`
  const status = await $`
if command -v etcdutl >/dev/null; then etcdutl snapshot status ${path} -w json
else ln ${path} ${inside} && crictl exec "$(crictl ps --name '^etcd$' -q | head -n 1)" etcdutl snapshot status ${inside} -w json; s=$?; rm -f ${inside}; exit $s; fi`
  const { hash, revision, totalKey, totalSize } = JSON.parse(status.stdout) as Record<string, number>
  if (!totalKey || !revision || !totalSize) {
    throw new HostFailedError(`the etcd snapshot of ${host.name} at ${path} is empty`, {
      code: 'etcd.empty-snapshot',
      host: host.name,
    })
  }
  return { hash: (hash ?? 0).toString(16), revision, keys: totalKey, size: totalSize }
}
