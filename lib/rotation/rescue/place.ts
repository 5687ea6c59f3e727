// CAs signed anew, then leaves, put in place of what has ended: pieces of renewals, one after the other, so that no file is staged twice. The way
// back puts the files of before in place, and starts nothing: what they say has ended.
import type { StepDefinition } from '../../playbook/model.ts'
import { type Variables as BackupVariables, hostsWith } from '../backup.ts'
import * as copies from '../copies.ts'
import { nothing, type OnCluster, type OnHost, where } from '../given/context.ts'
import { hasDue, keysOf } from '../leaves/issue.ts'
import { putBack, swap } from '../place.ts'
import * as renewal from '../renewal/authorities.ts'
import * as files from '../renewal/files.ts'
import * as verify from '../renewal/verify.ts'
import * as workloads from '../workloads.ts'
import { anyRenewed, anyTrouble } from './plan.ts'

/** Archives what a host has, and the keys of all that is made anew. */
export const backUp: StepDefinition<OnHost<BackupVariables>> = where(
  anyTrouble,
  hostsWith(ctx => [...keysOf(ctx), ...files.filesOf(ctx)]),
)

export const signAuthorities = where(anyRenewed, renewal.sign)
export const stageAuthorities = where(anyRenewed, files.stage)
export const verifyAuthorities = where(anyRenewed, files.verifyStaged)
export const placeAuthorities: StepDefinition<OnHost<BackupVariables>> = where(anyRenewed, {
  ...files.place,
  rollback: files.putBack.run,
})

/** Renames the new leaves of a host into place. */
export const placeLeaves: StepDefinition<OnHost<BackupVariables>> = {
  ...swap,
  id: 'put-the-certificates-in-place',
  when: hasDue,
  rollback: putBack.run,
}

const afterRenewal = (ctx: OnCluster) => !ctx.check && anyRenewed(ctx)
const { oldClients, newClients } = renewal

/** Waits until the controller-manager has published a CA that was signed anew. */
export const published: StepDefinition<OnCluster> = { ...verify.publishedEverywhere('next'), when: afterRenewal }

/** Notes what the copies of the CA in the API hold: only now is there anybody to ask. */
export const noteCopies: StepDefinition<OnCluster<copies.Variables>> = {
  ...copies.note(oldClients),
  when: afterRenewal,
}

/** What was signed anew is in every file that is to hold it, presented by every port, and in every copy in the API; what others hold is registered. */
export const filesHoldIt: StepDefinition<OnHost> = where(anyRenewed, verify.files)
export const portsGoByIt: StepDefinition<OnHost> = where(anyRenewed, verify.ports)
export const copiesHoldIt: StepDefinition<OnCluster<copies.Variables>> = where<OnCluster<copies.Variables>>(
  anyRenewed,
  verify.objects('next'),
)

export const replaceCopies: StepDefinition<OnCluster<copies.Variables>> = {
  ...where<OnCluster<copies.Variables>>(anyRenewed, copies.replace(oldClients, newClients)),
  plan: () => 'put the CA, as it is signed anew, into cluster-info and its other copies in the API',
  // Whether anybody answers or not: files are put back all the same.
  rollback: async ctx => {
    try {
      await copies.putBack(oldClients, newClients).run(ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      ctx.log(`WARNING: the copies of the CA in the API are left as they are: ${(error as Error).message}`)
    }
  },
}

/** Whether pods hold a CA that was signed anew: they know no other than the cluster's own. */
const holdsIt = (ctx: OnCluster) =>
  afterRenewal(ctx) && renewal.authoritiesOf(ctx).some(({ roles }) => roles.includes('kubernetes'))

/** Pods that go by the CA as they read it at their start: that is nothing to be undone. */
const pods = <Vars>(definition: StepDefinition<OnCluster<Vars>>): StepDefinition<OnCluster<Vars>> => ({
  ...where<OnCluster<Vars>>(holdsIt, definition),
  rollback: nothing,
})

export const kubeProxyPods = pods(workloads.kubeProxy)
export const podNetwork = pods(workloads.podNetwork)
export const coreDns = pods(workloads.coreDns)
export const listedWorkloads = pods(workloads.listed)
