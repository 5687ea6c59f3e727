// A kubelet's restart, and what it is doing by its own metrics.
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesApi } from '../api/api.ts'
import type { Cluster } from '../api/cluster.ts'

/**
 * Restarts the kubelet of a host, and returns its node's last heartbeat before, for `Cluster.nodesReady`: the next one is that of the
 * new process. Heartbeats are in whole seconds, and a kubelet says so again only after five minutes: one that was started and heard
 * within the second of the last heartbeat would not be told from the one before it. So that second is waited for, by the host's clock. One
 * that systemd has given up on is started all the same.
 * Rejects as the API and the host do.
 */
export async function restartKubelet(
  cluster: Cluster,
  session: HostSession,
  node: string,
  unit = 'kubelet',
): Promise<string> {
  const heartbeat = await cluster.heartbeat(node)
  await session.$`while [ "$(date -u +%FT%TZ)" = ${heartbeat} ]; do sleep 0.1; done; systemctl reset-failed ${unit} 2>/dev/null; systemctl restart ${unit}`
  return heartbeat
}

/**
 * Whether a kubelet has gone round its pods since it was started, by its metrics. While it works on a pod for the first time it asks
 * the API, and where the API has just been taken away, it waits for half a minute before it starts again what was killed in that pod.
 * Rejects as the API does.
 */
export async function kubeletWentRound(api: KubernetesApi, node: string): Promise<boolean> {
  const [pods, metrics] = await Promise.all([
    api.list(`/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${node},status.phase=Running`)}`),
    api.getText(`/api/v1/nodes/${node}/proxy/metrics`),
  ])
  const rounds = [...metrics.matchAll(/^kubelet_pod_worker_duration_seconds_count\{[^}\n]*\} (\d+)$/gm)]
  return rounds.reduce((sum, [, count]) => sum + Number(count), 0) >= pods.length
}
