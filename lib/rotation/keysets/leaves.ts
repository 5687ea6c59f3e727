// Certificates of a new CA in place of those of the old one, host by host, and what is kept of the old ones.
import { quote, secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { signingKeysOf } from '../../kubernetes/layout/authorities.ts'
import { type StagedFile, type Swap, swapFiles, unstageFiles } from '../../operations/staging.ts'
import { waitFor } from '../../operations/wait.ts'
import { privateKeysWithin, publicKeyOf, publicKeysOf, withCertificates } from '../../pki/certificates/bundle-text.ts'
import { type CertificatePlace, placePath } from '../../pki/specs.ts'
import type { Play, StepDefinition } from '../../playbook/model.ts'
import * as extra from '../as-found/extra.ts'
import type { Mounts, Roles } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { layoutOf, planOf, readingOf, realOf } from '../given/found.ts'
import { isEtcd, isMaster } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import {
  issueStep,
  renderPlanned,
  sha256,
  stageIssued,
  swapOf,
  unstageAll,
  verifyIssued as verifyStaged,
  type WithIssued,
} from '../issue.ts'
import type { Variables as DrainVariables } from '../restart/drained.ts'
import { changedAt } from '../restart/due.ts'
import { endpoints } from '../verify.ts'
import { presentedAgain } from '../way-back.ts'
import { putBack } from './bundles.ts'
import type { WithVisitors } from './credentials.ts'
import { nextOf } from './issuers.ts'
import { destroyFolders, keptFolder } from './kept.ts'
import { holdingKeyOf, keyFilesBeside } from './key-files.ts'
import { authoritiesOf, type Item, type KeysetState, statesOf } from './state.ts'
import { renewBack } from './tokens/holders.ts'
import { promotedPlays } from './tokens/plays.ts'
import * as tokens from './tokens/stages.ts'
import { restartsAfter } from './trust/restarts.ts'

/** Whether a host has certificates of the keysets. */
const hasOwn = (ctx: OnHost) => planOf(ctx).specs.some(({ hosts }) => hosts.includes(ctx.host.name))

/** Verifies what is staged on a host that has any of it. */
export const verifyIssued: StepDefinition<OnHost<Mounts> & WithIssued> = { ...verifyStaged, when: hasOwn }

/** Issues the certificates of a host from the CA that Vault issues from now, and stages them beside the live ones; registers the swap. */
export const issueAndStage: StepDefinition<OnHost<Roles & extra.Variables> & WithVault & WithIssued> = {
  id: issueStep,
  together: true,
  when: hasOwn,
  plan: ctx =>
    planOf(ctx)
      .specs.filter(({ hosts }) => hosts.includes(ctx.host.name))
      .map(({ place, commonName }) => `issue ${placePath(place)}: CN ${commonName}`),
  run: async (ctx): Promise<Swap> => {
    const { files: rendered, swap } = await renderPlanned(ctx, extra.withOwners(ctx, readingOf(ctx)))
    const files = rendered.map(file => believing(ctx, file))
    await stageIssued(ctx, files)
    return { ...swap, hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])) }
  },
  rollback: unstageAll,
}

/** A kubeconfig with the CAs that its file is to hold: servers have certificates of the old one still. */
function believing(ctx: OnHost, file: StagedFile): StagedFile {
  for (const state of statesOf(ctx)) {
    const held = state.bundles[ctx.host.name]?.[file.path]
    if (!held || typeof file.content === 'string') continue
    const text = withCertificates(
      file.content.reveal(),
      publicKeysOf(nextOf(state).certificate),
      nextFirst(state, held).join(''),
    )
    return { ...file, content: secret(text, { parts: privateKeysWithin(text) }) }
  }
  return file
}

/** The CA that is promoted, then the others of a file. */
export function nextFirst(state: KeysetState, held: readonly string[]): string[] {
  const { certificate, key } = nextOf(state)
  return [certificate, ...held.filter(pem => publicKeyOf(pem) !== key)]
}

/** Renames the certificates of a host into place, each right after its key; registers when. */
export const swapIn: StepDefinition<OnCluster<BackupVariables & extra.Variables>> = {
  id: 'put-the-certificates-in-place',
  when: hasOwn,
  plan: ctx =>
    planOf(ctx)
      .specs.filter(({ hosts }) => hosts.includes(ctx.host.name))
      .map(({ place }) => `rename what is staged to ${placePath(place)}`),
  run: async ctx => {
    ctx.milestone(firstChange)
    const { rename } = swapOf(ctx)
    await swapFiles(ctx, ctx.run, swapOf(ctx))
    await extra.restartUsers(ctx, isPlanned(ctx))
    return rename.length > 0 ? { at: await changedAt(ctx, rename) } : undefined
  },
  rollback: async ctx => {
    const swap = ctx.registered<Swap>(issueStep, ctx.host.name)
    if (!swap) return
    await unstageFiles(ctx, ctx.run, swap)
    await putBack(ctx, swap)
    await extra.restartUsers(ctx, isPlanned(ctx))
    await presentedAgain.run(ctx)
    if (isMaster(ctx)) await proxyPairReread(ctx)
  },
}

/** Whether a certificate is one of those that are issued anew. */
const isPlanned = (ctx: OnHost) => {
  const planned = new Set(planOf(ctx).specs.map(({ place }) => placePath(place)))
  return (path: string) => planned.has(path)
}

/** Waits until the ports of a host present certificates of the CA that signs now, as they read them at each handshake or when they change. */
export const presented: StepDefinition<OnHost<Mounts>> = { ...endpoints, id: 'see-what-is-presented' }

type Drains = OnCluster<Mounts & BackupVariables & DrainVariables> & WithVault & WithVisitors

const restarts = restartsAfter<Drains>(
  [
    {
      step: 'put-the-certificates-in-place',
      files: (ctx, host) => ctx.registered<Swap>(issueStep, host)?.rename ?? [],
    },
    tokens.promoted.changes,
  ],
  tokens.promotedSeen,
)

/** What goes by the certificates and keys of a host without reading them again, and pods, which then get tokens of the key that signs. */
export const swapRestarts = {
  ...restarts,
  plays: [...restarts.plays, ...promotedPlays] satisfies readonly Play<Drains>[],
  undone: {
    ...restarts.undone,
    rollback: async (ctx: Drains) => {
      // The administrator of before is back, and the new one leaves with the first stage, which may be undone in the same run.
      ctx.cluster.forget(`what ${ctx.run} had put in place is undone`)
      await restarts.undone.rollback?.(ctx)
      await renewBack(ctx)
    },
  },
}

/** What API servers call their reading of the pair that they show extension API servers, in their metrics. */
const pairQueue = 'DynamicCABundle-aggregator-proxy-cert'

/**
 * Waits until the API server of a host has read the pair again that it shows extension API servers. It tells nobody which it shows, but how
 * often it has read it: it is made to by a change of the files' mode to what it is.
 */
async function proxyPairReread(ctx: OnCluster): Promise<void> {
  const paths = plannedPairs(ctx, 'front-proxy-client').flatMap(({ certificate, key }) => [certificate, key])
  if (paths.length === 0) return
  const api = await ctx.cluster.apiOf(ctx.host)
  const count = async () => readCount(await api.getText('/metrics'))
  const before = await count()
  if (before === undefined) {
    throw new HostFailedError(
      `the API server of ${ctx.host.name} tells nothing of how it reads its front proxy's pair`,
      {
        code: 'keysets.no-metric',
        host: ctx.host.name,
        hint: `Its metrics lack workqueue_work_duration_seconds_count{name="${pairQueue}"}.`,
      },
    )
  }
  await waitFor(
    `the API server of ${ctx.host.name} to read its front proxy's pair again`,
    { within: seconds(75), every: 500, signal: ctx.signal, host: ctx.host.name },
    async () => {
      await ctx.$({ quiet: true })`for f in ${paths}; do chmod "$(stat -c %a "$f")" "$f"; done`
      // One reading may have begun before the files were in place.
      return ((await count()) ?? 0) >= before + 2
    },
  )
}

/** The same as a step. */
export const pairReread: StepDefinition<OnCluster> = {
  readOnly: true,
  when: ctx => !ctx.check && plannedPairs(ctx, 'front-proxy-client').length > 0,
  run: proxyPairReread,
}

/** How often a queue was worked on, from an API server's metrics; undefined where they don't say. */
export function readCount(metrics: string): number | undefined {
  const line = metrics
    .split('\n')
    .find(one => one.startsWith('workqueue_work_duration_seconds_count{') && one.includes(`name="${pairQueue}"`))
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1))
}

/** The pairs of a planned certificate on a host, where they lie. */
function plannedPairs(ctx: OnHost, id: string): { certificate: string; key: string }[] {
  const real = (path: string) => realOf(ctx, path)
  return planOf(ctx)
    .specs.filter(spec => spec.id === id && spec.hosts.includes(ctx.host.name))
    .flatMap(({ place }) =>
      place.kind === 'pair' ? [{ certificate: real(place.certificate), key: real(place.key) }] : [],
    )
}

/** The CAs that a promotion puts behind another: what signs now. */
export function before(state: KeysetState): Item[] {
  const next = nextOf(state)
  return state.items.filter(({ key, state: one }) => key !== next.key && (one === 'primary' || one === 'trusted'))
}

/** The CAs of which a host keeps what there is: a master of all, a host of etcd of those that it trusts. */
const keptOn = (ctx: OnHost) =>
  statesOf(ctx).filter(({ bundles }) => isMaster(ctx) || (isEtcd(ctx) && bundles[ctx.host.name] !== undefined))

const keptFolders = (ctx: OnHost<BackupVariables>) =>
  keptOn(ctx).flatMap(state => before(state).map(({ id }) => keptFolder(ctx, state.name, id)))

/**
 * Keeps what there is of the CAs that are to be followed: certificate, key, and what they signed, on each master and host of etcd, for their
 * owner's eyes. It stays until nobody wants to go back any more.
 */
export const keepOld: StepDefinition<OnHost<Mounts & BackupVariables>> = {
  id: 'keep-the-old-cas',
  when: ctx => keptOn(ctx).length > 0,
  plan: ctx =>
    keptOn(ctx).flatMap(state =>
      before(state).map(({ id }) => `copy ${id} and what it signed to ${keptFolder(ctx, state.name, id)}`),
    ),
  check: async ctx => {
    // What was kept of one when it was new, its key, is not yet what it signed.
    const files = keptOn(ctx).flatMap(state =>
      before(state).flatMap(item => {
        const folder = keptFolder(ctx, state.name, item.id)
        return ['ca.crt', ...leavesOf(ctx, state, item).map(([, name]) => name)].map(name => `${folder}/${name}`)
      }),
    )
    const there = await Promise.all(files.map(path => ctx.files.exists(path)))
    return there.every(Boolean)
  },
  run: async ctx => {
    for (const state of keptOn(ctx)) {
      for (const item of before(state)) await keep(ctx, state, item)
    }
  },
  rollback: async ctx => {
    await destroyFolders(ctx, keptFolders(ctx))
  },
}

/** What a CA has signed on a host, and what that is called where it is kept. */
function leavesOf(ctx: OnHost, state: KeysetState, item: Item): (readonly [from: string, name: string])[] {
  const { files = {} } = readingOf(ctx)
  const real = (path: string) => files[path]?.real ?? path
  const mine = new Set(state.uses.flatMap(({ where, key }) => (key === item.key ? [where] : [])))
  const isMine = (path: string) => [path, real(path)].some(one => mine.has(`${ctx.host.name}:${one}`))
  const own = planOf(ctx)
    .specs.filter(spec => authoritiesOf(state).includes(spec.authority) && spec.hosts.includes(ctx.host.name))
    .filter(({ place }) => isMine(placePath(place)))
  // Beside its own a host may keep copies of what others have: that is kept there.
  return own
    .filter(
      ({ id, hosts }) =>
        hosts[0] === ctx.host.name || !own.some(one => one.id === id && one.hosts[0] === ctx.host.name),
    )
    .flatMap(({ id, place }) => copiesOf(id, place).map(([from, name]) => [real(from), name] as const))
}

async function keep(ctx: OnHost<Mounts & BackupVariables>, state: KeysetState, item: Item): Promise<void> {
  const folder = keptFolder(ctx, state.name, item.id)
  const signing = state.authority === 'kubernetes' ? signingKeysOf(layoutOf(ctx)) : []
  const [key] = await holdingKeyOf(ctx, [...keyFilesBeside(ctx, state), ...signing], [item])
  const script = [
    'set -e; umask 077',
    `rm -rf ${quote(folder)}.new; mkdir -p ${quote(folder)}.new; chmod 700 ${quote(folder)}.new; cd ${quote(folder)}.new`,
    // What was kept of it before stays: its key, and what a promotion that was broken off has replaced since.
    `[ ! -d ${quote(folder)} ] || cp -a ${quote(folder)}/. .`,
    ...leavesOf(ctx, state, item).map(([from, name]) => `cat ${quote(from)} >${quote(name)}`),
    ...(key === undefined ? [] : [`cat ${quote(key)} >ca.key`]),
    'cat >ca.crt; sync . ',
    `rm -rf ${quote(folder)}; mv -T ${quote(folder)}.new ${quote(folder)}`,
  ].join('\n')
  await ctx.$({ input: item.certificate })`sh -c ${script}`
}

function copiesOf(id: string, place: CertificatePlace): (readonly [from: string, name: string])[] {
  if (place.kind === 'kubeconfig') return [[place.path, `${id}.conf`]]
  if (place.kind === 'combined') return [[place.path, `${id}.pem`]]
  return [
    [place.certificate, `${id}.crt`],
    [place.key, `${id}.key`],
  ]
}
