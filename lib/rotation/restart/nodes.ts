// Kubelets, controller-managers and schedulers started anew, and what shows that they are back.
import { splitPath } from '../../connection/safe-folder.ts'
import { killComponent, restartComponent, startedAnew } from '../../kubernetes/components/control.ts'
import { flagFilesOf, plannedFlags, reread, updateFlags } from '../../kubernetes/components/flags.ts'
import { kubeletWentRound, restartKubelet } from '../../kubernetes/components/kubelet.ts'
import type { FlagEditor } from '../../kubernetes/components/static-pods.ts'
import type { ComponentName, FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import type { Variables as AuthorityVariables } from '../authorities.ts'
import { archiveOf, type Variables as BackupVariables } from '../backup.ts'
import { afterwards, nothing, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, conditionsOf, layoutOf, mayHave, must, planOf, readingOf, runsAs } from '../given/found.ts'
import { masters } from '../given/hosts.ts'
import { ending, killing } from './told.ts'

/** Restarts a host's kubelet; registers its last heartbeat before, for `nodesReady`. */
export const kubelet: StepDefinition<OnCluster> = {
  id: 'restart-the-kubelet',
  when: ctx => mayHave(ctx, 'kubelet'),
  plan: ctx => `systemctl restart ${kubeletUnit(ctx).replace(/\.service$/, '')}`,
  run: ctx => restartKubelet(ctx.cluster, ctx, nodeOf(ctx), kubeletUnit(ctx)),
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

const controllerNames = ['kube-controller-manager', 'kube-scheduler'] as const

/**
 * Restarts a master's controller-manager and scheduler, with flags that have them present certificates of the CA where such are planned;
 * registers which processes they were, for `controllersRun`.
 */
export const controllers: StepDefinition<OnHost<Pick<AuthorityVariables, 'controller_manager_signs'>>> = {
  id: 'restart-the-controller-manager-and-the-scheduler',
  plan: async ctx => [
    ...(await Promise.all(controllersOf(ctx).map(found => plannedFlags(ctx, found, servedByTheCa(ctx, found))))).flat(),
    ...controllersOf(ctx).map(({ component }) => killing(ctx, component)),
  ],
  run: async ctx => {
    for (const found of controllersOf(ctx)) await updateFlags(ctx, found, servedByTheCa(ctx, found))
    return killControllers(ctx)
  },
}

/**
 * Ends a component of a master gracefully, and waits until it serves again: a step of a play over the masters, `serial: 1`. Nobody asks
 * anything of one that waits for its turn to lead; of the others, one leads as soon as the lease of this one is over.
 */
export function gently<Vars>(
  component: (typeof controllerNames)[number],
  wanted: (ctx: OnCluster<Vars>) => boolean = () => true,
): StepDefinition<OnCluster<Vars>> {
  return {
    when: ctx => wanted(ctx) && layoutOf(ctx).components[component] !== undefined,
    plan: ctx => ending(ctx, component),
    run: async ctx => {
      await freshKubelet(ctx, ctx, [component])
      await restartComponent(ctx, componentOf(ctx, component), { within: seconds(180), signal: ctx.signal })
    },
    rollback: nothing,
  }
}

/** The same with the flags that the archive of the host has. */
export const controllersAsTheyWere: StepDefinition<OnHost<BackupVariables>> = {
  run: async ctx => {
    for (const found of controllersOf(ctx)) await flagsAsTheyWere(ctx, found)
    return killControllers(ctx)
  },
}

/** Waits until a master's controller-manager and scheduler, which a step killed, run again. */
export function controllersRun(restart: string): StepDefinition<OnHost> {
  return {
    ...afterwards,
    run: async ctx => {
      const killed = ctx.registered<Record<string, number[]>>(restart, ctx.host.name)
      for (const found of controllersOf(ctx))
        await startedAnew(ctx, found, killed?.[found.component] ?? [], { within: seconds(90), signal: ctx.signal })
    },
  }
}

/** Whether a component is one of those that hear of the CAs through the API. */
export function isController(component: string): boolean {
  return controllerNames.some(one => one === component)
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
async function apiServerIsReady(ctx: OnCluster): Promise<boolean> {
  const ready = await ctx.cluster.apiServerReady(ctx.host, { within: seconds(10) }).then(
    () => true,
    () => false,
  )
  ctx.signal.throwIfAborted()
  return ready
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

/** How long, in seconds, a kubelet remembers that a container ended. */
const remembered = 600

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

/** Whether the kubelet of a host starts parts of the control plane: then it is to start them at once when they are killed. */
function startsThePods(ctx: OnHost, host = ctx.host.name): boolean {
  const runs = (component: ComponentName) => runsAs(ctx, component, host)?.kind === 'static-pod'
  return mayHave(ctx, 'kubelet', host) && (runs('kube-apiserver') || runs('etcd') || controllerNames.some(runs))
}

const kubeletUnit = (ctx: OnHost, host = ctx.host.name) => {
  const runs = runsAs(ctx, 'kubelet', host)
  return runs?.kind === 'unit' ? runs.unit : 'kubelet.service'
}

/** Those of the controllers that a host has. */
const controllersOf = (ctx: OnHost) =>
  controllerNames.map(name => layoutOf(ctx).components[name]).filter(found => found !== undefined)

/** What makes it present a certificate of the CA, from its next start on, instead of one that it signs itself: where one is planned. */
function servedByTheCa(
  ctx: OnHost<Pick<AuthorityVariables, 'controller_manager_signs'>>,
  { component }: FoundComponent,
): (flags: FlagEditor) => void {
  const place = planOf(ctx).specs.find(
    spec =>
      spec.component === component &&
      spec.usages.includes('serverAuth') &&
      spec.place.kind === 'pair' &&
      spec.hosts.includes(ctx.host.name),
  )?.place
  return flags => {
    if (component === 'kube-controller-manager' && !ctx.vars.controller_manager_signs) {
      // The key stays in Vault: without these flags it signs nothing, with them it would not start.
      flags.flag('cluster-signing-cert-file', undefined)
      flags.flag('cluster-signing-key-file', undefined)
    }
    if (place?.kind !== 'pair') return
    flags.flag('tls-cert-file', place.certificate)
    flags.flag('tls-private-key-file', place.key)
    flags.mountReadOnly('k8s-certs', splitPath(place.certificate).folder)
  }
}

/** Puts the files back that a component has its flags from. A file whose folder was never made was never written either. */
export async function flagsAsTheyWere(ctx: OnHost<BackupVariables>, found: FoundComponent): Promise<void> {
  const paths = flagFilesOf(found)
  const folders = paths.map(path => splitPath(path).folder)
  const { stdout } = await ctx.$({ quiet: true })`for f in ${folders}; do [ -d "$f" ] && echo yes || echo no; done`
  const there = stdout.trim().split('\n')
  await restoreFiles(
    ctx,
    ctx.run,
    archiveOf(ctx),
    paths.filter((_, index) => there[index] === 'yes'),
  )
  await reread(ctx, found)
}

/** Kills a master's controller-manager and scheduler, and tells which processes they were. */
async function killControllers(ctx: OnHost): Promise<Record<string, number[]>> {
  const killed: Record<string, number[]> = {}
  for (const found of controllersOf(ctx)) killed[found.component] = await killComponent(ctx, found)
  return killed
}
