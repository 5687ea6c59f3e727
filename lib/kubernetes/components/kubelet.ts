// A kubelet's restart, what it is doing by its own metrics, and what it has in memory of the files that it writes itself.
import { posix } from 'node:path'
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesApi } from '../api/api.ts'
import type { Cluster } from '../api/cluster.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import { ownClientFile } from '../layout/plan.ts'

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

/**
 * Whether a kubelet presents a certificate to the API, by its own metrics: what it has in memory ends when that does. What it made anew itself is
 * in its memory and in its file; what somebody else has put there since it was started is in the file alone. One that says nothing, since it makes
 * none anew, presents nothing that is known here: false. Rejects as the API and the host do.
 * @param notAfter of the certificate
 */
export async function kubeletPresents(
  api: KubernetesApi,
  { $ }: Pick<HostSession, '$'>,
  node: string,
  notAfter: Date,
): Promise<boolean> {
  const clock = async () => Number((await $({ quiet: true })`date +%s.%N`).stdout)
  const before = await clock()
  const metrics = await api.getText(`/api/v1/nodes/${node}/proxy/metrics`)
  const after = await clock()
  const [, text] = /^kubelet_certificate_manager_client_ttl_seconds (\S+)$/m.exec(metrics) ?? []
  const left = Number(text)
  const end = notAfter.getTime() / 1_000
  // Whole seconds, as they were when it was asked: some time between the two.
  return Number.isFinite(left) && end >= before + left - 1 && end <= after + left + 2
}

/**
 * Whether a kubelet has written its kubeconfig itself since it was started, as it joined, and nobody has since: it has in memory what that holds.
 * It writes it before it asks for its first certificate, so all that it keeps of these came afterwards.
 * @param kubeconfig where it lies
 * @param started when its processes were started, in seconds by the clock of the host
 */
export async function hasWrittenItself(
  { $ }: Pick<HostSession, '$'>,
  layout: HostLayout,
  kubeconfig: string,
  started: readonly number[],
): Promise<boolean> {
  const { kubelet } = layout.components
  const own = ownClientFile(layout)
  const joins = kubelet?.flags['bootstrap-kubeconfig']?.at(-1) !== undefined
  if (!joins || !kubelet.files.some(({ role, path }) => role === 'client' && path === own)) return false
  const { stdout } = await $({
    nothrow: true,
    quiet: true,
  })`stat -c %.9Y ${kubeconfig} && find ${posix.dirname(own)} -maxdepth 1 -type f -name 'kubelet-client-2*.pem' -exec stat -c %.9Y {} +`
  const [written = 0, ...made] = stdout.split('\n').filter(Boolean).map(Number)
  const isSince = started.length > 0 && started.every(one => one < written)
  return isSince && made.length > 0 && made.every(one => one > written)
}
