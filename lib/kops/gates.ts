// What is asked of the API before a rotation goes further: whether whoever has this kubeconfig is let in, and sees whom it is to see.

import { existsSync } from 'node:fs'
import { HostFailedError } from '../errors.ts'
import { waitFor } from '../operations/wait.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { atEachAddress } from './asked/api.ts'
import { kops } from './asked/command.ts'
import { readKeyset, readKeysets } from './asked/keypairs.ts'
import {
  endOf,
  exportKubeconfig,
  type Kubeconfig,
  keypairOf,
  lastingCredentials,
  readExported,
} from './asked/kubeconfigs.ts'
import { type Exported, kubeconfigFile } from './asked/places.ts'
import type { Context, End, Rotation } from './context.ts'
import { isAboutUsers, passes, planned, planOf } from './plan.ts'
import { requireNothingPending } from './preflight.ts'
import { requireNew } from './verbs.ts'

/** How long the API may take to answer as it should, at the most: load balancers and names follow late. */
export const patience = 120_000

const mostPatience = ({ vars }: Context) => Math.min(patience, vars.validate_within)

/** Has kops validate the cluster: every machine there, every node Ready, every system pod. */
export async function validate(ctx: Context): Promise<void> {
  const { validate_within: within } = ctx.vars
  await lastingCredentials(ctx, within)
  await kops(ctx, ['validate', 'cluster', '--wait', `${Math.round(within / 1_000)}s`], {
    what: 'the cluster to be valid',
    within: within + 60_000,
    shown: true,
  })
}

/** The cluster must be well before anything is changed. A check has no admin credential to ask with. */
export const valid: StepDefinition<Context> = {
  id: 'see-that-the-cluster-is-well',
  ...{ readOnly: true, remember: true },
  when: ({ vars, check }) => !vars.cloudonly && !check,
  run: validate,
}

/** At the end of a stage: the cluster is valid, and the API lets in who was let in before, and presents a CA's certificate that they trust. */
export const holds = (end: End): StepDefinition<Rotation> => ({
  id: `gate-${end}`,
  readOnly: true,
  when: ctx => passes(ctx, end) && !ctx.vars.cloudonly,
  run: async ctx => {
    await validate(ctx)
    if (!isAboutUsers(ctx)) return
    const names = { staged: ['before'], promoted: ['both', 'before'], distrusted: ['after'] } as const
    const files = names[end].map(name => kubeconfigFile(ctx, name))
    const trusted = await readExported(files.find(existsSync) ?? '')
    const own = await lastingCredentials(ctx, 3 * patience)
    await letsIn(ctx, { ...own, authorities: trusted.authorities })
    if (end === 'staged' || trusted.authorities.length === 0) return
    if (!(await presentsNew(ctx, { ...own, authorities: trusted.authorities }))) return
    // One that was exported after the promotion is the new CA's.
    const stood = planned(ctx, 'kubernetes-ca')?.stage
    if (end === 'distrusted' && (stood === 'resting' || stood === 'staged')) await refuses(ctx, own)
  },
})

/** The API presents what signs now, at each address. Whether that could be looked at. */
async function presentsNew(ctx: Context, own: Kubeconfig): Promise<boolean> {
  const { primary } = await readKeyset(ctx, 'kubernetes-ca')
  const [ca] = own.authorities.filter(one => keypairOf(one) === primary)
  if (ca) await letsIn(ctx, { ...own, authorities: [ca] }, 'with the new CA alone')
  else ctx.log(`the kubeconfig holds no certificate by the id ${primary}: which CA the API presents was not looked at`)
  return ca !== undefined
}

/**
 * Before a stage is begun: nobody has changed anything since the one before, which may be days ago. Asked again when the run is gone on with, as
 * long as no key pair was touched.
 */
export const unchangedSince = (end: 'promoted' | 'distrusted'): StepDefinition<Rotation> => ({
  id: `before-${end}`,
  readOnly: true,
  when: ctx => passes(ctx, end),
  run: async ctx => {
    const sets = await readKeysets(ctx)
    const going = planOf(ctx).keysets.flatMap(one => {
      const set = sets.get(one.name)
      return set && one.stage !== 'distrusted' && one.stage !== end ? [{ ...one, set }] : []
    })
    if (end === 'distrusted') for (const { set, former } of going) requireNew(set, former)
    const isBegun = ({ set, former }: (typeof going)[number]) =>
      end === 'distrusted' ? set.older.length === 0 : !former.includes(set.primary)
    const asked = { at: new Date().toISOString() }
    if (going.length === 0 || going.some(isBegun)) return asked
    await requireNothingPending(ctx)
    if (ctx.vars.cloudonly || end === 'promoted') return asked
    await validate(ctx)
    const own = await lastingCredentials(ctx, 3 * patience)
    if (isAboutUsers(ctx) && own.authorities.length > 0) await presentsNew(ctx, own)
    return asked
  },
})

/** What to do where the API answers otherwise than it should. */
const lookAtApi =
  'An instance of the control plane goes by what was before, or a name or a load balancer leads to one that is gone: see kops get instances, and who answers there. Once it answers as it should: rekey resume.'

/** Every address of the API lets this admin in, and presents what these CAs signed. */
export async function letsIn(
  ctx: Context,
  kubeconfig: Kubeconfig,
  how = '',
  within = mostPatience(ctx),
): Promise<void> {
  await waitFor(
    `the API to let in its admin ${how}`.trim(),
    { within, every: 2_000, signal: ctx.signal, code: 'kops.not-let-in', hint: lookAtApi },
    () =>
      atEachAddress(kubeconfig, async api => {
        await api.get('/api/v1/nodes?limit=1')
      }),
  )
}

/** The admin credential of before must be refused at every address: what it was signed with is not trusted any more. */
export async function refuses(ctx: Context, own: Kubeconfig): Promise<void> {
  const { certificate, key } = await readExported(kubeconfigFile(ctx, 'before'))
  if (certificate !== undefined && endOf(certificate) <= Date.now()) {
    ctx.log('the admin credential of before has ended by itself: whether the API trusts its CA can’t be seen by it')
    return
  }
  await waitFor(
    'the API to refuse the admin credential of before',
    { within: mostPatience(ctx), every: 2_000, signal: ctx.signal, code: 'kops.still-trusted', hint: lookAtApi },
    () =>
      atEachAddress(own, async (api, address) => {
        const status = await api.statusOf('/api/v1/nodes?limit=1', { certificate, key })
        if (status !== 401) throw new Error(`${address} answered ${status}`)
      }),
  )
}

/** Exports the admin credential and the trust of before: what kops is called with, and what is handed out again on the way back. */
export const exportBefore: StepDefinition<Context> = {
  id: 'export-the-kubeconfig-of-before',
  plan: ctx =>
    `kops export kubecfg --admin=${Math.round(ctx.vars.admin / 1_000)}s, to ${kubeconfigFile(ctx, 'before')}`,
  rollback: () => {},
  run: async ctx => {
    requireLongAdmin(ctx)
    await exportKubeconfig(ctx, 'before', true)
  },
}

/** An admin credential that ends in the middle of a rolling update ends that, too. */
function requireLongAdmin({ vars: { admin, roll_within: within } }: Context): void {
  if (admin > within) return
  throw new HostFailedError('an admin credential would end before a rolling update does', {
    code: 'kops.admin-too-short',
    hint: `Let it live longer than roll_within: -e admin=${Math.ceil((2 * within) / 3_600_000)}h`,
  })
}

/** Exports a kubeconfig for people, where the CA of the API is rotated. Only files of the run's folder are written. */
const handOut = (
  id: string,
  stages: readonly End[],
  name: Exported,
  check: (said: Kubeconfig) => void = () => {},
): StepDefinition<Rotation> => ({
  id,
  when: ctx => stages.some(end => passes(ctx, end)) && isAboutUsers(ctx),
  plan: ctx => `kops export kubecfg, to ${kubeconfigFile(ctx, name)}`,
  run: async ctx => {
    const said = await exportKubeconfig(ctx, name, true)
    check(said)
    ctx.log(`to be handed out: ${kubeconfigFile(ctx, name)}`)
    return { file: kubeconfigFile(ctx, name), authorities: said.authorities.map(keypairOf) }
  },
  rollback: ctx => ctx.log(`to be handed out again: ${kubeconfigFile(ctx, 'before')}`),
})

/** With the old CA and the new one: for every client of the API, before anything is promoted. */
export const handOutBoth = handOut('export-both-cas', ['staged', 'promoted'], 'both', ({ authorities }) => {
  if (authorities.length !== 1) return
  throw new HostFailedError('the kubeconfig holds one CA, where there are two', {
    code: 'kops.not-staged',
    hint: 'See whether the new key pair is trusted: kops get keypairs kubernetes-ca --distrusted',
  })
})

/** With an admin credential of the new CA: the one of before ends with its CA. */
export const handOutAdmin = handOut('export-the-admin-credential', ['promoted'], 'admin')

/** With the new CA alone. */
export const handOutAfter = handOut('export-the-new-ca-alone', ['distrusted'], 'after', ({ authorities }) => {
  if (authorities.length <= 1) return
  throw new HostFailedError(`the kubeconfig holds ${authorities.length} CAs, where one is left`, {
    code: 'kops.still-trusted',
    hint: 'Distrust the others by id: kops get keypairs kubernetes-ca --distrusted',
  })
})
