// Pods as they were before: what was well must be well again. What was not, is told and waited for by nobody. Pods are compared by
// their owners, since one that is restarted has another name.
import { foundAt, type KubernetesApi, type KubernetesObject } from '../api/api.ts'

/** Pods of one owner that are not well for the same reason. */
export interface UnwellPods {
  /** `Deployment shop/web`, `DaemonSet kube-system/cni on n1`, `Pod shop/once`. */
  readonly owner: string
  /** `CrashLoopBackOff`, `Failed (Evicted)`, `Pending (Unschedulable)`, `not ready`. */
  readonly why: string
  readonly count: number
  /** The name of the first of them. */
  readonly pod: string
}

/** What pods were like. Plain data, to be registered: an entry for each owner. */
export interface PodsBefore {
  /** How many pods of each owner were well. */
  readonly well: Readonly<Record<string, number>>
  readonly unwell: readonly UnwellPods[]
}

/** What has become of them. Plain data. */
export interface PodsComparison {
  /** What was well and is not (yet), in words. Empty: all is as well as it was. */
  readonly missing: readonly string[]
  /** What is not well, and was not before. */
  readonly still: readonly UnwellPods[]
  /** What is not well, has not been there before, or keeps no one from being as well as before. */
  readonly others: readonly UnwellPods[]
  /** What is gone or fewer because somebody wanted it so, in words. */
  readonly told: readonly string[]
}

/** Whose pods are looked at. */
export interface PodsOptions {
  /** Nodes that are known to be away: their pods are left out. */
  readonly absent?: readonly string[]
  readonly signal?: AbortSignal
}

/** Notes how every pod is. Throws `ApiError`, `HostFailedError` where they can't all be read. */
export async function podsBefore(api: KubernetesApi, options: PodsOptions = {}): Promise<PodsBefore> {
  const { well, unwell } = await readPods(api, options, pod => podProblem(pod) ?? unsteady(pod))
  return { well: Object.fromEntries(well), unwell }
}

/**
 * Compares all pods with what they were like. To be asked again while `missing` is not empty, for as long as whoever asks has patience.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function comparePods(
  api: KubernetesApi,
  before: PodsBefore,
  options: PodsOptions = {},
): Promise<PodsComparison> {
  const { well, unwell } = await readPods(api, options)
  const known = new Set(before.unwell.map(({ owner }) => owner))
  const missing: string[] = []
  const told: string[] = []
  const spokenOf = new Set<string>()
  for (const [owner, count] of Object.entries(before.well)) {
    const now = well.get(owner) ?? 0
    if (now >= count || options.absent?.some(node => owner.endsWith(` on ${node}`))) continue
    const sick = unwell.filter(one => one.owner === owner)
    const reason = await whyFewer(api, owner, now, sick)
    const whatNow = [`${now} of ${count} pods are well`, ...sick.map(({ pod, why }) => `${pod}: ${why}`)].join(', ')
    if (reason === undefined) missing.push(`${owner}: ${whatNow}`)
    else told.push(`${owner}: ${reason}`)
    spokenOf.add(owner)
  }
  const rest = unwell.filter(({ owner }) => !spokenOf.has(owner))
  return {
    ...{ missing, told },
    still: rest.filter(({ owner }) => known.has(owner)),
    others: rest.filter(({ owner }) => !known.has(owner)),
  }
}

/** A line for each owner whose pods are not well. */
export function tellPods(unwell: readonly UnwellPods[]): string[] {
  return unwell.map(({ owner, why, count, pod }) => {
    if (owner.startsWith('Pod ')) return `${owner}: ${why}`
    return count === 1 ? `${owner}: ${pod} is ${why}` : `${owner}: ${count} pods are ${why}, ${pod} for one`
  })
}

/** A line for whatever is not as it was, and is not missing. */
export function tellComparison({ told, still, others }: PodsComparison): string[] {
  return [...told, ...tellPods(still).map(line => `${line}, as before`), ...tellPods(others)]
}

async function readPods(api: KubernetesApi, { absent = [], signal }: PodsOptions, problemOf = podProblem) {
  const away = new Set(absent)
  const well = new Map<string, number>()
  const unwell = new Map<string, UnwellPods>()
  for await (const pod of api.each('/api/v1/pods', { signal })) {
    // One that is on its way out, or has done its work, is nobody's concern.
    const { metadata, spec, status } = pod
    if (metadata.deletionTimestamp !== undefined || status?.phase === 'Succeeded' || away.has(spec?.nodeName)) continue
    const owner = ownerName(pod)
    const why = problemOf(pod)
    if (why === undefined) {
      well.set(owner, (well.get(owner) ?? 0) + 1)
      continue
    }
    const key = `${owner} ${why}`
    const known = unwell.get(key)
    unwell.set(key, { owner, why, count: (known?.count ?? 0) + 1, pod: known?.pod ?? metadata.name })
  }
  return { well, unwell: [...unwell.values()] }
}

/** What is wrong with a pod, in Kubernetes' words; `undefined` where it runs and is ready, or has done its work. */
export function podProblem({ status = {}, metadata }: KubernetesObject): string | undefined {
  const { phase, reason, conditions = [], containerStatuses = [], initContainerStatuses = [] } = status as PodStatus
  if (phase === 'Succeeded' || metadata.deletionTimestamp !== undefined) return undefined
  const containers = [...initContainerStatuses, ...containerStatuses]
  const waiting = containers.map(({ state }) => state?.waiting?.reason).find(one => one !== undefined)
  const condition = (type: string) => conditions.find(one => one.type === type)
  const because = (why?: string) => `${phase ?? 'Unknown'}${why ? ` (${plain(why)})` : ''}`
  if (phase === 'Pending') {
    const scheduled = condition('PodScheduled')
    return because(scheduled?.status === 'False' ? scheduled.reason : waiting)
  }
  if (phase !== 'Running') {
    const ended = containers.map(({ state }) => state?.terminated?.reason).find(one => one && one !== 'Completed')
    return because(reason ?? ended)
  }
  const ready = condition('Ready')
  if (ready ? ready.status === 'True' : containerStatuses.every(one => one.ready)) return undefined
  return waiting ? plain(waiting) : 'not ready'
}

const oftenRestarted = 3
const recently = 20 * 60_000

/** Whether a pod that runs just now has been falling over: a moment later it may be what it was before. */
function unsteady({ status }: KubernetesObject): string | undefined {
  const fell = ({ restartCount = 0, lastState }: ContainerStatus) => {
    const { finishedAt, exitCode } = lastState?.terminated ?? {}
    return restartCount >= oftenRestarted && exitCode !== 0 && Date.parse(finishedAt ?? '') > Date.now() - recently
  }
  return ((status as PodStatus).containerStatuses ?? []).some(fell)
    ? `restarted ${oftenRestarted} times or more, and within the last 20 minutes`
    : undefined
}

interface PodStatus {
  readonly phase?: string
  readonly reason?: string
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[]
  readonly containerStatuses?: readonly ContainerStatus[]
  readonly initContainerStatuses?: readonly ContainerStatus[]
}

interface ContainerStatus {
  readonly ready?: boolean
  readonly restartCount?: number
  readonly lastState?: { readonly terminated?: { readonly finishedAt?: string; readonly exitCode?: number } }
  readonly state?: {
    readonly waiting?: { readonly reason?: string }
    readonly terminated?: { readonly reason?: string }
  }
}

/** A reason is a word; whoever writes something else into one is not quoted. */
const plain = (reason: string) => (/^[\w.:-]{1,80}$/.test(reason) ? reason : 'of an unreadable reason')

/** Whose pod it is, by a name that the pod which replaces it has too: `Deployment shop/web`, `DaemonSet kube-system/cni on n1`. */
export function ownerName({ metadata, spec }: KubernetesObject): string {
  const { namespace, name, labels = {}, ownerReferences = [] } = metadata
  const owner = ownerReferences.find(one => one.controller) ?? ownerReferences[0]
  if (!owner) return `Pod ${namespace}/${name}`
  // A static pod: its kubelet owns it, and it has the name of its node.
  if (owner.kind === 'Node') return `Pod ${namespace}/${name} on ${owner.name}`
  if (owner.kind === 'DaemonSet') return `DaemonSet ${namespace}/${owner.name} on ${spec?.nodeName ?? 'no node'}`
  if (owner.kind !== 'ReplicaSet') return `${owner.kind} ${namespace}/${owner.name}`
  // A Deployment that is restarted has another ReplicaSet; its name ends in a hash that its pods know.
  const hash = labels['pod-template-hash'] ?? ''
  if (hash !== '' && owner.name.endsWith(`-${hash}`))
    return `Deployment ${namespace}/${owner.name.slice(0, -hash.length - 1)}`
  return `ReplicaSet ${namespace}/${owner.name}`
}

/** The parts of a name that `ownerName` has given. */
export function ownerParts(owner: string): {
  readonly kind: string
  readonly namespace: string
  readonly name: string
  readonly node?: string
} {
  const [kind = '', path = '', , node] = owner.split(' ')
  const [namespace = '', name = ''] = path.split('/')
  return { kind, namespace, name, node }
}

/** Where the owners are that say how many pods they want. */
const counted: Record<string, string> = {
  ...{ Deployment: 'apis/apps/v1', ReplicaSet: 'apis/apps/v1', StatefulSet: 'apis/apps/v1', DaemonSet: 'apis/apps/v1' },
  ReplicationController: 'api/v1',
}

/** Why fewer pods of an owner are well than before, where that is as somebody wants it; `undefined` where it is not. */
async function whyFewer(
  api: KubernetesApi,
  owner: string,
  now: number,
  sick: readonly UnwellPods[],
): Promise<string | undefined> {
  const { kind, namespace, name, node } = ownerParts(owner)
  if (node !== undefined && !(await foundAt(api, `/api/v1/nodes/${node}`))) return 'its node is gone'
  if (kind === 'Pod') {
    // Its kubelet starts a static one again, nobody one that is gone, and the kubelet what is to run always.
    const pod = await foundAt(api, `/api/v1/namespaces/${namespace}/pods/${name}`)
    if (!pod) return node === undefined ? 'is gone' : undefined
    return failed(sick) && pod['spec']?.restartPolicy !== 'Always' ? `has ended meanwhile: ${sick[0]!.why}` : undefined
  }
  const prefix = counted[kind]
  if (prefix === undefined) {
    // What runs to its end is gone then, or has failed, and is not started anew.
    if (sick.length === 0) return 'has fewer pods than before'
    return failed(sick) ? `has failed meanwhile (${sick[0]!.pod}: ${sick[0]!.why})` : undefined
  }
  const object = await foundAt(api, `/${prefix}/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`)
  if (!object) return 'is gone'
  const { spec = {}, status = {} } = object
  if ((status.observedGeneration ?? 0) < (object.metadata.generation ?? 0)) return undefined
  if (kind !== 'DaemonSet') return now >= (spec.replicas ?? 1) ? `has ${spec.replicas ?? 1} pods now` : undefined
  const ready = (status.numberReady ?? 0) >= (status.desiredNumberScheduled ?? 0) && sick.length === 0
  return ready ? `has no pod on ${node} any more` : undefined
}

const failed = (sick: readonly UnwellPods[]) => sick.length > 0 && sick.every(({ why }) => why.startsWith('Failed'))
