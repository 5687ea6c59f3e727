// What the API hands out, whatever its kind.

/** A Kubernetes object, as far as rekey looks into it. */
export interface KubernetesObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly generation?: number
    readonly resourceVersion?: string
    readonly labels?: Record<string, string>
    readonly annotations?: Record<string, string>
    readonly creationTimestamp?: string
    readonly deletionTimestamp?: string
    readonly ownerReferences?: readonly {
      readonly kind: string
      readonly name: string
      readonly controller?: boolean
    }[]
  }
  // biome-ignore lint/suspicious/noExplicitAny: specs and statuses differ by kind; each reader checks what it reads
  readonly [member: string]: any
}
