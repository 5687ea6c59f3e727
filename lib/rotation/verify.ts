// What proves that it worked, from outside: what ports present, who is refused, whether pods, logs, Secrets and users are well.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { HostFailedError } from '../errors.ts'
import { type KubernetesApi, kubernetesApi } from '../kubernetes/api/api.ts'
import { comparePods, tellComparison } from '../kubernetes/before/pods.ts'
import { compareSecrets, firstOf, tellSecrets } from '../kubernetes/before/secrets.ts'
import { presentedCertificates } from '../kubernetes/components/endpoints.ts'
import { logsByNode, reachKubelets } from '../kubernetes/probes/kubelets-reached.ts'
import { canaryReport } from '../kubernetes/probes/probes.ts'
import { fetchFile } from '../operations/backup.ts'
import { waitFor, waitUntilNoneLeft } from '../operations/wait.ts'
import { parseCertificate, verifyChain } from '../pki/certificates/certificate.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { type Mounts, newAuthority, newClusterAuthority } from './authorities.ts'
import { administratorOf } from './given/administrator.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from './given/context.ts'
import { conditionsOf, endpointsOf, type Looking, nodesOf } from './given/found.ts'
import { machines, masters } from './given/hosts.ts'
import type { Variables as IssueVariables } from './issue.ts'
import { beforeOf, canaries, type Variables as ObserveVariables } from './observe.ts'
import { isController } from './restart/index.ts'

type Identity = Parameters<KubernetesApi['statusOf']>[1]

/**
 * The status that the API server of this host has for an identity: asked again for a minute where it has no time, or nothing to say for the moment.
 * It has accepted and refused nobody then.
 */
export function statusOf(ctx: OnHost, api: KubernetesApi, identity: Identity): Promise<number> {
  const what = `the API server of ${ctx.host.name} to say whom it accepts`
  return waitFor(what, { within: seconds(60), signal: ctx.signal, host: ctx.host.name }, async () => {
    const status = await api.statusOf('/api/v1/namespaces', identity)
    return status !== 429 && status < 500 && status
  })
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

/**
 * Waits until each port of a host presents the certificate of its file.
 * @param certificates PEM, by the names of files
 * @param which what they are called, where one waits in vain
 */
export async function presents(
  ctx: OnHost,
  certificates: Readonly<Record<string, string>>,
  which: string,
): Promise<void> {
  for (const { address, port, component, files } of endpointsOf(ctx)) {
    // Of what signs its own certificate there is no file.
    const own = files.map(path => certificates[path]).find(pem => pem !== undefined)
    if (own === undefined) continue
    const where = `${ctx.host.name}:${port}`
    await waitFor(
      `${component} on ${where} to present ${which}`,
      { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
      async () => {
        const presented = await presentedCertificates(() => ctx.forward(address, port), where)
        return parseCertificate(presented).fingerprint === parseCertificate(own).fingerprint
      },
    )
  }
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
    const isRefused = async (identity: Identity) => (await statusOf(ctx, api, identity)) === 401
    if (oldAdmin && !(await isRefused(oldAdmin))) accepted.push('the old admin certificate')
    if (oldAdmin) await refusedByControllers(ctx, oldAdmin)
    for (const { namespace, name, token } of oldTokens) {
      if (!(await isRefused({ token: token.reveal() }))) accepted.push(`the old token of ${namespace}/${name}`)
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

/**
 * Waits until every node is Ready, and what was well before is well; registers what is not, and was not.
 * @param within how long it may go on without another owner whose pods are well, in milliseconds
 */
export const podsWithin = <Context extends OnCluster>(within: (ctx: Context) => number): StepDefinition<Context> => ({
  id: 'verify-pods',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const { absent } = conditionsOf(ctx)
    const names = nodesOf(ctx, ctx.hosts(machines))
    await ctx.cluster.nodesReady(
      names.filter(name => !absent.includes(name)),
      { within: seconds(30) },
    )
    const before = beforeOf(ctx).pods
    if (!before) {
      ctx.log('how pods were was not noted by the version that began this run: they are not compared')
      return []
    }
    let told: string[] = []
    // However many there are: as long as more of them are well again.
    await waitUntilNoneLeft(
      'every pod that was well to be well',
      { within: within(ctx), signal: ctx.signal },
      async () => {
        const now = await comparePods(await ctx.cluster.api(), before, { absent, signal: ctx.signal })
        if (now.missing.length > 0) return { left: now.missing.length, told: firstOf(now.missing) }
        told = tellComparison(now)
        return undefined
      },
    )
    for (const line of told) ctx.log(line)
    return told
  },
})

/** The same for as long as pods take that were started anew one after the other. */
export const pods: StepDefinition<OnCluster> = podsWithin(() => seconds(180))

/** Fails where an API server does not reach a kubelet: it is asked how it is, and for the last line of a pod's log. */
export const kubeletsReached: StepDefinition<OnCluster> = {
  id: 'verify-exec',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const { absent } = conditionsOf(ctx)
    const running = await logsByNode(await ctx.cluster.api(), ctx.signal)
    const nodes = nodesOf(ctx, ctx.hosts(machines)).filter(name => !absent.includes(name))
    const servers = await Promise.all(ctx.hosts(masters).map(host => ctx.cluster.apiOf(host)))
    await reachKubelets(servers, nodes, running, ctx.signal)
    const silent = nodes.filter(node => !running.has(node))
    ctx.log(`${servers.length} API servers reach ${nodes.length} kubelets`)
    if (silent.length > 0) ctx.log(`no pod runs whose log could be read: ${firstOf(silent)}`)
  },
}

/** Fails where a Secret that was there can't be read, or is another although nobody wrote it; registers what somebody did write. */
export const secretsUnchanged: StepDefinition<OnCluster> = {
  id: 'verify-secrets',
  ...afterwards,
  runOnce: true,
  run: async ctx => {
    const { secrets } = beforeOf(ctx)
    if (typeof secrets === 'string') {
      ctx.log('how each Secret was was not noted by the version that began this run: they are not compared')
      return []
    }
    const now = await compareSecrets(await ctx.cluster.api(), secrets, ctx.signal)
    if (now.damaged.length > 0) {
      throw new HostFailedError(`Secrets hold something else, and nobody wrote them: ${firstOf(now.damaged)}`, {
        code: 'verify.secrets',
        hint: 'Compare with the etcd snapshot of this run.',
      })
    }
    const told = tellSecrets(now)
    ctx.log(`${now.unchanged} Secrets are as they were`)
    for (const line of told) ctx.log(line)
    return told
  },
}

/** What was told by steps that compare with before, a line each. */
export function toldAfterwards(ctx: Looking): string[] {
  return [pods, secretsUnchanged].flatMap(({ id = '' }) => ctx.registered<string[]>(id) ?? [])
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
  plan: ctx => {
    const { host, path } = administratorOf(ctx, ctx.host)
    return `copy ${host.name}:${path} to ${join(ctx.folder, 'admin.conf')}`
  },
  run: async ctx => {
    const { host, path } = administratorOf(ctx, ctx.host)
    await fetchFile(await ctx.on(host), path, join(ctx.folder, 'admin.conf'))
    ctx.milestone('verified')
  },
  rollback: ctx => rm(join(ctx.folder, 'admin.conf'), { force: true }),
}

/** Waits until the controller-manager and the scheduler, which hear of the CAs through the API, refuse a client of before. */
async function refusedByControllers(ctx: OnHost<Mounts>, old: { certificate: string; key: string }): Promise<void> {
  for (const { address, port, component } of endpointsOf(ctx).filter(one => isController(one.component))) {
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
