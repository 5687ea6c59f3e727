// Who holds a token that a key of before signed. Of these pods, whose kubelets ask for others when they are started anew.

import { normalize } from 'node:path/posix'
import { foundAt, type KubernetesObject } from '../../../kubernetes/api/api.ts'
import { type HeldToken, tokenKeysOfHost, tokensOfSecrets } from '../../../kubernetes/keysets/token-keys.ts'
import { neverAnew } from '../../../kubernetes/trust/published/volumes.ts'
import { waitFor, wasInTime } from '../../../operations/wait.ts'
import type { Host } from '../../../playbook/host.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { nothing, type OnCluster, type OnHost, seconds } from '../../given/context.ts'
import { isAbsent, layoutOf, must, readingOf } from '../../given/found.ts'
import { machines } from '../../given/hosts.ts'
import { fewAtOnce, restartKubeletOf } from '../../restart/due.ts'
import { clusterKeysetOf } from '../state.ts'
import { aboutTokens, before, nextKey } from './keys.ts'

/** The tokens that pods and Secrets hold now, and what could not be read of them. */
export async function everyToken(ctx: OnCluster): Promise<{ tokens: HeldToken[]; unread: string[] }> {
  const unread: string[] = []
  const ofHosts = await Promise.all(
    ctx.hosts(machines).map(async host => {
      const session = await ctx.on(host)
      return (await tokenKeysOfHost(session, layoutOf(ctx, host.name), text => unread.push(text))).tokens
    }),
  )
  return { tokens: [...ofHosts.flat(), ...(await tokensOfSecrets(await ctx.cluster.api()))], unread }
}

/** The projected tokens of pods on a host that a key of these signed. */
async function podTokens(ctx: OnHost, host: Host, keys: readonly string[]): Promise<HeldToken[]> {
  const missed: string[] = []
  const { tokens } = await tokenKeysOfHost(await ctx.on(host), layoutOf(ctx, host.name), text => missed.push(text))
  if (missed.length > 0) throw new Error(missed.join('; '))
  // Kubelets renew nothing else.
  return tokens.filter(({ key, pod }) => pod !== undefined && keys.includes(key))
}

/** Of these tokens of a node's pods those in whose place no other comes, and who has each. */
async function neverRenewed(ctx: OnCluster, node: string, held: readonly HeldToken[]): Promise<Map<string, string>> {
  const api = await ctx.cluster.api()
  const found = new Map(held.map(({ where, pod }) => [where, `the pod ${pod}, which is not there any more`]))
  const onNode = `/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${node}`)}`
  for await (const one of api.each(onNode, { signal: ctx.signal })) {
    const { metadata, spec } = one
    const { uid, namespace = '', name } = metadata
    const own = held.filter(({ pod }) => pod === uid)
    if (own.length === 0) continue
    const account = String(spec?.['serviceAccountName'] ?? 'default')
    const hasAccount = await foundAt(api, `/api/v1/namespaces/${namespace}/serviceaccounts/${account}`)
    const never = neverAnew(one, () => hasAccount !== undefined)
    for (const { where } of own) {
      const why = never ?? (isAskedFor(spec, where) ? undefined : 'which has it from a Secret')
      if (why === undefined) found.delete(where)
      else found.set(where, `Pod ${namespace}/${name}, ${why}`)
    }
  }
  return found
}

interface ProjectedVolume {
  readonly name: string
  readonly projected?: { readonly sources?: readonly { readonly serviceAccountToken?: { readonly path: string } }[] }
}

/** Whether a kubelet asks for the token in a file: a Secret in the same volume may hold one, too. */
function isAskedFor(spec: KubernetesObject['spec'], where: string): boolean {
  const [, volume, path = ''] = /\/volumes\/kubernetes\.io~projected\/([^/]+)\/(.+)$/.exec(where) ?? []
  const named = ((spec?.['volumes'] ?? []) as ProjectedVolume[]).find(({ name }) => name === volume)
  return (
    named?.projected?.sources?.some(
      ({ serviceAccountToken: asked }) => asked && normalize(asked.path) === normalize(path),
    ) ?? false
  )
}

/**
 * Starts the kubelets anew of whose pods some hold a token of these keys: a kubelet asks for all of them when it is started, and pods go on. Waits
 * until none does but those that get no other: they are told, and the gate of a distrust names them. Where the cluster's own CA goes along, kubelets
 * were started anew for that just now, after the API servers: what they ask for is waited for, and a second start is for those that don't come to it.
 */
async function renew(ctx: OnCluster, keys: readonly string[]): Promise<void> {
  const isAway = ({ name }: Host) => isAbsent(ctx, name)
  const all = ctx.hosts(machines).filter(({ name }) => layoutOf(ctx, name).components.kubelet)
  for (const { name } of all.filter(isAway)) ctx.log(`${name} is left out: its pods hold the tokens that they have`)
  const hosts = all.filter(host => !isAway(host))
  await fewAtOnce(hosts, host => renewOn(ctx, host, keys))
}

async function renewOn(ctx: OnCluster, host: Host, keys: readonly string[]): Promise<void> {
  const { nodeName = '' } = readingOf(ctx, host.name)
  let never = new Map<string, string>()
  let looked = Number.NEGATIVE_INFINITY
  const left = async () => {
    const all = await podTokens(ctx, host, keys)
    const open = () => all.filter(({ where }) => !never.has(where))
    // A pod may come to its end meanwhile.
    if (open().length > 0 && performance.now() > looked + seconds(10)) {
      never = await neverRenewed(ctx, nodeName, all)
      looked = performance.now()
    }
    return open().map(({ where }) => where)
  }
  const tell = () => {
    for (const who of new Set(never.values())) ctx.log(`${host.name}: no other token is given to ${who}`)
  }
  if ((await left()).length === 0) return tell()
  const noneLeft = (within: number) =>
    waitFor(
      `the tokens of all pods on ${host.name} to be of the key that signs now`,
      { within, every: 1_000, signal: ctx.signal, host: host.name },
      async () => {
        const those = await left()
        if (those.length > 0) throw new Error(`${those.length} are not: ${those.slice(0, 3).join(', ')}`)
        return true
      },
    )
  const began = performance.now()
  const isDone = () => `${Math.round((performance.now() - began) / 1_000)} s after`
  const all = () => `${host.name}: every ${never.size > 0 ? 'other ' : ''}token is of the key that signs now`
  if (clusterKeysetOf(ctx) && (await wasInTime(noneLeft(seconds(120)), ctx.signal))) {
    tell()
    ctx.log(`${all()}, ${isDone()} its kubelet was well again`)
    return
  }
  const found = must(layoutOf(ctx, host.name).components.kubelet, `no kubelet was found on ${host.name}`)
  await restartKubeletOf(ctx, host, found)
  await noneLeft(seconds(180))
  tell()
  ctx.log(`${all()}, ${isDone()} its kubelet was told to restart`)
}

/** The keys of before, of which tokens may be held. */
export const keysBefore = (ctx: OnHost) => before(ctx).map(({ key }) => key)

/** Has pods hold tokens of the new key. */
export const renewed: StepDefinition<OnCluster> = {
  id: 'renew-the-tokens-of-pods',
  runOnce: true,
  when: aboutTokens,
  plan: ctx =>
    ctx
      .hosts(machines)
      .map(
        ({ name }) => `restart the kubelet of ${name}, where a pod holds a token of the old key, and wait for others`,
      ),
  run: ctx => renew(ctx, keysBefore(ctx)),
  // They hold others again once the old key signs again: `renewBack`.
  rollback: nothing,
}

/** On the way back: has pods hold tokens of the old key again, once that signs. */
export async function renewBack(ctx: OnCluster): Promise<void> {
  if (aboutTokens(ctx)) await renew(ctx, [nextKey(ctx).key])
}
