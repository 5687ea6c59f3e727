// The stages of a rotation: every server reads with the new key before any writes with it, everything is written anew before the old one goes, and
// each step's word for it is what servers say of themselves and what etcd's bytes are.
import { createHash } from 'node:crypto'
import { secret } from '../../connection/shell.ts'
import { HostFailedError, RekeyError } from '../../errors.ts'
import { readComponentFile, writeComponentFile } from '../../kubernetes/components/files.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type EncryptionConfiguration, type EncryptionRule, nameOf, readConfiguration } from '../configuration.ts'
import { addReader, drop, hasKey, type NewKey, promote } from '../edit.ts'
import { readInForce } from '../in-force.ts'
import { reencrypt as rewrite } from '../rewrite/reencrypt.ts'
import { apiResources } from '../rewrite/resources.ts'
import { listed } from '../standing.ts'
import {
  apiServerOn,
  type Context,
  changedIf,
  configurationOf,
  countBehind,
  fileOn,
  ids,
  meant,
  nameOfKey,
  newKeyOf,
  type Plan,
  planOf,
  rotated,
  seconds,
} from './given.ts'
import { keptFileOf } from './prepare.ts'

export { canary } from './canary.ts'

/** Changes the file of a master, where links lead to it, with its mode and owner as they are. Returns whether it did. */
async function editFile(ctx: Context, edit: (text: string, where: string) => string): Promise<boolean> {
  const { name } = ctx.host
  const apiServer = apiServerOn(ctx, name)
  const before = await readComponentFile(ctx, apiServer, 'encryption')
  const after = edit(before, `${name}:${fileOn(ctx, name)}`)
  if (after === before) return false
  await writeComponentFile(ctx, apiServer, 'encryption', secret(after, { parts: keysIn(after) }))
  return true
}

/** The secrets of keys in a file, which were told to be secret when it was read. */
const keysIn = (text: string) =>
  [...text.matchAll(/secret["']?\s*:\s*["']?([A-Za-z0-9+/=]{16,})/g)].map(([, key]) => key!)

/** Adds the new key as one that is read with. Undone by the file of before, byte for byte: nothing lies under the new key then. */
export const addKey: StepDefinition<Context> = {
  id: 'add-the-key',
  plan: ctx => `add ${nameOfKey(planOf(ctx).next)} to ${fileOn(ctx, ctx.host.name)}, as what is read with`,
  run: async ctx =>
    changedIf(await editFile(ctx, (text, where) => addReader(text, where, newKeyOf(ctx), meant(planOf(ctx))))),
  rollback: async ctx => {
    await putBack(ctx)
    await takenUp(ctx)
  },
}

/** Puts the file of before back, whether or not its server takes it up by itself. */
export const fileBack: StepDefinition<Context> = { run: putBack }

async function putBack(ctx: Context): Promise<void> {
  const kept = await ctx.files.readText(keptFileOf(ctx))
  await editFile(ctx, (text, where) => {
    const { rules } = readConfiguration(kept, where)
    const { next } = planOf(ctx)
    const isMeant = meant(planOf(ctx))
    // Rules that let plain values in before go on to do so.
    const hadIt = ({ resources }: EncryptionRule) =>
      rules.some(one => `${one.resources}` === `${resources}` && one.providers.some(({ kind }) => kind === 'identity'))
    const added = (rule: EncryptionRule) => isMeant(rule) && !(next.kind === 'identity' && hadIt(rule))
    const now = drop(text, where, next, added)
    if (shapeOf(readConfiguration(now, where).rules) === shapeOf(rules)) return kept
    throw new HostFailedError(`${where} was changed by somebody else since this run began`, {
      code: 'encryption.changed-meanwhile',
      host: ctx.host.name,
      hint: `What it was lies at ${keptFileOf(ctx)}: take ${nameOfKey(next)} out of the file yourself, on every master.`,
    })
  })
}

/** Which keys a file has, in their order. */
const shapeOf = (rules: readonly EncryptionRule[]) =>
  rules.map(({ resources, providers }) => `${resources.join(',')}: ${providers.map(nameOf).join('; ')}`).join('\n')

/** Makes the new key the one that is written with. */
export const promoteKey: StepDefinition<Context> = {
  id: ids.promote,
  plan: ctx => `make ${nameOfKey(planOf(ctx).next)} what is written with, in ${fileOn(ctx, ctx.host.name)}`,
  run: async ctx =>
    changedIf(await editFile(ctx, (text, where) => promote(text, where, planOf(ctx).next, meant(planOf(ctx))))),
}

/** Drops the old key, once nothing lies under it. */
export const dropKey: StepDefinition<Context> = {
  id: 'drop-the-old-key',
  plan: ctx => `take ${nameOfKey(planOf(ctx).old)} out of ${fileOn(ctx, ctx.host.name)}`,
  undoneWith: ids.promote,
  run: async ctx =>
    changedIf(await editFile(ctx, (text, where) => drop(text, where, planOf(ctx).old, meant(planOf(ctx))))),
}

/**
 * Waits until the API server of a master goes by its file as it is now. Servers look at it once a minute, each by its own clock, and count for ever
 * how often they failed: what counts is a failure while it is waited for, not one of before that a resumed run or the way back is the answer to.
 */
async function takenUp(ctx: Context, every = seconds(5)): Promise<string | undefined> {
  const { name } = ctx.host
  const api = await ctx.cluster.apiOf(ctx.host)
  let before: number | undefined
  const state = await waitFor(
    `the API server of ${name} to take up its file`,
    { within: seconds(180), every, signal: ctx.signal, host: name },
    async () => {
      const now = await readInForce(ctx, apiServerOn(ctx, name), api)
      // A server that was started meanwhile counts from 0.
      before = Math.min(before ?? now.failures, now.failures)
      return now.agrees === 'yes' || now.agrees === 'presumably' || now.failures > before ? now : undefined
    },
  )
  if (state.agrees === 'no' || state.agrees === 'unknown')
    throw new HostFailedError(`the API server of ${name} does not take up its file`, {
      code: 'encryption.not-taken-up',
      host: name,
      hint: 'It goes on with what it had, and would not start with this file. Its log says what is wrong; a rollback puts the old file back.',
    })
  return state.hash
}

/** The gate between stages: every server goes by its file, and all files are the same. */
export const converged = (id: string, every?: number): StepDefinition<Context> => ({
  id,
  readOnly: true,
  when: ({ check }) => !check,
  run: async ctx => ({ hash: await takenUp(ctx, every) }),
})

/**
 * All files are the same, and are what this stage has made of them: nobody put one back, or changed it, beside this run. It is looked at anew when
 * a run is gone on with. Then some may be further already: they are held against each other as what they come to in the end, which of a file that
 * is not as far as this stage can't be made.
 * @param gate the wait before it: what each server has in force
 * @param stage whether they read with the new key, or write with it
 */
export const equal = (id: string, gate: string, stage: 'read' | 'write'): StepDefinition<Context> => ({
  id,
  readOnly: true,
  runOnce: true,
  when: ({ check }) => !check,
  run: async ctx => {
    const masters = ctx.hosts('masters')
    const ends = new Map<string, string>()
    for (const host of masters) ends.set(host.name, await endOf(ctx, host, gate, stage))
    const groups = [...Map.groupBy(masters, ({ name }) => ends.get(name)!)]
    if (groups.length === 1) return { hash: groups[0]![0] }
    throw differing(groups.map(([, hosts]) => hosts.map(({ name }) => name).join(', ')).join(' | '))
  },
})

/** The hash of what the file of a master comes to in the end. */
async function endOf(ctx: Context, host: Host, gate: string, stage: 'read' | 'write'): Promise<string> {
  const plan = planOf(ctx)
  const where = `${host.name}:${fileOn(ctx, host.name)}`
  const text = await readComponentFile(await ctx.on(host), apiServerOn(ctx, host.name), 'encryption')
  const inForce = ctx.registered<{ hash: string }>(gate, host.name)?.hash
  if (inForce !== sha256(text)) throw differing(`what its server took up, and ${where}`)
  try {
    const written = stage === 'read' ? promote(text, where, plan.next, meant(plan)) : text
    return sha256(drop(written, where, plan.old, meant(plan)))
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    throw differing(`what this run wrote, and ${where}`, error)
  }
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const differing = (where: string, cause?: RekeyError) =>
  new HostFailedError(`the files are not the same: ${where}${cause ? ` (${cause.message})` : ''}`, {
    code: 'encryption.servers-differ',
    cause,
    hint: 'Somebody changed one of them meanwhile (configuration management?). What one server writes another one may not read: make them equal, and go on.',
  })

/** Has every object written anew. Begun again, it passes over what is written anew already. */
export const reencrypt: StepDefinition<Context> = {
  id: 'write-everything-anew',
  plan: ctx => `patch every object of ${planOf(ctx).resources.flat().join(', ')} with nothing`,
  undoneWith: ids.promote,
  runOnce: true,
  run: async ctx => {
    const configuration = await configurationOf(ctx, ctx.hosts('masters')[0]!.name)
    const api = await ctx.cluster.api()
    const resources = await apiResources(api, rotated(configuration, planOf(ctx)), ctx.signal)
    const { behind } = await countBehind(ctx)
    const total = behind.reduce((all, { count }) => all + count, 0)
    const done = await rewrite(api, resources, {
      total,
      signal: ctx.signal,
      progress: ({ done, rate, left }) =>
        ctx.log(
          `${done} of ${total}, ${rate.toFixed(0)} a second${left === undefined ? '' : `, ${left.toFixed(0)} s left`}`,
        ),
    })
    ctx.log(`${done.done} objects in ${done.seconds.toFixed(1)} s, ${done.gone} were deleted meanwhile`)
    return done
  },
}

/** The gate before anything is dropped: nothing of it lies under another key. A value alone is enough to stop it. */
export const counted = (id: string): StepDefinition<Context> => ({
  id,
  undoneWith: ids.promote,
  readOnly: true,
  runOnce: true,
  when: ({ check }) => !check,
  run: async ctx => {
    const { behind, covered } = await countBehind(ctx)
    if (behind.length > 0)
      throw new HostFailedError(`not everything lies under ${nameOfKey(planOf(ctx).next)}: ${listed(behind)}`, {
        code: 'encryption.left-behind',
        hint: 'Nothing was dropped. Go on with the run to have it written anew; what can not be read is named by `rekey encryption`.',
      })
    ctx.log(`all ${covered} values lie as they should`)
    return { covered }
  },
})

/** Puts the old key back as one to read with, where it was dropped: as it stands in the file that was kept. */
export const oldKeyBack: StepDefinition<Context> = {
  run: async ctx => {
    const plan = planOf(ctx)
    await requireNoLater(ctx, plan)
    const kept = readConfiguration(await ctx.files.readText(keptFileOf(ctx)), keptFileOf(ctx))
    const key = oldKeyIn(kept, plan)
    if (key) return changedIf(await editFile(ctx, (text, where) => addReader(text, where, key, meant(plan))))
    throw new HostFailedError(`${keptFileOf(ctx)} has no ${nameOfKey(plan.old)}`, {
      code: 'encryption.no-such-key',
      host: ctx.host.name,
      hint: 'Somebody changed what this run kept of the file. Another master may have it still: copy it from there, and undo again.',
    })
  },
}

/** Values may lie under what a later rotation has brought: the way back of this one would not count those, and its file of before has no such key. */
async function requireNoLater(ctx: Context, plan: Plan): Promise<void> {
  const { name } = ctx.host
  const { rules } = await configurationOf(ctx, name)
  // A file that somebody has put back has the old one.
  if (rules.filter(meant(plan)).every(rule => hasKey(rule, plan.next) || hasKey(rule, plan.old))) return
  throw new HostFailedError(`${name}:${fileOn(ctx, name)} has ${nameOfKey(plan.next)} no more`, {
    code: 'encryption.changed-meanwhile',
    host: name,
    hint: 'Somebody has rotated further since: undo that run first. Nothing was changed.',
  })
}

/** The key that was rotated from, with what it is. */
function oldKeyIn({ rules }: EncryptionConfiguration, plan: Plan): NewKey | undefined {
  const { old } = plan
  if (old.kind === 'identity' || old.kind === 'kms') return old
  return rules
    .filter(meant(plan))
    .flatMap(({ providers }) => providers)
    .flatMap(one => (one.kind === old.kind ? one.keys.map(own => ({ ...own, kind: old.kind })) : []))
    .find(({ name }) => name === old.name)
}

/** Makes the old key the one that is written with again. */
export const oldKeyFirst: StepDefinition<Context> = {
  run: async ctx =>
    changedIf(await editFile(ctx, (text, where) => promote(text, where, planOf(ctx).old, meant(planOf(ctx))))),
}
