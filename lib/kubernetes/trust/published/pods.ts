// Which pods hold a CA in memory that is not all of what is published by now: a process reads its ca.crt once, when it starts.
import type { KubernetesApi, KubernetesObject } from '../../api/api.ts'
import { memoriesOf, publishedSince } from '../../keysets/pod-memory.ts'
import type { Workload } from '../../workloads.ts'

/** A pod that was started before what is published now had reached it, and what has it made anew; undefined where nothing does. */
export interface BehindPod {
  readonly namespace: string
  readonly name: string
  readonly workload?: Workload
  /** The PodDisruptionBudget that lets none of its like be away now. */
  readonly guardedBy?: string
}

/**
 * The running pods that may go by an older ca.crt than the one in their volumes. Those of the host's own manifests have none.
 * @param enough when all volumes had got what is wanted; what was published since holds that, too
 * @throws ApiError where not everything can be read
 */
export async function podsBehind(api: KubernetesApi, enough?: Date, signal?: AbortSignal): Promise<BehindPod[]> {
  const published = await publishedSince(api, signal)
  const owners = new Map<string, KubernetesObject>()
  for await (const one of api.each('/apis/apps/v1/replicasets', { signal }))
    owners.set(`${one.metadata.namespace}/${one.metadata.name}`, one)
  const budgets: KubernetesObject[] = []
  for await (const one of api.each('/apis/policy/v1/poddisruptionbudgets', { signal })) budgets.push(one)
  const behind: BehindPod[] = []
  for await (const pod of api.each('/api/v1/pods', { signal })) {
    const { namespace = '', name } = pod.metadata
    const at = published(namespace)
    const since: typeof at = volume => earlier(at(volume), enough)
    if (memoriesOf(pod, since, enough).length === 0) continue
    const workload = workloadOf(pod, owners)
    const isGuarding = (one: KubernetesObject) =>
      one.metadata.namespace === namespace && (one['status']?.disruptionsAllowed ?? 0) < 1 && guards(one, pod)
    const guardedBy = budgets.find(isGuarding)?.metadata.name
    behind.push({ namespace, name, ...(workload && { workload }), ...(guardedBy !== undefined && { guardedBy }) })
  }
  return behind
}

const earlier = (one: Date | undefined, other: Date | undefined) => (one && other && other < one ? other : one)

function workloadOf({ metadata }: KubernetesObject, sets: ReadonlyMap<string, KubernetesObject>): Workload | undefined {
  const namespace = metadata.namespace ?? ''
  const owner = metadata.ownerReferences?.[0]
  const above =
    owner?.kind === 'ReplicaSet' ? sets.get(`${namespace}/${owner.name}`)?.metadata.ownerReferences?.[0] : owner
  const kind = (['Deployment', 'DaemonSet', 'StatefulSet'] as const).find(one => one === above?.kind)
  return above && kind ? { kind, namespace, name: above.name } : undefined
}

/** Whether a budget is about a pod: an empty selector chooses all. One that chooses by more than labels is taken to be. */
function guards({ spec }: KubernetesObject, { metadata }: KubernetesObject): boolean {
  const { selector } = (spec ?? {}) as { selector?: { matchLabels?: Record<string, string> } | null }
  if (!selector) return false
  return Object.entries(selector.matchLabels ?? {}).every(([label, value]) => metadata.labels?.[label] === value)
}
