// The CAs that the controller-manager publishes for clients in the cluster, as they stand there: a ConfigMap in each namespace, and token Secrets.
import { createHash } from 'node:crypto'
import type { HostSession } from '../../../playbook/model.ts'
import type { KubernetesApi } from '../../api/api.ts'
import type { FoundComponent } from '../../layout/host-layout.ts'
import { tokenSecretsPath } from '../tokens.ts'
import type { PublishedFile } from './volumes.ts'

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

/** Which of these files in volumes of a host's pods tell something else, by their paths. A pod that ends meanwhile takes its own with it. */
export async function volumesBehind(
  { $ }: HostSession,
  { flags }: FoundComponent,
  expected: string,
  files: readonly PublishedFile[],
): Promise<PublishedFile[]> {
  const root = flags['root-dir']?.at(-1) ?? '/var/lib/kubelet'
  const known = new Map(files.map(file => [`${root}/${file.path}`, file]))
  if (known.size === 0) return []
  const wanted = createHash('sha256').update(expected).digest('hex')
  const { stdout } = await $({
    quiet: true,
    input: `${[wanted, ...known.keys()].join('\n')}\n`,
  })`read -r wanted; while IFS= read -r f; do [ ! -e "$f" ] || [ "$(sha256sum <"$f" 2>/dev/null | cut -c1-64)" = "$wanted" ] || [ ! -e "$f" ] || printf '%s\n' "$f"; done`
  return stdout.split('\n').flatMap(path => known.get(path) ?? [])
}
