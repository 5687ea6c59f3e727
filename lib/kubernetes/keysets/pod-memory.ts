// Which processes in pods may hold in memory the CAs that were published before: most read their ca.crt once, as they start.
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'

/** A container that was started before the ca.crt of its pod got what stands there now. */
export interface PodMemory {
  readonly namespace: string
  readonly pod: string
  readonly container: string
  readonly node?: string
  /** When it was started. */
  readonly since: Date
}

/** Milliseconds after which every volume has what was published, and by which clocks may differ. */
const [reachesVolumes, clocks] = [90_000, 2_000]

/**
 * Reads them, those that have run longest first.
 * @param written when the ca.crt of a pod was written last on its node, by the pod's uid, where that was read. It is written anew with each token,
 *   so that it says no more than when it was there at the latest
 */
export async function podMemories(
  api: KubernetesApi,
  written: ReadonlyMap<string, Date>,
  signal?: AbortSignal,
): Promise<PodMemory[]> {
  const published = new Map<string, Date | undefined>()
  const named = encodeURIComponent('metadata.name=kube-root-ca.crt')
  for await (const { metadata } of api.each(`/api/v1/configmaps?fieldSelector=${named}`, { signal }))
    published.set(metadata.namespace ?? '', writtenAt(metadata))
  const found: PodMemory[] = []
  for await (const pod of api.each('/api/v1/pods', { signal }))
    found.push(...memoriesOf(pod, published.get(pod.metadata.namespace ?? ''), written.get(pod.metadata.uid ?? '')))
  return found.toSorted((a, b) => a.since.getTime() - b.since.getTime())
}

/** When what is published took another's place; undefined where nothing else ever was. */
function writtenAt(metadata: object): Date | undefined {
  const { creationTimestamp, managedFields = [] } = metadata as {
    creationTimestamp?: string
    managedFields?: { time?: string }[]
  }
  const times = managedFields.map(({ time }) => Date.parse(time ?? '')).filter(time => !Number.isNaN(time))
  const last = Math.max(...times)
  return last > Date.parse(creationTimestamp ?? '') + clocks ? new Date(last) : undefined
}

interface Volume {
  readonly name: string
  readonly projected?: { readonly sources?: readonly { readonly configMap?: { readonly name?: string } }[] }
  readonly configMap?: { readonly name?: string }
}
interface Container {
  readonly name: string
  readonly volumeMounts?: readonly { readonly name: string }[]
}
interface Status {
  readonly name: string
  readonly state?: { readonly running?: { readonly startedAt: string } }
}

/**
 * The containers of a pod that were started before its ca.crt was what it is.
 * @param published when the CAs were published that are published now
 * @param written when they were in the pod's volume at the latest
 */
export function memoriesOf(
  { metadata, spec, status }: KubernetesObject,
  published?: Date,
  written?: Date,
): PodMemory[] {
  if (!published || status?.['phase'] !== 'Running') return []
  const { creationTimestamp } = metadata as { creationTimestamp?: string }
  // Its volume never held anything else.
  if (Date.parse(creationTimestamp ?? '') > published.getTime() + clocks) return []
  const isPublished = (one?: { readonly name?: string }) => one?.name === 'kube-root-ca.crt'
  const volumes = ((spec?.['volumes'] ?? []) as Volume[]).filter(
    ({ projected, configMap }) => isPublished(configMap) || projected?.sources?.some(one => isPublished(one.configMap)),
  )
  const mounting = ['containers', 'initContainers'].flatMap(kind =>
    ((spec?.[kind] ?? []) as Container[]).flatMap(({ name, volumeMounts }) =>
      volumeMounts?.some(mount => volumes.some(volume => volume.name === mount.name)) ? [name] : [],
    ),
  )
  const there = Math.min(published.getTime() + reachesVolumes, written?.getTime() ?? Number.POSITIVE_INFINITY)
  const statuses = ['containerStatuses', 'initContainerStatuses'].flatMap(kind => (status[kind] ?? []) as Status[])
  return statuses.flatMap(({ name, state }) => {
    const since = new Date(state?.running?.startedAt ?? Number.NaN)
    if (!mounting.includes(name) || !(since.getTime() < there)) return []
    const { namespace = '', name: pod } = metadata
    const node: unknown = spec?.['nodeName']
    return [{ namespace, pod, container: name, since, ...(typeof node === 'string' && { node }) }]
  })
}
