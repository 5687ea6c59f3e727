// Which resources of an API are kept in etcd by the rules of an EncryptionConfiguration.
import type { KubernetesApi } from '../../kubernetes/api/api.ts'
import { untilItPasses } from './passing.ts'

/** A resource, and where all of it is listed. */
export interface ApiResource {
  /** `secrets`, `deployments.apps`. */
  readonly name: string
  readonly list: string
  readonly namespaced: boolean
}

interface Group {
  readonly name: string
  readonly preferredVersion: { readonly groupVersion: string }
  readonly versions: readonly { readonly groupVersion: string }[]
}

interface Listed {
  readonly name: string
  readonly namespaced: boolean
  readonly verbs: readonly string[]
}

/**
 * The resources that are meant, each by the version that the API prefers of those that have it: some are in another version of their group alone.
 * What another server answers for (metrics) is kept by that one. An API server that was just restarted has little time: it is asked again.
 * @param isMeant by the name of a resource
 */
export async function apiResources(
  api: Pick<KubernetesApi, 'get' | 'list'>,
  isMeant: (name: string) => boolean,
  signal?: AbortSignal,
): Promise<ApiResource[]> {
  const [{ groups }, services] = await Promise.all([
    untilItPasses(() => api.get<{ groups: readonly Group[] }>('/apis'), signal),
    untilItPasses(() => api.list('/apis/apiregistration.k8s.io/v1/apiservices'), signal),
  ])
  const others = new Set(
    services.filter(({ spec }) => spec?.service).map(({ spec }) => `${spec.group}/${spec.version}`),
  )
  const versions = groups
    .flatMap(({ preferredVersion, versions }) => [preferredVersion, ...versions].map(one => one.groupVersion))
    .filter((one, index, all) => !others.has(one) && all.indexOf(one) === index)
  const paths = ['/api/v1', ...versions.map(one => `/apis/${one}`)]
  const found = await Promise.all(
    paths.map(async path => {
      const group = path === '/api/v1' ? '' : path.split('/')[2]!
      const { resources } = await untilItPasses(() => api.get<{ resources: readonly Listed[] }>(path), signal)
      return resources.flatMap(({ name, namespaced, verbs }) => {
        const full = group === '' ? name : `${name}.${group}`
        const isKept = !name.includes('/') && verbs.includes('list') && verbs.includes('patch')
        // Events of both groups are the same ones, kept as those of the core.
        if (!isKept || group === 'events.k8s.io' || !isMeant(full)) return []
        return [{ name: full, list: `${path}/${name}`, namespaced }]
      })
    }),
  )
  const byName = new Map<string, ApiResource>()
  for (const one of found.flat()) if (!byName.has(one.name)) byName.set(one.name, one)
  return [...byName.values()]
}
