// Which processes in pods may hold in memory the CAs that were published before: most read their ca.crt once, as they start.
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { tokenSecretsPath } from '../trust/tokens.ts'

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
  const published = await publishedSince(api, signal)
  const found: PodMemory[] = []
  for await (const pod of api.each('/api/v1/pods', { signal }))
    found.push(...memoriesOf(pod, published(pod.metadata.namespace ?? ''), written.get(pod.metadata.uid ?? '')))
  return found.toSorted((a, b) => a.since.getTime() - b.since.getTime())
}

/** When what a volume has of the CAs that are published took another's place; undefined where nothing else ever was. */
type Since = (volume: Volume) => Date | undefined

/** Reads when the CAs that are published were written last, for the volumes of pods in a namespace: by its ConfigMap, and by Secrets with tokens. */
export async function publishedSince(api: KubernetesApi, signal?: AbortSignal): Promise<(namespace: string) => Since> {
  const all = new Map<string, Date | undefined>()
  const named = encodeURIComponent(`metadata.name=${published}`)
  for await (const { metadata } of api.each(`/api/v1/configmaps?fieldSelector=${named}`, { signal }))
    all.set(`${metadata.namespace}/ConfigMap`, writtenAt(metadata))
  for await (const { metadata } of api.each(tokenSecretsPath, { signal }))
    all.set(`${metadata.namespace}/Secret/${metadata.name}`, writtenAt(metadata))
  return namespace => volume => {
    const { projected, configMap, secret } = volume
    const sources = projected?.sources ?? []
    const times = [
      ...[configMap, ...sources.map(one => one.configMap)].map(one =>
        one?.name === published ? all.get(`${namespace}/ConfigMap`) : undefined,
      ),
      ...[secret?.secretName, ...sources.map(one => one.secret?.name)].map(name =>
        all.get(`${namespace}/Secret/${name}`),
      ),
    ]
    return times.find(time => time !== undefined)
  }
}

/** The ConfigMap that is published in each namespace. */
const published = 'kube-root-ca.crt'

/** When a ca.crt took another's place: by whoever writes that, where it is said who writes what. */
function writtenAt(metadata: object): Date | undefined {
  const { creationTimestamp, managedFields = [] } = metadata as {
    creationTimestamp?: string
    managedFields?: { time?: string; fieldsV1?: { 'f:data'?: object } }[]
  }
  const writers = managedFields.filter(({ fieldsV1 }) => 'f:ca.crt' in (fieldsV1?.['f:data'] ?? {}))
  const times = (writers.length > 0 ? writers : managedFields)
    .map(({ time }) => Date.parse(time ?? ''))
    .filter(time => !Number.isNaN(time))
  const last = Math.max(...times)
  return last > Date.parse(creationTimestamp ?? '') + clocks ? new Date(last) : undefined
}

interface Volume {
  readonly name: string
  readonly projected?: {
    readonly sources?: readonly {
      readonly configMap?: { readonly name?: string }
      readonly secret?: { readonly name?: string }
    }[]
  }
  readonly configMap?: { readonly name?: string }
  readonly secret?: { readonly secretName?: string }
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
 * The containers of a pod that were started before a ca.crt of theirs was what it is.
 * @param since when the CAs were published that are published now, of a volume
 * @param written when they were in the pod's volume at the latest
 */
export function memoriesOf({ metadata, spec, status }: KubernetesObject, since: Since, written?: Date): PodMemory[] {
  if (status?.['phase'] !== 'Running') return []
  const { creationTimestamp } = metadata as { creationTimestamp?: string }
  // A volume of a pod that was made later never held anything else.
  const volumes = ((spec?.['volumes'] ?? []) as Volume[]).flatMap(volume => {
    const at = since(volume)?.getTime()
    return at === undefined || Date.parse(creationTimestamp ?? '') > at + clocks ? [] : [[volume.name, at] as const]
  })
  const publishedAt = new Map(volumes)
  const there = new Map(
    ['containers', 'initContainers'].flatMap(kind =>
      ((spec?.[kind] ?? []) as Container[]).map(({ name, volumeMounts = [] }) => {
        const times = volumeMounts.flatMap(mount => publishedAt.get(mount.name) ?? [])
        return [name, Math.min(Math.max(...times) + reachesVolumes, written?.getTime() ?? Number.POSITIVE_INFINITY)]
      }),
    ),
  )
  const statuses = ['containerStatuses', 'initContainerStatuses'].flatMap(kind => (status[kind] ?? []) as Status[])
  return statuses.flatMap(({ name, state }) => {
    const started = new Date(state?.running?.startedAt ?? Number.NaN)
    if (!(started.getTime() < (there.get(name) ?? Number.NEGATIVE_INFINITY))) return []
    const { namespace = '', name: pod } = metadata
    const node: unknown = spec?.['nodeName']
    return [{ namespace, pod, container: name, since: started, ...(typeof node === 'string' && { node }) }]
  })
}
