// A cluster, seen through its masters: its API from whichever master answers, its nodes, its Secrets.
import { posix } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { RunContext } from '../../playbook/model.ts'
import { adminKubeconfig, apiServerPort } from '../layout/kubeadm/index.ts'
import { foundAt, type KubernetesApi, type KubernetesObject, kubernetesApi } from './api.ts'
import { type ApiCredentials, kubeconfigFields, readKubeconfig } from './kubeconfig.ts'

/** What playbooks ask of a cluster. */
export interface Cluster {
  /** The API, through the first master whose API server answers. Rejects with `HostFailedError` where none does. */
  api(): Promise<KubernetesApi>
  /** The API server of one master. */
  apiOf(master: Host): Promise<KubernetesApi>
  /**
   * Reads the administrator's kubeconfig anew: after it was replaced. Once for each occasion: several hosts come to it at the same
   * time, and what the first of them opened anew stays open.
   */
  forget(occasion: string): void
  nodes(): Promise<KubernetesObject[]>
  /**
   * Waits until the nodes with these names are Ready, and say so in another heartbeat than the one that is given for them: a
   * node that is away stays Ready for 40 s. Heartbeats are compared, not read: clocks may differ.
   */
  nodesReady(
    names: readonly string[],
    options: { within: number; notBy?: Readonly<Record<string, string>>; signal?: AbortSignal },
  ): Promise<void>
  /** When a node last said whether it is Ready, as the API has it. */
  heartbeat(node: string): Promise<string>
  /** Waits until the API server of a master answers and says that it is ready. */
  apiServerReady(master: Host, options: { within: number; signal?: AbortSignal }): Promise<void>
  close(): void
}

/** Where a cluster's masters have what its API is asked with; kubeadm's places, where nothing else is said. */
export interface ClusterPlaces {
  /** The host and the path of the administrator's kubeconfig, for a master. */
  administrator?(master: Host): { readonly host: Host; readonly path: string }
  /** Where a master's API server listens, as that master sees it. */
  apiServer?(master: Host): { readonly address: string; readonly port: number }
}

/** Up to how many nodes are asked for one by one. */
const aFew = 5

/** The cluster whose masters are the hosts of `pattern`. */
export function openCluster(run: RunContext, pattern = 'masters', places: ClusterPlaces = {}): Cluster {
  const clients = new Map<string, Promise<KubernetesApi>>()
  let credentials: Promise<ApiCredentials> | undefined
  let chosen: Host | undefined

  const masters = (): Host[] => {
    const hosts = run.hosts(pattern)
    if (hosts.length === 0) throw new HostFailedError(`no host matches '${pattern}'`, { code: 'cluster.no-masters' })
    return hosts
  }
  const readCredentials = async (master: Host): Promise<ApiCredentials> => {
    const { host, path } = places.administrator?.(master) ?? { host: master, path: adminKubeconfig }
    const { files } = await run.on(host)
    const found = await readAdministrator(path => files.readText(path), path, `${host.name}:${path}`)
    if (found.key) run.redact(found.key)
    return found
  }
  const apiOf = (master: Host): Promise<KubernetesApi> => {
    const known = clients.get(master.name)
    if (known) return known
    credentials ??= readCredentials(master)
    // Those of now: they may be forgotten, and read anew, while the host is reached.
    const own = credentials
    const made = (async () => {
      const [session, identity] = await Promise.all([run.on(master), own])
      const { address, port } = places.apiServer?.(master) ?? { address: '127.0.0.1', port: apiServerPort }
      return kubernetesApi(() => session.forward(address, port), identity, undefined, {
        signal: run.signal,
      })
    })()
    made.catch(() => {
      if (clients.get(master.name) === made) clients.delete(master.name)
      if (credentials === own) credentials = undefined
    })
    clients.set(master.name, made)
    return made
  }
  const api = async (): Promise<KubernetesApi> => {
    const problems: string[] = []
    // The one that answered last first: a question to it costs less than one that goes unanswered.
    const candidates = masters()
    if (chosen) candidates.unshift(chosen)
    for (const master of candidates) {
      try {
        const client = await apiOf(master)
        await client.get('/version')
        chosen = master
        return client
      } catch (error) {
        run.signal.throwIfAborted()
        const { message } = error as Error
        // What a host said of its files names it already.
        problems.push(message.startsWith(`${master.name}: `) ? message : `${master.name}: ${message}`)
      }
    }
    throw new HostFailedError(`no API server answers (${problems.join('; ')})`, { code: 'cluster.no-api' })
  }
  const occasions = new Set<string>()
  const hangUp = () => {
    for (const client of clients.values()) client.then(one => one.close()).catch(() => {})
    clients.clear()
    credentials = undefined
    chosen = undefined
  }
  const nodes = async () => (await api()).list('/api/v1/nodes')
  /** The nodes with these names that there are. A few are asked for one by one: where there are hundreds, a list for each of them is too much. */
  const nodesNamed = async (names: readonly string[]): Promise<KubernetesObject[]> => {
    if (names.length > aFew) return nodes()
    const client = await api()
    const found = await Promise.all(names.map(name => foundAt(client, `/api/v1/nodes/${name}`)))
    return found.filter(node => node !== undefined)
  }

  return {
    api,
    apiOf,
    forget: occasion => {
      if (!occasions.has(occasion)) hangUp()
      occasions.add(occasion)
    },
    nodes,
    nodesReady: async (names, { within, notBy = {}, signal = run.signal }) => {
      await waitFor('the nodes to be Ready', { within, signal }, async () => {
        const known = new Map((await nodesNamed(names)).map(node => [node.metadata.name, node]))
        const waiting = names.filter(name => !isReady(known.get(name)) || heartbeatOf(known.get(name)) === notBy[name])
        if (waiting.length === 0) return true
        throw new Error(`not yet: ${waiting.join(', ')}`)
      })
    },
    heartbeat: async node => heartbeatOf(await (await api()).get(`/api/v1/nodes/${node}`)) ?? '',
    apiServerReady: async (master, { within, signal = run.signal }) => {
      await waitFor(`the API server of ${master.name}`, { within, signal, every: 250, host: master.name }, async () => {
        return (await readiness(await apiOf(master))) === 'ok'
      })
    },
    close: hangUp,
  }
}

/**
 * Reads a kubeconfig, and the files that it names.
 * @throws RekeyError where it has no current context, server or CA
 */
export async function readAdministrator(
  read: (path: string) => Promise<string>,
  path: string,
  where: string,
): Promise<ApiCredentials> {
  const text = await read(path)
  const { server, ca, certificate, key, ...files } = kubeconfigFields(text, where)
  if (ca !== undefined && (certificate !== undefined || files.certificateFile === undefined))
    return readKubeconfig(text, where)
  const within = (file: string | undefined) =>
    file === undefined ? undefined : read(posix.resolve(posix.dirname(path), file))
  const authority = ca ?? (await within(files.authorityFile))
  if (server === undefined || authority === undefined) return readKubeconfig(text, where)
  return {
    ...{ server, ca: authority },
    certificate: certificate ?? (await within(files.certificateFile)),
    key: key ?? (await within(files.keyFile)),
  }
}

/** What an API server says when it is asked whether it is ready: `ok`, or what else. Throws `ApiError` where it tells the administrator nothing. */
export async function readiness(api: KubernetesApi): Promise<string> {
  const status = await api.statusOf('/readyz', {})
  // Where it tells nobody without a name (--anonymous-auth=false), the administrator asks.
  if (status === 401 || status === 403) return api.getText('/readyz')
  return status === 200 ? 'ok' : `${status}`
}

/** Whether a node says that it is Ready. */
export function isReady(node: KubernetesObject | undefined): boolean {
  return readyCondition(node)?.status === 'True'
}

/** Whether nobody hears of a node's kubelet any more. */
export function isLost(node: KubernetesObject): boolean {
  return readyCondition(node)?.status === 'Unknown'
}

function heartbeatOf(node: KubernetesObject | undefined): string | undefined {
  return readyCondition(node)?.lastHeartbeatTime
}

function readyCondition(node: KubernetesObject | undefined) {
  const conditions = (node?.['status']?.conditions ?? []) as {
    type: string
    status: string
    lastHeartbeatTime: string
  }[]
  return conditions.find(({ type }) => type === 'Ready')
}
