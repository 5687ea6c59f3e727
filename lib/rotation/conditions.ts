// What the cluster is like that has nothing to do with a rotation, or would stand in its way: told, accepted by name, or refused, before
// the first change and never in the middle.
import { z } from 'zod'
import { HostFailedError } from '../errors.ts'
import { nodeConditions, oddities, systemWorkloads, tryChanges } from '../kubernetes/before/conditions.ts'
import { podsBefore, tellPods } from '../kubernetes/before/pods.ts'
import { tokenSecrets } from '../kubernetes/trust/tokens.ts'
import type { Workload } from '../kubernetes/workloads.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { matchesWildcards } from '../wildcard.ts'
import { type OnCluster, seconds } from './given/context.ts'
import { type Conditions, conditionsOf, conditionsStep, readingOf, runsAs } from './given/found.ts'
import { machines, masters } from './given/hosts.ts'
import type { Variables as WorkloadVariables } from './workloads.ts'

export const variables = {
  /**
   * What is out of the ordinary and may be so: `node/n7`, `certificate/m1:/etc/calico/etcd.crt`, `token/Secret ci/deploy`,
   * `change/Deployment shop/web`, `drift/m1/kube-apiserver`, `client/10.85.0.7`, `client/n1/kubelet`. `*` stands for anything.
   */
  accept: z.array(z.string().regex(/^(?:node|certificate|token|pod|change|drift|client)\/./)).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** Whether the inventory accepts something by its name. */
export function isAccepted({ vars }: { readonly vars: Variables }, name: string): boolean {
  return vars.accept.some(pattern => matchesWildcards(pattern, name))
}

/**
 * Fails where a node is not Ready, or not in the inventory, and nobody accepted it; registers what else is out of the ordinary:
 * `conditionsOf`.
 */
export const look: StepDefinition<OnCluster<Variables>> = {
  id: conditionsStep,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Conditions> => {
    const absent = await absentNodes(ctx)
    const api = await ctx.cluster.api()
    const { cordoned } = nodeConditions(await ctx.cluster.nodes())
    const workloads = await systemWorkloads(api, ctx.signal)
    const pods = await podsBefore(api, { absent, signal: ctx.signal })
    const told = [
      ...absent.map(name => `Node ${name} is left out: it gets no new certificate, and is locked out until it has one`),
      ...cordoned.map(name => `Node ${name} is cordoned, and stays so`),
      ...(workloads.kubeProxy || ctx.hosts(machines).some(({ name }) => runsAs(ctx, 'kube-proxy', name))
        ? []
        : ['There is no kube-proxy: none is restarted']),
      ...(workloads.dns ? [] : ['Nothing was found behind the Service of the cluster\u2019s DNS: it is not restarted']),
      ...(await slowServers(ctx)),
      ...(await oddities(api, ctx.signal)),
      ...tellPods(pods.unwell),
    ]
    for (const line of told) ctx.log(line)
    return { workloads, absent, told }
  },
}

async function absentNodes(ctx: OnCluster<Variables>): Promise<string[]> {
  const nodes = await ctx.cluster.nodes()
  const known = new Map(
    ctx.hosts(machines).flatMap(({ name }) => {
      const { nodeName } = readingOf(ctx, name)
      return nodeName === undefined ? [] : [[nodeName, name] as const]
    }),
  )
  const { notReady } = nodeConditions(nodes)
  const strangers = nodes.map(({ metadata }) => metadata.name).filter(name => !known.has(name))
  const isMasters = (node: string) => ctx.hosts(masters).some(({ name }) => name === known.get(node))
  const refused = (those: readonly string[]) =>
    those.filter(name => !isAccepted(ctx, `node/${name}`) || isMasters(name))
  const accept = (those: readonly string[]) => `accept: [${those.map(name => `node/${name}`).join(', ')}]`
  const [away, unknown] = [refused(notReady), refused(strangers)]
  if (away.length > 0) {
    throw new HostFailedError(`not Ready: ${away.join(', ')}`, {
      code: 'preflight.not-ready',
      hint: away.some(isMasters)
        ? 'Begin with masters that are well.'
        : `Begin with a cluster that is well; or go without these nodes, by ${accept(away)}.`,
    })
  }
  if (unknown.length > 0) {
    throw new HostFailedError(`nodes that are not in the inventory: ${unknown.join(', ')}`, {
      code: 'preflight.unknown-nodes',
      hint: `They would be locked out. Add them to the inventory, remove them from the cluster, or accept it: ${accept(unknown)}.`,
    })
  }
  return [...new Set([...notReady, ...strangers])]
}

/** How long an API server may take to say a little. */
const quickly = seconds(1)

async function slowServers(ctx: OnCluster): Promise<string[]> {
  const taken = await Promise.all(
    ctx.hosts(masters).map(async host => {
      const api = await ctx.cluster.apiOf(host)
      await api.get('/version')
      const began = performance.now()
      await api.get('/api/v1/namespaces?limit=1')
      return [host.name, performance.now() - began] as const
    }),
  )
  return taken
    .filter(([, milliseconds]) => milliseconds > quickly)
    .map(
      ([name, milliseconds]) => `The API server of ${name} is slow: ${formatDuration(milliseconds)} for one namespace`,
    )
}

/** Fails where an API server would refuse what the run is going to write: it is asked to try each change without making it. */
export const tryThem: StepDefinition<OnCluster<Variables & WorkloadVariables>> = {
  id: 'try-the-changes',
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const { kubeProxy, dns } = conditionsOf(ctx).workloads
    const { cni_workloads, restart_workloads } = ctx.vars
    const workloads = [kubeProxy, dns, ...cni_workloads, ...restart_workloads].filter(one => one !== undefined)
    const api = await ctx.cluster.api()
    const refusals = await tryChanges(
      api,
      { workloads: distinct(workloads), secrets: await tokenSecrets(api) },
      ctx.signal,
    )
    const left = refusals.filter(({ what }) => !isAccepted(ctx, `change/${what}`))
    for (const { what, why } of refusals) if (!left.some(one => one.what === what)) ctx.log(`${what}: ${why}`)
    if (left.length === 0) return
    throw new HostFailedError(
      `the API would refuse ${left.length === 1 ? 'a change' : 'changes'}: ${left.map(({ what, why }) => `${what} (${why})`).join('; ')}`,
      {
        code: 'preflight.refused',
        hint: `Mend what refuses it (a webhook that nobody answers for?), take it off the list, or accept it: accept: [${left.map(({ what }) => `change/${what}`).join(', ')}].`,
      },
    )
  },
}

const distinct = (workloads: readonly Workload[]) => [
  ...new Map(workloads.map(one => [`${one.kind} ${one.namespace}/${one.name}`, one])).values(),
]
