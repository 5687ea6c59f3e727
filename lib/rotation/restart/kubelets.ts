// Kubelets started anew, and what shows that they are back and start at once what is killed.
import { HostFailedError } from '../../errors.ts'
import { killComponent, restartComponent } from '../../kubernetes/components/control.ts'
import { kubeletWentRound, restartKubelet } from '../../kubernetes/components/kubelet.ts'
import type { ComponentName } from '../../kubernetes/layout/host-layout.ts'
import { waitFor, wasInTime } from '../../operations/wait.ts'
import { type Host, names } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { afterwards, nothing, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, conditionsOf, endpointsOf, isAbsent, mayHave, must, readingOf, runsAs } from '../given/found.ts'
import { machines, masters } from '../given/hosts.ts'

/** Restarts a host's kubelet; registers its last heartbeat before, for `nodesReady`. */
export const kubelet: StepDefinition<OnCluster> = {
  id: 'restart-the-kubelet',
  when: ctx => mayHave(ctx, 'kubelet'),
  plan: ctx => `systemctl restart ${kubeletUnit(ctx).replace(/\.service$/, '')}`,
  run: ctx => restartKubelet(ctx.cluster, ctx, nodeOf(ctx), kubeletUnit(ctx)),
}

/** The first version of Kubernetes whose kubelets read the pair again that they serve with (`ReloadKubeletServerCertificateFile`). */
const rereadsSince = { major: 1, minor: 31 }

/** Whether a kubelet of a version, as its node tells it (`v1.34.2`), reads the pair again that it serves with. */
function rereadsItsPair(version: string): boolean {
  const [, major, minor] = (/^v?(\d+)\.(\d+)/.exec(version) ?? []).map(Number)
  if (major === undefined || minor === undefined) return true
  return major > rereadsSince.major || (major === rereadsSince.major && minor >= rereadsSince.minor)
}

/**
 * Fails where a kubelet is older than those that read the pair again that they serve with, and that pair is one of those that are made anew: what
 * it presents is looked at before anything is restarted.
 */
export const kubeletsReread: StepDefinition<OnCluster> = {
  ...{ readOnly: true, runOnce: true },
  run: async ctx => {
    const served = ctx
      .hosts(machines)
      .filter(({ name }) => !isAbsent(ctx, name))
      .filter(({ name }) => endpointsOf(ctx, name).some(({ component }) => component === 'kubelet'))
    if (served.length === 0) return
    const nodes = new Map((await ctx.cluster.nodes()).map(node => [node.metadata.name, node]))
    const old = served.flatMap(({ name }) => {
      const { kubeletVersion } = (nodes.get(readingOf(ctx, name).nodeName ?? '')?.status?.nodeInfo ?? {}) as {
        readonly kubeletVersion?: string
      }
      return kubeletVersion === undefined || rereadsItsPair(kubeletVersion) ? [] : [`${name} (${kubeletVersion})`]
    })
    if (old.length === 0) return
    throw new HostFailedError(`kubelets that go on with the pair that they have read: ${names(old, 5)}`, {
      code: 'kubelet.version',
      hint: `From ${rereadsSince.major}.${rereadsSince.minor} on they read it again. Bring them up to that; or have \`rotate-ca\` replace it, the hard way.`,
    })
  },
}

const prepareStep = 'prepare-kubelets'

/**
 * The same to have it know of no earlier crash, so that it starts what is killed at once: where it runs something of the control plane.
 * There is nothing to undo.
 */
export const preparedKubelet: StepDefinition<OnCluster> = {
  ...kubelet,
  id: prepareStep,
  when: ctx => startsThePods(ctx),
  rollback: nothing,
}

/** Waits until the kubelets that were prepared are heard, and went round their pods. */
export const preparedKubelets: StepDefinition<OnCluster> = {
  id: 'wait-for-prepared-kubelets',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const prepared = ctx.hosts(masters).filter(({ name }) => startsThePods(ctx, name))
    await restartedNodesReady(ctx, prepared, prepareStep)
    await Promise.all(prepared.map(host => wentRound(ctx, host)))
  },
}

/** Waits until the nodes whose kubelets a step restarted are Ready. */
export function nodesReady(
  pattern: string,
  { after, milestone }: { after: string; milestone?: string },
): StepDefinition<OnCluster> {
  return {
    ...afterwards,
    runOnce: true,
    run: async ctx => {
      const restarted = ctx.hosts(pattern).filter(({ name }) => mayHave(ctx, 'kubelet', name))
      await restartedNodesReady(ctx, restarted, after)
      if (milestone !== undefined) ctx.milestone(milestone)
    },
  }
}

/**
 * Restarts the kubelet of a master on the way back, so that it starts what is killed at once. Nobody knows how far the rotation came: an
 * API server that is not ready is killed before.
 */
export const kubeletWhereverItStopped: StepDefinition<OnCluster> = {
  when: ctx => startsThePods(ctx),
  run: async ctx => {
    // One without etcd keeps kubelets waiting. Where none answers they do not wait, and it is started again soon anyway.
    if (!(await apiServerIsReady(ctx))) await killComponent(ctx, componentOf(ctx, 'kube-apiserver'))
    await restartComponent(ctx, componentOf(ctx, 'kubelet'), { within: seconds(60), signal: ctx.signal })
  },
}

/**
 * Waits until the kubelets of the masters went round their pods, where nobody knows how far the rotation came. Where no API server
 * answers, no kubelet waits for one either; where one does, and can't ask the kubelet in turn, the kubelet has gone round by then all
 * the same.
 */
export const preparedWhereTheyCan: StepDefinition<OnCluster> = {
  runOnce: true,
  readOnly: true,
  run: async ctx => {
    const answers = await ctx.cluster.api().catch((error: Error) => {
      ctx.log(error.message)
    })
    ctx.signal.throwIfAborted()
    if (!answers) return
    await Promise.all(
      ctx
        .hosts(masters)
        .filter(({ name }) => startsThePods(ctx, name))
        .map(host => wentRound(ctx, host, seconds(15)).catch((error: Error) => ctx.log(error.message))),
    )
    ctx.signal.throwIfAborted()
  },
}

/** Waits until a kubelet went round its pods: what is killed before that may be started half a minute later. */
export async function wentRound(ctx: OnCluster, { name }: Host, within = seconds(60)): Promise<void> {
  const nodeName = nodeOf(ctx, name)
  await waitFor(
    `the kubelet of ${name} to go round its pods`,
    { within, every: 250, signal: ctx.signal, host: name },
    async () => kubeletWentRound(await ctx.cluster.api(), nodeName),
  )
}

/** Whether the API server of a master is ready, or gets there by itself: one that was just started takes a few seconds. */
function apiServerIsReady(ctx: OnCluster): Promise<boolean> {
  return wasInTime(ctx.cluster.apiServerReady(ctx.host, { within: seconds(10) }), ctx.signal)
}

/**
 * Restarts the kubelet of a host, and waits until it went round its pods, where it is to start some of these components again and remembers
 * that one of them ended a short while ago: it would wait, longer each time. One that remembers nothing is left alone, since whoever has a
 * shell or a log open in a pod of its node loses it.
 */
export async function freshKubelet(
  ctx: OnCluster,
  session: HostSession,
  components: readonly ComponentName[],
): Promise<void> {
  const { name } = session.host
  const pods = components.filter(component => runsAs(ctx, component, name)?.kind === 'static-pod')
  if (pods.length === 0 || !(await remembersAnEnd(ctx, session, pods))) return
  const node = nodeOf(ctx, name)
  const heartbeat = await restartKubelet(ctx.cluster, session, node, kubeletUnit(ctx, name))
  await ctx.cluster.nodesReady([node], { within: seconds(180), notBy: { [node]: heartbeat } })
  await wentRound(ctx, session.host)
}

/** A kubelet that has seen something end again and again waits for five minutes before it starts it once more. Milliseconds. */
export const longestPause = seconds(330)

/** How long, in seconds, a kubelet remembers that a container ended. */
export const remembered = 600

async function remembersAnEnd(
  ctx: OnCluster,
  { $, host }: HostSession,
  components: readonly ComponentName[],
): Promise<boolean> {
  const node = encodeURIComponent(`spec.nodeName=${nodeOf(ctx, host.name)}`)
  const pods = await (await ctx.cluster.api()).list(`/api/v1/namespaces/kube-system/pods?fieldSelector=${node}`)
  const ends = pods
    .flatMap(pod => (pod['status']?.containerStatuses ?? []) as ContainerStatus[])
    .filter(one => (components as readonly string[]).includes(one.name))
    .map(({ lastState }) => Date.parse(lastState?.terminated?.finishedAt ?? '') / 1_000)
    .filter(end => !Number.isNaN(end))
  if (ends.length === 0) return false
  const { stdout } = await $({
    quiet: true,
  })`date +%s; date -d "$(systemctl show -p ActiveEnterTimestamp --value ${kubeletUnit(ctx, host.name)})" +%s`
  const [now = 0, started = 0] = stdout.trim().split('\n').map(Number)
  return ends.some(end => end >= started && now - end < remembered)
}

interface ContainerStatus {
  readonly name: string
  readonly lastState?: { readonly terminated?: { readonly finishedAt: string } }
}

async function restartedNodesReady(ctx: OnCluster, hosts: readonly Host[], restart: string): Promise<void> {
  const { absent } = conditionsOf(ctx)
  const heartbeats = hosts
    .filter(({ name }) => mayHave(ctx, 'kubelet', name))
    .map(({ name }) => [nodeOf(ctx, name), ctx.registered<string>(restart, name) ?? ''] as const)
    .filter(([node]) => !absent.includes(node))
  const notBy = Object.fromEntries(heartbeats) as Record<string, string>
  await ctx.cluster.nodesReady(Object.keys(notBy), { within: seconds(180), notBy })
}

/** The node that a host is. */
const nodeOf = (ctx: OnHost, host = ctx.host.name) =>
  must(readingOf(ctx, host).nodeName, `no kubelet was found on ${host}`)

const controlPlane = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const

/** Whether the kubelet of a host starts parts of the control plane: then it is to start them at once when they are killed. */
function startsThePods(ctx: OnHost, host = ctx.host.name): boolean {
  return mayHave(ctx, 'kubelet', host) && controlPlane.some(one => runsAs(ctx, one, host)?.kind === 'static-pod')
}

const kubeletUnit = (ctx: OnHost, host = ctx.host.name) => {
  const runs = runsAs(ctx, 'kubelet', host)
  return runs?.kind === 'unit' ? runs.unit : 'kubelet.service'
}
