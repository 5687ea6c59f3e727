// Rolling restarts of workloads, as `kubectl rollout restart` and `kubectl rollout status` do them.
import { z } from 'zod'
import { type Left, waitFor, waitUntilNoneLeft } from '../operations/wait.ts'
import type { KubernetesApi, KubernetesObject } from './api/api.ts'

/** A workload whose pods can be replaced one after the other. */
export const workload = z.object({
  kind: z.enum(['Deployment', 'DaemonSet', 'StatefulSet']),
  namespace: z.string(),
  name: z.string(),
})
export type Workload = z.output<typeof workload>

/** `Deployment kube-system/coredns`, as messages name it. */
export function workloadName({ kind, namespace, name }: Workload): string {
  return `${kind} ${namespace}/${name}`
}

/** How a rolling restart is waited for. */
export interface RolloutOptions {
  /** Milliseconds that it may go on without another pod that is new: how long it takes is a matter of how many there are. */
  readonly within: number
  readonly signal?: AbortSignal
  /** Nodes that are away: what is on them is not waited for. */
  readonly absent?: readonly string[]
}

const restartedAt = 'kubectl.kubernetes.io/restartedAt'

/**
 * Starts a rolling restart and waits until it has gone round, but for what is on nodes that are `absent`. Rejects with `HostFailedError` once no pod
 * was new for `within` milliseconds.
 * @param since one that was begun since then is waited for, and not begun anew
 */
export async function restartWorkload(
  api: () => Promise<KubernetesApi>,
  target: Workload,
  options: RolloutOptions,
  since?: Date,
): Promise<void> {
  const now = await api()
  const begun = since && restartedSince(await now.get(pathOf(target)), since)
  if (!begun) {
    const annotations = { [restartedAt]: new Date().toISOString() }
    await now.patch(pathOf(target), { spec: { template: { metadata: { annotations } } } })
  }
  await rolledOut(api, target, options)
}

/** Waits until the newest pods of a workload have replaced the others. Rejects as `restartWorkload` does. */
export async function rolledOut(
  api: () => Promise<KubernetesApi>,
  target: Workload,
  { within, signal, absent = [] }: RolloutOptions,
): Promise<void> {
  await waitUntilNoneLeft(`${workloadName(target)} to be rolled out`, { within, signal }, async () =>
    notRolledOutBut(await api(), target, absent),
  )
}

/** What is missing until a workload is rolled out on all nodes but those that are away; `undefined` when nothing is. */
export async function notRolledOutBut(
  api: KubernetesApi,
  target: Workload,
  absent: readonly string[],
): Promise<Left | undefined> {
  const away = target.kind === 'DaemonSet' && absent.length > 0 ? await podsOn(api, target, absent) : 0
  return notRolledOut(await api.get(pathOf(target)), away)
}

/** Whether a rolling restart of a workload was begun since a time. */
export function restartedSince({ spec }: KubernetesObject, since: Date): boolean {
  return Date.parse(spec?.['template']?.metadata?.annotations?.[restartedAt] ?? '') >= since.getTime()
}

/** Why nobody replaces the pods of a workload by itself when its template changes; undefined where its controller does. */
export function standsStill({ kind, spec }: KubernetesObject): string | undefined {
  const { paused, updateStrategy } = (spec ?? {}) as {
    paused?: boolean
    updateStrategy?: { type?: string; rollingUpdate?: { partition?: number } }
  }
  if (kind === 'Deployment' && paused) return 'it is paused'
  if (updateStrategy?.type === 'OnDelete') return 'its update strategy is OnDelete'
  return (updateStrategy?.rollingUpdate?.partition ?? 0) > 0 ? 'its rolling update has a partition' : undefined
}

/**
 * Replaces all pods of a DaemonSet at once, and waits until the new ones are there, but for those on nodes that are `absent`. For pods whose work goes on while they are
 * away, such as kube-proxy: its rules stay in the kernel. A rolling restart would go from node to node.
 */
export async function replaceDaemonPods(
  api: () => Promise<KubernetesApi>,
  { namespace, name }: Omit<Workload, 'kind'>,
  { within, signal, absent = [] }: { within: number; signal?: AbortSignal; absent?: readonly string[] },
): Promise<void> {
  const first = await api()
  const path = pathOf({ kind: 'DaemonSet', namespace, name })
  const pods = async () =>
    (await (await api()).list(`/api/v1/namespaces/${namespace}/pods`)).filter(pod => ownedBy(pod, name))
  const isAway = ({ spec }: KubernetesObject) => absent.includes(spec?.nodeName)
  const old = new Set((await pods()).map(({ metadata }) => metadata.uid))
  // One on a node that is away would be on its way out until the node is back.
  for (const pod of (await pods()).filter(one => !isAway(one)))
    await first.delete(`/api/v1/namespaces/${namespace}/pods/${pod.metadata.name}`)
  await waitFor(`the pods of DaemonSet ${namespace}/${name} to be replaced`, { within, signal }, async () => {
    const desired = (await (await api()).get(path))['status']?.desiredNumberScheduled ?? 0
    const [away, there] = partition(await pods(), isAway)
    const fresh = there.filter(pod => !old.has(pod.metadata.uid) && isPodReady(pod))
    const wanted = desired - away.length
    if (fresh.length < wanted) throw new Error(`${fresh.length} of ${wanted} new pods are ready`)
    return true
  })
}

/** The addresses of the pods that a Service leads to: of those that are ready, and not ending. */
export async function readyAddresses(
  api: KubernetesApi,
  { namespace, name }: Omit<Workload, 'kind'>,
): Promise<string[]> {
  const slices = await api.list(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`)
  return slices
    .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === name)
    .flatMap(slice => (slice['endpoints'] ?? []) as { addresses: string[]; conditions?: { ready?: boolean } }[])
    .filter(({ conditions }) => conditions?.ready !== false)
    .flatMap(({ addresses }) => addresses)
}

function partition<T>(all: readonly T[], is: (one: T) => boolean): [T[], T[]] {
  return [all.filter(is), all.filter(one => !is(one))]
}

function ownedBy({ metadata }: KubernetesObject, name: string): boolean {
  return metadata.ownerReferences?.some(owner => owner.kind === 'DaemonSet' && owner.name === name) ?? false
}

function isPodReady({ status }: KubernetesObject): boolean {
  return ((status?.conditions ?? []) as { type: string; status: string }[]).some(
    one => one.type === 'Ready' && one.status === 'True',
  )
}

/** How many pods of a DaemonSet are on nodes that are away: they are never replaced. */
async function podsOn(api: KubernetesApi, { namespace, name }: Workload, nodes: readonly string[]): Promise<number> {
  const pods = await api.list(`/api/v1/namespaces/${namespace}/pods`)
  return pods.filter(pod => ownedBy(pod, name) && nodes.includes(pod['spec']?.nodeName)).length
}

/**
 * What is still missing until a workload's newest pods have replaced the others; `undefined` when nothing is.
 * @param away how many of a DaemonSet's pods are on nodes that are away
 */
export function notRolledOut(object: KubernetesObject, away = 0): Left | undefined {
  const { spec = {}, status = {} } = object
  if ((status.observedGeneration ?? 0) < (object.metadata.generation ?? 0))
    return { left: Number.POSITIVE_INFINITY, told: 'its controller has not seen the change yet' }
  const isDaemonSet = object.kind === 'DaemonSet'
  const wanted = isDaemonSet ? (status.desiredNumberScheduled ?? 0) - away : (spec.replicas ?? 1)
  const updated = (isDaemonSet ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0
  const available =
    (isDaemonSet
      ? status.numberAvailable
      : object.kind === 'StatefulSet'
        ? status.readyReplicas
        : status.availableReplicas) ?? 0
  const ending = object.kind === 'Deployment' ? Math.max(0, (status.replicas ?? 0) - updated) : 0
  const left = Math.max(0, wanted - updated) + Math.max(0, wanted - available) + ending
  if (updated < wanted) return { left, told: `${updated} of ${wanted} pods are new` }
  if (ending > 0) return { left, told: 'old pods are still ending' }
  return available < wanted ? { left, told: `${available} of ${wanted} new pods are available` } : undefined
}

/** Where the API has a workload. */
export function pathOf({ kind, namespace, name }: Workload): string {
  return `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`
}

/** Where pods reach the API: the addresses of the Service `kubernetes`, and its port. */
export async function serviceOfTheApi(
  api: Pick<KubernetesApi, 'get'>,
): Promise<{ readonly address: string; readonly port: number }[]> {
  const { spec } = await api.get('/api/v1/namespaces/default/services/kubernetes')
  const { clusterIPs = [], ports = [] } = spec as { clusterIPs?: string[]; ports?: { port: number }[] }
  return clusterIPs.map(address => ({ address, port: ports[0]?.port ?? 443 }))
}
