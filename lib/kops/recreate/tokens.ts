// Tokens of service accounts, and the pods that hold what was before: once every instance is another one, and the API answers again.
import { createHash } from 'node:crypto'
import { limiter } from '../../connection/limiter.ts'
import type { KubernetesApi, KubernetesObject } from '../../kubernetes/api/api.ts'
import { foundAt } from '../../kubernetes/api/api.ts'
import { isReady } from '../../kubernetes/api/cluster.ts'
import { systemWorkloads } from '../../kubernetes/before/conditions.ts'
import { comparePods, ownerName, type PodsBefore, podsBefore, tellPods } from '../../kubernetes/before/pods.ts'
import {
  namespacesWithOtherCa,
  regenerateToken,
  type TokenSecret,
  tokenSecrets,
} from '../../kubernetes/trust/tokens.ts'
import { notRolledOut, pathOf, rolledOut, type Workload, workloadName } from '../../kubernetes/workloads.ts'
import { waitFor, waitUntilNoneLeft } from '../../operations/wait.ts'
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
  readonly network: readonly Workload[]
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
      return { pods, ca: await publishedCa(api), network: await networkOf(api), ...(isDnsWell && { dns }) }
    }),
}

/**
 * DaemonSets of kube-system on the machines' own network: what pods are connected by, and what machines join by. Those that are rolled out: the
 * others are waited for by nobody.
 */
async function networkOf(api: KubernetesApi): Promise<Workload[]> {
  const sets = await api.list('/apis/apps/v1/namespaces/kube-system/daemonsets')
  return (
    sets
      .filter(({ spec }) => spec?.template?.spec?.hostNetwork === true)
      // The objects of a list do not say their kind.
      .filter(set => notRolledOut({ ...set, kind: 'DaemonSet' }) === undefined)
      .map(({ metadata }) => ({ kind: 'DaemonSet', namespace: 'kube-system', name: metadata.name }))
  )
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

/** How long one Secret may wait for its token: the controller-manager that writes it has just started. */
const patience = 120_000

/** How many Secrets are written anew at once. */
const atOnce = 10

/** Has one Secret written anew. Returns why it could not be: one that nobody fills in stops nothing else. */
async function renewOne(
  ctx: Recreation,
  api: KubernetesApi,
  one: TokenSecret,
  ca: string,
): Promise<string | undefined> {
  const of = `/api/v1/namespaces/${one.namespace}`
  const { annotations } = (await foundAt(api, `${of}/secrets/${one.name}`))?.metadata ?? {}
  const name = annotations?.['kubernetes.io/service-account.name']
  const uid = annotations?.['kubernetes.io/service-account.uid']
  const account = name && (await foundAt(api, `${of}/serviceaccounts/${name}`))
  // The controller-manager fills in none of these, and removes some by itself.
  if (!account) return 'its service account is gone'
  if (uid !== undefined && account.metadata.uid !== uid) return 'its service account is another one of that name'
  const token = await regenerateToken(api, one, { ca, within: patience, signal: ctx.signal })
  ctx.redact(token.reveal())
  return undefined
}

/**
 * Has every token Secret of every namespace written anew. kOps' page deletes them; one that nobody makes by itself, as Kubernetes does no more
 * since 1.24, would be gone for good.
 */
async function renew(ctx: Recreation): Promise<{ secrets: number; failed: string[] }> {
  if (ctx.mode !== 'rollback') await requireBegun(ctx, 'make-the-credentials', 'replace-every-instance')
  await begin(ctx, 'tokens')
  const ca = await caEverywhere(ctx)
  return ask(ctx, async api => {
    const failed: string[] = []
    const all = await tokenSecrets(api)
    const limit = limiter(atOnce)
    const renewed = async (one: TokenSecret) => {
      ctx.signal.throwIfAborted()
      const why = await renewOne(ctx, api, one, ca).catch((error: Error) => error.message)
      if (why !== undefined) failed.push(`${one.namespace}/${one.name}: ${why}`)
    }
    for (const [namespace, secrets] of Map.groupBy(all, one => one.namespace)) {
      await Promise.all(secrets.map(one => limit(() => renewed(one))))
      ctx.signal.throwIfAborted()
      ctx.log(`${namespace}: ${secrets.length} Secrets`)
    }
    for (const one of failed) ctx.log(`not written anew: ${one}`)
    return { secrets: all.length - failed.length, failed }
  })
}

/** Pods that are there once tokens were written anew: all of them hold what was before. By their uids' hash, which is shorter. */
const pods = (ctx: Recreation) =>
  ask(ctx, async api => {
    const uids: string[] = []
    for await (const pod of api.each('/api/v1/pods', { metadata: true, signal: ctx.signal })) uids.push(idOf(pod))
    return { uids }
  })

const idOf = ({ metadata: { uid = '' } }: KubernetesObject) =>
  createHash('sha256').update(uid).digest('hex').slice(0, 16)

/** Which pods are replaced in a step. */
type Which = (pod: KubernetesObject) => boolean

const ownerOf = ({ metadata }: KubernetesObject) => metadata.ownerReferences?.find(one => one.controller)

/** A DaemonSet's pod is told with its node. */
const isOf = (one: Workload, pod: KubernetesObject) => ownerName(pod).split(' on ')[0] === workloadName(one)

const oldPods = (ctx: Recreation, notes: string) => new Set(ctx.registered<{ uids: string[] }>(notes)?.uids)

/** Deletes those pods that were there, and has whoever owns them make others. What nobody owns stays, and is named. */
async function replace(ctx: Recreation, notes: string, which: Which): Promise<{ replaced: number }> {
  const old = oldPods(ctx, notes)
  return ask(ctx, async api => {
    let replaced = 0
    for await (const pod of api.each('/api/v1/pods', { signal: ctx.signal })) {
      const { namespace, name, deletionTimestamp } = pod.metadata
      if (!old.has(idOf(pod)) || deletionTimestamp !== undefined || !which(pod)) continue
      const owner = ownerOf(pod)
      // Its kubelet makes that of a manifest anew, with the machine.
      if (owner?.kind === 'Node') continue
      if (!owner) {
        ctx.log(`Pod ${namespace}/${name} is nobody's, and stays as it is: nobody would make another one`)
        continue
      }
      const path = `/api/v1/namespaces/${namespace}/pods/${name}`
      if ((await foundAt(api, path))?.metadata.uid !== pod.metadata.uid) continue
      ctx.kops.stillLocked()
      await api.delete(path)
      replaced++
    }
    return { replaced }
  })
}

/** The same of workloads that others need, and waits until their new pods are there: while old ones end, the status of a DaemonSet is that of before. */
async function replaceFirst(ctx: Recreation, notes: string, workloads: readonly Workload[]) {
  if (workloads.length === 0) return { replaced: 0 }
  const isTheirs: Which = pod => workloads.some(one => isOf(one, pod))
  const done = await replace(ctx, notes, isTheirs)
  const old = oldPods(ctx, notes)
  const options = { within: ctx.vars.validate_within, signal: ctx.signal }
  await ask(ctx, async api => {
    await waitUntilNoneLeft(`the old pods of ${workloads.map(workloadName).join(', ')} to end`, options, async () => {
      // Of a machine that does not answer nobody says that a pod has ended.
      const nodes = new Set((await api.list('/api/v1/nodes')).filter(isReady).map(({ metadata }) => metadata.name))
      const left: string[] = []
      for await (const pod of api.each('/api/v1/pods', { signal: ctx.signal }))
        if (old.has(idOf(pod)) && isTheirs(pod) && nodes.has(pod.spec?.nodeName)) left.push(pod.metadata.name)
      return left.length === 0 ? undefined : { left: left.length, told: `${left.slice(0, 5).join(', ')} still ending` }
    })
    await Promise.all(workloads.map(one => rolledOut(async () => api, one, options)))
  })
  return done
}

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
        told = [...now.told, ...tellPods(now.still).map(line => `${line}, as before`), ...tellPods(now.others)]
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
    note: { ...notCheck, id: noteId, readOnly: true, remember: true, run: pods },
    network: {
      ...{ ...common, id: `replace-the-pod-network${back}` },
      plan: () => 'delete the pods of DaemonSets of kube-system on the machines’ network',
      run: ctx => replaceFirst(ctx, noteId, notedOf(ctx).network),
    },
    dns: {
      ...{ ...common, id: `replace-the-dns${back}` },
      plan: () => 'delete the pods of the cluster’s DNS',
      run: ctx => {
        const { dns } = notedOf(ctx)
        return replaceFirst(ctx, noteId, dns ? [dns] : [])
      },
    },
    others: {
      ...{ ...common, id: `replace-every-other-pod${back}` },
      plan: () => 'delete every other pod of every namespace that somebody makes anew',
      run: ctx => replace(ctx, noteId, () => true),
    },
    asBefore: { ...notCheck, id: `pods-are-as-before${back}`, readOnly: true, run: podsAsBefore },
  }
}

export const { tokens, note: notePodsOfBefore, network, dns, others, asBefore } = stepsOf()

/** The same on the way back. */
export const back = stepsOf('-back')
