// What a cluster that has been used for years is like, as far as a rotation meets it: what runs what every cluster needs, what is away,
// what would refuse a change. Reads only, but for changes that API servers are asked to try without making them (dry run).
import { limiter } from '../../connection/limiter.ts'
import { ApiError, foundAt, type KubernetesApi } from '../api/api.ts'
import { isReady } from '../api/cluster.ts'
import type { KubernetesObject } from '../api/object.ts'
import { pathOf, type Workload, workloadName } from '../workloads.ts'
import { requiredWebhooks } from './webhooks.ts'

/** What runs that a rotation must restart, where it is there. Plain data. */
export interface SystemWorkloads {
  /** The DaemonSet of kube-proxy; other programs may do its work. */
  readonly kubeProxy?: Workload
  /** What answers the questions that go to the cluster's DNS Service, and that Service. */
  readonly dns?: Workload
  readonly dnsService?: { readonly namespace: string; readonly name: string }
}

/**
 * Finds kube-proxy and the cluster's DNS, whatever they are called.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function systemWorkloads(api: KubernetesApi, signal?: AbortSignal): Promise<SystemWorkloads> {
  let kubeProxy: Workload | undefined
  let dnsService: SystemWorkloads['dnsService']
  let selector: Record<string, string> = {}
  for await (const set of api.each('/apis/apps/v1/daemonsets', { signal })) {
    if (runsKubeProxy(set)) kubeProxy ??= { kind: 'DaemonSet', ...namesOf(set) }
  }
  for await (const service of api.each('/api/v1/services', { signal })) {
    // The name and label that every DNS add-on keeps, since kubelets are told of its address.
    const { name, namespace, labels = {} } = service.metadata
    if (namespace !== 'kube-system' || (name !== 'kube-dns' && labels['k8s-app'] !== 'kube-dns')) continue
    if (dnsService && name !== 'kube-dns') continue
    dnsService = { namespace, name }
    selector = (service['spec']?.selector ?? {}) as Record<string, string>
  }
  const dns = dnsService && (await selectedWorkload(api, dnsService.namespace, selector, signal))
  return { kubeProxy, dns, dnsService }
}

/** Whether a DaemonSet's containers are kube-proxy: by the program that they run, or kubeadm's label. */
function runsKubeProxy({ metadata, spec }: KubernetesObject): boolean {
  const containers = (spec?.template?.spec?.containers ?? []) as { name: string; command?: string[] }[]
  const byProgram = containers.some(({ command = [] }) => command[0]?.split('/').at(-1) === 'kube-proxy')
  return byProgram || (metadata.name === 'kube-proxy' && metadata.labels?.['k8s-app'] === 'kube-proxy')
}

async function selectedWorkload(
  api: KubernetesApi,
  namespace: string,
  selector: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<Workload | undefined> {
  const wanted = Object.entries(selector)
  if (wanted.length === 0) return undefined
  for (const kind of ['Deployment', 'DaemonSet', 'StatefulSet'] as const) {
    for await (const one of api.each(`/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s`, { signal })) {
      const labels = (one['spec']?.template?.metadata?.labels ?? {}) as Record<string, string>
      if (wanted.every(([name, value]) => labels[name] === value)) return { kind, ...namesOf(one) }
    }
  }
  return undefined
}

const namesOf = ({ metadata: { name, namespace = '' } }: KubernetesObject) => ({ name, namespace })

/** How nodes are, by their names. Plain data. */
export interface NodeConditions {
  readonly notReady: readonly string[]
  /** Nothing new is started on them. */
  readonly cordoned: readonly string[]
}

export function nodeConditions(nodes: readonly KubernetesObject[]): NodeConditions {
  const names = (those: readonly KubernetesObject[]) => those.map(({ metadata }) => metadata.name)
  return {
    notReady: names(nodes.filter(node => !isReady(node))),
    cordoned: names(nodes.filter(({ spec }) => spec?.unschedulable === true)),
  }
}

/**
 * What is out of the ordinary and does not stop a rotation, a line each: no cluster-info, namespaces that never go away, webhooks that nobody answers
 * for, budgets that allow nothing, static pods of somebody else.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function oddities(api: KubernetesApi, signal?: AbortSignal): Promise<string[]> {
  const told: string[] = []
  const clusterInfo = '/api/v1/namespaces/kube-public/configmaps/cluster-info'
  if (!(await foundAt(api, clusterInfo)))
    told.push('There is no ConfigMap kube-public/cluster-info: machines that join find the CA elsewhere')
  for await (const { metadata, status } of api.each('/api/v1/namespaces', { signal })) {
    if (status?.phase === 'Terminating')
      told.push(`Namespace ${metadata.name} has been ending since ${metadata.deletionTimestamp ?? 'some time'}`)
  }
  told.push(...(await unansweredWebhooks(api, signal)))
  for await (const { metadata, spec, status } of api.each('/apis/policy/v1/poddisruptionbudgets', { signal })) {
    if ((status?.expectedPods ?? 0) === 0 || (status?.disruptionsAllowed ?? 0) > 0) continue
    if (
      spec?.maxUnavailable === 0 ||
      spec?.maxUnavailable === '0%' ||
      (status?.desiredHealthy ?? 0) >= status?.expectedPods
    )
      told.push(
        `PodDisruptionBudget ${metadata.namespace}/${metadata.name} never lets a pod go: a rolling restart does not ask it`,
      )
  }
  for await (const { metadata } of api.each('/api/v1/pods', { signal })) {
    if (!metadata.ownerReferences?.some(({ kind }) => kind === 'Node')) continue
    if (metadata.namespace === 'kube-system' && controlPlane.test(metadata.name)) continue
    told.push(`Pod ${metadata.namespace}/${metadata.name} is a static pod of somebody else, and is left alone`)
  }
  return told
}

/**
 * Webhooks that nobody answers for and that may not be passed over, a line each: what they are asked about is refused.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function unansweredWebhooks(api: KubernetesApi, signal?: AbortSignal): Promise<string[]> {
  const told: string[] = []
  const served = new Set<string>()
  for await (const slice of api.each('/apis/discovery.k8s.io/v1/endpointslices', { signal })) {
    const endpoints = (slice['endpoints'] ?? []) as { conditions?: { ready?: boolean } }[]
    if (endpoints.some(({ conditions }) => conditions?.ready !== false))
      served.add(`${slice.metadata.namespace}/${slice.metadata.labels?.['kubernetes.io/service-name'] ?? ''}`)
  }
  for await (const { what, webhook, service } of requiredWebhooks(api, signal)) {
    const name = `${service.namespace}/${service.name}`
    if (!served.has(name))
      told.push(`${what}: nobody answers for ${webhook.name} (Service ${name}), and it may not be passed over`)
  }
  return told
}

const controlPlane = /^(?:etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy)-/

/** What says that a pod is not a bare one: there are policies against those. */
const ownerOf = (object: KubernetesObject | undefined) => ({
  ...{ apiVersion: 'apps/v1', kind: object?.kind, controller: true },
  ...{ name: object?.metadata.name, uid: object?.metadata.uid },
})

/** How many changes are tried at once. */
const atOnce = 8

/** A change that an API server would refuse, and why. Plain data. */
export interface Refusal {
  readonly what: string
  readonly why: string
}

/**
 * Has an API server try what a rotation is going to write, without writing it: a ConfigMap of its own, the CA of each namespace, Secrets with tokens, a restart of
 * each workload, and a pod of it. Webhooks are asked as they will be then.
 * @returns what would be refused; empty where nothing would
 * @throws HostFailedError where nobody answers
 */
export async function tryChanges(
  api: KubernetesApi,
  { workloads, secrets }: { workloads: readonly Workload[]; secrets: readonly { namespace: string; name: string }[] },
  signal?: AbortSignal,
): Promise<Refusal[]> {
  const refusals: Refusal[] = []
  const attempt = async (what: string, change: () => Promise<unknown>) => {
    try {
      await change()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      refusals.push({ what, why: error.message })
    }
  }
  const annotation = { metadata: { annotations: { 'rekey/tried': 'dry-run' } } }
  await attempt('ConfigMap kube-system/rekey-probe', () =>
    api.post('/api/v1/namespaces/kube-system/configmaps?dryRun=All', {
      ...{ apiVersion: 'v1', kind: 'ConfigMap' },
      metadata: { generateName: 'rekey-tried-' },
    }),
  )
  // The controller-manager writes these; a namespace in which it can't would be waited for in vain.
  const namespaces: string[] = []
  for await (const { metadata, status } of api.each('/api/v1/namespaces', { signal }))
    if (status?.phase !== 'Terminating') namespaces.push(metadata.name)
  const limit = limiter(atOnce)
  await Promise.all(
    namespaces.map(namespace =>
      limit(async () => {
        signal?.throwIfAborted()
        const path = `/api/v1/namespaces/${namespace}/configmaps/kube-root-ca.crt?dryRun=All`
        await attempt(`ConfigMap ${namespace}/kube-root-ca.crt`, () =>
          api.patch(path, annotation, 'merge').catch((error: unknown) => {
            // A namespace that has just been made gets it in a moment.
            if (!(error instanceof ApiError && error.status === 404)) throw error
          }),
        )
      }),
    ),
  )
  // One of each namespace stands for the others: webhooks choose by namespace and kind.
  for (const { namespace, name } of new Map(secrets.map(one => [one.namespace, one])).values()) {
    const path = `/api/v1/namespaces/${namespace}/secrets/${name}?dryRun=All`
    await attempt(`Secret ${namespace}/${name}`, () => api.patch(path, annotation, 'merge'))
  }
  for (const one of workloads) {
    let found: KubernetesObject | undefined
    await attempt(workloadName(one), async () => {
      found = await api.patch(`${pathOf(one)}?dryRun=All`, { spec: { template: annotation } })
    })
    const template = found?.['spec']?.template
    if (!template) continue
    await attempt(`a new pod of ${workloadName(one)}`, () =>
      api.post(`/api/v1/namespaces/${one.namespace}/pods?dryRun=All`, {
        ...{ apiVersion: 'v1', kind: 'Pod' },
        metadata: { ...template.metadata, generateName: `${one.name}-`, ownerReferences: [ownerOf(found)] },
        spec: template.spec,
      }),
    )
  }
  return refusals
}
