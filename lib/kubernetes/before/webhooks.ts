// Webhooks that a Service leads to, and that may not be passed over: where nobody answers there, what they are asked about is refused.
import type { KubernetesApi } from '../api/api.ts'

/** Labels, as the API selects by them. */
export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>
  readonly matchExpressions?: readonly {
    readonly key: string
    readonly operator: string
    readonly values?: readonly string[]
  }[]
}

/** Where a webhook is answered. */
export interface WebhookService {
  readonly namespace: string
  readonly name: string
}

/** A webhook, as the API has it. */
export interface Webhook {
  readonly name: string
  readonly failurePolicy?: string
  readonly clientConfig: { readonly service?: WebhookService }
  readonly namespaceSelector?: Selector
  readonly objectSelector?: Selector
  readonly rules?: readonly {
    readonly apiGroups?: readonly string[]
    readonly resources?: readonly string[]
    readonly operations?: readonly string[]
  }[]
}

/**
 * Each of them, with whose it is: `ValidatingWebhookConfiguration policies`.
 * @throws ApiError, HostFailedError where they can't be read
 */
export async function* requiredWebhooks(
  api: KubernetesApi,
  signal?: AbortSignal,
): AsyncGenerator<{ readonly what: string; readonly webhook: Webhook; readonly service: WebhookService }> {
  for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind.toLowerCase()}s`
    for await (const one of api.each(path, { signal }))
      for (const webhook of (one['webhooks'] ?? []) as Webhook[]) {
        const { service } = webhook.clientConfig
        if (service && webhook.failurePolicy !== 'Ignore')
          yield { what: `${kind} ${one.metadata.name}`, webhook, service }
      }
  }
}
