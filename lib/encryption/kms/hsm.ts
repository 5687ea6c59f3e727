// The key of a plugin in a PKCS#11 token: first every plugin can decrypt with the new one, then one after the other encrypts with it. The
// EncryptionConfiguration of the API servers stays as it is, and the old key stays in the token.
import { z } from 'zod'
import { HostFailedError, shown } from '../../errors.ts'
import { restartUnit } from '../../kubernetes/components/control.ts'
import {
  type RunContext,
  type Step,
  type StepContext,
  type StepDefinition,
  step,
  unchanged,
} from '../../playbook/model.ts'
import {
  type Context as AnyContext,
  backupsOf,
  countBehind,
  type Variables as Rotation,
  ids as rotation,
} from '../key-rotation/given.ts'
import { refused } from '../key-rotation/prepare.ts'
import * as stages from '../key-rotation/stages.ts'
import { undo } from '../key-rotation/way-back.ts'
import { listed } from '../standing.ts'
import { attributeOf, withKeys } from './attributes.ts'
import { pluginOf } from './key.ts'
import { lastAsked } from './log.ts'
import { healthy, oneKey, seesKey } from './plugin.ts'
import { tryPlugin } from './socket.ts'
import { tokenKeys } from './token.ts'

const label = z.string().regex(/^[^\s"=#][^\n"=#]*$/, 'the label of a key')

export const variables = {
  /** The label of the new key, which is in the token already. */
  hsm_key: label,
  /** The plugin's file on each master, with `Primary_key = LABEL`. */
  hsm_config: z.string().startsWith('/'),
  /** The plugin's unit. */
  hsm_unit: z.string().regex(/^[\w@.-]+\.service$/, 'NAME.service'),
  /** Where it answers for its health, on 127.0.0.1. Left out: only its socket is asked. */
  hsm_health_port: z.number().int().min(1).max(65_535).optional(),
  /** The PKCS#11 library on each master, the token's label, and the file that has its PIN. */
  hsm_module: z.string().startsWith('/'),
  hsm_token: label,
  hsm_pin_file: z.string().startsWith('/'),
}

type Own = Rotation & z.output<z.ZodObject<typeof variables>>
export type Context = StepContext<Own> & Pick<AnyContext, 'cluster'>

const ids = {
  read: 'read-the-plugins-file',
  token: 'look-into-the-token',
  before: 'key-of-before',
  promote: rotation.promote,
} as const

/** Reads which keys the plugin of a master has. */
export const read: StepDefinition<Context> = {
  id: ids.read,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<{ primary: string; secondary?: string }> => {
    const { hsm_config: path, hsm_key: next } = ctx.vars
    const where = `${ctx.host.name}:${path}`
    const text = await ctx.files.readText(path)
    const primary = attributeOf(text, where, 'Primary_key')
    const secondary = attributeOf(text, where, 'Secondary_key')
    if (primary === undefined)
      throw refused(
        `${where} has no Primary_key`,
        'plugin-file',
        'Say by hsm_config which file names the keys.',
        ctx.host.name,
      )
    if (primary === next)
      throw refused(
        `${where} has ${next} as its Primary_key already`,
        'nothing-to-do',
        'Name the key that is to come by hsm_key; an earlier rotation is gone on with by rekey resume.',
        ctx.host.name,
      )
    return { primary, ...(secondary !== undefined && { secondary }) }
  },
}

const keysOf = (run: RunContext<Own>, host: string) => {
  const found = run.registered<{ primary: string; secondary?: string }>(ids.read, host)
  if (!found) throw refused('nothing is known of the plugin’s file', 'not-prepared', 'Begin at the first step.', host)
  return found
}

/** Looks for the new key and that of now in the token of a master: each must be there once. A PIN that is refused is not tried again. */
export const look: StepDefinition<Context> = {
  id: ids.token,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<{ old: string; next: string }> => {
    const { hsm_module: module, hsm_token: token, hsm_pin_file: pinFile, hsm_key: next } = ctx.vars
    const keys = await tokenKeys(ctx, { module, token, pinFile })
    const idOf = (name: string) => {
      const found = keys.filter(one => one.label === name)
      if (found.length === 1) return found[0]!.id
      throw refused(
        found.length === 0
          ? `the token ${token} of ${ctx.host.name} has no key ${name}`
          : `the token ${token} of ${ctx.host.name} has ${found.length} keys with the label ${name}`,
        'token',
        found.length === 0
          ? 'Make it: pkcs11-tool --keygen --key-type AES:32 --label … --id … --sensitive; on tokens that are copies, copy it to all of them.'
          : 'Which of them encrypts nobody could say: give one of them another label.',
        ctx.host.name,
      )
    }
    return { old: idOf(keysOf(ctx, ctx.host.name).primary), next: idOf(next) }
  },
}

/** The files name the same keys, the tokens have them under the same ids, and everything lies under the key of now. */
export const compare: StepDefinition<Context> = {
  id: ids.before,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<{ keyId: string }> => {
    const { hsm_key } = ctx.vars
    const found = ctx.hosts('masters').map(({ name }) => {
      const { old, next } = ctx.registered<{ old: string; next: string }>(ids.token, name)!
      return { name, says: `${keysOf(ctx, name).primary} ${old}, ${hsm_key} ${next}` }
    })
    const groups = [...Map.groupBy(found, ({ says }) => says)]
    if (groups.length > 1)
      throw refused(
        `masters have different keys: ${groups.map(([says, hosts]) => `${hosts.map(({ name }) => name).join(', ')}: ${says}`).join(' | ')}`,
        'keys-differ',
        'What one of them writes another one could not read: the same label must be the same key, with the same id, in every token.',
      )
    const keyId = await oneKey(ctx, pluginOf(ctx).endpoint)
    const { behind } = await countBehind(ctx)
    if (behind.length > 0)
      throw refused(
        `not everything lies under ${shown(keyId)}: ${listed(behind)}`,
        'half-way',
        'An earlier rotation was not ended, or values were plain before: rotate-kms-key writes everything anew with the key of now. With a third key some of it could not be read any more.',
      )
    return { keyId }
  },
}

const keptConfigOf = (ctx: Context) => `${backupsOf(ctx)}/kms-plugin`

/** Keeps the plugin's file of a master. */
export const keepConfig: StepDefinition<Context> = {
  id: 'keep-the-plugins-file',
  plan: ctx => `copy ${ctx.vars.hsm_config} to ${keptConfigOf(ctx)}`,
  run: async ctx => {
    const [from, to] = [ctx.vars.hsm_config, keptConfigOf(ctx)]
    await ctx.$`umask 077; mkdir -p ${backupsOf(ctx)} && { [ -e ${to} ] || { cp ${from} ${to}.part && mv -f ${to}.part ${to}; }; }`
    return { path: to }
  },
  irreversible: 'a backup stays',
}

/** Writes the plugin's file of a master, and restarts the plugin where that changed it, or where it does not run by it yet. */
async function use(ctx: Context, edit: (text: string, where: string) => string): Promise<boolean> {
  const { hsm_config: path, hsm_unit: unit, hsm_health_port: port } = ctx.vars
  const before = await ctx.files.readText(path)
  const after = edit(before, `${ctx.host.name}:${path}`)
  if (after !== before) {
    const [bits = '', owner] = (await ctx.$({ quiet: true })`stat -L -c '%a %u:%g' ${path}`).stdout.trim().split(' ')
    await ctx.files.write(path, after, { mode: Number.parseInt(bits, 8), owner })
  }
  // Also where it is as it shall be: a run that was cut off may have written it, and no more.
  await restartUnit(ctx, unit)
  await healthy(ctx, pluginOf(ctx).endpoint, port)
  return after !== before
}

const changed = (did: boolean) => (did ? { changed: true } : unchanged())

/** Has the plugin of a master decrypt with the new key, too. */
export const addKey: StepDefinition<Context> = {
  id: 'decrypt-with-the-new-key',
  plan: ctx => `Secondary_key = ${ctx.vars.hsm_key} in ${ctx.vars.hsm_config}, and restart ${ctx.vars.hsm_unit}`,
  run: async ctx => {
    const { primary } = keysOf(ctx, ctx.host.name)
    const did = await use(ctx, (text, where) => withKeys(text, where, primary, ctx.vars.hsm_key))
    await requireKey(ctx, ctx.registered<{ keyId: string }>(ids.before)!.keyId)
    return changed(did)
  },
  rollback: async ctx => {
    const kept = await ctx.files.readText(keptConfigOf(ctx))
    await use(ctx, () => kept)
    await requireKey(ctx, ctx.registered<{ keyId: string }>(ids.before)!.keyId)
  },
}

/** The key that a plugin encrypts with must be the one that was meant. */
async function requireKey(ctx: Context, wanted: string): Promise<void> {
  const keyId = await tryPlugin(ctx, pluginOf(ctx).endpoint)
  if (keyId === wanted) return
  throw new HostFailedError(
    `the plugin of ${ctx.host.name} encrypts with ${shown(keyId)}, and not with ${shown(wanted)}`,
    {
      code: 'encryption.other-key',
      host: ctx.host.name,
      hint: 'Is hsm_config the file that it reads, and hsm_unit its unit? A rollback puts the file of before back.',
    },
  )
}

/** The id of a key as plugins tell it: what the token has, as a UUID. */
const uuid = (id: string) => id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

/** Has the plugin of a master encrypt with the new key: every other one decrypts with it already. Its API server must have been told of it. */
export const promoteKey: StepDefinition<Context> = {
  id: ids.promote,
  plan: ctx => `Primary_key = ${ctx.vars.hsm_key} in ${ctx.vars.hsm_config}, and restart ${ctx.vars.hsm_unit}`,
  run: async ctx => {
    const { primary } = keysOf(ctx, ctx.host.name)
    const did = await use(ctx, (text, where) => withKeys(text, where, ctx.vars.hsm_key, primary))
    const keyId = uuid(ctx.registered<{ next: string }>(ids.token, ctx.host.name)!.next)
    await requireKey(ctx, keyId)
    await seesKey(ctx, pluginOf(ctx).name, keyId)
    return changed(did)
  },
}

/** The plugins of all masters have the new key, and each decrypts what the first one has encrypted. */
export const sameKey: StepDefinition<Context> = {
  id: 'same-key-everywhere',
  readOnly: true,
  runOnce: true,
  undoneWith: ids.promote,
  when: ({ check }) => !check,
  run: async ctx => ({ keyId: await oneKey(ctx, pluginOf(ctx).endpoint) }),
}

/** The log of the plugin names the new key. */
export const logged: StepDefinition<Context> = {
  id: 'new-key-in-the-log',
  readOnly: true,
  undoneWith: ids.promote,
  when: ({ check }) => !check,
  run: async ctx => {
    const keyId = uuid(ctx.registered<{ next: string }>(ids.token, ctx.host.name)!.next)
    const found = await lastAsked(ctx, ctx.vars.hsm_unit, keyId)
    if (!found)
      throw new HostFailedError(`the log of ${ctx.vars.hsm_unit} on ${ctx.host.name} does not name ${keyId}`, {
        code: 'encryption.log',
        host: ctx.host.name,
        hint: 'Does another plugin answer at that socket? Nothing was dropped.',
      })
    return { line: found.line }
  },
}

/** Has the plugin of a master encrypt with the old key again. */
const oldKeyFirst: StepDefinition<Context> = {
  run: async ctx => {
    const { primary } = keysOf(ctx, ctx.host.name)
    const { keyId } = ctx.registered<{ keyId: string }>(ids.before)!
    const did = await use(ctx, (text, where) => withKeys(text, where, primary, ctx.vars.hsm_key))
    await requireKey(ctx, keyId)
    await seesKey(ctx, pluginOf(ctx).name, keyId)
    return changed(did)
  },
}

/** The way back once a plugin encrypts with the new key: the file of before comes back when the step that added the key is undone, after this. */
export const wayBack: readonly Step<Context>[] = [
  step('Have every plugin encrypt with the old key', undo('old-key-first', oldKeyFirst)),
  step('Write everything anew with the old key', undo<Context>('write-everything-anew', stages.reencrypt)),
  step('Count what lies in etcd under which key', undo<Context>('count', stages.counted('undo-count'))),
]
