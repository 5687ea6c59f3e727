// The CAs that the controller-manager publishes for clients in the cluster, as they stand there: a ConfigMap in each namespace, and token Secrets.
import type { HostSession } from '../../../playbook/model.ts'
import type { KubernetesApi } from '../../api/api.ts'
import type { FoundComponent } from '../../layout/host-layout.ts'
import { tokenSecretsPath } from '../tokens.ts'

/** What somebody is told to believe. */
export interface Published {
  /** `ConfigMap shop/kube-root-ca.crt`. */
  readonly where: string
  /** Nothing where it is not there. */
  readonly text: string
}

/** What each namespace that is not ending is told; of one without the ConfigMap, nothing. */
export async function publishedAuthorities(api: KubernetesApi, signal?: AbortSignal): Promise<Published[]> {
  const told = new Map<string, string>()
  const named = encodeURIComponent('metadata.name=kube-root-ca.crt')
  for await (const { metadata, data } of api.each(`/api/v1/configmaps?fieldSelector=${named}`, { signal }))
    told.set(metadata.namespace ?? '', String(data?.['ca.crt'] ?? ''))
  const all: Published[] = []
  for await (const { metadata, status } of api.each('/api/v1/namespaces', { signal })) {
    if (status?.phase !== 'Active') continue
    all.push({ where: `ConfigMap ${metadata.name}/kube-root-ca.crt`, text: told.get(metadata.name) ?? '' })
  }
  return all
}

/** What token Secrets tell. */
export async function certificatesOfTokenSecrets(api: KubernetesApi, signal?: AbortSignal): Promise<Published[]> {
  const all: Published[] = []
  for await (const { metadata, data } of api.each(tokenSecretsPath, { signal })) {
    const text = Buffer.from(String(data?.['ca.crt'] ?? ''), 'base64').toString('utf8')
    all.push({ where: `Secret ${metadata.namespace}/${metadata.name}`, text })
  }
  return all
}

/** The volumes of a host's pods that tell something else, `m1:/var/lib/kubelet/pods/…/ca.crt`. A pod that ends meanwhile takes its own with it. */
export async function volumesBehind(
  { $, host }: HostSession,
  { flags }: FoundComponent,
  expected: string,
): Promise<string[]> {
  const folder = `${flags['root-dir']?.at(-1) ?? '/var/lib/kubelet'}/pods`
  const { stdout } = await $({
    quiet: true,
    input: expected,
  })`t=$(mktemp); trap 'rm -f "$t"' EXIT; cat >"$t"; for f in ${folder}/*/volumes/kubernetes.io~projected/kube-api-access-*/ca.crt; do [ ! -e "$f" ] || cmp -s "$t" "$f" || [ ! -e "$f" ] || echo "$f"; done`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(path => `${host.name}:${path}`)
}
