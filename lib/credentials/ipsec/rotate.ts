// The new key: made, put into the Secret, waited for on every node in two ways, and the old one seen gone. On the way back the old key comes as a further
// one, under the id that is next: an id that was used is over, and agents that had it would go on with what they have.
import { randomBytes } from 'node:crypto'
import { Secret, secret } from '../../connection/shell.ts'
import { ApiError } from '../../kubernetes/api/api.ts'
import { replaceFields } from '../../kubernetes/api/rewrite.ts'
import { idAfter, keysMisfit, writeIpsecKeys } from '../../kubernetes/cilium/ipsec-keys.ts'
import { restartWorkload } from '../../kubernetes/workloads.ts'
import {
  type ReportSection,
  type RunContext,
  type Step,
  type StepDefinition,
  step,
  unchanged,
} from '../../playbook/model.ts'
import { afterwards, must, refused } from '../given.ts'
import {
  type Context,
  type Found,
  foundOf,
  ids,
  keysOf,
  newLineOf,
  secretName,
  secretPath,
  type Variables,
} from './given.ts'
import { kernels, notAlone, notLoaded, notPublishing, waitForNodes } from './nodes.ts'

const minute = 60_000

/** Makes the next key: the next id, the same algorithms and lengths. It lies sealed off in the run's folder. */
export const make: StepDefinition<Context> = {
  id: ids.make,
  plan: ctx => `make a key with the id ${idAfter(keysOf(foundOf(ctx).line.reveal()).id)}`,
  remember: true,
  runOnce: true,
  run: (ctx): { line: Secret; id: number } => {
    const own = keysOf(foundOf(ctx).line.reveal())
    const keys = own.keys.map(key => randomBytes(key.length / 2).toString('hex'))
    for (const key of keys) secret(key)
    const line = writeIpsecKeys(own, idAfter(own.id), keys)
    const [misfit] = keysMisfit(own, keysOf(line))
    if (misfit !== undefined)
      throw refused('ipsec.keys', `the key that was made can not follow: ${misfit}`, 'This is a mistake of rekey.')
    return { line: new Secret(line, keys), id: idAfter(own.id) }
  },
  rollback: () => {},
}

/** The line that the Secret has now. */
async function lineNow(ctx: Context): Promise<string> {
  const { data } = await (await ctx.cluster.api()).get<{ data?: Record<string, string>; metadata: { name: string } }>(
    secretPath(ctx),
  )
  return Buffer.from(data?.[foundOf(ctx).field] ?? '', 'base64').toString('utf8')
}

/** Puts a line in the place of another one, provided that it is that. */
async function replace(ctx: Context, was: string, next: string): Promise<void> {
  const pointer = `/data/${foundOf(ctx).field.replaceAll('~', '~0')}`
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  try {
    await replaceFields(await ctx.cluster.api(), secretPath(ctx), [{ pointer, value: base64(was), next: base64(next) }])
  } catch (error) {
    if (error instanceof ApiError && error.status === 422) throw changedMeanwhile(ctx)
    throw error
  }
}

const changedMeanwhile = (ctx: Context) =>
  refused(
    'ipsec.changed-meanwhile',
    `somebody has put another key into Secret ${secretName(ctx)}`,
    'See who did, wait until agents go by that, and begin anew.',
  )

/** Puts the new key into the Secret. */
export const put: StepDefinition<Context> = {
  id: ids.put,
  runOnce: true,
  plan: ctx => `put it into Secret ${secretName(ctx)}`,
  run: async ctx => {
    const next = newLineOf(ctx)
    const now = await lineNow(ctx)
    if (now === next) return unchanged({ at: new Date() })
    if (now !== foundOf(ctx).line.reveal()) throw changedMeanwhile(ctx)
    await replace(ctx, now, next)
    return { at: new Date() }
  },
}

/** Restarts agents one after the other, where they do not see a new key by themselves. */
export const restart: StepDefinition<Context> = {
  id: 'restart-the-agents',
  runOnce: true,
  when: ctx => !foundOf(ctx).watches,
  plan: ({ vars }) => `restart DaemonSet ${vars.cilium_namespace}/${vars.cilium_daemonset}`,
  run: ctx => restartAgents(ctx, ids.put),
}

/** Begun since the key was put there, it is gone on with; where a kill left no word of when that was, it is begun anew. */
function restartAgents(ctx: Context, since: string): Promise<void> {
  const { cilium_namespace: namespace, cilium_daemonset: name, ipsec_within: within } = ctx.vars
  const at = ctx.registered<{ at?: Date | string }>(since)?.at
  const agents = { kind: 'DaemonSet', namespace, name } as const
  // In whole seconds: the mark of a restart has no others.
  const from = at === undefined ? undefined : new Date(Math.floor(new Date(at).getTime() / 1_000) * 1_000)
  return restartWorkload(() => ctx.cluster.api(), agents, { within, signal: ctx.signal }, from)
}

/** Every kernel has states for an id, and every agent publishes it. An agent publishes after it has loaded; neither is taken for the other. */
async function waitToBeLoaded(ctx: Context, id: number): Promise<void> {
  const { ipsec_within: within } = ctx.vars
  await waitForNodes(ctx, `every node to have states for the id ${id}`, within, () => notLoaded(ctx, id))
  await waitForNodes(ctx, `every agent to publish the id ${id}`, within, () => notPublishing(ctx, id))
}

/** No kernel has states for another id: agents look once a minute for what is over. */
const waitToBeAlone = (ctx: Context, id: number): Promise<void> =>
  waitForNodes(ctx, `every node to be without the key of before`, foundOf(ctx).keeps + 3 * minute, () =>
    notAlone(ctx, id),
  )

/** Waits until every node goes by the new key. */
export const loaded: StepDefinition<Context> = {
  ...afterwards,
  id: 'every-node-has-the-new-key',
  runOnce: true,
  run: ctx => waitToBeLoaded(ctx, keysOf(newLineOf(ctx)).id),
}

/** Waits until the old key is gone from every node: until then no other rotation may begin, and the old key opens what was recorded. */
export const alone: StepDefinition<Context> = {
  ...afterwards,
  id: 'no-node-has-the-old-key',
  runOnce: true,
  run: ctx => waitToBeAlone(ctx, keysOf(newLineOf(ctx)).id),
}

/** Packets that are dropped since a key is missing, or is another one. What else is counted has other reasons, and is told. */
const ofKeys = [
  'XfrmInNoStates',
  'XfrmInStateProtoError',
  'XfrmInStateMismatch',
  'XfrmInTmplMismatch',
  'XfrmInNoPols',
  'XfrmOutNoStates',
  'XfrmOutStateSeqError',
]

/** No node has dropped packets for want of a key since the first change. */
export const noDrops: StepDefinition<Context> = {
  ...afterwards,
  id: ids.drops,
  runOnce: true,
  run: async ctx => {
    const before = must(ctx.registered<Record<string, Record<string, number>>>(ids.errors), ids.errors)
    const dropped: string[] = []
    for (const [node, { errors }] of await kernels(ctx)) {
      const grown = Object.entries(errors).map(([name, count]) => [name, count - (before[node]?.[name] ?? 0)] as const)
      // A kernel that was started anew counts from the beginning.
      if (grown.some(([, by]) => by < 0)) {
        ctx.log(`${node} was started anew meanwhile: what it had dropped until then is not known`)
        continue
      }
      const own = grown.filter(([name, by]) => by > 0 && ofKeys.includes(name))
      const others = grown.filter(([name, by]) => by > 0 && !ofKeys.includes(name))
      if (others.length > 0) ctx.log(`${node}: ${others.map(([name, by]) => `${name} +${by}`).join(', ')}`)
      if (own.reduce((sum, [, by]) => sum + by, 0) > ctx.vars.ipsec_drops)
        dropped.push(`${node} (${own.map(([name, by]) => `${name} +${by}`).join(', ')})`)
    }
    if (dropped.length === 0) return { drops: 0 }
    throw refused(
      'ipsec.drops',
      `nodes that have dropped packets for want of a key: ${dropped.join(', ')}`,
      'Every node has the new key by now. See whether it goes on (cat /proc/net/xfrm_stat): a node that was restarted drops some at its start; else see its agent’s log.',
    )
  },
}

/** The id that the way back put there; none where the Secret had not been changed. */
const idBack = (ctx: Context) => ctx.registered<{ id?: number }>(ids.back)?.id

/** What undoes it: a further rotation, to the key of before under the next id. */
export const wayBack: readonly Step<Context>[] = [
  step('Put the key of before there, under the next id', {
    id: ids.back,
    runOnce: true,
    run: async (ctx): Promise<{ id?: number; at?: Date }> => {
      const own = keysOf(foundOf(ctx).line.reveal())
      const now = await lineNow(ctx)
      if (now === foundOf(ctx).line.reveal()) return {}
      const there = keysOf(now)
      if (there.keys.every((key, at) => key === own.keys[at])) return { id: there.id, at: new Date() }
      if (now !== newLineOf(ctx)) throw changedMeanwhile(ctx)
      // Upon one that is under way, agents would skip an id, or lose one that somebody sends with.
      if (!foundOf(ctx).watches) await restartAgents(ctx, ids.put)
      await waitToBeLoaded(ctx, there.id)
      await waitToBeAlone(ctx, there.id)
      const id = idAfter(there.id)
      await replace(ctx, now, writeIpsecKeys(own, id))
      return { id, at: new Date() }
    },
  }),
  step('Restart the agents, where they do not see it', {
    id: 'restart-the-agents-again',
    runOnce: true,
    when: ctx => !foundOf(ctx).watches && idBack(ctx) !== undefined,
    run: ctx => restartAgents(ctx, ids.back),
  }),
  step('Every node has the key of before', {
    id: 'every-node-has-the-key-of-before',
    runOnce: true,
    when: ctx => idBack(ctx) !== undefined,
    run: async ctx => {
      await waitToBeLoaded(ctx, idBack(ctx)!)
      await waitToBeAlone(ctx, idBack(ctx)!)
    },
  }),
]

/** From which id to which. */
export function report(run: RunContext<Variables> & { readonly outcome: string }): ReportSection[] {
  const found = run.registered<Found>(ids.find)
  if (!found || run.mode === 'rollback') return []
  const from = keysOf(found.line.reveal()).id
  const drops = run.registered<{ drops: number }>(ids.drops)
  return [
    {
      title: 'Cilium’s IPsec key',
      rows: [
        ['id', `${from} → ${idAfter(from)}`],
        ['nodes', String(found.nodes.length)],
        ...(drops ? [['dropped for want of a key', '0 packets'] as const] : []),
      ],
    },
  ]
}
