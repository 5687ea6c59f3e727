// Tokens of service accounts, and the pods that hold what was before: once every instance is another one, and the API answers again.
import { foundAt, type KubernetesApi } from '../../kubernetes/api/api.ts'
import { systemWorkloads } from '../../kubernetes/before/conditions.ts'
import { comparePods, type PodsBefore, podsBefore, tellComparison, tellPods } from '../../kubernetes/before/pods.ts'
import { type NetworkWorkload, networkWorkloads } from '../../kubernetes/pod-network.ts'
import {
  type NotedPods,
  podsOfNow,
  type Replacing,
  replaceFirst,
  replaceNetwork,
  replacePods,
} from '../../kubernetes/replaced-pods.ts'
import { type RenewedTokens, renewTokens } from '../../kubernetes/trust/renewed-tokens.ts'
import { namespacesWithOtherCa } from '../../kubernetes/trust/tokens.ts'
import { notRolledOut, pathOf, type Workload } from '../../kubernetes/workloads.ts'
import { waitFor } from '../../operations/wait.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { withApi } from '../asked/api.ts'
import { lastingCredentials } from '../asked/kubeconfigs.ts'
import { begin, isBegun, type Recreation, requireBegun } from './given.ts'

/** What was well before the first change, and what pods were told to trust. Plain data. */
interface PodsNoted {
  readonly pods: PodsBefore
  /** The CA that is published in kube-system, PEM. */
  readonly ca: string
  /** The pod network and the DNS, where they were rolled out: they are waited for. */
  readonly network: readonly NetworkWorkload[]
  readonly dns?: Workload
}

const notedStep = 'note-how-pods-are'

const ask = async <T>(ctx: Recreation, work: (api: KubernetesApi) => Promise<T>): Promise<T> => {
  ctx.kops.stillLocked()
  return withApi(await lastingCredentials(ctx, ctx.vars.validate_within), work)
}

/** Notes how pods are before the first change. A check has no admin credential to ask with. */
export const notePods: StepDefinition<Recreation> = {
  id: notedStep,
  ...{ readOnly: true, remember: true },
  when: ({ check }) => !check,
  run: ctx =>
    ask(ctx, async (api): Promise<PodsNoted> => {
      const pods = await podsBefore(api, { signal: ctx.signal })
      for (const line of tellPods(pods.unwell)) ctx.log(`${line}: it was so before`)
      const { dns } = await systemWorkloads(api, ctx.signal)
      const isDnsWell = dns && notRolledOut(await api.get(pathOf(dns))) === undefined
      const network = await networkWorkloads(api, { signal: ctx.signal, log: line => ctx.log(line) })
      return { pods, ca: await publishedCa(api), network, ...(isDnsWell && { dns }) }
    }),
}

const publishedCa = async (api: KubernetesApi): Promise<string> => {
  const found = await foundAt(api, '/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt')
  return String(found?.['data']?.['ca.crt'] ?? '')
}

const notedOf = (ctx: Recreation) =>
  ctx.registered<PodsNoted>(notedStep) ?? { pods: { well: {}, unwell: [] }, ca: '', network: [] }

/**
 * Waits until every namespace has the CA that pods are to trust now.
 * @returns it, PEM: another one than before, and on the way back the same
 */
async function caEverywhere(ctx: Recreation): Promise<string> {
  const isBack = ctx.mode === 'rollback'
  const { ca: before } = notedOf(ctx)
  return waitFor(
    `the ${isBack ? 'old' : 'new'} CA in the kube-root-ca.crt of every namespace`,
    { within: ctx.vars.validate_within, every: 1_000, signal: ctx.signal },
    () =>
      ask(ctx, async api => {
        const ca = await publishedCa(api)
        if (ca === '' || (ca === before) !== isBack) throw new Error('not yet in kube-system')
        const left = await namespacesWithOtherCa(api, ca)
        if (left.length > 0) throw new Error(`not yet in ${left.join(', ')}`)
        return ca
      }),
  )
}

/**
 * Has every token Secret of every namespace written anew. kOps' page deletes them; one that nobody makes by itself, as Kubernetes does no more
 * since 1.24, would be gone for good.
 */
async function renew(ctx: Recreation): Promise<RenewedTokens> {
  if (ctx.mode !== 'rollback') await requireBegun(ctx, 'make-the-credentials', 'replace-every-instance')
  await begin(ctx, 'tokens')
  const ca = await caEverywhere(ctx)
  return ask(ctx, api =>
    renewTokens(api, {
      ...{ ca, signal: ctx.signal, redact: value => ctx.redact(value), log: line => ctx.log(line) },
    }),
  )
}

/** Whoever replaces pods, by the admin credential of now. */
const replacing = (ctx: Recreation): Replacing => ({
  ask: work => ask(ctx, work),
  guard: () => ctx.kops.stillLocked(),
  signal: ctx.signal,
  within: ctx.vars.validate_within,
  log: line => ctx.log(line),
})

/** Pods that are there once tokens were written anew: all of them hold what was before. */
const oldPods = (ctx: Recreation, notes: string) => ctx.registered<NotedPods>(notes) ?? { uids: [] }

/** What was well before the first change is so again; what was not is told. */
async function podsAsBefore(ctx: Recreation): Promise<void> {
  const before = notedOf(ctx).pods
  let told: string[] = []
  await waitFor(
    'every pod that was well to be well',
    { within: ctx.vars.validate_within, every: 2_000, signal: ctx.signal },
    () =>
      ask(ctx, async api => {
        const now = await comparePods(api, before, { signal: ctx.signal })
        if (now.missing.length > 0) throw new Error(now.missing.slice(0, 5).join('; '))
        told = tellComparison(now)
        return true
      }),
  )
  for (const line of told) ctx.log(line)
}

/**
 * The steps that follow replaced instances, in their order.
 * @param back on the way back, where tokens had been written anew on the way there; their ids end in it
 */
function stepsOf(
  back = '',
): Record<'tokens' | 'note' | 'network' | 'dns' | 'others' | 'asBefore', StepDefinition<Recreation>> {
  const noteId = `note-the-pods${back}`
  const always = { undoneWith: 'delete-the-credentials' }
  const common: Partial<StepDefinition<Recreation>> = back === '' ? always : { when: ctx => isBegun(ctx, 'tokens') }
  const notCheck: Partial<StepDefinition<Recreation>> =
    back === '' ? { ...always, when: ({ check }) => !check } : common
  return {
    tokens: {
      ...{ ...common, id: `write-the-tokens-anew${back}`, run: renew },
      plan: () => 'take the token out of every token Secret of every namespace, and wait for the new one',
    },
    note: { ...notCheck, id: noteId, readOnly: true, remember: true, run: ctx => podsOfNow(replacing(ctx)) },
    network: {
      ...{ ...common, id: `replace-the-pod-network${back}` },
      plan: () => 'delete the pods of the pod network',
      run: ctx => replaceNetwork(replacing(ctx), oldPods(ctx, noteId), notedOf(ctx).network),
    },
    dns: {
      ...{ ...common, id: `replace-the-dns${back}` },
      plan: () => 'delete the pods of the cluster’s DNS',
      run: ctx => {
        const { dns } = notedOf(ctx)
        return replaceFirst(replacing(ctx), oldPods(ctx, noteId), dns ? [dns] : [])
      },
    },
    others: {
      ...{ ...common, id: `replace-every-other-pod${back}` },
      plan: () => 'delete every other pod of every namespace that somebody makes anew',
      run: ctx => replacePods(replacing(ctx), oldPods(ctx, noteId)),
    },
    asBefore: { ...notCheck, id: `pods-are-as-before${back}`, readOnly: true, run: podsAsBefore },
  }
}

export const { tokens, note: notePodsOfBefore, network, dns, others, asBefore } = stepsOf()

/** The same on the way back. */
export const back = stepsOf('-back')
