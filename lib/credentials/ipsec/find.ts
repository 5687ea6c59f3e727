// Before the first change: how Cilium is set up, which key it goes by, and that it goes by that everywhere and by no other: a rotation upon another one would
// have agents skip an id, or take a key away that somebody sends with still.
import { Secret } from '../../connection/shell.ts'
import { foundAt, type KubernetesApi } from '../../kubernetes/api/api.ts'
import { firstOf } from '../../kubernetes/before/secrets.ts'
import { notRolledOut, pathOf, standsStill } from '../../kubernetes/workloads.ts'
import { formatDuration, parseDuration } from '../../playbook/duration.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { isAccepted, machines, type ReadingOf, refused, requireInRun } from '../given.ts'
import { ownersOf } from '../owners.ts'
import { type Context, type Found, foundOf, ids, keysOf, secretName, secretPath } from './given.ts'
import { type Kernel, kernels, notAlone, notLoaded, notPublishing, published } from './nodes.ts'

/** Reads how Cilium is set up, and its key. */
export const find = (readingOf: ReadingOf): StepDefinition<Context> => ({
  id: ids.find,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Found> => {
    const api = await ctx.cluster.api()
    const settings = await settingsOf(ctx, api)
    const watches = settings['enable-ipsec-key-watcher'] !== 'false'
    await requireAgents(ctx, api, watches)
    await requireNoMesh(ctx, api, settings['cluster-name'] ?? 'default')
    const field = settings['ipsec-key-file']?.split('/').at(-1) || 'keys'
    const line = await readKeys(ctx, api, field)
    const keys = keysOf(line)
    const keeps = parseDuration(settings['ipsec-key-rotation-duration'] ?? '5m') ?? 5 * 60_000
    if (!keys.isPerTunnel)
      ctx.log(
        'its keys are not for each tunnel (no + behind the id): deprecated since Cilium 1.16, and not changed here',
      )
    ctx.log(
      `id ${keys.id}, ${watches ? 'agents take a new key up by themselves' : 'agents are restarted for a new key'}; one of before is kept for ${formatDuration(keeps)}`,
    )
    return { field, watches, keeps, line: new Secret(line, keys.keys), nodes: await nodesOf(ctx, readingOf) }
  },
})

async function settingsOf({ vars }: Context, api: KubernetesApi): Promise<Readonly<Record<string, string>>> {
  const path = `/api/v1/namespaces/${vars.cilium_namespace}/configmaps/cilium-config`
  const settings = (await foundAt(api, path))?.['data'] as Record<string, string> | undefined
  if (!settings)
    throw refused(
      'ipsec.no-cilium',
      `there is no ConfigMap ${vars.cilium_namespace}/cilium-config`,
      'Say where Cilium runs: -e cilium_namespace=…',
    )
  if (settings['enable-ipsec'] !== 'true')
    throw refused(
      'ipsec.off',
      'Cilium does not encrypt by IPsec (enable-ipsec)',
      settings['enable-wireguard'] === 'true' ? 'WireGuard makes its keys itself.' : 'There is no key to rotate.',
    )
  return settings
}

/** Every agent runs, and none is being replaced: Cilium says that keys must not be rotated during an upgrade. */
async function requireAgents({ vars }: Context, api: KubernetesApi, watches: boolean): Promise<void> {
  const agents = { kind: 'DaemonSet', namespace: vars.cilium_namespace, name: vars.cilium_daemonset } as const
  const found = await foundAt(api, pathOf(agents))
  if (!found)
    throw refused(
      'ipsec.no-cilium',
      `there is no DaemonSet ${agents.namespace}/${agents.name}`,
      'Say how Cilium’s is called: -e cilium_daemonset=…',
    )
  const left = notRolledOut({ ...found, kind: 'DaemonSet' })
  if (left)
    throw refused(
      'ipsec.agents',
      `not every agent of Cilium runs as it is to: ${left.told}`,
      'Wait until an upgrade has ended, and have all of them run: one without the new key is cut off once the old one is taken away.',
    )
  const still = watches ? undefined : standsStill({ ...found, kind: 'DaemonSet' })
  if (still !== undefined)
    throw refused(
      'ipsec.agents',
      `agents must be restarted for a new key, and nobody restarts those of ${agents.name}: ${still}`,
      'Set enable-ipsec-key-watcher to true, or the update strategy to RollingUpdate.',
    )
}

/** Clusters of a mesh have one key. */
async function requireNoMesh(ctx: Context, api: KubernetesApi, own: string): Promise<void> {
  const mesh = await foundAt(api, `/api/v1/namespaces/${ctx.vars.cilium_namespace}/secrets/cilium-clustermesh`)
  const clusters = Object.keys((mesh?.['data'] ?? {}) as object).filter(name => !name.includes('.') && name !== own)
  const unknown = clusters.filter(name => !isAccepted(ctx, `mesh/${name}`))
  if (unknown.length > 0)
    throw refused(
      'ipsec.mesh',
      `the mesh has other clusters: ${firstOf(unknown)}`,
      'They must get the very same line before agents here take the old key away. Give it to them by hand as soon as this run has put it there, with a longer ipsec-key-rotation-duration; and accept it: mesh/CLUSTER',
    )
}

async function readKeys(ctx: Context, api: KubernetesApi, field: string): Promise<string> {
  const found = await foundAt(api, secretPath(ctx))
  const value = (found?.['data'] as Record<string, string> | undefined)?.[field]
  if (!found || typeof value !== 'string')
    throw refused(
      'ipsec.no-secret',
      `there is no Secret ${secretName(ctx)} with ${field}`,
      'Say how it is called: -e ipsec_secret=…',
    )
  if (found['immutable'] === true)
    throw refused(
      'ipsec.immutable',
      `Secret ${secretName(ctx)} is immutable`,
      'Agents mount it by its name: make it anew without `immutable` first, with the same key.',
    )
  const owners = ownersOf(found)
  if (owners.length > 0 && !isAccepted(ctx, `owner/${secretName(ctx)}`))
    throw refused(
      'ipsec.owned',
      `something else writes Secret ${secretName(ctx)}: ${owners.join(', ')}`,
      `It would write the old key back, under an id that is over. Have it leave the Secret alone, or accept it: owner/${secretName(ctx)}`,
    )
  return Buffer.from(value, 'base64').toString('utf8')
}

/** The nodes with an agent, which must be all, and be in the run. */
async function nodesOf(ctx: Context, readingOf: ReadingOf): Promise<Found['nodes']> {
  const hosts = new Map(ctx.hosts(machines).map(host => [readingOf(ctx, host.name).nodeName, host.name]))
  const agents = await published(ctx)
  const nodes = (await ctx.cluster.nodes()).map(({ metadata }) => metadata.name)
  const without = nodes.filter(node => !agents.has(node))
  if (without.length > 0)
    throw refused(
      'ipsec.no-agent',
      `nodes without a CiliumNode: ${firstOf(without)}`,
      'Does its agent run? What it goes by is not known.',
    )
  const strange = nodes.filter(node => !hosts.has(node))
  requireInRun(ctx, 'ipsec.unknown-nodes', strange, 'Their kernels could not be asked.')
  // A CiliumNode may outlive its node: nobody publishes by that any more.
  return nodes.map(node => ({ node, ...(hosts.has(node) && { host: hosts.get(node)! }) }))
}

/** No earlier rotation is under way: every agent publishes the id of the key that is there, every kernel has states for that, and none for another. */
export const settled: StepDefinition<Context> = {
  id: 'no-rotation-is-under-way',
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async ctx => {
    const { line, keeps } = foundOf(ctx)
    const { id } = keysOf(line.reveal())
    const hint = `Agents take the key of before away ${formatDuration(keeps)} after they have loaded a new one: wait for that. Where nothing changes, see what agents log of the key file.`
    const behind = await notPublishing(ctx, id)
    if (behind.length > 0)
      throw refused(
        'ipsec.under-way',
        `agents that do not publish the id ${id} of the key that is there: ${firstOf(behind)}`,
        hint,
      )
    const lacking = await notLoaded(ctx, id)
    if (lacking.length > 0)
      throw refused('ipsec.under-way', `nodes without a state for the id ${id}: ${firstOf(lacking)}`, hint)
    const others = await notAlone(ctx, id)
    if (others.length > 0)
      throw refused('ipsec.under-way', `nodes with states of another id than ${id}: ${firstOf(others)}`, hint)
    return { id }
  },
}

/** Notes the packets that each node has dropped so far. */
export const noteErrors: StepDefinition<Context> = {
  id: ids.errors,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Record<string, Kernel['errors']>> =>
    Object.fromEntries([...(await kernels(ctx))].map(([node, { errors }]) => [node, errors])),
}
