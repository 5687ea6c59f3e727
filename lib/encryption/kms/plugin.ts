// A second KMS plugin beside the first: placed and tried before any API server hears of it, and the first one taken away once its own log says that
// nobody asks it. What is between, the stages of every rotation do (key-rotation/).
import { randomBytes } from 'node:crypto'
import { basename, isAbsolute, normalize } from 'node:path'
import { z } from 'zod'
import { HostFailedError, shown } from '../../errors.ts'
import { getFromLoopback } from '../../kubernetes/api/loopback.ts'
import type { FileOptions } from '../../operations/files/file.ts'
import type { TemplateOptions } from '../../operations/files/template.ts'
import { socketOf } from '../../operations/grpc/call.ts'
import type { ServiceOptions } from '../../operations/system/service.ts'
import { waitFor } from '../../operations/wait.ts'
import { ownFile } from '../../package.ts'
import type { HostSession, RunContext, StepContext, StepDefinition } from '../../playbook/model.ts'
import { isTimeout } from '../configuration.ts'
import { keyIdHashOf, readInForce } from '../in-force.ts'
import {
  type Context as AnyContext,
  apiServerOn,
  planOf,
  type Variables as Rotation,
  ids as rotation,
  seconds,
  seenOf,
} from '../key-rotation/given.ts'
import { planned, refused } from '../key-rotation/prepare.ts'
import { lastAsked } from './log.ts'
import { openWith, pluginKeyId, sealWith, tryPlugin } from './socket.ts'

export const variables = {
  /** What API servers are to call the new plugin. Values in etcd begin with it. */
  kms_name: z.string().regex(/^[^:\s]+$/, 'a name without colons and spaces'),
  /** Its socket, at a path that is the same where API servers run. */
  kms_endpoint: z.string().regex(/^unix:\/\/\/[^@\s]\S*$/, 'unix:///PATH'),
  /** How long API servers wait for it. */
  kms_timeout: z.string().refine(isTimeout, 'a duration above 0, such as 3s').default('3s'),
  /** Where it answers for its health, on 127.0.0.1. Left out: only its socket is asked. */
  kms_health_port: z.number().int().min(1).max(65_535).optional(),
  /**
   * What it is made of on each master: its unit or its pod's manifest, what it is configured by. `src` is a template: a path on this machine that
   * begins with `/`, or one of rekey's own in `templates/kms`. Variables of the inventory that begin with `kms_` are there, as `.kms_…`.
   */
  kms_files: z
    .array(
      z.object({
        src: z.string(),
        dest: z.string().startsWith('/'),
        mode: z
          .string()
          .regex(/^0?[0-7]{3}$/, 'a mode such as 0600')
          .default('0600'),
      }),
    )
    .default([]),
  /** The plugin of before, to be taken away at the end: its unit, or the manifest of its pod. Left out: it stays. */
  kms_old: z
    .string()
    .regex(/^(\/\S+\.(ya?ml|json)|[\w@.-]+\.service)$/, 'NAME.service, or the path of a manifest')
    .optional(),
  /** What lines of its log have in which it tells of a request: an expression of grep -Ei. */
  kms_asked: z.string().default('status|encrypt|decrypt'),
}

type Own = Rotation & z.output<z.ZodObject<typeof variables>>
export type Context = StepContext<Own> & Pick<AnyContext, 'cluster'>

const ids = { try: 'try-the-plugin' } as const

/** From what is written with now to the new plugin. */
export const plan: StepDefinition<Context> = planned<Context>(({ vars }, old) => {
  const { kms_name: name, kms_endpoint: endpoint, kms_timeout: timeout } = vars
  if (old.kind === 'kms' && (old.name === name || old.endpoint === endpoint))
    throw refused(
      `the KMS plugin ${old.name} at ${old.endpoint} is what values are written with now`,
      'same-plugin',
      'The second one needs a name and a socket of its own: -e kms_name=… -e kms_endpoint=unix:///…',
    )
  return { kind: 'kms', name, endpoint, timeout }
})

/**
 * Nothing that the new plugin is made of takes the place of what the old one's unit or manifest is, or names: it is needed until nobody asks it any
 * more, and on the way back.
 */
export const ownFiles: StepDefinition<Context> = {
  id: 'files-of-its-own',
  readOnly: true,
  // Its manifest may be gone when a run is gone on with.
  remember: true,
  when: ctx => hasOld(ctx),
  run: async ctx => {
    const old = ctx.vars.kms_old!
    const text = isUnit(old)
      ? (await ctx.$({ quiet: true })`systemctl cat ${old}`).stdout
      : await ctx.files.readText(old)
    const words = [old, ...text.split(/[\s"'=,:;[\]{}]+/)]
    const named = new Set(words.map(word => normalize(word.slice(word.indexOf('/')))))
    const isOfUnit = (path: string) => path.split('/').some(part => part === old || part === `${old}.d`)
    const taken = ctx.vars.kms_files
      .map(({ dest }) => normalize(dest))
      .filter(dest => named.has(dest) || isOfUnit(dest))
    if (taken.length > 0)
      throw refused(
        `kms_files would take the place of what the old KMS plugin of ${ctx.host.name} lives by: ${taken.join(', ')}`,
        'old-plugins-files',
        `${old} is it, or names it. Give the new plugin files of its own; what both read, and is there, need not be placed.`,
        ctx.host.name,
      )
  },
}

/** What the new plugin is made of, for `template`. */
export function placed({ vars, host }: Context): TemplateOptions[] {
  const names = Object.keys(host.vars).filter(name => name.startsWith('kms_'))
  const own = Object.fromEntries(names.map(name => [name, host.vars[name]]))
  return vars.kms_files.map(({ src, dest, mode }) => ({
    ...{ dest, mode: Number.parseInt(mode, 8), secret: true, engine: 'consul-template' as const },
    src: isAbsolute(src) ? src : ownFile('templates', 'kms', src),
    vars: { ...own, ...vars, kms_socket: socketOf(vars.kms_endpoint) },
  }))
}

const isUnit = (path: string) => path.endsWith('.service')

/** The units of the new plugin, for `service`: a pod is started by its kubelet. */
export const units = ({ vars }: Context): ServiceOptions[] =>
  vars.kms_files
    .filter(({ dest }) => isUnit(dest))
    .map(({ dest }) => ({ name: basename(dest), state: 'restarted', enabled: true, daemonReload: true }))

export const hasUnits = (ctx: Context) => units(ctx).length > 0

/** Waits until the new plugin of a master is healthy, and has it encrypt and decrypt over its socket. */
export const tried: StepDefinition<Context> = {
  id: ids.try,
  readOnly: true,
  when: ({ check }) => !check,
  run: async (ctx): Promise<{ keyId: string }> => {
    const { kms_endpoint: endpoint, kms_health_port: port } = ctx.vars
    await healthy(ctx, endpoint, port)
    const keyId = await tryPlugin(ctx, endpoint)
    ctx.log(`encrypts and decrypts with ${shown(keyId)}`)
    return { keyId }
  },
}

/**
 * Waits until a plugin answers, and says where it is asked for it that it is well.
 * @throws HostFailedError with what it answered last
 */
export async function healthy(
  ctx: HostSession & Pick<RunContext, 'signal'>,
  endpoint: string,
  port: number | undefined,
): Promise<void> {
  const { name } = ctx.host
  const options = { within: seconds(60), every: 500, signal: ctx.signal, host: name }
  if (port !== undefined)
    await waitFor(`the KMS plugin of ${name} to be healthy at 127.0.0.1:${port}`, options, async () =>
      /^\s*ok\s*$/.test((await getFromLoopback(ctx, port, '/healthz')) ?? ''),
    )
  const socket = socketOf(endpoint)
  await waitFor(`the KMS plugin of ${name} to answer at ${endpoint}`, options, async () => {
    const { exitCode } = await ctx.$({ quiet: true, nothrow: true })`[ -S ${socket} ]`
    return exitCode === 0 && (await pluginKeyId(ctx, endpoint)) !== ''
  })
}

/** The plugins of all masters have one key, which is another than that of before: each decrypts what the first one has encrypted. */
export const sameKey: StepDefinition<Context> = {
  id: rotation.sameKey,
  readOnly: true,
  // The old plugin is not there any more, perhaps, when a run is gone on with.
  remember: true,
  runOnce: true,
  when: ({ check }) => !check,
  run: async ctx => {
    const keyId = await oneKey(ctx, ctx.vars.kms_endpoint)
    const { old } = planOf(ctx)
    if (old.kind === 'kms' && (await pluginKeyId(ctx, old.endpoint)) === keyId)
      throw refused(
        `the new KMS plugin has the key of the old one, ${shown(keyId)}`,
        'same-key',
        'Nothing would be rotated. Give it another key.',
      )
    return { keyId }
  },
}

/** The plugin whose key is rotated, where it is the same before and after. */
export function pluginOf(ctx: Parameters<typeof planOf>[0]): { readonly name: string; readonly endpoint: string } {
  const { next } = planOf(ctx)
  if (next.kind !== 'kms')
    throw refused('values are not written by a KMS plugin', 'no-plugin', 'Begin at the first step.')
  return next
}

/**
 * Asks the plugins of all masters at a socket for their key, and has each decrypt what the first one has encrypted.
 * @returns the id of the key
 * @throws HostFailedError where they have different ones
 */
export async function oneKey(ctx: AnyContext, endpoint: string): Promise<string> {
  const [first, ...others] = ctx.hosts('masters')
  const plaintext = randomBytes(32)
  const sealed = await sealWith(await ctx.on(first!), endpoint, plaintext)
  for (const host of others) {
    const { name } = host
    const session = await ctx.on(host)
    const keyId = await pluginKeyId(session, endpoint)
    if (keyId !== sealed.keyId)
      throw refused(
        `the KMS plugin of ${name} has the key ${shown(keyId)}, that of ${first!.name} has ${shown(sealed.keyId)}`,
        'keys-differ',
        'What one master writes another one could not read: give all plugins the same key.',
        name,
      )
    if (!plaintext.equals(await openWith(session, endpoint, sealed)))
      throw refused(
        `the KMS plugin of ${name} does not decrypt what that of ${first!.name} has encrypted with ${shown(keyId)}`,
        'keys-differ',
        'Two keys have one id: what one master writes another one could not read.',
        name,
      )
  }
  return sealed.keyId
}

/**
 * Waits until the API server of a master has been told of a key by its plugin. It asks once a minute; to be asked for its health has it ask at
 * once, where that is 20 s ago.
 * @throws HostFailedError where it has not within two minutes
 */
export async function seesKey(ctx: AnyContext, name: string, keyId: string, session: HostSession = ctx): Promise<void> {
  const hash = keyIdHashOf(keyId)
  const { host } = session
  const api = await ctx.cluster.apiOf(host)
  await waitFor(
    `the API server of ${host.name} to have the key ${shown(keyId)} of the KMS plugin ${name}`,
    { within: seconds(120), every: seconds(2), signal: ctx.signal, host: host.name },
    async () => {
      const { health, plugins } = await readInForce(session, apiServerOn(ctx, host.name), api)
      return health === 'ok' && plugins.find(one => one.name === name)?.keyIdHash === hash
    },
  )
}

/** Every API server has been told of the new plugin's key by the plugin itself. */
export const seen: StepDefinition<Context> = {
  id: 'api-servers-have-its-key',
  readOnly: true,
  when: ({ check }) => !check,
  run: ctx => seesKey(ctx, ctx.vars.kms_name, ctx.registered<{ keyId: string }>(ids.try, ctx.host.name)!.keyId),
}

/** While API servers still have the old plugin they ask it once a minute: a log that does not tell of that would later pass for silence. */
export const oldIsLogged: StepDefinition<Context> = {
  id: 'old-plugin-logs-requests',
  readOnly: true,
  remember: true,
  when: ctx => !ctx.check && hasOld(ctx),
  run: async ctx => {
    const { kms_old: old, kms_asked: pattern } = ctx.vars
    const last = await lastAsked(ctx, old!, pattern, nodeOf(ctx))
    if (last !== undefined && last.ago < 120) return { ago: last.ago }
    throw silent(ctx, last && `the last one ${last.ago.toFixed(0)} s ago`)
  },
}

/** What the kubelet of a master was told to call itself, where it runs the old plugin. */
const nodeOf = (ctx: Context) =>
  oldIsUnit(ctx) ? undefined : seenOf(ctx, ctx.host.name).layout.components.kubelet?.flags['hostname-override']?.at(-1)

const silent = ({ vars, host }: Context, what = 'none') =>
  refused(
    `the log of ${vars.kms_old} on ${host.name} names no request: ${what}`,
    'silent-log',
    'It proves nothing then. Say by kms_asked what its lines of requests have in them, or leave out kms_old and take the old plugin away yourself.',
    host.name,
  )

/**
 * The log of the old plugin proves that no API server asks it any more.
 * @param quiet for how many seconds nobody may have asked it: API servers ask those that they know once a minute
 * @param within how long that is waited for, in milliseconds
 */
export const unaskedFor = (quiet: number, within = seconds(240)): StepDefinition<Context> => ({
  id: 'nobody-asks-the-old-plugin',
  readOnly: true,
  // What comes next takes it away: there is nothing to be asked then.
  remember: true,
  when: ctx => !ctx.check && hasOld(ctx),
  run: async ctx => {
    const { kms_old: old, kms_asked: pattern } = ctx.vars
    const { name } = ctx.host
    let last = await lastAsked(ctx, old!, pattern, nodeOf(ctx))
    if (last === undefined) throw silent(ctx)
    try {
      await waitFor(
        `${quiet} s without a request in the log of ${old} on ${name}`,
        { within, every: seconds(3), signal: ctx.signal, host: name },
        async () => {
          const found = await lastAsked(ctx, old!, pattern, nodeOf(ctx))
          // Other lines pushed it out of what is looked through: what was asked meanwhile would be, too.
          if (found === undefined) return false
          last = found
          return found.ago >= quiet
        },
      )
    } catch (error) {
      if (!(error instanceof HostFailedError) || error.cause !== undefined) throw error
      throw refused(
        `the old KMS plugin of ${name} is still asked: ${shown(last.line, 200)}`,
        'still-asked',
        'It was left running. Find by `rekey encryption` which API server still has it among its providers.',
        name,
      )
    }
    ctx.log(`asked last ${last.ago.toFixed(0)} s ago`)
    return { ago: last.ago }
  },
})

const hasOld = ({ vars }: Context) => vars.kms_old !== undefined
export const oldIsUnit = ({ vars }: Context) => vars.kms_old !== undefined && isUnit(vars.kms_old)
export const oldIsPod = (ctx: Context) => hasOld(ctx) && !oldIsUnit(ctx)

/** The old plugin, where it is a unit, for `service`: its file stays. */
export const oldUnit = ({ vars }: Context): ServiceOptions => ({
  name: vars.kms_old!,
  state: 'stopped',
  enabled: false,
})
/** The old plugin, where it is a pod, for `file`: its kubelet ends it. */
export const oldPod = ({ vars }: Context): FileOptions => ({ path: vars.kms_old!, state: 'absent' })

/** With the old plugin gone, every API server is ready, and its plugins are well. */
export const wellWithout: StepDefinition<Context> = {
  id: 'well-without-the-old-plugin',
  readOnly: true,
  when: ctx => !ctx.check && hasOld(ctx),
  run: async ctx => {
    await ctx.cluster.apiServerReady(ctx.host, { within: seconds(120), signal: ctx.signal })
    await seen.run(ctx)
  },
}
