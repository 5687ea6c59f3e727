// What pods are connected by: it comes before whatever runs in pods, and whatever it needs itself before that.
import { foundAt, type KubernetesApi, type KubernetesObject } from './api/api.ts'
import { notRolledOutBut, pathOf, type Workload, workloadName } from './workloads.ts'

/** A part of the pod network, and when its turn is. Plain data. */
export interface NetworkWorkload extends Workload {
  /**
   * 0: what starts without a pod network, and that it goes by itself; 1: the DaemonSets that make it, which one without a turn is, too; 2: what needs it.
   */
  readonly turn?: 0 | 1 | 2
}

interface PodSpec {
  readonly hostNetwork?: boolean
  readonly volumes?: readonly { readonly hostPath?: { readonly path?: string } }[]
}

const templateOf = ({ spec }: KubernetesObject) => (spec?.['template']?.spec ?? {}) as PodSpec

/** Whether pods write what kubelets connect pods by. */
const writesPlugins = ({ volumes = [] }: PodSpec) =>
  volumes.some(({ hostPath }) =>
    /^\/(etc\/cni|opt\/cni|var\/lib\/cni|usr\/libexec\/cni)(\/|$)/.test(hostPath?.path ?? ''),
  )

/** Options for finding it. */
export interface NetworkOptions {
  /** What the inventory names, whatever it is. */
  readonly named?: readonly Workload[]
  /** Nodes that are away: a DaemonSet may lack its pods there. */
  readonly absent?: readonly string[]
  readonly signal?: AbortSignal
  /** Told what is left out, and why. */
  log?(line: string): void
}

/**
 * The pod network, in the order in which it is to be replaced: DaemonSets of any namespace on the machines' own network that write CNI's files, those of
 * kube-system whatever they write, Deployments on that network beside them (Typha), and what is named. Those that are rolled out: the others are waited for
 * by nobody.
 * @throws ApiError, HostFailedError where something can't be read
 */
export async function networkWorkloads(
  api: KubernetesApi,
  { named = [], absent = [], signal, log }: NetworkOptions = {},
): Promise<NetworkWorkload[]> {
  const found = new Map<string, NetworkWorkload>()
  const add = (one: NetworkWorkload) => void found.set(workloadName(one), one)
  const spaces = new Set(['kube-system'])
  for await (const set of api.each('/apis/apps/v1/daemonsets', { signal })) {
    const { name, namespace = '' } = set.metadata
    const template = templateOf(set)
    if (template.hostNetwork !== true || !(namespace === 'kube-system' || writesPlugins(template))) continue
    if (writesPlugins(template)) spaces.add(namespace)
    add({ kind: 'DaemonSet', namespace, name, turn: 1 })
  }
  for await (const one of api.each('/apis/apps/v1/deployments', { signal })) {
    const { name, namespace = '' } = one.metadata
    if (spaces.has(namespace) && templateOf(one).hostNetwork === true)
      add({ kind: 'Deployment', namespace, name, turn: 0 })
  }
  for (const { kind, namespace, name } of named) {
    const one = { kind, namespace, name }
    const object = await foundAt(api, pathOf(one))
    if (!object) log?.(`${workloadName(one)} is not there: it is not replaced`)
    else if (kind === 'DaemonSet') add({ ...one, turn: 1 })
    else add({ ...one, turn: templateOf(object).hostNetwork === true ? 0 : 2 })
  }
  const rolledOut: NetworkWorkload[] = []
  for (const one of found.values()) {
    const missing = await notRolledOutBut(api, one, absent)
    if (missing === undefined) rolledOut.push(one)
    else
      log?.(
        `${workloadName(one)} is not rolled out (${missing.told}): it is replaced with all others, and not waited for`,
      )
  }
  return rolledOut.sort((a, b) => (a.turn ?? 1) - (b.turn ?? 1))
}

/** In the order of their turns: each is to be there before the next. */
export function turnsOf(workloads: readonly NetworkWorkload[]): NetworkWorkload[][] {
  return [0, 1, 2]
    .map(turn => workloads.filter(one => (one.turn ?? 1) === turn))
    .filter(together => together.length > 0)
}
