// The volumes of pods in which kubelets put the CAs that the controller-manager publishes, wherever in them: and those in which they put nothing
// anew any more, whatever is published.
import type { KubernetesApi, KubernetesObject } from '../../api/api.ts'
import { tokenSecretsPath } from '../tokens.ts'

/** A file in a pod's volume that holds what is published. */
export interface PublishedFile {
  /** Under the folder of the kubelet: `pods/UID/volumes/kubernetes.io~projected/kube-api-access-x/ca.crt`. */
  readonly path: string
  /** Whose it is, and why it stays as it is: `Pod shop/web, which is being deleted`. */
  readonly never?: string
}

const published = 'kube-root-ca.crt'

interface Item {
  readonly key: string
  readonly path: string
}
interface ConfigMapSource {
  readonly name?: string
  readonly items?: readonly Item[]
}
interface Volume {
  readonly name: string
  readonly configMap?: ConfigMapSource
  readonly secret?: { readonly secretName?: string; readonly items?: readonly Item[] }
  readonly projected?: {
    readonly sources?: readonly {
      readonly configMap?: ConfigMapSource
      readonly secret?: { readonly name?: string; readonly items?: readonly Item[] }
      readonly serviceAccountToken?: object
    }[]
  }
}

/** What kubelets are to put what is published into, by node. Throws `ApiError` where not everything can be read. */
export async function publishedVolumes(
  api: KubernetesApi,
  signal?: AbortSignal,
): Promise<Map<string, PublishedFile[]>> {
  const tokens = new Set<string>()
  for await (const { metadata } of api.each(tokenSecretsPath, { signal }))
    tokens.add(`${metadata.namespace}/${metadata.name}`)
  const accounts = new Set<string>()
  for await (const { metadata } of api.each('/api/v1/serviceaccounts', { signal }))
    accounts.add(`${metadata.namespace}/${metadata.name}`)
  const found = new Map<string, PublishedFile[]>()
  for await (const pod of api.each('/api/v1/pods', { signal })) {
    const node = pod.spec?.['nodeName']
    const { uid = '', namespace = '' } = pod.metadata
    if (typeof node !== 'string') continue
    const isToken = (name: string | undefined) => tokens.has(`${namespace}/${name}`)
    const own = ((pod.spec?.['volumes'] ?? []) as Volume[]).flatMap(volume =>
      filesOf(volume, isToken).map((path): PublishedFile => {
        const never = neverAnew(pod, name => !asksForToken(volume) || accounts.has(`${namespace}/${name}`))
        const who = never && `Pod ${namespace}/${pod.metadata.name}, ${never}`
        return { path: `pods/${uid}/volumes/${path}`, ...(who !== undefined && { never: who }) }
      }),
    )
    if (own.length > 0) found.set(node, [...(found.get(node) ?? []), ...own])
  }
  return found
}

/**
 * Why a kubelet puts nothing else into the volumes of a pod any more; undefined where it does.
 * @param hasAccount whether there is a ServiceAccount of this name in its namespace: without it no token is given, and nothing that lies beside one
 */
export function neverAnew(
  { metadata, spec, status }: KubernetesObject,
  hasAccount: (name: string) => boolean,
): string | undefined {
  const { deletionTimestamp } = metadata as { deletionTimestamp?: string }
  if (deletionTimestamp !== undefined) return 'which is being deleted'
  if (/^(Succeeded|Failed)$/.test(String(status?.['phase']))) return 'which has ended'
  const account = String(spec?.['serviceAccountName'] ?? 'default')
  return hasAccount(account) ? undefined : `whose ServiceAccount ${account} is gone`
}

/** A volume is written as a whole. */
const asksForToken = ({ projected }: Volume) => projected?.sources?.some(one => one.serviceAccountToken) ?? false

function filesOf(
  { name, configMap, secret, projected }: Volume,
  isToken: (secret: string | undefined) => boolean,
): string[] {
  const paths = (items: readonly Item[] | undefined) =>
    items?.flatMap(({ key, path }) => (key === 'ca.crt' ? [path] : [])) ?? ['ca.crt']
  const ofMap = (one: ConfigMapSource | undefined) => (one?.name === published ? paths(one.items) : [])
  const of = (kind: string, all: readonly string[]) => all.map(path => `kubernetes.io~${kind}/${name}/${path}`)
  return [
    ...of('configmap', ofMap(configMap)),
    ...of('secret', isToken(secret?.secretName) ? paths(secret?.items) : []),
    ...of(
      'projected',
      (projected?.sources ?? []).flatMap(one => [
        ...ofMap(one.configMap),
        ...(isToken(one.secret?.name) ? paths(one.secret?.items) : []),
      ]),
    ),
  ]
}
