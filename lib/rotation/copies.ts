// The copies of the cluster's CA in its API that nobody else renews, and whom the API's clients are trusted by.
import { z } from 'zod'
import {
  type AuthorityCopy,
  authorityCopies,
  clusterInfo,
  replaceCopies,
  restoreCopies,
} from '../kubernetes/trust/authority-copies.ts'
import { type ClientAuthorities, clientTrustName, tightenClientTrust } from '../kubernetes/trust/client-trust.ts'
import { waitFor } from '../operations/wait.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { beforehand, type OnCluster, seconds } from './given/context.ts'
import type { Looking } from './given/found.ts'

export const variables = {
  /** ConfigMaps and Secrets in which the CA is replaced beside cluster-info: `ConfigMap shop/trust`. */
  ca_copies: z.array(z.string()).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Context = OnCluster<Variables>
type Authorities<Needs> = (ctx: Needs) => ClientAuthorities

const [noteStep, replaceStep] = ['note-copies', 'update-copies']

/** Registers what the copies of a CA hold, byte for byte, for the way back. */
export function note<Old>(old: Authorities<Old>): StepDefinition<Context & Old> {
  return {
    id: noteStep,
    ...beforehand,
    runOnce: true,
    run: async ctx => authorityCopies(await ctx.cluster.api(), old(ctx).kubernetes, optionsOf(ctx)),
  }
}

/** Puts the CA of `next` wherever the API has a copy of that of `old`, and has nobody trust clients of `old`. */
export function replace<Old, Next>(
  old: Authorities<Old>,
  next: Authorities<Next>,
): StepDefinition<Context & Old & Next> {
  return {
    id: replaceStep,
    runOnce: true,
    plan: async ctx => [
      ...(await authorityCopies(await ctx.cluster.api(), old(ctx).kubernetes, optionsOf(ctx))).map(
        ({ where }) => `put the new CA into ${where}`,
      ),
      `take the old CAs out of ${clientTrustName}, to which API servers only add`,
    ],
    run: async ctx => {
      const change = { old: old(ctx).kubernetes, next: next(ctx).kubernetes }
      const copies = await replaceCopies(await ctx.cluster.api(), change, optionsOf(ctx))
      for (const { where } of copies) ctx.log(where)
      await tighten(ctx, old(ctx), next(ctx))
      return copies
    },
  }
}

/** Puts back what the copies held before `replace(old, next)`, and has nobody trust clients of `next`. */
export function putBack<Old, Next>(
  old: Authorities<Old>,
  next: Authorities<Next>,
): StepDefinition<Context & Old & Next> {
  return {
    id: 'put-copies-back',
    runOnce: true,
    run: async ctx => {
      const change = { old: old(ctx).kubernetes, next: next(ctx).kubernetes }
      const noted = [...copiesOf(ctx, noteStep), ...copiesOf(ctx, replaceStep)]
      const { restored, changed, left } = await restoreCopies(await ctx.cluster.api(), noted, change, optionsOf(ctx))
      for (const where of restored) ctx.log(where)
      for (const where of changed) ctx.log(`${where}: changed since, and only its CA is put back`)
      for (const where of left) ctx.log(`${where}: has not held the new CA any more, and is left as it is`)
      await tighten(ctx, next(ctx), old(ctx))
      return { restored, changed, left }
    },
  }
}

const optionsOf = ({ vars, signal }: Context) => ({ also: [clusterInfo, ...vars.ca_copies], signal })

/** What a step registered; runs of earlier versions kept the names of the objects alone. */
function copiesOf(ctx: Looking, step: string): AuthorityCopy[] {
  return (ctx.registered<(AuthorityCopy | string)[]>(step) ?? []).filter(one => typeof one !== 'string')
}

async function tighten(ctx: OnCluster, old: ClientAuthorities, next: ClientAuthorities): Promise<void> {
  await waitFor(`no other CA in ${clientTrustName}`, { within: seconds(60), signal: ctx.signal }, async () => {
    const removed = await tightenClientTrust(await ctx.cluster.api(), { old, next })
    for (const { subject, fingerprint } of removed)
      ctx.log(`${clientTrustName}: without ${subject} (${fingerprint.slice(0, 11)})`)
    return removed.length === 0
  })
}
