// What the controller-managers sign with. That must be one certificate, and the file by which anybody is trusted is to hold two: so where one
// file is both, as kubeadm has it, they are given the pair of now in files of its own beside it, those that follow before the one that leads.
import { posix } from 'node:path'
import { HostFailedError } from '../../../errors.ts'
import { processesOf, restartUnit } from '../../../kubernetes/components/control.ts'
import { plannedFlags, updateFlags } from '../../../kubernetes/components/flags.ts'
import type { FlagEditor } from '../../../kubernetes/components/static-pods.ts'
import { keyNamesOf } from '../../../kubernetes/layout/authorities.ts'
import type { FoundComponent } from '../../../kubernetes/layout/host-layout.ts'
import { restoreFiles } from '../../../operations/restore.ts'
import { waitFor } from '../../../operations/wait.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import type { Host } from '../../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables } from '../../backup.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../../given/context.ts'
import { layoutOf, must } from '../../given/found.ts'
import { masters } from '../../given/hosts.ts'
import { flagsAsTheyWere, leadingLast } from '../../restart/controllers.ts'
import { fits, keyIn } from '../key-files.ts'
import { type KeysetState, primaryOf, statesOf } from '../state.ts'

export const component = 'kube-controller-manager'

/** A pair that a controller-manager is to sign with, beside the one that it names now. */
interface OwnPair {
  readonly found: FoundComponent
  /** The flags that name it, without dashes, each with the path as the component sees it. */
  readonly flags: Readonly<Record<string, string>>
  /** Where they lie on the host: those of now, and those that are to be. */
  readonly from: { readonly key: string }
  readonly to: { readonly certificate: string; readonly key: string }
}

/** The keyset whose CA the controller-manager signs with, where the run is about it. */
export const signingState = (ctx: OnHost): KeysetState | undefined =>
  statesOf(ctx).find(({ authority }) => authority === 'kubernetes')

/** The pairs that the controller-manager of a host signs with, where they lie. */
export function pairsOf(ctx: OnHost, host = ctx.host.name): { readonly certificate: string; readonly key: string }[] {
  const named = layoutOf(ctx, host).components[component]?.files ?? []
  const pairs = named.flatMap(({ role, real, key }) =>
    role === 'signing' && key ? [[real, { certificate: real, key: key.real }] as const] : [],
  )
  return [...new Map(pairs).values()]
}

export const aboutOf = (ctx: OnHost) => must(signingState(ctx), 'the run is about no CA that the cluster signs with')

/** `ca.crt` is `ca-signing.crt`, and its key `ca-signing.key`. */
const beside = (path: string, stem: string) => posix.join(posix.dirname(path), stem + posix.extname(path))

/** The pair of its own that the controller-manager of a host is to have; undefined where it has none that anybody is trusted by. */
export function ownPairOf(ctx: OnHost, host: string): OwnPair | undefined {
  const state = signingState(ctx)
  const found = layoutOf(ctx, host).components[component]
  if (!state || !found) return undefined
  const trusted = Object.keys(state.bundles[host] ?? {})
  const shared = found.files.filter(({ role, real, key }) => role === 'signing' && key && trusted.includes(real))
  const [first] = shared
  if (!first?.key) return undefined
  const stem = `${posix.parse(first.path).name}-signing`
  const [certificate, key] = [beside(first.path, stem), keyNamesOf(beside(first.path, stem))]
  const named = shared.flatMap(({ by }) => {
    const flag = by.replace(/^--/, '')
    const keyFlag = flag.replace('cert-file', 'key-file')
    const [own, ownKey] = [found.flags[flag]?.at(-1), found.flags[keyFlag]?.at(-1)]
    if (own === undefined || ownKey === undefined) return []
    const next = beside(own, stem)
    return [[flag, next] as const, [keyFlag, keyLike(ownKey, next)] as const]
  })
  const to = { certificate, key: keyLike(first.key.path, certificate) ?? key[0] ?? '' }
  return { found, flags: Object.fromEntries(named), from: { key: first.key.real }, to }
}

/** What the key of a certificate is called, where another's is called like this: `ca.key`, `ca-key.pem`. */
function keyLike(other: string, certificate: string): string {
  const names = keyNamesOf(certificate)
  return names.find(name => /-key\.pem$/.test(name) === /-key\.pem$/.test(other)) ?? `${certificate}.key`
}

const edit =
  ({ flags }: OwnPair) =>
  (editor: FlagEditor): void => {
    for (const [name, value] of Object.entries(flags)) editor.flag(name, value)
  }

/** The masters whose controller-managers share their file, the one that leads last. */
async function sharing(ctx: OnCluster): Promise<readonly (readonly [Host, OwnPair])[]> {
  const all = ctx.hosts(masters).filter(({ name }) => ownPairOf(ctx, name) !== undefined)
  return (await leadingLast(ctx, component, all)).map(host => [host, ownPairOf(ctx, host.name) as OwnPair] as const)
}

/** Whether every process of a controller-manager was started with what is wanted. */
async function runsWith(session: HostSession, { found, flags }: OwnPair, wanted: boolean): Promise<boolean> {
  const processes = await processesOf(session, found)
  if (processes.length === 0) return false
  const words = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const { stdout } = await session.$({
    quiet: true,
    nothrow: true,
  })`for p in ${processes}; do tr '\\0' '\\n' <"/proc/$p/cmdline"; echo; done`
  const lines = stdout.split('\n')
  const has = (word: string) => lines.filter(line => line === word).length
  return wanted ? words.every(word => has(word) >= processes.length) : words.every(word => has(word) === 0)
}

/** Has what was written of its flags take effect, where it has not yet. A static pod is started anew by its kubelet, which reads the manifest. */
async function takeEffect(ctx: OnCluster, session: HostSession, pair: OwnPair, wanted: boolean): Promise<void> {
  const { name } = session.host
  const { runs } = pair.found
  if (await runsWith(session, pair, wanted)) return
  if (runs.kind === 'unit') await restartUnit(session, runs.unit)
  await waitFor(
    `the controller-manager of ${name} to run with ${wanted ? 'a signing pair of its own' : 'the flags of before'}`,
    { within: seconds(150), every: 500, signal: ctx.signal, host: name },
    () => runsWith(session, pair, wanted),
  )
}

/** Gives the controller-managers that sign with a file by which others are trusted the same pair in files of its own. */
export const signApart: StepDefinition<OnCluster<BackupVariables>> = {
  id: 'sign-with-a-pair-apart',
  runOnce: true,
  when: ctx => ctx.hosts(masters).some(({ name }) => ownPairOf(ctx, name) !== undefined),
  plan: async ctx => {
    const planned = (await sharing(ctx)).map(async ([host, pair]) => [
      `${host.name}: write ${pair.to.certificate} and ${pair.to.key}`,
      ...(await plannedFlags(await ctx.on(host), pair.found, edit(pair))),
    ])
    return (await Promise.all(planned)).flat()
  },
  run: async ctx => {
    const { certificate } = primaryOf(aboutOf(ctx))
    for (const [host, pair] of await sharing(ctx)) await requireFree(ctx, await ctx.on(host), pair)
    for (const [host, pair] of await sharing(ctx)) {
      const session = await ctx.on(host)
      ctx.milestone(firstChange)
      await session.$`cp -pT ${pair.from.key} ${`${pair.to.key}.new`} && mv -fT ${`${pair.to.key}.new`} ${pair.to.key}`
      await session.files.write(pair.to.certificate, certificate, { mode: 0o644 })
      await updateFlags(session, pair.found, edit(pair))
      await takeEffect(ctx, session, pair, true)
      ctx.log(`${host.name}: ${pair.to.certificate}`)
    }
  },
  rollback: async ctx => {
    for (const [host, pair] of await sharing(ctx)) {
      const session = await ctx.on(host)
      await flagsAsTheyWere({ ...ctx, ...session }, pair.found)
      await takeEffect(ctx, session, pair, false)
      await session.$`rm -f ${`${pair.to.key}.new`}`
      await restoreFiles(session, ctx.run, archiveOf(ctx), [pair.to.certificate, pair.to.key])
    }
  },
}

/** Fails where files lie there that are not the pair: somebody else's, which would be gone. */
async function requireFree(ctx: OnCluster, session: HostSession, { to }: OwnPair): Promise<void> {
  const { key, certificate } = primaryOf(aboutOf(ctx))
  const { files, host } = session
  const [held, signing] = [await keyIn({ ...ctx, files }, to.certificate), await keyIn({ ...ctx, files }, to.key)]
  const others = [
    ...(held === '' || publicKeyOf(held) === key ? [] : [to.certificate]),
    ...(signing === '' || fits(certificate, signing) ? [] : [to.key]),
  ]
  if (others.length === 0) return
  throw new HostFailedError(`${host.name}: ${others.join(', ')} is there, and not of the CA that signs`, {
    code: 'keysets.changed',
    host: host.name,
    hint: 'Move it away: it is where the controller-manager’s pair is to be.',
  })
}

/** A pair apart, and the files that it is to be again. */
interface Apart extends OwnPair {
  readonly from: { readonly certificate: string; readonly key: string }
}

/** The flags of before, where one of a pair apart is named: `ca-signing.crt` was `ca.crt`. */
function apartOn(ctx: OnHost, host: string): Apart | undefined {
  const state = signingState(ctx)
  const found = layoutOf(ctx, host).components[component]
  if (!state || !found) return undefined
  const as = (path: string) => path.replace(isApart, '$1$2')
  const trusted = state.bundles[host] ?? {}
  const all = found.files.filter(
    ({ role, key, real }) => role === 'signing' && key && isApart.test(real) && as(real) in trusted,
  )
  const [first] = all
  if (!first?.key) return undefined
  const named = all.flatMap(({ by, real }) => {
    const flag = by.replace(/^--/, '')
    return [flag, flag.replace('cert-file', 'key-file')].flatMap(name => {
      const value = found.flags[name]?.at(-1)
      return value === undefined || real !== first.real ? [] : [[name, as(value)] as const]
    })
  })
  return {
    ...{ found, flags: Object.fromEntries(named), from: { certificate: first.real, key: first.key.real } },
    to: { certificate: as(first.real), key: as(first.key.real) },
  }
}

/** The same where the file that it is to be again holds the CA that signs, alone: no controller-manager starts with one that holds several. */
export function togetherAgain(ctx: OnHost, host: string): Apart | undefined {
  const pair = apartOn(ctx, host)
  const held = (pair && signingState(ctx)?.bundles[host]?.[pair.to.certificate]) ?? []
  return held.length === 1 && publicKeyOf(held[0] ?? '') === primaryOf(aboutOf(ctx)).key ? pair : undefined
}

const isApart = /-signing((?:-key)?)(\.[a-z]+)$/

/** Whether a pair apart is of the CA that signs, and its key would take no other one's place; a run that was killed may have moved it already. */
async function isOfPrimary(ctx: OnCluster, { files }: HostSession, { from, to }: OwnPair): Promise<boolean> {
  const { certificate } = primaryOf(aboutOf(ctx))
  const [apart, together] = [await keyIn({ ...ctx, files }, from.key), await keyIn({ ...ctx, files }, to.key)]
  if (apart !== '' && !fits(certificate, apart)) return false
  return together === '' ? apart !== '' : fits(certificate, together)
}

/** Takes a pair apart away: its key is written over first. */
const takeAway = ({ $ }: HostSession, { certificate, key }: OwnPair['to']) =>
  $`[ ! -f ${key} ] || shred -fu ${key}; rm -f ${certificate}`

/** Takes away what a run that was killed has left of a pair apart, where the controller-manager has come to sign with the file of the CA. */
async function takeRestAway(ctx: OnCluster, session: HostSession, { found, flags, to }: OwnPair): Promise<void> {
  const { certificate } = primaryOf(aboutOf(ctx))
  if (!fits(certificate, await keyIn({ ...ctx, files: session.files }, to.key))) return
  const named = Object.keys(flags).map(name => [name, found.flags[name]?.at(-1) ?? ''] as const)
  await takeEffect(ctx, session, { found, flags: Object.fromEntries(named), from: to, to }, true)
  await takeAway(session, to)
}

/** Has controller-managers sign with the file of the CA again, which is one by now, and takes the pair apart away. */
export const signTogether: StepDefinition<OnCluster<BackupVariables>> = {
  id: 'sign-with-the-file-of-the-ca',
  irreversible: 'the cluster signs with the same CA and the same key',
  runOnce: true,
  when: ctx => ctx.hosts(masters).some(({ name }) => (apartOn(ctx, name) ?? ownPairOf(ctx, name)) !== undefined),
  plan: async ctx => {
    const own = ctx.hosts(masters).map(host => [host, togetherAgain(ctx, host.name)] as const)
    const planned = own.map(async ([host, pair]) =>
      pair ? plannedFlags(await ctx.on(host), pair.found, edit(pair)) : [],
    )
    return (await Promise.all(planned)).flat()
  },
  run: async ctx => {
    const all = ctx.hosts(masters).filter(({ name }) => (apartOn(ctx, name) ?? ownPairOf(ctx, name)) !== undefined)
    for (const host of await leadingLast(ctx, component, all)) {
      const session = await ctx.on(host)
      const rest = ownPairOf(ctx, host.name)
      if (rest) await takeRestAway(ctx, session, rest)
      const pair = togetherAgain(ctx, host.name)
      if (!pair || !(await isOfPrimary(ctx, session, pair))) {
        const { from, to } = apartOn(ctx, host.name) ?? {}
        if (from)
          ctx.log(`${host.name}: signs with ${from.certificate} still: ${to?.certificate} is not the same CA alone`)
        continue
      }
      await session.$`[ ! -f ${pair.from.key} ] || { cp -pT ${pair.from.key} ${`${pair.to.key}.new`} && mv -fT ${`${pair.to.key}.new`} ${pair.to.key}; }`
      await updateFlags(session, pair.found, edit(pair))
      await takeEffect(ctx, session, pair, true)
      await takeAway(session, pair.from)
      ctx.log(`${host.name}: ${pair.to.certificate}`)
    }
  },
}
