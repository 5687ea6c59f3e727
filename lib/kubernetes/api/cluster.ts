// A cluster, seen through its masters: its API from whichever master answers, its nodes, its Secrets.
import { HostFailedError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { RunContext } from '../../playbook/model.ts'
import { adminKubeconfig, apiServerPort } from '../layout/kubeadm/index.ts'
import { type KubernetesApi, type KubernetesObject, kubernetesApi } from './api.ts'
import { type ApiCredentials, readKubeconfig } from './kubeconfig.ts'

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

/** The cluster whose masters are the hosts of `pattern`. */
export function openCluster(run: RunContext, pattern = 'masters'): Cluster {
  const clients = new Map<string, Promise<KubernetesApi>>()
  let credentials: Promise<ApiCredentials> | undefined
  let chosen: Host | undefined

  const masters = (): Host[] => {
    const hosts = run.hosts(pattern)
    if (hosts.length === 0) throw new HostFailedError(`no host matches '${pattern}'`, { code: 'cluster.no-masters' })
    return hosts
  }
  const readCredentials = async (master: Host): Promise<ApiCredentials> => {
    const { files } = await run.on(master)
    const found = readKubeconfig(await files.readText(adminKubeconfig), `${master.name}:${adminKubeconfig}`)
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
      return kubernetesApi(() => session.forward('127.0.0.1', apiServerPort), identity, undefined, {
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
        problems.push(`${master.name}: ${(error as Error).message}`)
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
        const known = new Map((await nodes()).map(node => [node.metadata.name, node]))
        const waiting = names.filter(name => !isReady(known.get(name)) || heartbeatOf(known.get(name)) === notBy[name])
        if (waiting.length === 0) return true
        throw new Error(`not yet: ${waiting.join(', ')}`)
      })
    },
    heartbeat: async node => heartbeatOf(await (await api()).get(`/api/v1/nodes/${node}`)) ?? '',
    apiServerReady: async (master, { within, signal = run.signal }) => {
      await waitFor(`the API server of ${master.name}`, { within, signal, every: 250, host: master.name }, async () => {
        const client = await apiOf(master)
        return (await client.statusOf('/readyz', {})) === 200
      })
    },
    close: hangUp,
  }
}

/** Whether a node says that it is Ready. */
export function isReady(node: KubernetesObject | undefined): boolean {
  return readyCondition(node)?.status === 'True'
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
