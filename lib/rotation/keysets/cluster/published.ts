// What clients believe servers by, where the API keeps it: the copies that nobody else renews, what the controller-manager publishes in every
// namespace, and what of that pods have got.
import {
  type AuthorityCopy,
  authorityCopies,
  clusterInfo,
  replaceCopies,
  restoreCopies,
} from '../../../kubernetes/trust/authority-copies.ts'
import {
  certificatesOfTokenSecrets,
  publishedAuthorities,
  volumesBehind,
} from '../../../kubernetes/trust/published/authorities.ts'
import { type PublishedFile, publishedVolumes } from '../../../kubernetes/trust/published/volumes.ts'
import { waitUntilNoneLeft } from '../../../operations/wait.ts'
import { joinBundle } from '../../../pki/certificates/certificate.ts'
import type { Host } from '../../../playbook/host.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Variables as CopiesVariables } from '../../copies.ts'
import { type OnCluster, type OnHost, seconds } from '../../given/context.ts'
import { isAbsent, layoutOf, readingOf } from '../../given/found.ts'
import { machines, masters } from '../../given/hosts.ts'
import { clusterKeysetOf, type KeysetState } from '../state.ts'

/** What copies hold before a stage and after it, PEM. */
interface CopyChange {
  readonly held: readonly string[]
  readonly next: readonly string[]
}

type Needs = OnCluster<CopiesVariables>

const [noteStep, replaceStep] = ['note-copies', 'update-copies']

const isBelieved = { when: (ctx: OnHost) => clusterKeysetOf(ctx) !== undefined }

const optionsOf = ({ vars, signal }: Needs) => ({ also: [clusterInfo, ...vars.ca_copies], signal })

/**
 * Registers what the copies of the CA in the API hold, byte for byte, for the way back; there it waits until what was published before is again.
 * So it stands before the steps that change either.
 */
export const noteBelieved: StepDefinition<Needs> = {
  id: noteStep,
  runOnce: true,
  ...isBelieved,
  plan: () => [],
  run: async ctx => authorityCopies(await ctx.cluster.api(), allOf(clusterKeysetOf(ctx)), optionsOf(ctx)),
  rollback: waitForPublished,
}

const allOf = (state: KeysetState | undefined) =>
  joinBundle(...(state?.items ?? []).map(({ certificate }) => certificate))

/** Has the copies hold what a stage wants: cluster-info, the caBundles that call by the cluster's CA, and those that the inventory names. */
export function copies<More extends Needs>(
  change: (ctx: More, state: KeysetState) => CopyChange,
): StepDefinition<More> {
  const changeOf = (ctx: More) => {
    const state = clusterKeysetOf(ctx)
    const { held, next } = state ? change(ctx, state) : { held: [], next: [] }
    return { old: joinBundle(...held), next: joinBundle(...next) }
  }
  return {
    id: replaceStep,
    runOnce: true,
    ...isBelieved,
    plan: async ctx => {
      const found = await authorityCopies(await ctx.cluster.api(), allOf(clusterKeysetOf(ctx)), optionsOf(ctx))
      return found.map(({ where }) => `write the CAs that are trusted then into ${where}`)
    },
    run: async (ctx): Promise<AuthorityCopy[]> => {
      const { old, next } = changeOf(ctx)
      // Both: where it was written already, it is written the same.
      const replaced = await replaceCopies(
        await ctx.cluster.api(),
        { old: joinBundle(old, next), next },
        optionsOf(ctx),
      )
      for (const { where } of replaced) ctx.log(where)
      return replaced
    },
    rollback: async ctx => {
      const noted = [noteStep, replaceStep].flatMap(step => ctx.registered<AuthorityCopy[]>(step) ?? [])
      const { restored, changed, left } = await restoreCopies(
        await ctx.cluster.api(),
        noted,
        changeOf(ctx),
        optionsOf(ctx),
      )
      for (const where of restored) ctx.log(where)
      for (const where of changed) ctx.log(`${where}: changed since, and only its CAs are put back`)
      for (const where of left) ctx.log(`${where}: holds none of them any more, and is left as it is`)
    },
  }
}

/**
 * Waits until what the controller-managers publish is what their file holds, byte for byte, in every namespace and token Secret, and until each
 * pod has got it.
 */
export const publishedEverywhere: StepDefinition<OnCluster> = {
  ...{ readOnly: true, runOnce: true },
  when: ctx => !ctx.check && isBelieved.when(ctx),
  run: waitForPublished,
}

/** The same of what is published in the API alone, which kubelets then give to pods. */
export const publishedInApi: StepDefinition<OnCluster> = {
  ...publishedEverywhere,
  run: async ctx => {
    await waitForApi(ctx)
  },
}

async function waitForPublished(ctx: OnCluster): Promise<void> {
  const expected = await waitForApi(ctx)
  if (expected === undefined) return
  const hosts = ctx.hosts(machines).filter(({ name }) => !isAbsent(ctx, name))
  const left = volumesLeft(ctx, hosts, expected)
  const never = new Set<string>()
  await waitUntilNoneLeft('the CAs in every volume of a pod', patience(ctx, 240), async () => {
    const behind = await left()
    never.clear()
    for (const { who } of behind) if (who !== undefined) never.add(who)
    const open = behind.flatMap(({ where, who }) => (who === undefined ? [where] : []))
    return open.length > 0 ? { left: open.length, told: `not yet in ${some(open)}` } : undefined
  })
  for (const who of never) ctx.log(`nothing else is given to ${who}`)
}

/** Milliseconds after which it is looked anew which pods there are. */
const looksAgain = seconds(10)

/**
 * Asks for the volumes that hold something else: of every host at first, then of those that were behind, and of every host again once none is. With each
 * of those that stay so, whose it is.
 */
function volumesLeft(ctx: OnCluster, all: readonly Host[], expected: string) {
  let files = new Map<string, PublishedFile[]>()
  let looked = Number.NEGATIVE_INFINITY
  let hosts = all
  const look = async () => {
    files = await publishedVolumes(await ctx.cluster.api(), ctx.signal)
    looked = performance.now()
  }
  const ask = async () => {
    const found = await Promise.all(
      hosts.map(async host => ({ host, behind: await behindOn(ctx, host, expected, files) })),
    )
    hosts = found.flatMap(({ host, behind }) => (behind.some(({ who }) => who === undefined) ? [host] : []))
    return found.flatMap(({ behind }) => behind)
  }
  return async () => {
    const isFirst = looked === Number.NEGATIVE_INFINITY
    if (performance.now() > looked + looksAgain) await look()
    const behind = await ask()
    if (hosts.length > 0) return behind
    hosts = all
    if (isFirst) return behind
    await look()
    return ask()
  }
}

/**
 * Returns what is published now; undefined where no controller-manager publishes anything. It is what the one that leads has in its file: the same
 * CAs on each master, and not always the same bytes.
 */
async function waitForApi(ctx: OnCluster): Promise<string | undefined> {
  const texts = await publishable(ctx)
  let [expected] = texts
  if (expected === undefined) return undefined
  // A controller-manager writes some twenty a second: how long that takes is a matter of how many there are.
  await waitUntilNoneLeft('the CAs in every kube-root-ca.crt and token Secret', patience(ctx, 180), async () => {
    const api = await ctx.cluster.api()
    const held = [
      ...(await publishedAuthorities(api, ctx.signal)),
      ...(await certificatesOfTokenSecrets(api, ctx.signal)),
    ]
    const behindOf = (text: string) => held.flatMap(one => (one.text === text ? [] : [one.where]))
    const all = texts.map(text => ({ text, behind: behindOf(text) }))
    const { text, behind } = all.reduce((best, one) => (one.behind.length < best.behind.length ? one : best))
    expected = text
    return behind.length > 0 ? { left: behind.length, told: `not yet in ${some(behind)}` } : undefined
  })
  return expected
}

const patience = ({ signal }: OnHost, within: number) => ({ within: seconds(within), every: 1_000, signal })

/** The first of them, and how many there are besides. */
export const some = (all: readonly string[]) =>
  all.slice(0, 5).join(', ') + (all.length > 5 ? ` and ${all.length - 5} more` : '')

/** What the files hold that controller-managers publish, each text once. */
async function publishable(ctx: OnHost): Promise<string[]> {
  const texts = new Set<string>()
  for (const host of ctx.hosts(masters)) {
    const { 'kube-controller-manager': found } = layoutOf(ctx, host.name).components
    const file = found?.files.find(({ role }) => role === 'root-ca')
    if (file) texts.add(await (await ctx.on(host)).files.readText(file.real))
  }
  return [...texts]
}

/** The files in volumes of pods on a host that hold another text; `who`: they stay so. */
async function behindOn(
  ctx: OnHost,
  host: Host,
  expected: string,
  files: ReadonlyMap<string, readonly PublishedFile[]>,
): Promise<{ readonly where: string; readonly who?: string }[]> {
  const { kubelet } = layoutOf(ctx, host.name).components
  const own = files.get(readingOf(ctx, host.name).nodeName ?? '') ?? []
  const behind = kubelet ? await volumesBehind(await ctx.on(host), kubelet, expected, own) : []
  return behind.map(({ path, never }) => ({
    where: `${host.name}:${path}`,
    ...(never !== undefined && { who: never }),
  }))
}
