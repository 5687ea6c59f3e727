// kube-proxy on one node: whether what it has heard of is in the kernel.
import type { HostSession } from '../playbook/model.ts'
import { getFromLoopback } from './loopback.ts'

/**
 * Whether the kube-proxy of a node has written its rules since it was started, by its metrics on loopback (kubeadm's default
 * address). Its pod counts as ready long before that. `undefined` where it shows no metrics there.
 */
export async function kubeProxySynced(session: HostSession): Promise<boolean | undefined> {
  const metrics = await getFromLoopback(session, 10249, '/metrics').catch(() => undefined)
  if (metrics === undefined) return undefined
  const last = /^kubeproxy_sync_proxy_rules_last_timestamp_seconds(?:\{[^}]*\})? (\S+)$/m.exec(metrics)
  return last !== null && Number(last[1]) > 0
}
