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

// The programs of the etcd that runs, as they lie in its container: they are of its version, and a master that kubeadm made has no
// others. They run on the host, with the host's files, and need no container runtime. What does not run there, since it wants libraries of
// its container, is left for what the host has.
const tools = raw(`export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=${etcd.client}
export ETCDCTL_CACERT=${etcd.ca} ETCDCTL_CERT=${etcd.healthcheck.certificate} ETCDCTL_KEY=${etcd.healthcheck.key}
etcd_tool() {
  for pid in $(grep -lzxE '(/[^ ]*/)?etcd' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
    for folder in "$(dirname "$(readlink "/proc/$pid/exe")")" /usr/local/bin /usr/bin; do
      tool=/proc/$pid/root$folder/$1
      if [ -x "$tool" ] && "$tool" version >/dev/null 2>&1; then echo "$tool"; return; fi
    done
  done
  command -v "$1" || { echo "there is no $1, neither beside the etcd that runs nor on this host" >&2; return 127; }
}
`)

/**
 * Throws `HostFailedError` where a master lacks what `etcdMembers` and `saveSnapshot` are done with, and names it.
 */
export async function requireEtcdTools({ $, host }: HostSession): Promise<void> {
  // Before 3.6, etcdctl told of snapshots what etcdutl does.
  const look = await $({ quiet: true })`${tools}ctl=$(etcd_tool etcdctl 2>/dev/null) || { echo etcdctl; exit 0; }
etcd_tool etcdutl >/dev/null 2>&1 || "$ctl" snapshot --help | grep -q '^[[:space:]]*status[[:space:]]' || echo etcdutl`
  const missing = look.stdout.trim()
  if (missing === '') return
  throw new HostFailedError(`${host.name} has no ${missing}, neither beside the etcd that runs there nor on its own`, {
    code: 'etcd.no-tools',
    host: host.name,
    hint: `Install ${missing} there, in the version of its etcd: backups of etcd are made and checked with it.`,
  })
}

/** The members of the cluster that a master's etcd belongs to. */
export async function etcdMembers({ $ }: HostSession): Promise<EtcdMember[]> {
  const listed = JSON.parse((await $`${tools}ctl=$(etcd_tool etcdctl) && "$ctl" member list -w json`).stdout) as {
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
  const status = await $`umask 077
${tools}ctl=$(etcd_tool etcdctl) || exit
util=$(etcd_tool etcdutl 2>/dev/null) || util=$ctl
"$ctl" snapshot save ${path}.new >/dev/null && "$util" snapshot status ${path}.new -w json && mv -f ${path}.new ${path}
s=$?; rm -f ${path}.new ${path}.new.part; exit $s`
  const { hash, revision, totalKey, totalSize } = JSON.parse(status.stdout) as Record<string, number>
  if (!totalKey || !revision || !totalSize) {
    throw new HostFailedError(`the etcd snapshot of ${host.name} at ${path} is empty`, {
      code: 'etcd.empty-snapshot',
      host: host.name,
    })
  }
  return { hash: (hash ?? 0).toString(16), revision, keys: totalKey, size: totalSize }
}
