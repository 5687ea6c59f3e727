// The copies of the cluster's CA in the API: cluster-info for joining machines, and the caBundle of webhooks, API services and
// CRD conversions. What the controller-manager publishes itself (kube-root-ca.crt, token Secrets) is not here.
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { withAuthority } from '../api/kubeconfig.ts'

/** One copy that was found, and how to give it another CA. */
export interface AuthorityCopy {
  /** `ConfigMap kube-public/cluster-info`, as people call it. */
  readonly where: string
  replace(ca: string): Promise<void>
}

const carriers = [
  ['ValidatingWebhookConfiguration', '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations'],
  ['MutatingWebhookConfiguration', '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations'],
  ['APIService', '/apis/apiregistration.k8s.io/v1/apiservices'],
  ['CustomResourceDefinition', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'],
] as const

/**
 * The copies of `ca` that nobody else renews.
 * @param ca the CA to look for, PEM
 */
export async function authorityCopies(api: KubernetesApi, ca: string): Promise<AuthorityCopy[]> {
  const encoded = Buffer.from(ca.trim()).toString('base64').replace(/=+$/, '')
  const copies: AuthorityCopy[] = []
  const info = await api.get('/api/v1/namespaces/kube-public/configmaps/cluster-info').catch(() => undefined)
  const kubeconfig = info?.['data']?.kubeconfig as string | undefined
  if (kubeconfig?.includes(encoded.slice(0, -4))) {
    copies.push({
      where: 'ConfigMap kube-public/cluster-info',
      replace: async next => {
        await api.patch(
          '/api/v1/namespaces/kube-public/configmaps/cluster-info',
          { data: { kubeconfig: withAuthority(kubeconfig, next) } },
          'merge',
        )
      },
    })
  }
  for (const [kind, path] of carriers) {
    for (const object of await api.list(path)) {
      if (!JSON.stringify(object).includes(encoded.slice(0, -4))) continue
      copies.push({
        where: `${kind} ${object.metadata.name}`,
        replace: async next => {
          await api.put(`${path}/${object.metadata.name}`, withBundle(object, encoded, next))
        },
      })
    }
  }
  return copies
}

function withBundle(object: KubernetesObject, encoded: string, next: string): unknown {
  return JSON.parse(JSON.stringify(object), (key, value) =>
    key === 'caBundle' && typeof value === 'string' && value.startsWith(encoded.slice(0, -4))
      ? Buffer.from(next).toString('base64')
      : value,
  )
}
