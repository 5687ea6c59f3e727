// What a kubelet is doing, by its own metrics.
import type { KubernetesApi } from './api.ts'

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
  const rounds = [...metrics.matchAll(/^kubelet_pod_worker_duration_seconds_count\{[^}]*\} (\d+)$/gm)]
  return rounds.reduce((sum, [, count]) => sum + Number(count), 0) >= pods.length
}
