// The keys of new CAs that controller-managers are to sign with: they leave Vault once, when they are made, and wait on the masters until they
// are promoted.
import { join } from 'node:path'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import { mountOf } from '../../../pki/specs.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { type Mounts, madeSoFar, plansOf } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { nothing, type OnHost } from '../../given/context.ts'
import { masters } from '../../given/hosts.ts'
import { destroyFolders, keptFolder } from '../kept.ts'
import { type Item, type KeysetState, statesOf } from '../state.ts'

/** What the controller-managers are to sign with once it is promoted: it has left Vault this one time. */
const keyMade = (ctx: OnHost<Mounts>, { authority }: KeysetState) =>
  madeSoFar(ctx)?.[mountOf({ authority }, plansOf(ctx))]

const madeFolders = (ctx: OnHost<Mounts & BackupVariables>) =>
  statesOf(ctx).flatMap(state => {
    const made = keyMade(ctx, state)
    const id = publicKeyOf(made?.certificate ?? '')?.slice(0, 8)
    return made?.key && id ? [{ folder: keptFolder(ctx, state.name, id), ...made, key: made.key }] : []
  })

/** Keeps the keys of new CAs that go to the masters, for root alone, until they are promoted. */
export const keepNewKeys: StepDefinition<OnHost<Mounts & BackupVariables>> = {
  id: 'keep-the-keys-of-the-new-cas',
  when: ctx => ctx.check || madeFolders(ctx).length > 0,
  plan: ctx =>
    plansOf(ctx).flatMap(({ keyOnMasters, mount }) => (keyOnMasters ? [`keep the key of the new CA in ${mount}`] : [])),
  run: async ctx => {
    for (const { folder, certificate, key } of madeFolders(ctx)) {
      await ctx.$`umask 077; mkdir -p ${folder}; chmod 700 ${folder}`
      await ctx.files.write(join(folder, 'ca.key'), key, { mode: 0o600 })
      await ctx.files.write(join(folder, 'ca.crt'), certificate, { mode: 0o600 })
    }
  },
  rollback: ctx =>
    destroyFolders(
      ctx,
      madeFolders(ctx).map(({ folder }) => folder),
    ),
}

/** Keeps the time from which on pods have got a new CA as they were started, where a stage is over that published it. */
export const keepPublished: StepDefinition<OnHost<Mounts & BackupVariables>> = {
  id: 'keep-since-when-pods-get-the-new-cas',
  when: ctx => ctx.check || madeFolders(ctx).length > 0,
  plan: () => [],
  run: async ctx => {
    const files = madeFolders(ctx).map(({ folder }) => join(folder, publishedFile))
    // Run again for a host that was away, it stays: pods of that one have been started earlier, or since.
    await ctx.$`umask 077; for f in ${files}; do [ -s "$f" ] || { date +%s >"$f.new" && mv -f "$f.new" "$f"; }; done`
  },
  // It goes with its folder.
  rollback: nothing,
}

const publishedFile = 'published-since'

/** That time, by the clock of a master; undefined where none has kept it. */
export async function reachedPodsAt(
  ctx: OnHost<BackupVariables>,
  { name }: KeysetState,
  { id }: Pick<Item, 'id'>,
): Promise<Date | undefined> {
  const path = join(keptFolder(ctx, name, id), publishedFile)
  for (const host of ctx.hosts(masters)) {
    const { files } = await ctx.on(host)
    if (!(await files.exists(path))) continue
    const seconds = Number((await files.readText(path)).trim())
    if (seconds > 0) return new Date(seconds * 1_000)
  }
  return undefined
}
