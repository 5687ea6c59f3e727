// The key of a plugin in a PKCS#11 token: first every plugin can decrypt with the new one, then one after the other encrypts with it. The
// EncryptionConfiguration of the API servers stays as it is, and the old key stays in the token.
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { HostFailedError, shown } from '../../errors.ts'
import { restartUnit } from '../../kubernetes/components/control.ts'
import { rewriteFile } from '../../kubernetes/components/files.ts'
import { socketOf } from '../../operations/grpc/call.ts'
import {
  type HostSession,
  type RunContext,
  type Step,
  type StepContext,
  type StepDefinition,
  step,
} from '../../playbook/model.ts'
import {
  type Context as AnyContext,
  backupsOf,
  changedIf,
  configurationOf,
  countBehind,
  type Variables as Rotation,
  ids as rotation,
} from '../key-rotation/given.ts'
import { keepCopy, refused, requireServed } from '../key-rotation/prepare.ts'
import * as stages from '../key-rotation/stages.ts'
import { undo } from '../key-rotation/way-back.ts'
import { listed } from '../standing.ts'
import { attributeOf, withKeys } from './attributes.ts'
import { lastAsked } from './log.ts'
import { healthy, oneKey, pluginOf, seesKey } from './plugin.ts'
import { openWith, pluginKeyId, type Sealed, sealWith, tryPlugin } from './socket.ts'
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
  before: rotation.keyBefore,
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

/** What `look` registers: the ids of both keys in the token of a master, in hex. */
interface InToken {
  readonly old: string
  readonly next: string
}

const inToken = (run: RunContext<Own>, host: string) => run.registered<InToken>(ids.token, host)!

/** Looks for the new key and that of now in the token of a master: each must be there once. A PIN that is refused is not tried again. */
export const look: StepDefinition<Context> = {
  id: ids.token,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<InToken> => {
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

/** What was encrypted to try plugins with, and what of, as a step registers it: random bytes. */
interface Sample {
  readonly plaintext: string
  readonly keyId: string
  readonly ciphertext: string
  readonly annotations: readonly string[]
}

async function sampleBy(session: HostSession, endpoint: string): Promise<Sample> {
  const plaintext = randomBytes(32)
  const { keyId, ciphertext, annotations } = await sealWith(session, endpoint, plaintext)
  const [text, ...others] = [ciphertext, ...annotations].map(one => one.toString('base64'))
  return { plaintext: plaintext.toString('base64'), keyId, ciphertext: text!, annotations: others }
}

/** A plugin must decrypt what one of these keys has encrypted. */
async function requireOpens(session: HostSession, endpoint: string, sample: Sample): Promise<void> {
  const bytes = (text: string) => Buffer.from(text, 'base64')
  const { keyId, ciphertext, annotations } = sample
  const sealed: Sealed = { keyId, ciphertext: bytes(ciphertext), annotations: annotations.map(bytes) }
  let cause: unknown
  try {
    if (bytes(sample.plaintext).equals(await openWith(session, endpoint, sealed))) return
  } catch (error) {
    if (!(error instanceof HostFailedError)) throw error
    cause = error
  }
  throw new HostFailedError(
    `the plugin of ${session.host.name} does not decrypt what was encrypted with ${shown(keyId)}`,
    {
      code: 'encryption.does-not-decrypt',
      host: session.host.name,
      cause,
      hint: 'Does it know Secondary_key by that name, and may the key of the token decrypt (CKA_DECRYPT)? Its own log says more.',
    },
  )
}

/** Providers of other names at the plugin's socket: their values lie under the same key, and would not be counted, nor written anew. */
async function requireAlone(ctx: Context): Promise<void> {
  const { name, endpoint } = pluginOf(ctx)
  const { rules } = await configurationOf(ctx, ctx.hosts('masters')[0]!.name)
  const others = rules
    .flatMap(({ providers }) => providers)
    .filter(one => one.kind === 'kms')
    .filter(one => socketOf(one.endpoint) === socketOf(endpoint) && one.name !== name)
    .map(one => one.name)
  if (others.length > 0)
    throw refused(
      `the KMS plugin ${name} has other names in the file: ${others.join(', ')}`,
      'shared-plugin',
      'Their values lie under its key as well, and would not be written anew with it: a later rotation makes them unreadable. Give those rules a plugin of their own first (rotate-kms-plugin).',
    )
}

/** The files name the same keys, the tokens have them under the same ids, and everything lies under the key of now. */
export const compare: StepDefinition<Context> = {
  id: ids.before,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Before> => {
    const { hsm_key } = ctx.vars
    await requireAlone(ctx)
    const found = ctx.hosts('masters').map(({ name }) => {
      const { old, next } = inToken(ctx, name)
      return { name, says: `${keysOf(ctx, name).primary} ${old}, ${hsm_key} ${next}` }
    })
    const groups = [...Map.groupBy(found, ({ says }) => says)]
    if (groups.length > 1)
      throw refused(
        `masters have different keys: ${groups.map(([says, hosts]) => `${hosts.map(({ name }) => name).join(', ')}: ${says}`).join(' | ')}`,
        'keys-differ',
        'What one of them writes another one could not read: the same label must be the same key, with the same id, in every token.',
      )
    const { name: plugin, endpoint } = pluginOf(ctx)
    for (const host of ctx.hosts('masters')) await requireRunsBy(ctx, await ctx.on(host))
    const keyId = await oneKey(ctx, endpoint)
    // What they were told before that is what is counted by.
    for (const host of ctx.hosts('masters')) await seesKey(ctx, plugin, keyId, await ctx.on(host))
    const { behind, resources } = await countBehind(ctx)
    await requireServed(ctx, resources)
    if (behind.length > 0)
      throw refused(
        `not everything lies under ${shown(keyId)}: ${listed(behind)}`,
        'half-way',
        'An earlier rotation was not ended, or values were plain before: rotate-kms-key writes everything anew with the key of now. With a third key some of it could not be read any more.',
      )
    return { keyId, sample: await sampleBy(await ctx.on(ctx.hosts('masters')[0]!), endpoint) }
  },
}

/** What `compare` registers: the key of now, and what a plugin has encrypted with it. */
interface Before {
  readonly keyId: string
  readonly sample: Sample
}

const beforeOf = (run: RunContext<Own>) => run.registered<Before>(ids.before)!

/** What a plugin runs with must be what its file has: with Secondary_key as a third key, what it has encrypted could be read no more. */
async function requireRunsBy(ctx: Context, session: HostSession): Promise<void> {
  const { name } = session.host
  const keyId = await pluginKeyId(session, pluginOf(ctx).endpoint)
  const { old } = inToken(ctx, name)
  if (keyId === uuid(old)) return
  throw refused(
    `the plugin of ${name} runs with the key ${shown(keyId)}, and its file names ${keysOf(ctx, name).primary}, which is ${shown(uuid(old))}`,
    'not-in-force',
    'Was the file changed, and the plugin not restarted? Find out which key is meant, before either is lost. A plugin that tells its keys by other ids than the UUIDs of the token can not be rotated by this playbook.',
    name,
  )
}

const keptConfigOf = (ctx: Context) => `${backupsOf(ctx)}/kms-plugin`

/** Keeps the plugin's file of a master. */
export const keepConfig: StepDefinition<Context> = {
  id: 'keep-the-plugins-file',
  plan: ctx => `copy ${ctx.vars.hsm_config} to ${keptConfigOf(ctx)}`,
  run: async ctx => {
    const [from, to] = [ctx.vars.hsm_config, keptConfigOf(ctx)]
    await keepCopy(ctx, from, to)
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
    // Where links lead to it: the link stays.
    const real = (await ctx.$({ quiet: true })`readlink -f ${path}`).stdout.trim()
    // Some have the PIN in it.
    await rewriteFile(ctx, real, after, { secret: true })
  }
  // Also where it is as it shall be: a run that was cut off may have written it, and no more.
  await restartUnit(ctx, unit)
  await healthy(ctx, pluginOf(ctx).endpoint, port)
  return after !== before
}

/** Has the plugin of a master decrypt with the new key, too. */
export const addKey: StepDefinition<Context> = {
  id: 'decrypt-with-the-new-key',
  plan: ctx => `Secondary_key = ${ctx.vars.hsm_key} in ${ctx.vars.hsm_config}, and restart ${ctx.vars.hsm_unit}`,
  run: async ctx => {
    const { primary } = keysOf(ctx, ctx.host.name)
    const did = await use(ctx, (text, where) => withKeys(text, where, primary, ctx.vars.hsm_key))
    await requireKey(ctx, beforeOf(ctx).keyId)
    return changedIf(did)
  },
  rollback: async ctx => {
    const kept = await ctx.files.readText(keptConfigOf(ctx))
    await use(ctx, (text, where) => putBack(ctx, text, kept, where))
    await requireKey(ctx, beforeOf(ctx).keyId)
  },
}

/** The file of before. Throws where it is none of those that this run has made of it: what somebody else wrote stays. */
function putBack(ctx: Context, text: string, kept: string, where: string): string {
  const { primary } = keysOf(ctx, ctx.host.name)
  const next = ctx.vars.hsm_key
  const made = [kept, withKeys(kept, where, primary, next), withKeys(kept, where, next, primary)]
  if (made.includes(text)) return kept
  throw new HostFailedError(`${where} was changed by somebody else since this run began`, {
    code: 'encryption.changed-meanwhile',
    host: ctx.host.name,
    hint: `What it was lies at ${keptConfigOf(ctx)}: make Primary_key ${primary} again yourself, on every master, and restart the plugin.`,
  })
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

/**
 * Has the plugin of a master encrypt with the new key. Before its API server is told of it: it still decrypts what lies under the old key, and every
 * other plugin decrypts what it encrypts. Else it goes back to the old key at once.
 */
export const promoteKey: StepDefinition<Context> = {
  id: ids.promote,
  plan: ctx => `Primary_key = ${ctx.vars.hsm_key} in ${ctx.vars.hsm_config}, and restart ${ctx.vars.hsm_unit}`,
  run: async ctx => {
    const { primary } = keysOf(ctx, ctx.host.name)
    const { name, endpoint } = pluginOf(ctx)
    const keyId = uuid(inToken(ctx, ctx.host.name).next)
    let did = false
    try {
      did = await use(ctx, (text, where) => withKeys(text, where, ctx.vars.hsm_key, primary))
      await requireKey(ctx, keyId)
      await requireOpens(ctx, endpoint, beforeOf(ctx).sample)
      const sample = await sampleBy(ctx, endpoint)
      for (const host of ctx.hosts('masters'))
        if (host.name !== ctx.host.name) await requireOpens(await ctx.on(host), endpoint, sample)
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (error instanceof HostFailedError) await oldKeyAgain(ctx, error)
      throw error
    }
    await seesKey(ctx, name, keyId)
    return changedIf(did)
  },
}

/** Where a plugin was found wanting, its API server must not go on with that. Throws where that can't be had: what was found stands in it. */
async function oldKeyAgain(ctx: Context, found: HostFailedError): Promise<void> {
  try {
    await use(ctx, (text, where) => withKeys(text, where, keysOf(ctx, ctx.host.name).primary, ctx.vars.hsm_key))
    await requireKey(ctx, beforeOf(ctx).keyId)
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(
      `${found.message}; and it could not be given the old key back: ${error instanceof Error ? error.message : error}`,
      { code: 'encryption.does-not-go-back', host: ctx.host.name, cause: found, hint: found.hint },
    )
  }
}

/** The plugins of all masters have the new key, and each decrypts what the first one has encrypted. */
export const sameKey: StepDefinition<Context> = {
  id: rotation.sameKey,
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
    const keyId = uuid(inToken(ctx, ctx.host.name).next)
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

/** Has the plugins encrypt with the old key again, one after the other: a play that is undone as a whole goes over all masters at once. */
const oldKeyFirst: StepDefinition<Context> = {
  runOnce: true,
  run: async ctx => {
    const { keyId } = beforeOf(ctx)
    let did = false
    for (const host of ctx.hosts('masters')) {
      const on: Context = { ...ctx, ...(await ctx.on(host)) }
      const { primary } = keysOf(on, host.name)
      did = (await use(on, (text, where) => withKeys(text, where, primary, ctx.vars.hsm_key))) || did
      await requireKey(on, keyId)
      await seesKey(on, pluginOf(ctx).name, keyId)
    }
    return changedIf(did)
  },
}

/** The way back once a plugin encrypts with the new key: the file of before comes back when the step that added the key is undone, after this. */
export const wayBack: readonly Step<Context>[] = [
  step('Have every plugin encrypt with the old key', undo('old-key-first', oldKeyFirst)),
  step('Write everything anew with the old key', undo<Context>('write-everything-anew', stages.reencrypt)),
  step('Count what lies in etcd under which key', undo<Context>('count', stages.counted('undo-count'))),
]
