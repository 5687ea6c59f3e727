// What of a cluster is well, asked of its API: each API server, nodes, the pods that every cluster needs, tokens, webhooks.
import { secret } from '../../connection/shell.ts'
import type { Host } from '../../playbook/host.ts'
import type { KubernetesApi } from '../api/api.ts'
import { type Cluster, readiness } from '../api/cluster.ts'
import { nodeConditions, type SystemWorkloads, systemWorkloads, unansweredWebhooks } from '../before/conditions.ts'
import { podsBefore, tellPods } from '../before/pods.ts'
import { logsByNode, reachKubelets } from '../probes/kubelets-reached.ts'
import { readyAddresses, serviceOfTheApi, workloadName } from '../workloads.ts'
import { type Finding, finding } from './finding.ts'
import type { ServicesOf } from './host.ts'

/** What the API has told. */
export interface ApiFindings {
  readonly findings: readonly Finding[]
  /** Where Services are to be asked, from hosts. */
  readonly services: ServicesOf
}

/**
 * Asks each API server, and through whichever answers for the rest. Writes nothing; it has one token minted that ends by itself.
 * @throws ApiError, HostFailedError where no API server answers what is asked
 */
export async function apiFindings(
  cluster: Cluster,
  masters: readonly Host[],
  signal?: AbortSignal,
): Promise<ApiFindings> {
  const servers = await Promise.all(
    masters.map(master => finding('API server', master.name, () => serverWell(cluster, master), signal)),
  )
  const answering = masters.filter((_, index) => servers[index]?.state === 'well')
  if (answering.length === 0) return { findings: servers, services: { api: [], dns: [] } }
  const api = await cluster.api()
  const workloads = await systemWorkloads(api, signal)
  const nodes = await cluster.nodes()
  const { notReady, cordoned } = nodeConditions(nodes)
  const names = nodes.map(({ metadata }) => metadata.name)
  const ready = names.filter(name => !notReady.includes(name))
  const findings = await Promise.all([
    ...names.map(name => finding('node', name, async () => nodeWell(name, notReady), signal)),
    ...(await kubeletsReached(cluster, api, answering, ready, signal)),
    ...(await tokensAccepted(cluster, api, answering, signal)),
    dnsBehind(api, workloads, signal),
  ])
  const [pods, webhooks] = [await podFindings(api, workloads, signal), await unansweredWebhooks(api, signal)]
  return {
    findings: [
      ...servers,
      ...findings,
      ...pods,
      ...(webhooks.length === 0
        ? [well('webhooks', 'all', 'each has somebody who answers, or may be passed over')]
        : []),
      ...webhooks.map((detail): Finding => ({ what: 'webhooks', where: 'the API', state: 'not well', detail })),
      ...cordoned.map((where): Finding => ({ what: 'node', where, state: 'beside', detail: 'it is cordoned' })),
    ],
    services: { api: await serviceOfTheApi(api), dns: await dnsAddresses(api, workloads) },
  }
}

const well = (what: string, where: string, detail: string): Finding => ({ what, where, state: 'well', detail })

/** An API server is ready, knows the administrator, and reads what etcd has. */
async function serverWell(cluster: Cluster, master: Host): Promise<string> {
  const api = await cluster.apiOf(master)
  const said = await readiness(api)
  if (said !== 'ok') throw new Error(`it is not ready: ${said}`)
  await api.get('/api/v1/namespaces?limit=1')
  return 'ready, and lets the administrator in'
}

async function nodeWell(name: string, notReady: readonly string[]): Promise<string> {
  if (notReady.includes(name)) throw new Error('it is not Ready')
  return 'Ready'
}

async function kubeletsReached(
  cluster: Cluster,
  api: KubernetesApi,
  masters: readonly Host[],
  nodes: readonly string[],
  signal?: AbortSignal,
): Promise<Promise<Finding>[]> {
  const logs = await logsByNode(api, signal)
  return masters.map(master =>
    finding(
      'exec and logs',
      master.name,
      async () => {
        await reachKubelets([await cluster.apiOf(master)], nodes, logs, signal)
        return `its API server reaches ${nodes.length} kubelets`
      },
      signal,
    ),
  )
}

/** For how long the token is minted, in seconds: the API takes no shorter time. */
const tokenTime = 600

/** A token is minted, and each API server knows whose it is: what that may do is another matter. */
async function tokensAccepted(
  cluster: Cluster,
  api: KubernetesApi,
  masters: readonly Host[],
  signal?: AbortSignal,
): Promise<Promise<Finding>[]> {
  const account = '/api/v1/namespaces/kube-system/serviceaccounts/default'
  const minted = api
    .post(`${account}/token`, {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: { expirationSeconds: tokenTime },
    })
    .then(({ status }) => secret(String(status?.['token'] ?? '')))
  // Whoever asks hears of it.
  minted.catch(() => undefined)
  return masters.map(master =>
    finding(
      'tokens',
      master.name,
      async () => {
        const status = await (await cluster.apiOf(master)).statusOf(account, { token: (await minted).reveal() })
        if (status !== 200 && status !== 403) throw new Error(`a token that was just minted is answered with ${status}`)
        return 'a new one is known'
      },
      signal,
    ),
  )
}

function dnsBehind(api: KubernetesApi, { dnsService }: SystemWorkloads, signal?: AbortSignal): Promise<Finding> {
  const where = dnsService ? `Service ${dnsService.namespace}/${dnsService.name}` : 'the API'
  return finding(
    'DNS',
    where,
    async () => {
      if (!dnsService) return 'there is no Service of a DNS'
      const ready = await readyAddresses(api, dnsService)
      if (ready.length === 0) throw new Error('no pod behind it is ready')
      return `${ready.length} pods are ready`
    },
    signal,
  )
}

async function dnsAddresses(api: KubernetesApi, { dnsService }: SystemWorkloads): Promise<string[]> {
  if (!dnsService) return []
  const { spec } = await api.get(`/api/v1/namespaces/${dnsService.namespace}/services/${dnsService.name}`)
  return ((spec?.['clusterIPs'] ?? []) as string[]).filter(address => address !== 'None')
}

/** Static pods of kube-system, kube-proxy and the DNS are the cluster's own; all others are their users'. */
async function podFindings(
  api: KubernetesApi,
  { kubeProxy, dns }: SystemWorkloads,
  signal?: AbortSignal,
): Promise<Finding[]> {
  const { unwell } = await podsBefore(api, { signal })
  const own = [kubeProxy, dns].flatMap(one => (one ? [workloadName(one)] : []))
  const isOwn = (owner: string) =>
    /^Pod kube-system\/\S+ on /.test(owner) || own.some(name => owner === name || owner.startsWith(`${name} on `))
  const ours = unwell.filter(({ owner }) => isOwn(owner))
  return [
    ...(ours.length === 0 ? [well('pods of the control plane', 'kube-system', 'none is unwell')] : []),
    ...unwell.flatMap(one =>
      tellPods([one]).map(
        (detail): Finding =>
          isOwn(one.owner)
            ? { what: 'pods of the control plane', where: 'kube-system', state: 'not well', detail }
            : { what: 'pods of users', where: 'the API', state: 'beside', detail },
      ),
    ),
  ]
}
