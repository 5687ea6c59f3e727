// What a rotation knowingly leaves as it is: kubeconfigs of people, objects of others, certificates that were signed on request. Told in
// the report, for whoever owns them.
import { fileCertificates } from '../kubernetes/census/files.ts'
import {
  type LeftInApi,
  type LeftPlace,
  leftInApi,
  leftInFiles,
  tellLeftBehind,
} from '../kubernetes/trust/left-behind.ts'
import type { ReportSection, RunContext, StepDefinition } from '../playbook/model.ts'
import * as machineTrust from './as-found/machine-trust.ts'
import { afterwards, type OnCluster, type OnHost } from './given/context.ts'
import { type Looking, planOf } from './given/found.ts'
import { everyMachine } from './given/hosts.ts'

const [filesStep, objectsStep] = ['look-for-files-left', 'look-for-objects-left']

const oldAuthorities = (ctx: Looking) => Object.values(planOf(ctx).oldAuthorities).filter(Boolean).join('\n')

/** Registers which files of a host still hold something of the old CAs. What can't be read is told: nothing depends on it. */
export const files: StepDefinition<OnHost> = {
  ...afterwards,
  id: filesStep,
  run: async (ctx): Promise<LeftPlace[]> => leftInFiles(await fileCertificates(ctx, ctx.log), oldAuthorities(ctx)),
}

/** Registers what the API still holds of them. */
export const objects: StepDefinition<OnCluster> = {
  ...afterwards,
  id: objectsStep,
  runOnce: true,
  run: async ctx => leftInApi(await ctx.cluster.api(), oldAuthorities(ctx), { signal: ctx.signal }),
}

/** What is left, for the report; nothing where nobody has looked, or nothing is. */
export function report(ctx: Pick<RunContext<unknown>, 'registered' | 'hosts'>): ReportSection[] {
  const rows = tellLeftBehind({
    ...ctx.registered<LeftInApi>(objectsStep),
    files: ctx.hosts(everyMachine).flatMap(({ name }) => ctx.registered<LeftPlace[]>(filesStep, name) ?? []),
    notFollowing: machineTrust.toldOf(ctx),
  })
  return rows.length > 0 ? [{ title: 'Left as it was: hold something of the old CAs', rows }] : []
}
