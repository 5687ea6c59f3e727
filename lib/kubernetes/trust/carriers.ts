// Where the API keeps certificates: the kinds of objects, and in each the fields that may hold some.
import type { KubernetesObject } from '../api/api.ts'

/** A field of an object, and its text. */
export interface CarrierField {
  /** What it is called, whatever its place in a list: `webhooks/policy.example.org`, `data/ca.crt`. */
  readonly id: string
  /** Where it is, as a JSON patch has it. */
  readonly pointer: string
  /** As the object has it. */
  readonly value: string
  /** What that says. */
  readonly text: string
  /** Another text, as the object would have it, and what another value says. */
  encode(text: string): string
  decode(value: string): string
}

/** A kind of objects that may hold certificates. */
export interface Carrier {
  readonly kind: string
  /** The path of all of them. */
  readonly list: string
  fieldsOf(object: KubernetesObject): CarrierField[]
}

/** The path of one object. */
export function pathOf({ list }: Carrier, { metadata: { namespace, name } }: KubernetesObject): string {
  if (namespace === undefined) return `${list}/${name}`
  const [url = ''] = list.split('?')
  const end = url.lastIndexOf('/')
  return `${url.slice(0, end)}/namespaces/${namespace}${url.slice(end)}/${name}`
}

/** An object, as people call it: `ConfigMap kube-public/cluster-info`. */
export function whereOf({ kind }: Carrier, { metadata: { namespace, name } }: KubernetesObject): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`
}

const admission = '/apis/admissionregistration.k8s.io/v1'

/** Objects that say by which CA somebody is called. */
export const callers: readonly Carrier[] = [
  ...(['Validating', 'Mutating'] as const).map(kind => ({
    kind: `${kind}WebhookConfiguration`,
    list: `${admission}/${kind.toLowerCase()}webhookconfigurations`,
    fieldsOf: ({ webhooks }: KubernetesObject) =>
      ((webhooks ?? []) as Webhook[]).flatMap(({ name, clientConfig }, index) =>
        bundle(`webhooks/${name}`, `/webhooks/${index}/clientConfig/caBundle`, clientConfig?.caBundle),
      ),
  })),
  {
    kind: 'APIService',
    list: '/apis/apiregistration.k8s.io/v1/apiservices',
    fieldsOf: ({ spec }) => bundle('spec/caBundle', '/spec/caBundle', spec?.caBundle),
  },
  {
    kind: 'CustomResourceDefinition',
    list: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    fieldsOf: ({ spec }) => {
      const caBundle = spec?.conversion?.webhook?.clientConfig?.caBundle
      return bundle('spec/conversion', '/spec/conversion/webhook/clientConfig/caBundle', caBundle)
    },
  },
]

/** Objects in which anybody keeps anything. */
export const keepers: readonly Carrier[] = [
  {
    kind: 'ConfigMap',
    list: '/api/v1/configmaps',
    fieldsOf: ({ data, binaryData }) => [
      ...Object.entries((data ?? {}) as Texts).map(([key, value]) => asItStands('data', key, value)),
      ...Object.entries((binaryData ?? {}) as Texts).map(([key, value]) => inBase64(named('binaryData', key), value)),
    ],
  },
  {
    kind: 'Secret',
    // Those of Helm hold its own archives, and are big.
    list: `/api/v1/secrets?fieldSelector=${encodeURIComponent('type!=helm.sh/release.v1')}`,
    fieldsOf: ({ data }) =>
      Object.entries((data ?? {}) as Texts).map(([key, value]) => inBase64(named('data', key), value)),
  },
]

interface Webhook {
  readonly name: string
  readonly clientConfig?: { readonly caBundle?: string }
}

type Texts = Record<string, string>

const named = (member: string, key: string) => ({
  id: `${member}/${key}`,
  pointer: `/${member}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`,
})

const asItStands = (member: string, key: string, value: string): CarrierField => ({
  ...named(member, key),
  ...{ value, text: value, encode: text => text, decode: one => one },
})

// Bytes that are no text must come through unchanged, too.
const decoded = (value: string) => Buffer.from(value, 'base64').toString('latin1')

const inBase64 = (at: Pick<CarrierField, 'id' | 'pointer'>, value: string): CarrierField => ({
  ...at,
  ...{ value, text: decoded(value) },
  ...{ encode: text => Buffer.from(text, 'latin1').toString('base64'), decode: decoded },
})

const bundle = (id: string, pointer: string, value: unknown): CarrierField[] =>
  typeof value === 'string' ? [inBase64({ id, pointer }, value)] : []
