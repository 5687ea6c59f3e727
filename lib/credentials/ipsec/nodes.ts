// What nodes do: the id that each agent publishes, the ids that the kernel of each node has states for, and packets that it dropped for want of one. The
// kernel is what Cilium's own `encrypt status` reads; no key leaves the node, for what has them is cut down to ids there.
import { limiter } from '../../connection/limiter.ts'
import { firstOf } from '../../kubernetes/before/secrets.ts'
import { waitUntilNoneLeft } from '../../operations/wait.ts'
import type { HostSession } from '../../playbook/model.ts'
import { refused } from '../given.ts'
import { type Context, foundOf } from './given.ts'

/** What a kernel says. */
export interface Kernel {
  /** The ids of keys that it has states for. */
  readonly ids: readonly number[]
  /** Its counters of packets that it dropped, by their names in /proc/net/xfrm_stat. */
  readonly errors: Readonly<Record<string, number>>
}

/** Ids of Cilium are 1 to 15; what else uses IPsec on a node has higher ones. */
const script = `cat /proc/net/xfrm_stat && states=$(ip xfrm state) || exit
echo states
printf '%s\\n' "$states" | sed -n 's/^.*proto esp spi 0x0000000\\([1-9a-f]\\)\\( .*\\)\\{0,1\\}$/\\1/p' | sort -u && echo end`

/** Asks the kernel of a node. Throws `HostFailedError` where it has no IPsec. */
async function kernelOf({ $, host }: HostSession): Promise<Kernel> {
  const { stdout } = await $({ quiet: true, nothrow: true })`sh -c ${script}`
  const [counters = '', states = ''] = stdout.split(/^states$/m)
  if (!/^end$/m.test(states))
    throw refused(
      'ipsec.kernel',
      `the kernel of ${host.name} can not be asked for its IPsec states`,
      'It takes /proc/net/xfrm_stat, and ip of iproute2.',
      host.name,
    )
  const pairs = (text: string, pattern: RegExp) => [...text.matchAll(pattern)]
  return {
    errors: Object.fromEntries(
      pairs(counters, /^(Xfrm\w+)\s+(\d+)$/gm).map(([, name, count]) => [name, Number(count)]),
    ),
    ids: pairs(states, /^([1-9a-f])$/gm).map(([, id]) => Number.parseInt(id!, 16)),
  }
}

/** How many hosts are asked at a time. */
const most = 32

/** Asks the kernels of all nodes that are in the run, by their nodes' names. */
export async function kernels(ctx: Context): Promise<Map<string, Kernel>> {
  const limited = limiter(most)
  // One that has gone meanwhile, with its CiliumNode, is waited for by nobody.
  const there = await published(ctx)
  const nodes = foundOf(ctx).nodes.filter(({ node, host }) => host !== undefined && there.has(node))
  const found = await Promise.all(
    nodes.map(({ node, host }) => limited(async () => [node, await kernelOf(await ctx.on(host!))] as const)),
  )
  return new Map(found)
}

/** The id that the agent of each node publishes: others send to it with that key. */
export async function published(ctx: Context): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  for await (const { metadata, spec } of (await ctx.cluster.api()).each('/apis/cilium.io/v2/ciliumnodes', {
    signal: ctx.signal,
  }))
    found.set(metadata.name, Number(spec?.encryption?.key ?? 0))
  return found
}

/** Which nodes do not publish an id, each with the one that it does. */
export async function notPublishing(ctx: Context, id: number): Promise<string[]> {
  const own = await published(ctx)
  return foundOf(ctx)
    .nodes.filter(({ node }) => own.has(node) && own.get(node) !== id)
    .map(({ node }) => `${node} (${own.get(node) || 'none'})`)
}

/** Which nodes have no state for an id, where they have any. One node alone has none at all: there is nobody to send to. */
export async function notLoaded(ctx: Context, id: number): Promise<string[]> {
  if (foundOf(ctx).nodes.length < 2) return []
  return [...(await kernels(ctx))].filter(([, { ids }]) => !ids.includes(id)).map(([node]) => node)
}

/** Which nodes have states for another id. */
export async function notAlone(ctx: Context, id: number): Promise<string[]> {
  return [...(await kernels(ctx))]
    .map(([node, { ids }]) => [node, ids.filter(one => one !== id)] as const)
    .filter(([, others]) => others.length > 0)
    .map(([node, others]) => `${node} (${others.join(', ')})`)
}

/** Waits until no node is left. `within` is how long it may go on without one less. */
export function waitForNodes(ctx: Context, what: string, within: number, left: () => Promise<string[]>): Promise<void> {
  return waitUntilNoneLeft(what, { within, every: 2_000, signal: ctx.signal }, async () => {
    const nodes = await left()
    return nodes.length > 0 ? { left: nodes.length, told: `not yet: ${firstOf(nodes)}` } : undefined
  })
}
