// kube-proxy on one node: whether what it has heard of is in the kernel, and what it leaves there too long.
import type { HostSession } from '../../playbook/model.ts'
import { getFromLoopback } from '../api/loopback.ts'

/**
 * Whether the kube-proxy of a node has written its rules since it was started, and has heard of nothing since then, by its metrics on
 * loopback. Its pod counts as ready long before that. `undefined` where it shows no metrics there.
 */
export async function kubeProxySynced(session: HostSession, port = 10_249): Promise<boolean | undefined> {
  const metrics = await getFromLoopback(session, port, '/metrics').catch(() => undefined)
  if (metrics === undefined) return undefined
  const synced = secondsByFamily(metrics, 'last_timestamp')
  const queued = secondsByFamily(metrics, 'last_queued_timestamp')
  return (synced.get('IPv4') ?? 0) > 0 && [...queued].every(([family, at]) => (synced.get(family) ?? 0) >= at)
}

/** A time that kube-proxy's metrics give for each family of addresses; versions before 1.34 give one for all. */
function secondsByFamily(metrics: string, name: string): Map<string, number> {
  const families = new Map<string, number>()
  for (const line of metrics.split('\n')) {
    const at = line.lastIndexOf(' ')
    const [metric, labels] = line.slice(0, at).split('{', 2)
    if (at === -1 || metric !== `kubeproxy_sync_proxy_rules_${name}_seconds`) continue
    families.set(labels?.includes('"IPv6"') ? 'IPv6' : 'IPv4', Number(line.slice(at)))
  }
  return families
}

/**
 * Has a node's kernel forget where it led UDP packets that go to pods at these addresses. kube-proxy does so only once the pods are
 * gone; until then, a client that comes by with a port of before is led to a pod that does not answer any more.
 * A question that is being answered keeps its way for a second more: an answer to what is forgotten reaches nobody.
 * Returns false where the node has no `conntrack`, which kubeadm asks for.
 */
export async function forgetUdpFlows({ $ }: HostSession, addresses: readonly string[]): Promise<boolean> {
  // Its status 1 says that there were none.
  const { exitCode } = await $({
    nothrow: true,
  })`command -v conntrack >/dev/null || exit 127; for s in '-u SEEN_REPLY' ''; do for a in ${addresses}; do conntrack -D -p udp --reply-src "$a" $s; [ $? -le 1 ] || exit 2; done; [ -z "$s" ] || sleep 1; done >/dev/null 2>&1`
  return exitCode === 0
}
