// Pods that hold what is worth nothing any more, such as tokens of a key that nobody knows: deleted, so that whoever owns them makes others.
import { createHash } from 'node:crypto'
import { limiter } from '../connection/limiter.ts'
import { waitUntilNoneLeft } from '../operations/wait.ts'
import { foundAt, type KubernetesApi, type KubernetesObject } from './api/api.ts'
import { isReady } from './api/cluster.ts'
import { ownerName } from './before/pods.ts'
import { notRolledOut, rolledOut, type Workload, workloadName } from './workloads.ts'

/** Who replaces pods. */
export interface Replacing {
  /** Asks the API. Throws where nothing may be changed any more. */
  ask<T>(work: (api: KubernetesApi) => Promise<T>): Promise<T>
  /** Throws before a pod is deleted, where nothing may be changed any more. */
  readonly guard?: () => void
  readonly signal: AbortSignal
  /** How long, in milliseconds, it may go on without another pod that is new. */
  readonly within: number
  log(line: string): void
}

/** Which pods. Plain data: by hashes of their uids, which are shorter. */
export interface NotedPods {
  readonly uids: readonly string[]
}

const idOf = ({ metadata: { uid = '' } }: KubernetesObject) =>
  createHash('sha256').update(uid).digest('hex').slice(0, 16)

/** The pods that are there now. */
export function podsOfNow({ ask, signal }: Replacing): Promise<NotedPods> {
  return ask(async api => {
    const uids: string[] = []
    for await (const pod of api.each('/api/v1/pods', { metadata: true, signal })) uids.push(idOf(pod))
    return { uids }
  })
}

/**
 * DaemonSets of kube-system on the machines' own network: what pods are connected by, and what machines join by. Those that are rolled out: the
 * others are waited for by nobody.
 */
export async function networkWorkloads(api: KubernetesApi): Promise<Workload[]> {
  const sets = await api.list('/apis/apps/v1/namespaces/kube-system/daemonsets')
  return (
    sets
      .filter(({ spec }) => spec?.template?.spec?.hostNetwork === true)
      // The objects of a list do not say their kind.
      .filter(set => notRolledOut({ ...set, kind: 'DaemonSet' }) === undefined)
      .map(({ metadata }) => ({ kind: 'DaemonSet', namespace: 'kube-system', name: metadata.name }))
  )
}

/** A DaemonSet's pod is told with its node. */
const isOf = (one: Workload, pod: KubernetesObject) => ownerName(pod).split(' on ')[0] === workloadName(one)

/** How many pods are deleted at once. */
const atOnce = 10

/** What was done. Plain data. */
export interface Replaced {
  readonly replaced: number
  /** Pods that nobody owns, and that stay: `shop/once`. */
  readonly left: readonly string[]
}

/**
 * Deletes pods that were noted and are still there, and has whoever owns them make others. What nobody owns stays, and is named.
 * @param which of them: all, where nothing is said
 */
export function replacePods(
  { ask, guard, signal, log }: Replacing,
  { uids }: NotedPods,
  which: (pod: KubernetesObject) => boolean = () => true,
): Promise<Replaced> {
  const old = new Set(uids)
  const limit = limiter(atOnce)
  return ask(async api => {
    let replaced = 0
    const left: string[] = []
    const found: { readonly path: string; readonly uid?: string }[] = []
    const replace = async ({ path, uid }: (typeof found)[number]) => {
      signal.throwIfAborted()
      if ((await foundAt(api, path))?.metadata.uid !== uid) return
      guard?.()
      await api.delete(path)
      replaced++
    }
    for await (const pod of api.each('/api/v1/pods', { signal })) {
      const { namespace, name, uid, deletionTimestamp, ownerReferences } = pod.metadata
      if (!old.has(idOf(pod)) || deletionTimestamp !== undefined || !which(pod)) continue
      const owner = ownerReferences?.find(one => one.controller)
      // Its kubelet makes that of a manifest anew.
      if (owner?.kind === 'Node') continue
      if (owner) found.push({ path: `/api/v1/namespaces/${namespace}/pods/${name}`, uid })
      else left.push(`${namespace}/${name}`)
    }
    await Promise.all(found.map(pod => limit(() => replace(pod))))
    for (const pod of left) log(`Pod ${pod} is nobody's, and stays as it is: nobody would make another one`)
    return { replaced, left }
  })
}

/** The same of workloads that others need, and waits until their new pods are there: while old ones end, the status of a DaemonSet is that of before. */
export async function replaceFirst(
  replacing: Replacing,
  noted: NotedPods,
  workloads: readonly Workload[],
): Promise<Replaced> {
  if (workloads.length === 0) return { replaced: 0, left: [] }
  const { ask, signal, within } = replacing
  const isTheirs = (pod: KubernetesObject) => workloads.some(one => isOf(one, pod))
  const done = await replacePods(replacing, noted, isTheirs)
  const old = new Set(noted.uids)
  await ask(async api => {
    await waitUntilNoneLeft(
      `the old pods of ${workloads.map(workloadName).join(', ')} to end`,
      { within, signal },
      async () => {
        // Of a machine that does not answer nobody says that a pod has ended.
        const nodes = new Set((await api.list('/api/v1/nodes')).filter(isReady).map(({ metadata }) => metadata.name))
        const left: string[] = []
        for await (const pod of api.each('/api/v1/pods', { signal }))
          if (old.has(idOf(pod)) && isTheirs(pod) && nodes.has(pod['spec']?.nodeName)) left.push(pod.metadata.name)
        return left.length === 0
          ? undefined
          : { left: left.length, told: `${left.slice(0, 5).join(', ')} still ending` }
      },
    )
    await Promise.all(workloads.map(one => rolledOut(async () => api, one, { within, signal })))
  })
  return done
}
