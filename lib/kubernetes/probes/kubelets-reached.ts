// Whether API servers reach kubelets, as logs and exec go: each is asked how it is, and for the last line of a pod's log.
import { limiter } from '../../connection/limiter.ts'
import type { KubernetesApi } from '../api/api.ts'

/** How many questions to kubelets are under way at once. */
const atOnce = 16

/** The path of the last line of a log for each node that runs a pod. Throws `ApiError`, `HostFailedError`. */
export async function logsByNode(api: KubernetesApi, signal?: AbortSignal): Promise<Map<string, string>> {
  const running = new Map<string, string>()
  for await (const { metadata, spec, status } of api.each('/api/v1/pods', { signal })) {
    const [first] = (spec?.containers ?? []) as { name: string }[]
    if (status?.phase !== 'Running' || metadata.deletionTimestamp !== undefined || !first) continue
    const log = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/log?tailLines=1&container=${first.name}`
    running.set(spec?.nodeName, log)
  }
  return running
}

/**
 * Has each of these API servers ask each of these nodes' kubelets.
 * @param logs as `logsByNode` gives them
 * @throws ApiError, HostFailedError of the first that is not reached
 */
export async function reachKubelets(
  servers: readonly KubernetesApi[],
  nodes: readonly string[],
  logs: ReadonlyMap<string, string>,
  signal?: AbortSignal,
): Promise<void> {
  const limit = limiter(atOnce)
  const ask = (server: KubernetesApi, path: string) =>
    limit(async () => {
      signal?.throwIfAborted()
      await server.getText(path)
    })
  await Promise.all(
    servers.flatMap(server =>
      nodes.flatMap(node => {
        const log = logs.get(node)
        return [ask(server, `/api/v1/nodes/${node}/proxy/healthz`), ...(log === undefined ? [] : [ask(server, log)])]
      }),
    ),
  )
}
