// Who admits pods, and runs in pods itself: where those are gone, nobody may start any, and them least of all.
import { foundAt, type KubernetesApi, type KubernetesObject } from '../api/api.ts'
import { ownerName } from './pods.ts'
import { requiredWebhooks, type Selector, type Webhook, type WebhookService } from './webhooks.ts'

/** A webhook that is asked about each new pod and may not be passed over. Plain data. */
export interface PodAdmission {
  /** `ValidatingWebhookConfiguration policies`. */
  readonly what: string
  /** Its Service, `policies/server`. */
  readonly service: string
  /** Who owns the pods behind it, `Deployment policies/server`. */
  readonly owners: readonly string[]
  /** Whether it is asked about its own pods. */
  readonly asksForItself: boolean
}

type Labels = Readonly<Record<string, string>>

/** As the API selects by labels; an operator that is not known selects all: better one too many is named. */
export function selects({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key]
      if (operator === 'Exists') return value !== undefined
      if (operator === 'DoesNotExist') return value === undefined
      if (operator === 'In') return value !== undefined && values.includes(value)
      return operator !== 'NotIn' || value === undefined || !values.includes(value)
    })
  )
}

const asksForNewPods = ({ rules = [] }: Webhook) =>
  rules.some(
    ({ apiGroups = [], resources = [], operations = [] }) =>
      apiGroups.some(one => one === '' || one === '*') &&
      resources.some(one => ['pods', '*', '*/*'].includes(one)) &&
      operations.some(one => one === 'CREATE' || one === '*'),
  )

/**
 * Webhooks that are asked about new pods, may not be passed over, and are answered for by pods. What they are narrowed by in CEL is not looked at.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function podAdmissions(api: KubernetesApi, signal?: AbortSignal): Promise<PodAdmission[]> {
  const found = new Map<string, PodAdmission>()
  for await (const { what, webhook, service } of requiredWebhooks(api, signal)) {
    if (!asksForNewPods(webhook)) continue
    const behind = await podsBehind(api, service, signal)
    if (behind.length === 0) continue
    const known = found.get(what)
    found.set(what, {
      ...{ what, service: `${service.namespace}/${service.name}` },
      owners: [...new Set([...(known?.owners ?? []), ...behind.map(ownerName)])],
      asksForItself: known?.asksForItself || (await asksFor(api, webhook, service.namespace, behind)),
    })
  }
  return [...found.values()]
}

async function asksFor(
  api: KubernetesApi,
  { namespaceSelector = {}, objectSelector = {} }: Webhook,
  namespace: string,
  pods: readonly KubernetesObject[],
): Promise<boolean> {
  const { labels = {} } = (await foundAt(api, `/api/v1/namespaces/${namespace}`))?.metadata ?? {}
  const named = { 'kubernetes.io/metadata.name': namespace, ...labels }
  return (
    selects(namespaceSelector, named) && pods.some(({ metadata }) => selects(objectSelector, metadata.labels ?? {}))
  )
}

async function podsBehind(
  api: KubernetesApi,
  { namespace, name }: WebhookService,
  signal?: AbortSignal,
): Promise<KubernetesObject[]> {
  const service = await foundAt(api, `/api/v1/namespaces/${namespace}/services/${name}`)
  const matchLabels = (service?.['spec']?.selector ?? {}) as Labels
  if (Object.keys(matchLabels).length === 0) return []
  const pods: KubernetesObject[] = []
  for await (const pod of api.each(`/api/v1/namespaces/${namespace}/pods`, { signal }))
    if (pod.metadata.deletionTimestamp === undefined && selects({ matchLabels }, pod.metadata.labels ?? {}))
      pods.push(pod)
  return pods
}
