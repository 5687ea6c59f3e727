// Machines that trust a CA of the keysets in all they do, as Kubespray has them trust etcd's: what programs read is made by a command of the machine
// from the files in a folder. Where old and new are to be trusted, each has a file there: of two certificates in one, Debian's programs would
// find none by its name.
import { splitPath } from '../../../connection/safe-folder.ts'
import { isAnchor } from '../../../kubernetes/layout/discover.ts'
import { asItLies } from '../../../kubernetes/trust/certificate-files.ts'
import { keysOfAnchors, updateAnchors } from '../../../kubernetes/trust/machine-anchors.ts'
import { type StagedFile, type Swap, stageFiles, swapFiles, unstageFiles } from '../../../operations/staging.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import { type StepDefinition, unchanged } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { OnHost } from '../../given/context.ts'
import { readingOf, realOf } from '../../given/found.ts'
import { putBack, swapOf } from '../bundles.ts'
import { type Item, type KeysetState, statesOf } from '../state.ts'

/** A file in the folder of CAs that a machine trusts. */
interface Anchor {
  readonly path: string
  /** PEM. */
  readonly pem: string
}

/** What a machine is to trust of a keyset: these, each once. */
type Wanted<Needs> = (ctx: Needs, state: KeysetState, held: readonly string[]) => readonly Pick<Item, 'certificate'>[]

/** The files of a host with nothing but one CA of a keyset. */
function anchorsOf(ctx: OnHost, { items }: KeysetState): Anchor[] {
  const { certificates, files } = readingOf(ctx)
  return Object.entries(certificates).flatMap(([path, pem]) => {
    const known = items.some(({ key }) => key === publicKeyOf(pem))
    return isAnchor(path) && known && files?.[path]?.more === undefined ? [{ path: realOf(ctx, path), pem }] : []
  })
}

/** A file for a CA beside another's. */
function besideOf(path: string, id: string): string {
  const { folder, name } = splitPath(path)
  const [, stem = name, ending = ''] = /^(.*?)(?:-[0-9a-f]{8})?(\.[^.]*)?$/.exec(name) ?? []
  return `${folder}/${stem}-${id}${ending}`
}

/** What becomes of the files of a host: those that are written, and those that go. */
export function changesOf<Needs extends OnHost>(
  ctx: Needs,
  wanted: Wanted<Needs>,
): { written: Anchor[]; gone: string[]; keys: Set<string> } {
  const written: Anchor[] = []
  const gone: string[] = []
  const keys = new Set<string>()
  for (const state of statesOf(ctx)) {
    const held = anchorsOf(ctx, state)
    const [first] = held
    if (!first) continue
    const next = wanted(
      ctx,
      state,
      held.map(({ pem }) => pem),
    ).map(({ certificate }) => certificate)
    const nextKeys = new Map(next.map(pem => [publicKeyOf(pem) ?? '', pem]))
    for (const key of nextKeys.keys()) keys.add(key)
    const missing = new Map([...nextKeys].filter(([key]) => !held.some(({ pem }) => publicKeyOf(pem) === key)))
    const left = held.filter(({ pem }) => !nextKeys.has(publicKeyOf(pem) ?? ''))
    // What stays alone takes the name that others know.
    const [only, ...others] = nextKeys.values()
    if (others.length === 0 && only !== undefined && publicKeyOf(first.pem) !== publicKeyOf(only)) {
      written.push({ path: first.path, pem: only })
      gone.push(...held.filter(one => one !== first).map(({ path }) => path))
      continue
    }
    gone.push(...left.map(({ path }) => path))
    for (const [key, pem] of missing) written.push({ path: besideOf(first.path, key.slice(0, 8)), pem })
  }
  return { written, gone, keys }
}

const isAnchored = (ctx: OnHost) => statesOf(ctx).some(state => anchorsOf(ctx, state).length > 0)

/**
 * Has machines that trust a CA of the keysets in all they do trust others of it. Where what programs read does not follow, that is told, and the
 * run goes on: nothing of the cluster depends on it.
 */
export function anchored<Needs extends OnHost<BackupVariables>>(
  id: string,
  wanted: Wanted<Needs>,
): StepDefinition<Needs> {
  return {
    id,
    when: isAnchored,
    plan: ctx => {
      const { written, gone } = changesOf(ctx, wanted)
      return [...written.map(({ path }) => `${path}: a CA that the machine trusts`), ...gone.map(path => `rm ${path}`)]
    },
    run: async ctx => {
      const { written, gone, keys } = changesOf(ctx, wanted)
      if (written.length + gone.length === 0) return unchanged()
      const files = written.map(
        ({ path, pem }): StagedFile => ({ ...asItLies(readingOf(ctx), path, 0o644), path, content: pem }),
      )
      await stageFiles(ctx, ctx.run, files)
      const swap = swapWith(written, gone)
      await swapFiles(ctx, ctx.run, swap)
      await follow(ctx, keys)
      return swap
    },
    rollback: async ctx => {
      const { written, gone } = changesOf(ctx, wanted)
      if (written.length + gone.length === 0) return
      const swap = swapWith(written, gone)
      // What is staged in that folder would be trusted by its ending, hidden or not.
      await unstageFiles(ctx, ctx.run, swap)
      await putBack(ctx, swap)
      await follow(
        ctx,
        new Set(statesOf(ctx).flatMap(state => anchorsOf(ctx, state).map(({ pem }) => publicKeyOf(pem) ?? ''))),
      )
    },
  }
}

const swapWith = (written: readonly Anchor[], gone: readonly string[]): Swap => ({
  ...swapOf(written.map(({ path, pem }) => ({ path, content: pem }))),
  remove: gone,
})

/** Has the machine take what lies in its folder, and sees that it trusts these of the keysets, and no others. */
async function follow(ctx: OnHost, keys: ReadonlySet<string>): Promise<void> {
  const updated = await updateAnchors(ctx)
  const seen = await keysOfAnchors(ctx)
  const others = statesOf(ctx).flatMap(({ items }) => items.flatMap(({ key }) => (keys.has(key) ? [] : [key])))
  if (updated && [...keys].every(key => seen.has(key)) && !others.some(key => seen.has(key))) return
  ctx.log(`${ctx.host.name} does not trust what is in its folder of CAs now, or more than that`)
}
