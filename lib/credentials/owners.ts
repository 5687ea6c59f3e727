// Who would write a Secret back as it was: what makes it from something else, by the marks that this leaves on the Secret.
import type { KubernetesObject } from '../kubernetes/api/api.ts'

/** What puts a Secret there, by a label or an annotation of its own, and where the credential is changed instead. */
const marks: readonly {
  readonly what: string
  readonly labels?: readonly RegExp[]
  readonly annotations?: readonly RegExp[]
  readonly managers?: readonly RegExp[]
}[] = [
  {
    what: 'External Secrets',
    labels: [/^reconcile\.external-secrets\.io\//],
    annotations: [/^reconcile\.external-secrets\.io\//],
    managers: [/^external-?secrets/],
  },
  {
    what: 'Sealed Secrets',
    annotations: [/^sealedsecrets\.bitnami\.com\/(?!managed$|patch$)/],
    managers: [/^sealed-secrets/],
  },
  {
    what: 'Argo CD',
    labels: [/^argocd\.argoproj\.io\/instance$/],
    annotations: [/^argocd\.argoproj\.io\/tracking-id$/],
    managers: [/^argocd-/],
  },
  {
    what: 'Flux',
    labels: [/^(kustomize|helm)\.toolkit\.fluxcd\.io\/name$/],
    managers: [/^(kustomize|helm)-controller$/],
  },
  { what: 'Helm', annotations: [/^meta\.helm\.sh\/release-name$/], managers: [/^helm$/] },
  {
    what: 'the Vault Secrets Operator',
    labels: [/^secrets\.hashicorp\.com\//],
    managers: [/^hashicorp-vso|^vault-secrets-operator/],
  },
  {
    what: 'a copier of Secrets',
    annotations: [
      /^reflector\.v1\.k8s\.emberstack\.com\/(reflects|auto-reflects)$/,
      /^replicator\.v1\.mittwald\.de\/(replicate-from|replicated-from-version|replicated-at)$/,
      /^kubed\.appscode\.com\/origin$/,
    ],
    labels: [/^kubed\.appscode\.com\/origin/],
  },
  { what: 'Terraform', managers: [/^(HashiCorp|Terraform|OpenTofu)/i] },
]

/**
 * Who would write the data of a Secret back, each once, as messages name them; none where nobody is known to.
 * Owners by reference are told by their kind and name: what a controller makes, it makes again.
 */
export function ownersOf({ metadata }: KubernetesObject): string[] {
  const { labels = {}, annotations = {}, ownerReferences = [] } = metadata
  const managers = writersOf(metadata)
  const any = (names: readonly string[], patterns: readonly RegExp[] = []) =>
    names.some(name => patterns.some(pattern => pattern.test(name)))
  const marked = marks.filter(
    one =>
      any(Object.keys(labels), one.labels) ||
      any(Object.keys(annotations), one.annotations) ||
      any(managers, one.managers),
  )
  return [...ownerReferences.map(({ kind, name }) => `${kind} ${name}`), ...marked.map(({ what }) => what)]
}

/** Whose writes of its data the API server has noted. */
function writersOf(metadata: KubernetesObject['metadata']): string[] {
  const { managedFields = [] } = metadata as {
    managedFields?: { manager?: string; fieldsV1?: { 'f:data'?: object } }[]
  }
  return managedFields.flatMap(({ manager, fieldsV1 }) => (manager && fieldsV1?.['f:data'] ? [manager] : []))
}
