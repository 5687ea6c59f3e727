// Every instance replaced, the kubeconfigs that follow, and whom the API lets in then.
import type { StepDefinition } from '../../playbook/model.ts'
import { readInstances } from '../asked/instances.ts'
import { exportKubeconfig, lastingCredentials } from '../asked/kubeconfigs.ts'
import { kubeconfigFile } from '../asked/places.ts'
import { note, noted } from '../due.ts'
import { letsIn, patience, refuses, validate } from '../gates.ts'
import { rollOut, type Updated } from '../update.ts'
import { isBegun, type Recreation, requireBegun } from './given.ts'

/** Replaces every instance without asking the API, which knows nobody any more. */
export const replaceInstances: StepDefinition<Recreation> = {
  id: 'replace-every-instance',
  plan: () => 'kops rolling-update cluster --cloudonly --force --yes',
  run: async ctx => {
    await requireBegun(ctx, 'make-the-credentials', 'remove-the-certificates-of-etcd')
    const { all } = ctx.registered<Updated>('make-the-credentials')!
    // One that joined since has the new credentials, or is behind and found by that.
    return rollOut(ctx, { all, due: [] }, { force: true, cloudonly: true })
  },
}

/** The same on the way back, where the cluster has been cut off; else those that kops calls behind, with draining and validation. */
export const replaceInstancesBack: StepDefinition<Recreation> = {
  id: 'replace-every-instance-back',
  run: async ctx => {
    const isCut = isBegun(ctx, 'etcd-certificates')
    const now = await readInstances(ctx)
    // Asked twice, it does not replace those that it has made itself.
    const all = (await noted(ctx, 'back-recreated')) ?? now.map(({ id }) => id)
    await note(ctx, 'back-recreated', all)
    const due = now.filter(({ needsUpdate }) => needsUpdate).map(({ id }) => id)
    return rollOut(ctx, { all, due }, { force: isCut, cloudonly: isCut })
  },
}

/** Exports what is handed out: the new CA, and an admin credential of it. */
export const exportNew: StepDefinition<Recreation> = {
  id: 'export-the-new-kubeconfig',
  plan: ctx => `kops export kubecfg --admin, to ${kubeconfigFile(ctx, 'admin')}`,
  run: async ctx => {
    await exportKubeconfig(ctx, 'admin', true)
    ctx.log(`to be handed out: ${kubeconfigFile(ctx, 'admin')}`)
    return { file: kubeconfigFile(ctx, 'admin') }
  },
}

/** The same on the way back: the admin credential of before may have ended. */
export const exportBack: StepDefinition<Recreation> = {
  id: 'export-the-old-kubeconfig',
  run: async ctx => {
    await exportKubeconfig(ctx, 'back', true)
    ctx.log(`to be handed out: ${kubeconfigFile(ctx, 'back')}`)
  },
}

/** Waits until every address of the API lets the new admin in, and refuses the one of before. */
export const answersNew: StepDefinition<Recreation> = {
  id: 'the-api-answers',
  readOnly: true,
  when: ({ check }) => !check,
  run: async ctx => {
    const own = await lastingCredentials(ctx, ctx.vars.validate_within)
    await letsIn(ctx, own, 'with the new CA', ctx.vars.validate_within)
    await refuses(ctx, own)
  },
}

/** The same on the way back: it lets in an admin of the CA of before. */
export const answersBack: StepDefinition<Recreation> = {
  id: 'the-api-answers-again',
  readOnly: true,
  run: async ctx => letsIn(ctx, await lastingCredentials(ctx, 3 * patience), '', ctx.vars.validate_within),
}

/** Everything there, every node Ready, every system pod: `kops validate cluster --wait`. */
export const validAgain = (id: string): StepDefinition<Recreation> => ({
  id,
  readOnly: true,
  when: ({ check }) => !check,
  run: validate,
})
