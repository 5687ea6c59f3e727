// Pods that hold what is worth nothing any more, such as tokens of a key that nobody knows: deleted, so that whoever owns them makes others.
import { createHash } from 'node:crypto'
import { limiter } from '../connection/limiter.ts'
import { HostFailedError } from '../errors.ts'
import { waitUntilNoneLeft } from '../operations/wait.ts'
import { ApiError, type KubernetesApi, type KubernetesObject } from './api/api.ts'
import { isLost } from './api/cluster.ts'
import { ownerName } from './before/pods.ts'
import { firstOf } from './before/secrets.ts'
import { type NetworkWorkload, turnsOf } from './pod-network.ts'
import { notRolledOutBut, type Workload, workloadName } from './workloads.ts'

/** Who replaces pods. */
export interface Replacing {
  /** Asks the API: whichever server answers now. Throws where nothing may be changed any more. */
  ask<T>(work: (api: KubernetesApi) => Promise<T>): Promise<T>
  /** Throws before a pod is deleted, where nothing may be changed any more. */
  readonly guard?: () => void
  readonly signal: AbortSignal
  /** How long, in milliseconds, it may go on without another pod that is new. */
  readonly within: number
  /** Nodes that are known to be away: what is on them is not waited for. */
  readonly absent?: readonly string[]
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

/** A DaemonSet's pod is told with its node. */
const isOf = (one: Workload, pod: KubernetesObject) => ownerName(pod).split(' on ')[0] === workloadName(one)

/** How many pods are deleted at once, and how many before whoever answers is asked anew. */
const atOnce = 10
const together = 100

/** Who makes another pod in the place of one that was deleted, as if it were the same. */
const makeAnew = ['ReplicaSet', 'ReplicationController', 'StatefulSet', 'DaemonSet']

/** What was done. Plain data. */
export interface Replaced {
  readonly replaced: number
  /** Pods that nobody owns, and that stay: `shop/once`. */
  readonly left: readonly string[]
  /** Pods that were cut off, and whose owner may make no other: `Job shop/import`. Of runs of earlier versions, none. */
  readonly cut?: readonly string[]
}

/** What one look at all pods finds to be replaced. */
interface Found {
  readonly pods: { readonly path: string; readonly uid: string }[]
  readonly left: string[]
  readonly cut: Set<string>
}

async function findPods(
  api: KubernetesApi,
  signal: AbortSignal,
  isMeant: (pod: KubernetesObject) => boolean,
): Promise<Found> {
  const found: Found = { pods: [], left: [], cut: new Set() }
  for await (const pod of api.each('/api/v1/pods', { signal })) {
    const { namespace, name, uid = '', deletionTimestamp, ownerReferences } = pod.metadata
    // One that has ended holds a token that nobody uses, and a log that somebody may want to read.
    const hasEnded = ['Succeeded', 'Failed'].includes(pod['status']?.phase)
    if (deletionTimestamp !== undefined || hasEnded || !isMeant(pod)) continue
    const owner = ownerReferences?.find(one => one.controller)
    // Its kubelet makes that of a manifest anew.
    if (owner?.kind === 'Node') continue
    if (!owner) {
      found.left.push(`${namespace}/${name}`)
      continue
    }
    found.pods.push({ path: `/api/v1/namespaces/${namespace}/pods/${name}`, uid })
    if (!makeAnew.includes(owner.kind)) found.cut.add(ownerName(pod))
  }
  return found
}

/**
 * Deletes pods that were noted and are still there, and has whoever owns them make others. What nobody owns stays, and is named, and what has ended stays.
 * One that can't be deleted stops no other.
 * @param which of them: all, where nothing is said
 * @throws HostFailedError at the end, where some could not be deleted
 */
export async function replacePods(
  { ask, guard, signal, log }: Replacing,
  { uids }: NotedPods,
  which: (pod: KubernetesObject) => boolean = () => true,
): Promise<Replaced> {
  const old = new Set(uids)
  const { pods, left, cut } = await ask(api => findPods(api, signal, pod => old.has(idOf(pod)) && which(pod)))
  if (cut.size > 0)
    log(`${firstOf([...cut])}: running pods of these are cut off, and whoever owns them may make no others`)
  let replaced = 0
  const failed: string[] = []
  for (let from = 0; from < pods.length; from += together) {
    const some = pods.slice(from, from + together)
    // All have ended by the time that one of them is told to have failed: none goes on behind the step's back.
    const thrown = await ask(async api => {
      const limit = limiter(atOnce)
      const all = await Promise.allSettled(
        some.map(({ path, uid }) =>
          limit(async () => {
            signal.throwIfAborted()
            guard?.()
            try {
              await api.delete(path, uid)
              replaced++
            } catch (error) {
              if (!(error instanceof ApiError)) throw error
              // It has ended by itself, or another one has its name: that one is new.
              if (error.status !== 404 && error.status !== 409) failed.push(error.message)
            }
          }),
        ),
      )
      return all.find(one => one.status === 'rejected')?.reason as unknown
    })
    signal.throwIfAborted()
    if (thrown !== undefined) throw thrown
    if (pods.length > together) log(`${from + some.length} of ${pods.length} pods`)
  }
  if (left.length > 0) log(`Pods that are nobody's stay as they are, since nobody would make others: ${firstOf(left)}`)
  if (failed.length > 0)
    throw new HostFailedError(`${failed.length} pods could not be deleted: ${firstOf(failed, 5)}`, {
      code: 'pods.not-replaced',
      hint: 'All others were. See who refuses it; then rekey resume.',
    })
  return { replaced, left, cut: [...cut] }
}

/** Nodes on which nobody ends or starts a pod: those that are known to be away, and those whose kubelet is not heard of any more. */
async function awayNow(api: KubernetesApi, absent: readonly string[]): Promise<{ away: string[]; there: Set<string> }> {
  const nodes = await api.list('/api/v1/nodes')
  const away = [...absent, ...nodes.filter(isLost).map(({ metadata }) => metadata.name)]
  return { away, there: new Set(nodes.map(({ metadata }) => metadata.name).filter(name => !away.includes(name))) }
}

/** The same of workloads that others need, and waits until their new pods are there: while old ones end, the status of a DaemonSet is that of before. */
export async function replaceFirst(
  replacing: Replacing,
  noted: NotedPods,
  workloads: readonly Workload[],
): Promise<Replaced> {
  if (workloads.length === 0) return { replaced: 0, left: [] }
  const { ask, signal, within, absent = [] } = replacing
  const isTheirs = (pod: KubernetesObject) => workloads.some(one => isOf(one, pod))
  const done = await replacePods(replacing, noted, isTheirs)
  const old = new Set(noted.uids)
  const names = workloads.map(workloadName)
  await waitUntilNoneLeft(`the old pods of ${firstOf(names)} to end`, { within, signal }, () =>
    ask(async api => {
      const { there } = await awayNow(api, absent)
      const left: string[] = []
      for await (const pod of api.each('/api/v1/pods', { signal }))
        if (old.has(idOf(pod)) && isTheirs(pod) && there.has(pod['spec']?.nodeName)) left.push(pod.metadata.name)
      return left.length === 0 ? undefined : { left: left.length, told: `${left.slice(0, 5).join(', ')} still ending` }
    }),
  )
  await Promise.all(
    workloads.map(one =>
      waitUntilNoneLeft(`${workloadName(one)} to be rolled out`, { within, signal }, () =>
        ask(async api => notRolledOutBut(api, one, (await awayNow(api, absent)).away)),
      ),
    ),
  )
  return done
}

/** The same of the pod network, one part after the other. */
export async function replaceNetwork(
  replacing: Replacing,
  noted: NotedPods,
  network: readonly NetworkWorkload[],
): Promise<Replaced> {
  let replaced = 0
  for (const together of turnsOf(network)) replaced += (await replaceFirst(replacing, noted, together)).replaced
  return { replaced, left: [] }
}
