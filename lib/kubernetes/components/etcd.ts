// The members of etcd, each asked on its own host: how it is, whom it knows, and for a snapshot.
import { quote, raw, secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { getFromLoopback } from '../api/loopback.ts'
import { type EtcdAccess, type Identity, type ListensAt, urlOf } from './etcd-access.ts'

/** One member as etcd lists it. */
export interface EtcdMember {
  readonly name: string
  readonly id: string
  readonly clientUrls: readonly string[]
  readonly learner: boolean
}

/**
 * Has etcdctl ask the etcd of this host: where it listens, whom to trust, and as whom. Of several identities it is the first that lies there:
 * layouts differ in which they make.
 */
function asked({ client, ca, identities }: EtcdAccess): string {
  const files = identities.flatMap(({ certificate, key }) => [certificate, key]).map(quote)
  return `export ETCDCTL_ENDPOINTS=${quote(urlOf(client))}; unset ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY
${ca === undefined ? '' : `export ETCDCTL_CACERT=${quote(ca)}`}
set -- ${files.join(' ')}
while [ $# -gt 1 ]; do
  if [ -r "$1" ] && [ -r "$2" ]; then export ETCDCTL_CERT="$1" ETCDCTL_KEY="$2"; break; fi
  shift 2
done
`
}

// The programs of the etcd that runs, as they lie in its container or on its host: they are of its version, and a master that kubeadm made
// has no others. They run on the host, with the host's files, and need no container runtime. What does not run there, since it wants
// libraries of its container, is left for what the host has.
export const etcdTools = `export ETCDCTL_API=3
etcd_tool() {
  for pid in $(grep -lzxE '(/[^ ]*/)?etcd' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
    for folder in "$(dirname "$(readlink "/proc/$pid/exe")")" /usr/local/bin /usr/bin; do
      tool=/proc/$pid/root$folder/$1
      if [ -x "$tool" ] && "$tool" version >/dev/null 2>&1; then echo "$tool"; return; fi
    done
  done
  command -v "$1" || { echo "there is no $1, neither beside the etcd that runs nor on this host" >&2; return 127; }
}
`

/** All that a question to the etcd of a host begins with. */
const tooled = (access: EtcdAccess) => raw(asked(access) + etcdTools)

/**
 * Throws `HostFailedError` where a host of etcd lacks what `etcdMembers` and `saveSnapshot` are done with, and names it.
 */
export async function requireEtcdTools({ $, host }: HostSession): Promise<void> {
  // Before 3.6, etcdctl told of snapshots what etcdutl does.
  const look = await $({
    quiet: true,
  })`${raw(etcdTools)}ctl=$(etcd_tool etcdctl 2>/dev/null) || { echo etcdctl; exit 0; }
etcd_tool etcdutl >/dev/null 2>&1 || "$ctl" snapshot --help | grep -q '^[[:space:]]*status[[:space:]]' || echo etcdutl`
  const missing = look.stdout.trim()
  if (missing === '') return
  throw new HostFailedError(`${host.name} has no ${missing}, neither beside the etcd that runs there nor on its own`, {
    code: 'etcd.no-tools',
    host: host.name,
    hint: `Install ${missing} there, in the version of its etcd: backups of etcd are made and checked with it.`,
  })
}

/** The members of the cluster that the etcd of a host belongs to. */
export async function etcdMembers({ $ }: HostSession, access: EtcdAccess): Promise<EtcdMember[]> {
  const { stdout } = await $`${tooled(access)}ctl=$(etcd_tool etcdctl) && "$ctl" member list -w json`
  // An id has 64 bits, which no number of JavaScript holds: it is read as text.
  const listed = JSON.parse(stdout.replace(/"ID":(\d+)/g, '"ID":"$1"')) as {
    members: { ID: string; name?: string; clientURLs?: string[]; isLearner?: boolean }[]
  }
  return listed.members.map(({ ID, name = '', clientURLs = [], isLearner = false }) => ({
    id: BigInt(ID).toString(16),
    name,
    clientUrls: clientURLs,
    learner: isLearner,
  }))
}

/** Which member a host's etcd is, and which of them leads; ids as `etcdMembers` gives them. */
export async function etcdStanding(
  { $ }: HostSession,
  access: EtcdAccess,
): Promise<{ readonly id: string; readonly leader: string }> {
  const { stdout } = await $({
    quiet: true,
  })`${tooled(access)}ctl=$(etcd_tool etcdctl) && "$ctl" endpoint status -w json`
  const told = (field: string) => BigInt(new RegExp(`"${field}": *(\\d+)`).exec(stdout)?.[1] ?? 0).toString(16)
  return { id: told('member_id'), leader: told('leader') }
}

/** What etcd warns of until somebody has seen to it, as it says it: a member without space, data that is damaged. None where all is well. */
export async function etcdAlarms({ $ }: HostSession, access: EtcdAccess): Promise<string[]> {
  const { stdout } = await $({ quiet: true })`${tooled(access)}ctl=$(etcd_tool etcdctl) && "$ctl" alarm list`
  return [...stdout.matchAll(/alarm:\s*(\w+)/g)].map(([, alarm = '']) => alarm)
}

/** Has the member that leads, which is that of this host, hand its leadership to another one. */
export async function moveLeadership({ $ }: HostSession, access: EtcdAccess, to: string): Promise<void> {
  await $`${tooled(access)}ctl=$(etcd_tool etcdctl) && "$ctl" move-leader ${to}`
}

/**
 * Whether the etcd of a host answers a read that needs a quorum. Asked where it tells its health without a certificate, if it was given such
 * a place; else as a client, with the files that lie there now. Costs no process of etcd's own, so it may be asked often.
 */
export async function etcdHealthy(session: HostSession, access: EtcdAccess): Promise<boolean> {
  const at = access.metrics ?? access.client
  const answer = await tell(session, at, '/health', access.identities)
  return /"health":\s*"?true/.test(answer ?? '')
}

/**
 * Whether the etcd of a host is there for its peers, quorum or not: it tells its health, to those who need no certificate, last of all, and
 * answers its peers just before. That it shakes hands with them proves nothing: it does so from its start on. Rejects with
 * `HostFailedError` where it does not listen.
 */
export async function etcdServes(session: HostSession, { metrics, peer, peerIdentity }: EtcdAccess): Promise<boolean> {
  if (metrics) return (await tell(session, metrics, '/livez')) !== undefined
  return (await tell(session, peer, '/version', peerIdentity ? [peerIdentity] : [])) !== undefined
}

async function tell(
  session: HostSession,
  { tls, address, port }: ListensAt,
  path: string,
  identities: readonly Identity[] = [],
): Promise<string | undefined> {
  const secured = tls ? await firstOf(session, identities) : undefined
  return getFromLoopback(session, port, path, { address, tls: secured })
}

/** The first of several identities whose files can be read, for `tls.connect`. They are read each time: a rotation changes them. */
export async function firstOf(
  { files, host }: HostSession,
  identities: readonly Identity[],
): Promise<{ cert?: string; key?: string }> {
  for (const { certificate, key } of identities) {
    try {
      const [cert, pem] = await Promise.all([files.readText(certificate), files.readText(key)])
      return { cert, key: secret(pem).reveal() }
    } catch (error) {
      // It is not there: layouts differ in which they make.
      if (!(error instanceof HostFailedError)) throw error
    }
  }
  if (identities.length === 0) return {}
  throw new HostFailedError(
    `${host.name} has no certificate that its etcd may be asked with: ${identities.map(({ certificate }) => certificate).join(', ')}`,
    { code: 'etcd.no-identity', host: host.name, hint: 'Is the certificate there, and its key beside it?' },
  )
}

/**
 * Saves a snapshot of the etcd of a host and checks it.
 * @param path where it goes, a file in a folder that exists; 0600
 * @returns what `etcdutl snapshot status` says of it
 */
export async function saveSnapshot(
  { $, host }: HostSession,
  access: EtcdAccess,
  path: string,
): Promise<{ hash: string; revision: number; keys: number; size: number }> {
  const status = await $`umask 077
${tooled(access)}ctl=$(etcd_tool etcdctl) || exit
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

/** How many objects of each kind lie in etcd; of those, how many are younger than a revision, or were changed since. */
export interface ObjectCounts {
  readonly kinds: Readonly<Record<string, number>>
  readonly created: Readonly<Record<string, number>>
  readonly changed: Readonly<Record<string, number>>
  /** At which revision that was. */
  readonly revision: number
}

/**
 * Counts what API servers keep in the etcd of a host, by kind, as its keys say: `pods`, `deployments.apps`.
 * @param prefix where they keep it: `registryOf`
 * @param since a revision
 * @throws HostFailedError where etcd does not answer, or has nothing there
 */
export async function countObjects(
  session: HostSession,
  access: EtcdAccess,
  prefix: string,
  since = 0,
): Promise<ObjectCounts> {
  // The keys stay on the host, and are asked for page by page, at one revision: there may be hundreds of thousands. Each page begins with the last
  // key of the one before. One that has no quorum, or does not run, would keep whoever asks for a minute: it is asked for a single key first.
  const { stdout } = await session.$({ quiet: true })`${tooled(access)}ctl=$(etcd_tool etcdctl) || exit
{ "$ctl" --command-timeout=10s get ${prefix} ${endOf(prefix)} --limit=1 --keys-only >/dev/null || { echo failed; exit; }
from=${prefix}; rev=0
while :; do
  page=$("$ctl" --command-timeout=60s get "$from" ${endOf(prefix)} --limit=${pageSize} --rev="$rev" --keys-only -w fields) || { echo failed; break; }
  printf '%s\\n' "$page"
  [ "$rev" != 0 ] || rev=$(printf '%s\\n' "$page" | sed -n 's/^"Revision" : //p' | head -n 1)
  last=$(printf '%s\\n' "$page" | sed -n 's/^"Key" : "\\(.*\\)"$/\\1/p' | tail -n 1)
  [ "$(printf '%s\\n' "$page" | grep -c '^"Key" : ')" = ${pageSize} ] && [ "$last" != "$from" ] || break
  from=$last
done; } | awk -v since=${since} -v prefix=${prefix} ${counting}`
  const counts: Record<'kinds' | 'created' | 'changed', Record<string, number>> = {
    kinds: {},
    created: {},
    changed: {},
  }
  let revision = 0
  for (const line of stdout.split('\n').filter(Boolean)) {
    const [kind = '', all, created, changed] = line.split(' ')
    if (kind === '=') {
      revision = Number(all)
      continue
    }
    counts.kinds[kind] = Number(all)
    if (Number(created) > 0) counts.created[kind] = Number(created)
    if (Number(changed) > 0) counts.changed[kind] = Number(changed)
  }
  if (Object.keys(counts.kinds).length === 0)
    throw new HostFailedError(`etcd of ${session.host.name} has nothing under ${prefix}`, {
      code: 'etcd.nothing',
      host: session.host.name,
    })
  return { ...counts, revision }
}

const pageSize = 5_000

/** The first key that is behind all those with a prefix. */
function endOf(prefix: string): string {
  return `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`
}

// Fields come a line each, first of all the revision, then in this order: "Key" : "/registry/pods/default/a", "CreateRevision" : 7, "ModRevision" : 9.
const counting = `$1 == "\\"Key\\"" {
  if ($3 == key) { again = 1; next }
  again = 0; key = $3
  n = split(substr($3, length(prefix) + 2), part, "/"); sub(/"$/, "", part[n])
  kind = part[1] ~ /[.]/ && part[2] ~ /./ ? part[2] "." part[1] : part[1]
  if (kind == "minions") kind = "nodes"
  if (kind == "services") kind = part[2] == "specs" ? "services" : "endpoints"
  if (kind !~ /^[a-z0-9.-]+$/) kind = "others"
}
$1 == "\\"CreateRevision\\"" { create = $3 }
$1 == "\\"ModRevision\\"" && !again { all[kind]++; if (create + 0 > since) created[kind]++; else if ($3 + 0 > since) changed[kind]++ }
$1 == "\\"Revision\\"" && !revision { revision = $3 }
$0 == "failed" { exit failed = 1 }
END { if (failed) exit 1; print "=", revision; for (kind in all) print kind, all[kind], created[kind] + 0, changed[kind] + 0 }`
