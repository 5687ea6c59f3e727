// The files by which servers trust the CAs of a keyset, written anew: beside the old one, renamed over it, and seen to be read by whoever
// names it. What they held is put back from the archive of the host.
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { stagingFolders } from '../../kubernetes/components/kept.ts'
import { restoreFiles } from '../../operations/restore.ts'
import { type StagedFile, type Swap, stageFiles, swapFiles, unstageFiles } from '../../operations/staging.ts'
import {
  certificatesWithin,
  privateKeysWithin,
  publicKeyOf,
  publicKeysOf,
  withCertificates,
} from '../../pki/certificates/bundle-text.ts'
import { joinBundle, parseCertificate, splitBundle } from '../../pki/certificates/certificate.ts'
import { type StepDefinition, unchanged } from '../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnHost } from '../given/context.ts'
import { filesOf, layoutOf } from '../given/found.ts'
import { sha256 } from '../issue.ts'
import { requireUnchanged } from '../place.ts'
import { changedAt } from '../restart/due.ts'
import { type KeysetState, statesOf } from './state.ts'

/** What a file is to hold, PEM, from what it held; the order counts: whoever reads one certificate of it takes the first. */
export type Wanted<Needs> = (ctx: Needs, state: KeysetState, held: readonly string[]) => readonly string[]

/** What a file is to hold instead of what it holds. */
interface Change {
  /** Where it lies. */
  readonly path: string
  readonly held: readonly string[]
  readonly next: readonly string[]
}

/**
 * Writes what the files of a host are to hold; nothing where they do. Registers when they were put in place.
 * @param undone proves on the way back that they were read again
 * @param mayBeUndone throws where they can't be put back, before any is
 */
export function bundles<Needs extends OnHost<BackupVariables>>(
  id: string,
  wanted: Wanted<Needs>,
  undone: (ctx: Needs) => Promise<void>,
  mayBeUndone?: (ctx: Needs) => Promise<void>,
): StepDefinition<Needs> {
  return {
    id,
    when: ctx => bundlesOf(ctx).length > 0,
    plan: ctx => changesOn(ctx, wanted).map(({ path, held, next }) => tell(path, held, next)),
    run: async ctx => {
      const all = changesOn(ctx, wanted)
      const changes = await left(ctx, all)
      // What a run that was killed has put in place is of this step, too.
      if (changes.length === 0) return all.length > 0 ? placed(ctx, all) : unchanged()
      ctx.milestone(firstChange)
      await requireOneName(ctx, changes)
      await stageFiles(ctx, ctx.run, changes)
      await swapFiles(ctx, ctx.run, swapOf(changes))
      for (const { path, held, next } of changes) ctx.log(tell(path, held, next))
      return placed(ctx, all)
    },
    rollback: async ctx => {
      await mayBeUndone?.(ctx)
      const { hashes = {} } = ctx.registered<Partial<Placed>>(id, ctx.host.name) ?? {}
      const all = changesOn(ctx, wanted)
      const renewed = (await Promise.all(all.map(change => rewritten(ctx, change, hashes[change.path])))).flat()
      const others = all.filter(({ path }) => !renewed.some(one => one.path === path))
      const swap = swapOf(await Promise.all(others.map(change => written(ctx, change))))
      await unstageFiles(ctx, ctx.run, { ...swap, rename: all.map(({ path }) => path) })
      await putBack(ctx, swap)
      await putCasBack(ctx, renewed)
      await undone(ctx)
    },
  }
}

/** What the step registers. */
interface Placed {
  /** When they were put in place, by the clock of the host: who was started since has read them. */
  readonly at: number
  /** The SHA-256 of those that hold more than CAs, as they were left: a kubeconfig may be renewed before the stage is undone. */
  readonly hashes: Readonly<Record<string, string>>
}

async function placed(ctx: OnHost, changes: readonly Change[]): Promise<Placed> {
  const hashes: Record<string, string> = {}
  for (const { path } of changes) {
    const text = await ctx.files.readText(path)
    if (!isBundle(text)) hashes[path] = sha256(text)
  }
  const paths = changes.map(({ path }) => path)
  return { at: await changedAt(ctx, paths), hashes }
}

const tell = (path: string, held: readonly string[], next: readonly string[]) =>
  `${path}: ${held.length} ${held.length === 1 ? 'CA' : 'CAs'}, then ${next.length}`

/** The swap that renames these into place. */
export const swapOf = (changes: readonly Pick<StagedFile, 'path' | 'content'>[]): Swap => ({
  ...{ rename: changes.map(({ path }) => path), link: [], remove: [] },
  hashes: Object.fromEntries(changes.map(({ path, content }) => [path, sha256(content)])),
})

/** Puts the files of a swap back as they lay there before the run. Throws `HostFailedError` where somebody has changed one since. */
export async function putBack(ctx: OnHost<BackupVariables>, swap: Swap): Promise<void> {
  await requireUnchanged(ctx, swap, 'Was another stage run since?')
  await restoreFiles(ctx, ctx.run, archiveOf(ctx), [
    ...[...swap.rename, ...swap.remove],
    ...swap.link.map(({ path }) => path),
  ])
}

function changesOn<Needs extends OnHost>(ctx: Needs, wanted: Wanted<Needs>): Change[] {
  return statesOf(ctx).flatMap(state =>
    Object.entries(state.bundles[ctx.host.name] ?? {}).flatMap(([path, held]) => {
      const next = splitBundle(joinBundle(...wanted(ctx, state, held)))
      if (next.length === 0) {
        throw new HostFailedError(`${ctx.host.name}:${path} would hold no CA any more`, {
          code: 'keysets.empty',
          host: ctx.host.name,
          hint: 'It holds none that stays trusted: have it hold what the same file of another host holds, and begin anew.',
        })
      }
      if (next.join('') === held.join('')) return []
      return [{ path, held, next }]
    }),
  )
}

/** Those that are not made yet. Throws `HostFailedError` where a file is neither what was read nor what it is to be. */
async function left(ctx: OnHost, changes: readonly Change[]): Promise<(Change & StagedFile)[]> {
  const open: (Change & StagedFile)[] = []
  for (const change of changes) {
    const text = await ctx.files.readText(change.path)
    const now = heldBy(text, change)
    if (isSame(now, change.next)) continue
    if (!isSame(now, change.held)) {
      throw new HostFailedError(`${ctx.host.name}:${change.path} was changed by somebody else since it was read`, {
        code: 'keysets.changed',
        host: ctx.host.name,
        hint: 'Undo this run with rekey rollback, and begin anew once nobody else changes it.',
      })
    }
    open.push({ ...change, ...(await asItLiesNow(ctx, change.path)), content: contentOf(text, change) })
  }
  return open
}

/** What this run has written to a file; where somebody else did since, something that is not there. */
async function written(ctx: OnHost, change: Change): Promise<StagedFile> {
  const { path, next } = change
  if (!(await ctx.files.exists(path))) return { path, content: next.join('') }
  const text = await ctx.files.readText(path)
  const isOurs = !isBundle(text) && [change.held, next].some(pems => isSame(heldBy(text, change), pems))
  return { path, content: isOurs ? text : next.join('') }
}

/** A file that somebody has written since: what to write there so that its CAs are those of before, nothing where they are. */
interface Renewed {
  readonly path: string
  readonly file?: StagedFile
}

/**
 * A file with more than CAs that somebody has written anew since this run left it, a kubeconfig with another certificate, and in which the CAs are
 * the ones of then or of before: the rest of it is not to be taken back.
 */
async function rewritten(ctx: OnHost, change: Change, hash: string | undefined): Promise<Renewed[]> {
  const { path, held, next } = change
  if (hash === undefined || !(await ctx.files.exists(path))) return []
  const text = await ctx.files.readText(path)
  if (isBundle(text) || sha256(text) === hash) return []
  const now = heldBy(text, change)
  if (isSame(now, held)) return [{ path }]
  if (!isSame(now, next)) return []
  const content = contentOf(text, { path, held: next, next: held })
  return [{ path, file: { ...(await asItLiesNow(ctx, path)), content } }]
}

async function putCasBack(ctx: OnHost, renewed: readonly Renewed[]): Promise<void> {
  const files = renewed.flatMap(({ file }) => file ?? [])
  if (files.length === 0) return
  await stageFiles(ctx, ctx.run, files)
  await swapFiles(ctx, ctx.run, swapOf(files))
  for (const { path } of files) ctx.log(`${path}: changed since, and only its CAs are put back`)
}

/** Whether a file holds CAs and nothing else: a kubeconfig holds a client's key, too, and what a server presents with its chain a leaf. */
const isBundle = (text: string) => {
  const all = splitBundle(text)
  return all.length > 0 && privateKeysWithin(text).length === 0 && all.every(pem => parseCertificate(pem).isAuthority)
}

/** The CAs of a file: all that a bundle holds; of another text, where one may stand several times, those that this is about. */
function heldBy(text: string, { held, next }: Change): readonly string[] {
  if (isBundle(text)) return splitBundle(joinBundle(text))
  const keys = publicKeysOf([...held, ...next].join(''))
  return certificatesWithin(text).filter(pem => keys.has(publicKeyOf(pem) ?? ''))
}

const isSame = (some: readonly string[], others: readonly string[]) => joinBundle(...some) === joinBundle(...others)

/** What a file is to hold; all but the CAs stays as it stands there. */
function contentOf(text: string, { held, next }: Change): StagedFile['content'] {
  if (isBundle(text)) return next.join('')
  const content = withCertificates(text, publicKeysOf([...held, ...next].join('')), next.join(''))
  // A kubeconfig may hold a token, too.
  return secret(content, { parts: privateKeysWithin(content) })
}

/** What is to hold for a file that takes another one's place: where it lies, its mode, its owner. */
export async function asItLiesNow({ $ }: OnHost, path: string): Promise<Omit<StagedFile, 'content'>> {
  const { stdout } = await $({ quiet: true })`stat -Lc '%a %u:%g' -- ${path}`
  const [bits = '', owner = ''] = stdout.trim().split(' ')
  return { path, mode: Number.parseInt(bits, 8), ...(owner !== '0:0' && { owner }) }
}

/**
 * Fails where a file has a second name: its old content would live on under that, and whoever watches the file would watch that one, and
 * never hear of a change again.
 */
async function requireOneName(ctx: OnHost, changes: readonly Pick<Change, 'path'>[]): Promise<void> {
  const paths = changes.map(({ path }) => path)
  const folders = stagingFolders(layoutOf(ctx), filesOf(ctx))
  const { stdout } = await ctx.$({
    quiet: true,
  })`for f in ${paths}; do [ "$(stat -c %h "$f")" = 1 ] || find "$(dirname "$f")" ${folders} -xdev -samefile "$f" 2>/dev/null | sort -u | tr '\\n' ' '; done`
  const names = stdout.trim()
  if (names === '' && (await oneName(ctx, paths))) return
  throw new HostFailedError(`${ctx.host.name}: one file under several names: ${names || paths.join(', ')}`, {
    code: 'keysets.hard-link',
    host: ctx.host.name,
    hint: 'A component that watches the file would not hear of what takes its place. Make the other name a copy (cp, mv over it), and go on with rekey resume.',
  })
}

async function oneName({ $ }: OnHost, paths: readonly string[]): Promise<boolean> {
  const { stdout } = await $({ quiet: true })`stat -c %h ${paths}`
  return stdout
    .trim()
    .split('\n')
    .every(links => links === '1')
}

/** The files of a host by which the keysets of the run are trusted. */
export const bundlesOf = (ctx: OnHost, host = ctx.host.name) =>
  statesOf(ctx).flatMap(({ bundles: held }) => Object.keys(held[host] ?? {}))

/** Fails before anything is changed where a file of the keysets has a second name. */
export const oneNameEach: StepDefinition<OnHost> = {
  readOnly: true,
  run: async ctx => {
    const paths = bundlesOf(ctx)
    if (paths.length > 0)
      await requireOneName(
        ctx,
        paths.map(path => ({ path })),
      )
  },
}
