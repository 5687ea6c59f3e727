import { kubeletHealthy } from '../../kubernetes/components/endpoints.ts'
import { kubeletWentRound, restartKubelet } from '../../kubernetes/components/kubelet.ts'
import {
  killStaticPod,
  type ManifestEditor,
  plannedManifest,
  startedAnew,
  updateManifest,
} from '../../kubernetes/components/static-pods.ts'
import * as kubeadm from '../../kubernetes/layout/kubeadm/index.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as AuthorityVariables } from '../authorities.ts'
import { archiveOf, type Variables as BackupVariables } from '../backup.ts'
import { afterwards, nothing, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { conditionsOf, readingOf } from '../given/found.ts'
import { masters } from '../given/hosts.ts'

/** Restarts a host's kubelet; registers its last heartbeat before, for `nodesReady`. */
export const kubelet: StepDefinition<OnCluster> = {
  id: 'restart-the-kubelet',
  plan: () => 'systemctl restart kubelet',
  run: ctx => restartKubelet(ctx.cluster, ctx, readingOf(ctx).nodeName),
}

const prepareStep = 'prepare-kubelets'

/** The same to have it know of no earlier crash, so that it starts what is killed at once. There is nothing to undo. */
export const preparedKubelet: StepDefinition<OnCluster> = { ...kubelet, id: prepareStep, rollback: nothing }

/** Waits until the kubelets that were prepared are heard, and went round their pods. */
export const preparedKubelets: StepDefinition<OnCluster> = {
  id: 'wait-for-prepared-kubelets',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    await restartedNodesReady(ctx, masters, prepareStep)
    await Promise.all(ctx.hosts(masters).map(host => wentRound(ctx, host)))
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
      await restartedNodesReady(ctx, pattern, after)
      if (milestone !== undefined) ctx.milestone(milestone)
    },
  }
}

const controllerNames = ['kube-controller-manager', 'kube-scheduler'] as const
type Controller = (typeof controllerNames)[number]

/**
 * Restarts a master's controller-manager and scheduler, with manifests that have them present certificates of the CA; registers which
 * processes they were, for `controllersRun`.
 */
export const controllers: StepDefinition<OnHost<Pick<AuthorityVariables, 'controller_manager_signs'>>> = {
  id: 'restart-the-controller-manager-and-the-scheduler',
  plan: async ctx => [
    ...(await Promise.all(
      controllerNames.map(one => plannedManifest(ctx, one, servedByTheCa(one, ctx.vars.controller_manager_signs))),
    )),
    'kill them; their kubelet starts them again',
  ],
  run: async ctx => {
    for (const component of controllerNames)
      await updateManifest(ctx, component, servedByTheCa(component, ctx.vars.controller_manager_signs))
    return killControllers(ctx)
  },
}

/** The same with the manifests that the archive of the host has. */
export const controllersAsTheyWere: StepDefinition<OnHost<BackupVariables>> = {
  run: async ctx => {
    const manifests = controllerNames.map(component => `${kubeadm.manifestDirectory}/${component}.yaml`)
    await restoreFiles(ctx, ctx.run, archiveOf(ctx), manifests)
    return killControllers(ctx)
  },
}

/** Waits until a master's controller-manager and scheduler, which a step killed, run again. */
export function controllersRun(restart: string): StepDefinition<OnHost> {
  return {
    ...afterwards,
    run: async ctx => {
      const killed = ctx.registered<Record<Controller, number[]>>(restart, ctx.host.name)
      for (const component of controllerNames) {
        await startedAnew(ctx, component, killed?.[component] ?? [], { within: seconds(90), signal: ctx.signal })
      }
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
  run: async ctx => {
    // One without etcd keeps kubelets waiting. Where none answers they do not wait, and it is started again soon anyway.
    if (!(await apiServerIsReady(ctx))) await killStaticPod(ctx, 'kube-apiserver')
    await ctx.$`systemctl restart kubelet`
    await kubeletHealthy(ctx, { within: seconds(60), signal: ctx.signal })
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
      ctx.hosts(masters).map(host => wentRound(ctx, host, seconds(15)).catch((error: Error) => ctx.log(error.message))),
    )
    ctx.signal.throwIfAborted()
  },
}

/** Waits until a kubelet went round its pods: what is killed before that may be started half a minute later. */
async function wentRound(ctx: OnCluster, { name }: Host, within = seconds(60)): Promise<void> {
  const { nodeName } = readingOf(ctx, name)
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

async function restartedNodesReady(ctx: OnCluster, pattern: string, restart: string): Promise<void> {
  const { absent } = conditionsOf(ctx)
  const heartbeats = ctx
    .hosts(pattern)
    .map(({ name }) => [readingOf(ctx, name).nodeName, ctx.registered<string>(restart, name) ?? ''] as const)
    .filter(([node]) => !absent.includes(node))
  const notBy = Object.fromEntries(heartbeats) as Record<string, string>
  await ctx.cluster.nodesReady(Object.keys(notBy), { within: seconds(180), notBy })
}

/** What makes it present a certificate of the CA, from its next start on, instead of one that it signs itself. */
function servedByTheCa(component: Controller, signs: boolean): (manifest: ManifestEditor) => void {
  const { certificate, key } = kubeadm.pair(component)
  return manifest => {
    if (component === 'kube-controller-manager' && !signs) {
      // The key stays in Vault: without these flags it signs nothing, with them it would not start.
      manifest.flag('cluster-signing-cert-file', undefined)
      manifest.flag('cluster-signing-key-file', undefined)
    }
    manifest.flag('tls-cert-file', certificate)
    manifest.flag('tls-private-key-file', key)
    manifest.mountReadOnly('k8s-certs', kubeadm.pkiDirectory)
  }
}

/** Kills a master's controller-manager and scheduler, and tells which processes they were. */
async function killControllers(ctx: OnHost): Promise<Record<string, number[]>> {
  const killed: Record<string, number[]> = {}
  for (const component of controllerNames) killed[component] = await killStaticPod(ctx, component)
  return killed
}
