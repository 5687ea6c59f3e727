// The cluster on the machines: made as its layout has it, given what runs on it, and watched until it is well.
import { RekeyError } from '../../errors.ts'
import { waitFor } from '../command.ts'
import { bootTimeOf, exec, tryExec } from '../machines/machine.ts'
import { type Detail, type Report, timed } from '../progress.ts'
import { has, kubeletMachines, masters, members, type Shape } from '../shape.ts'
import { type CanaryResult, canaryManifest, canaryResultsOf, canaryWorkloads, routesManifest } from './canaries.ts'
import { layoutOf } from './layouts/index.ts'
import { isOfStates } from './states.ts'

/** Makes the cluster on machines that have booted for the first time. */
export async function createCluster(shape: Shape, report: Report): Promise<void> {
  await layoutOf(shape).make(shape, report)
  await timed(report, 'Deploy what runs on it', async () => {
    if (!has(shape, 'kube-proxy')) await kubectl(shape, ['apply', '-f', '-'], { input: routesManifest(shape) })
    await kubectl(shape, ['apply', '-f', '-'], { input: canaryManifest(shape) })
  })
}

/** Runs kubectl as the cluster's admin, on the first master that runs. Returns its standard output. */
export async function kubectl(
  shape: Shape,
  parameters: readonly string[],
  { input, timeout = 60 }: { input?: string; timeout?: number } = {},
): Promise<string> {
  const argv = ['kubectl', `--kubeconfig=${layoutOf(shape).adminKubeconfig}`, '--request-timeout=10s', ...parameters]
  return exec(shape.name, masters(shape)[0]!.name, argv, { input, timeout })
}

interface KubernetesList<Item> {
  readonly items: readonly Item[]
}

interface NodeObject {
  readonly metadata: { readonly name: string }
  readonly status: {
    readonly conditions?: readonly { type: string; status: string; lastHeartbeatTime: string }[]
  }
}

interface PodObject {
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly deletionTimestamp?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly spec: { readonly nodeName?: string }
  readonly status: {
    readonly phase: string
    readonly conditions?: readonly { type: string; status: string }[]
    readonly containerStatuses?: readonly {
      readonly ready: boolean
      readonly state: { readonly running?: { readonly startedAt: string } }
    }[]
  }
}

/** What is not well yet in a cluster, in a few words each; nothing when all is well. */
export type Complaints = string[]

/** Looks at the whole cluster once: nodes, pods, canaries, and what its layout has beside them. */
export async function examineCluster(shape: Shape): Promise<Complaints> {
  const first = masters(shape)[0]!
  const answer = await tryExec(
    shape.name,
    first.name,
    [
      ...['kubectl', `--kubeconfig=${layoutOf(shape).adminKubeconfig}`, '--request-timeout=4s'],
      ...['get', 'nodes,pods', '--all-namespaces', '-o', 'json'],
    ],
    { timeout: 15 },
  ).catch((error: RekeyError) => {
    // Where each of its requests ends only after 4 s, kubectl makes some more.
    if (error.code !== 'lab.command-timeout') throw error
    return undefined
  })
  if (answer?.code !== 0) return ['the API does not answer']
  const { items } = JSON.parse(answer.stdout) as KubernetesList<(NodeObject | PodObject) & { kind: string }>
  const complaints = judgeCluster(
    shape,
    items.filter(item => item.kind === 'Node') as NodeObject[],
    items.filter(item => item.kind === 'Pod') as PodObject[],
    new Map(kubeletMachines(shape).map(({ name, hostname }) => [hostname, bootTimeOf(shape.name, name)])),
  )
  return complaints.length > 0 ? complaints : ((await layoutOf(shape).examine?.(shape)) ?? [])
}

/**
 * What `examineCluster` finds, from what the API said and from when each machine booted (undefined: it is down).
 * What was said before that is stale: the API repeats it until the machine's kubelet says otherwise.
 */
export function judgeCluster(
  shape: Shape,
  nodeList: readonly NodeObject[],
  podList: readonly PodObject[],
  bootTimes: ReadonlyMap<string, number | undefined>,
): Complaints {
  // The API keeps whole seconds.
  const fresh = (time: string | undefined, machine: string | undefined) =>
    time !== undefined && Date.parse(time) >= (bootTimes.get(machine ?? '') ?? Number.POSITIVE_INFINITY) - 1000
  const complaints: Complaints = []
  const notReady = kubeletMachines(shape).filter(({ hostname }) => {
    const node = nodeList.find(({ metadata }) => metadata.name === hostname)
    const ready = node?.status.conditions?.find(({ type }) => type === 'Ready')
    return ready?.status !== 'True' || !fresh(ready.lastHeartbeatTime, hostname)
  })
  if (notReady.length) complaints.push(`${notReady.map(({ name }) => name).join(', ')} not Ready`)
  const pods = podList.filter(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp && status.phase !== 'Succeeded' && !isOfStates(metadata.namespace),
  )
  const unwell = pods.filter(
    ({ spec, status }) =>
      !status.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ||
      !status.containerStatuses?.every(({ ready, state }) => ready && fresh(state.running?.startedAt, spec.nodeName)),
  )
  if (unwell.length) {
    const names = unwell.slice(0, 3).map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName ?? 'no machine'}`)
    complaints.push(
      `${unwell.length} of ${pods.length} pods not ready: ${names.join(', ')}${unwell.length > 3 ? ' …' : ''}`,
    )
  }
  const expected = canaryWorkloads.filter(
    ({ namespace, name }) =>
      !pods.some(({ metadata }) => metadata.namespace === namespace && metadata.labels?.app === name),
  )
  if (expected.length) complaints.push(`no pod of ${expected.map(({ name }) => name).join(', ')}`)
  return complaints
}

/** Waits until nodes, pods and canaries are well and the callers' calls succeed. */
export async function waitUntilWell(shape: Shape, detail: Detail, seconds = 600): Promise<void> {
  let complaints: Complaints = []
  await waitFor(
    'the cluster to be well',
    seconds,
    async () => {
      complaints = await examineCluster(shape)
      detail(complaints.join('; '))
      return complaints.length === 0 || undefined
    },
    { every: 1000, hint: () => complaints.join('; ') },
  )
  let before = liveCallers(shape)
  let failing: string[] = []
  await waitFor(
    'the canaries to call without failures',
    300,
    async () => {
      await new Promise(resolve => setTimeout(resolve, 1000))
      const after = liveCallers(shape)
      failing = [...after.values()].flatMap(({ pod, node, calls, failures, lastError }) => {
        const earlier = before.get(pod)
        if (earlier && earlier.failures === failures && earlier.calls < calls) return []
        return `${pod} on ${node}: ${lastError || 'no calls yet'}`
      })
      const missing = kubeletMachines(shape).length + 2 - after.size
      if (missing > 0) failing.push(`${missing} not started`)
      before = after
      detail(failing.length ? `canaries: ${failing.join('; ')}` : '')
      return failing.length === 0 || undefined
    },
    { hint: () => failing.join('\n') },
  )
  await Promise.all(members(shape).map(({ name }) => forgetUnanswered(shape, name)))
}

/**
 * Has a machine's kernel forget the connections that nobody answered. While a cluster comes up, some are led to pods of before, by their
 * address of then, and for two minutes the kernel would lead there whoever gets the same port again: a call of a canary would fail
 * that has nothing to do with what is rehearsed.
 */
async function forgetUnanswered(shape: Shape, machine: string): Promise<void> {
  const { code, stderr } = await tryExec(shape.name, machine, ['conntrack', '-D', '-p', 'tcp', '--state', 'SYN_SENT'])
  // 1 says that there were none.
  if (code > 1)
    throw new RekeyError(`${machine}: conntrack -D: exit code ${code}: ${stderr.trim()}`, {
      code: 'lab.command-failed',
      host: machine,
    })
}

/** Lets the callers count from zero: what they saw while a cluster came up is no one's concern. */
export async function resetCanaries(shape: Shape): Promise<void> {
  await Promise.all(
    kubeletMachines(shape).map(({ name }) =>
      exec(shape.name, name, ['sh', '-c', 'rm -f /var/lib/rekey-canary/*.json; touch /var/lib/rekey-canary/reset']),
    ),
  )
  await waitFor(
    'the canaries to count from zero',
    120,
    () => liveCallers(shape).size >= kubeletMachines(shape).length + 2 || undefined,
  )
}

/** The callers that have written their results in the last seconds. */
function liveCallers(shape: Shape): Map<string, CanaryResult> {
  return new Map(
    canaryResultsOf(shape)
      .filter(({ updated }) => Date.now() - Date.parse(updated) < 3000)
      .map(result => [result.pod, result]),
  )
}
