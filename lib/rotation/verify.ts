// What proves that it worked, from outside: what ports present, who is refused, whether pods, logs, Secrets and users are well.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { HostFailedError } from '../errors.ts'
import { kubernetesApi } from '../kubernetes/api/api.ts'
import { presentedCertificates, type TlsEndpoint } from '../kubernetes/components/endpoints.ts'
import { adminKubeconfig, kubeletEndpoint, masterEndpoints } from '../kubernetes/layout/kubeadm/index.ts'
import { canaryReport } from '../kubernetes/probes/probes.ts'
import { fetchFile } from '../operations/backup.ts'
import { waitFor } from '../operations/wait.ts'
import { verifyChain } from '../pki/certificates/certificate.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { type Mounts, newAuthority, newClusterAuthority } from './authorities.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from './given/context.ts'
import { planOf, readingOf } from './given/found.ts'
import { isMaster, machines } from './given/hosts.ts'
import type { Variables as IssueVariables } from './issue.ts'
import { beforeOf, canaries, type Variables as ObserveVariables, secretsDigest } from './observe.ts'
import { isController } from './restart.ts'

/** Every TLS port of a host, as its role in the cluster has them. */
export function endpointsOf(ctx: OnHost): TlsEndpoint[] {
  return isMaster(ctx)
    ? [...masterEndpoints(planOf(ctx).addresses[ctx.host.name] ?? ''), kubeletEndpoint]
    : [kubeletEndpoint]
}

/** Waits until every port of a host presents a certificate of the new CA. */
export const endpoints: StepDefinition<OnHost<Mounts>> = {
  id: 'verify-endpoints',
  ...afterwards,
  run: async ctx => {
    const ports = endpointsOf(ctx)
    await Promise.all(
      ports.map(({ address, port, component, authority }) =>
        waitFor(
          `${component} on ${ctx.host.name}:${port} to present a certificate of the new CA`,
          { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
          async () => {
            const presented = await presentedCertificates(() => ctx.forward(address, port), `${ctx.host.name}:${port}`)
            return verifyChain(presented, newAuthority(ctx, authority), { source: `${ctx.host.name}:${port}` })
          },
        ),
      ),
    )
    ctx.log(ports.map(({ port }) => port).join(', '))
  },
}

/** Fails where a master accepts the administrator of before, or a token that was to be signed anew. */
export const refusals: StepDefinition<OnCluster<Mounts & IssueVariables>> = {
  id: 'verify-refusals',
  ...afterwards,
  run: async ctx => {
    const api = await ctx.cluster.apiOf(ctx.host)
    const accepted: string[] = []
    const { admin, tokens } = beforeOf(ctx)
    // Signed with the same key, tokens stay what they are.
    const oldTokens = ctx.vars.rotate_service_account_keys ? tokens : []
    const oldAdmin = admin && { certificate: admin.certificate, key: admin.key.reveal() }
    if (oldAdmin && (await api.statusOf('/api/v1/namespaces', oldAdmin)) !== 401)
      accepted.push('the old admin certificate')
    if (oldAdmin) await refusedByControllers(ctx, oldAdmin)
    for (const { namespace, name, token } of oldTokens) {
      if ((await api.statusOf('/api/v1/namespaces', { token: token.reveal() })) !== 401)
        accepted.push(`the old token of ${namespace}/${name}`)
    }
    if (accepted.length > 0) {
      throw new HostFailedError(`${ctx.host.name} still accepts ${accepted.join(', ')}`, {
        code: 'verify.accepted',
        host: ctx.host.name,
      })
    }
    return { tokens: oldTokens.length }
  },
}

/** Waits until every node is Ready and every pod runs. */
export const pods: StepDefinition<OnCluster> = {
  id: 'verify-pods',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const names = ctx.hosts(machines).map(({ name }) => readingOf(ctx, name).nodeName)
    await ctx.cluster.nodesReady(names, { within: seconds(30) })
    await waitFor('every pod to run', { within: seconds(120), signal: ctx.signal }, async () => {
      const bad = (await (await ctx.cluster.api()).list('/api/v1/pods')).filter(pod => !isWell(pod))
      if (bad.length > 0)
        throw new Error(
          bad.map(({ metadata, status }) => `${metadata.namespace}/${metadata.name} is ${status?.phase}`).join(', '),
        )
      return true
    })
  },
}

/** Fails where an API server does not reach a kubelet. */
export const logsAndExec: StepDefinition<OnCluster> = {
  id: 'verify-exec',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const api = await ctx.cluster.api()
    const pods = await api.list('/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy')
    await Promise.all(
      pods.filter(isWell).map(async ({ metadata: { name } }) => {
        await ctx.$`kubectl --kubeconfig ${adminKubeconfig} --namespace kube-system logs --tail 1 ${name}`
        await ctx.$`kubectl --kubeconfig ${adminKubeconfig} --namespace kube-system exec ${name} -- kube-proxy --version`
      }),
    )
  },
}

/** Fails where Secrets are not those that were noted before. */
export const secretsUnchanged: StepDefinition<OnCluster> = {
  id: 'verify-secrets',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    if ((await secretsDigest(await ctx.cluster.api())) !== beforeOf(ctx).secrets) {
      throw new HostFailedError('the Secrets of the cluster are not those that were there before', {
        code: 'verify.secrets',
        hint: 'Compare with the etcd snapshot; somebody may have changed one during the rotation.',
      })
    }
  },
}

/** Waits until every canary calls, and fails at nothing; left out where the inventory has none. */
export const canariesWell: StepDefinition<OnHost<Pick<ObserveVariables, 'canary_results'>>> = {
  readOnly: true,
  runOnce: true,
  when: ctx => !ctx.check && ctx.vars.canary_results !== undefined,
  run: async ctx => {
    let before = await canaries(ctx)
    await waitFor(
      'every canary to call without a failure',
      { within: seconds(60), every: 2_000, signal: ctx.signal },
      async () => {
        const after = await canaries(ctx)
        const reports = canaryReport(before, after)
        before = after
        const bad = [...reports].filter(([, { calls, failures }]) => calls === 0 || failures > 0)
        if (bad.length > 0)
          throw new Error(
            bad
              .map(([kind, { failures, lastError }]) => `${kind}: ${failures} failed (${lastError ?? 'no calls'})`)
              .join(', '),
          )
        return reports.size > 0
      },
    )
  },
}

/** Fetches the administrator's new kubeconfig into the run's folder. */
export const adminKubeconfigFetched: StepDefinition<OnHost> = {
  runOnce: true,
  plan: ctx => `copy ${adminKubeconfig} to ${join(ctx.folder, 'admin.conf')}`,
  run: async ctx => {
    await fetchFile(ctx, adminKubeconfig, join(ctx.folder, 'admin.conf'))
    ctx.milestone('verified')
  },
  rollback: ctx => rm(join(ctx.folder, 'admin.conf'), { force: true }),
}

/** Waits until the controller-manager and the scheduler, which hear of the CAs through the API, refuse a client of before. */
async function refusedByControllers(ctx: OnHost<Mounts>, old: { certificate: string; key: string }): Promise<void> {
  for (const { address, port, component } of masterEndpoints('').filter(one => isController(one.component))) {
    const open = () => ctx.forward(address, port)
    const api = kubernetesApi(open, { ca: newClusterAuthority(ctx) }, 'localhost')
    const what = `${component} of ${ctx.host.name} to refuse the old admin certificate`
    try {
      await waitFor(what, { within: seconds(60), signal: ctx.signal, host: ctx.host.name }, async () => {
        const status = await api.statusOf('/metrics', old)
        // One that knows nobody by certificates takes it for nobody; what everybody may see proves nothing.
        if (status === 401 || (status === 403 && (await api.statusOf('/metrics', {})) === 403)) return true
        throw new Error(`it answers with ${status}`)
      })
    } finally {
      api.close()
    }
  }
}

function isWell(pod: { readonly [member: string]: unknown; metadata: { deletionTimestamp?: string } }): boolean {
  const status = pod['status'] as { phase?: string; containerStatuses?: { ready: boolean }[] } | undefined
  if (pod.metadata.deletionTimestamp !== undefined || status?.phase === 'Succeeded') return true
  return status?.phase === 'Running' && (status.containerStatuses ?? []).every(({ ready }) => ready)
}
