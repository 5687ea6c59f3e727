// Before the first change: what API servers go by, whether they agree, what lies in etcd, which key comes, and copies of what is changed.
import { randomBytes } from 'node:crypto'
import { dirname } from 'node:path'
import { secret } from '../../connection/shell.ts'
import { HostFailedError, shown } from '../../errors.ts'
import { saveSnapshot } from '../../kubernetes/components/etcd.ts'
import { discover } from '../../kubernetes/layout/discover.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { type EncryptionConfiguration, type EncryptionRule, nameOf, readConfiguration } from '../configuration.ts'
import { addReader, drop, type KeyRef, promote } from '../edit.ts'
import { disagreementOf, type InForce, isMountedItself, readInForce } from '../in-force.ts'
import { type Need, noteNeeds } from '../ledger/kept.ts'
import { keysIn } from '../ledger/keys.ts'
import { apiResources } from '../rewrite/resources.ts'
import { listed } from '../standing.ts'
import { calledOf } from '../stored.ts'
import {
  apiServerOn,
  backupsOf,
  type Context,
  configurationOf,
  countBehind,
  etcdOf,
  fileOn,
  ids,
  keyAfter,
  keyBefore,
  keyIdOf,
  meant,
  nameOfKey,
  type Plan,
  planOf,
  rotated,
  type Seen,
  seenOf,
  textOf,
  withSecret,
} from './given.ts'

/** What is refused before anything is changed. */
export const refused = (message: string, code: string, hint: string, host?: string) =>
  new HostFailedError(message, { code: `encryption.${code}`, hint, host })

/**
 * Reads what the API server of a master has in force: a server that can't be asked, or goes by another file, blocks.
 * @param isChanged whether the run changes that file
 */
const reading = (isChanged: boolean): StepDefinition<Context> => ({
  id: ids.read,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<Seen> => {
    const { layout } = await discover(ctx)
    const apiServer = layout.components['kube-apiserver']
    if (!ctx.host.groups.includes('masters')) return { layout }
    if (!apiServer)
      throw refused(
        `no API server runs on ${ctx.host.name}`,
        'no-server',
        'Start it: what it goes by must be known.',
        ctx.host.name,
      )
    const state = await readInForce(ctx, apiServer, await ctx.cluster.apiOf(ctx.host))
    requireFit(state, ctx.host.name)
    // Where it is started anew it sees what lies there then.
    if (isChanged && state.reloads && (await isMountedItself(ctx, apiServer)))
      throw refused(
        `the API server of ${ctx.host.name} has ${state.file} mounted by itself`,
        'file-mounted',
        'It goes on seeing the old file once another one has taken its place. Mount the folder that it is in as a whole.',
        ctx.host.name,
      )
    return { layout, file: state.file, hash: state.hash, reloads: state.reloads }
  },
})

export const read = reading(true)
/** The same where the file stays as it is. */
export const readOnly = reading(false)

/** Throws what speaks against a rotation of what an API server has in force. */
export function requireFit({ file, reloads, agrees, health, problem, configuration }: InForce, host: string): void {
  if (file === undefined)
    throw refused(
      `the API server of ${host} has no EncryptionConfiguration`,
      'no-file',
      'Begin with one whose only provider is identity: --encryption-provider-config, a file in a folder that is mounted as a whole, and best with --encryption-provider-config-automatic-reload=true.',
      host,
    )
  if (problem !== undefined)
    throw refused(problem, 'configuration', 'Mend the file first: the next start of the API server would fail.', host)
  if (agrees === 'no' || agrees === 'unknown')
    throw refused(
      `${agrees === 'no' ? 'what is in force is not what is in' : 'it is not known whether what is in force is what is in'} ${host}:${file}`,
      'not-in-force',
      reloads
        ? 'Wait until the API server has taken the file up (a minute); where it does not, its log says why.'
        : 'It reads the file only when it starts: restart it (rekey run rolling-restart -e components=kube-apiserver), or put back the file that it was started with.',
      host,
    )
  if (health !== undefined && health !== 'ok')
    throw refused(
      `the API server of ${host} is not well with its KMS plugins: ${shown(health)}`,
      'plugin-not-well',
      'What it can not read it can not write anew. Its /healthz/kms-providers and the log of the plugin say why.',
      host,
    )
  const doubt = configuration?.doubts[0]
  if (doubt !== undefined)
    throw refused(doubt, 'doubt', 'Mend it first: what lies under which key could not be told.', host)
}

/** Values that are kept in another etcd are not counted: nobody would know whether the old key may go. */
export function requireOneEtcd(ctx: Context, isRotated: (resource: string) => boolean): void {
  for (const { name } of ctx.hosts('masters')) {
    const overrides = apiServerOn(ctx, name).flags['etcd-servers-overrides'] ?? []
    // GROUP/RESOURCE#SERVER;SERVER, GROUP/RESOURCE#…
    const resources = overrides
      .flatMap(value => value.split(','))
      .map(one => /^([^/]*)\/([^#]*)/.exec(one.trim()) ?? [])
      .flatMap(([, group, resource]) => (resource ? [group ? `${resource}.${group}` : resource] : []))
    const elsewhere = resources.filter(isRotated)
    if (elsewhere.length > 0)
      throw refused(
        `${elsewhere.join(', ')} of ${name} are kept in another etcd (--etcd-servers-overrides)`,
        'other-etcd',
        'What lies there is not counted. Rotate the other rules alone: -e encryption_resources=[…]',
        name,
      )
  }
}

/**
 * Compares the servers, counts, and plans. Whatever is not as it should be before a rotation is refused by name.
 * @param nextOf what values are to be written with, by what they are written with now
 */
export const planned = <Given extends Context>(
  nextOf: (ctx: Given, old: KeyRef, configuration: EncryptionConfiguration) => KeyRef,
): StepDefinition<Given> => ({
  id: ids.plan,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Plan> => {
    const masters = ctx.hosts('masters')
    const states = masters.map(({ name }) => [name, { hash: seenOf(ctx, name).hash, agrees: 'yes' }] as const)
    const differ = disagreementOf(new Map(states))
    if (differ !== undefined)
      throw refused(
        differ,
        'servers-differ',
        'Make the files equal first: what one of them writes another one may not read.',
      )
    const [text, where] = await textOf(ctx, masters[0]!.name)
    const configuration = readConfiguration(text, where)
    const rules = chosenRules(configuration.rules, ctx.vars.encryption_resources)
    const old = writerOf(rules)
    const next = nextOf(ctx, old, configuration)
    const made: Plan = { resources: rules.map(({ resources }) => resources), old, next }
    requireOneEtcd(ctx, rotated(configuration, made))
    requireEdits(made, text, where)
    const way = isSame(made) ? `another key of ${nameOfKey(old)}` : `from ${nameOfKey(old)} to ${nameOfKey(next)}`
    ctx.log(`${rules.flatMap(({ resources }) => resources).join(', ')}: ${way}`)
    return made
  },
})

/** Whether what writes stays, and has another key. */
const isSame = ({ old, next }: Plan) => nameOfKey(old) === nameOfKey(next)

/** Makes of a file's text what the stages will make of it: what can't be edited is told before anything is changed. */
function requireEdits(plan: Plan, text: string, where: string): void {
  const { resources, old, next } = plan
  // Another key behind the same plugin is in no file.
  if (isSame(plan)) return
  if (next.kind === 'kms' && resources.length > 1)
    throw refused(
      `${nameOfKey(next)} can not be that of ${resources.length} rules`,
      'several-rules',
      'API servers take each name of a plugin once. Rotate one rule after the other, each to a plugin of its own: -e encryption_resources=[…]',
    )
  const added = addReader(text, where, withSecret(next, anyKey), meant(plan))
  drop(promote(added, where, next, meant(plan)), where, old, meant(plan))
}

/** To another key of a provider whose keys stand in the file, or to no encryption. */
export const plan: StepDefinition<Context> = planned(({ vars: { encryption_provider } }, old) => {
  if (encryption_provider === undefined && old.kind === 'kms')
    throw refused(
      `${nameOfKey(old)} has the key`,
      'kms',
      'Rotate it by rotate-kms-plugin, rotate-kms-key or rotate-hsm-key; or say what takes its place: -e encryption_provider=secretbox',
    )
  const kind = encryption_provider ?? (old.kind === 'identity' || old.kind === 'kms' ? undefined : old.kind)
  if (kind === undefined)
    throw refused(
      'nothing is encrypted yet, and no provider is said',
      'no-provider',
      'Say one: -e encryption_provider=secretbox',
    )
  if (kind === 'identity' && old.kind === 'identity')
    throw refused('nothing is encrypted, and nothing is to be', 'nothing-to-do', 'There is nothing to rotate.')
  return kind === 'identity' ? { kind } : { kind, name: `key-${stamp(new Date())}` }
})

function chosenRules(rules: readonly EncryptionRule[], resources: readonly string[] | undefined): EncryptionRule[] {
  const chosen =
    resources === undefined ? [...rules] : rules.filter(rule => rule.resources.some(one => resources.includes(one)))
  const lacking = resources?.find(one => !rules.some(rule => rule.resources.includes(one)))
  if (lacking !== undefined)
    throw refused(
      `no rule names the resource ${lacking}`,
      'no-rule',
      `Rules are for: ${rules.flatMap(one => one.resources).join(', ')}.`,
    )
  return chosen
}

/** What all of the rules are written with. More keys than that one mean that an earlier rotation was not ended. */
function writerOf(rules: readonly EncryptionRule[]): KeyRef {
  const refs = rules.map(({ providers }): KeyRef => {
    const [first, ...others] = providers
    const further = [
      ...(first!.kind === 'identity' || first!.kind === 'kms'
        ? []
        : first!.keys.slice(1).map(({ name }) => `${first!.kind} ${name}`)),
      ...others.filter(one => one.kind !== 'identity').map(nameOf),
    ]
    if (further.length > 0)
      throw refused(
        `an earlier rotation was not ended: beside ${nameOf({ ...first!, ...('keys' in first! && { keys: first.keys.slice(0, 1) }) })} there is ${further.join(', ')}`,
        'half-way',
        'End it: rekey resume where it was a run of rekey, else see by `rekey encryption` what lies under which key, and take out what nothing lies under.',
      )
    if (first!.kind === 'identity') return { kind: 'identity' }
    if (first!.kind !== 'kms') return { kind: first!.kind, name: first!.keys[0]!.name }
    const { kind, name, endpoint, timeout } = first!
    return { kind, name, endpoint, ...(timeout !== undefined && { timeout }) }
  })
  const [only, ...others] = [...new Map(refs.map(one => [nameOfKey(one), one])).values()]
  if (others.length > 0)
    throw refused(
      `rules are written with ${[only!, ...others].map(nameOfKey).join(' and ')}`,
      'several-writers',
      'Rotate one after the other: -e encryption_resources=[…]',
    )
  return only!
}

const stamp = (date: Date) => date.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-')

/** Counts before anything is changed: a value that nobody reads now would be blamed on the rotation. */
export const count: StepDefinition<Context> = {
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async ctx => {
    const { behind, covered } = await countReadable(ctx)
    ctx.log(`${covered} values${behind.length > 0 ? `, of which ${listed(behind)} will be encrypted too` : ''}`)
    return { covered }
  },
}

/** Counts, and refuses values that nobody can read, or have written anew. */
export async function countReadable(ctx: Context) {
  const { behind, covered, resources } = await countBehind(ctx)
  const unreadable = behind.filter(({ standing }) => standing === 'unreadable')
  if (unreadable.length > 0)
    throw refused(
      `values that nobody reads: ${listed(unreadable)}`,
      'unreadable-values',
      'Put back the key that they lie under (`rekey encryption` names it), or mend or remove them first.',
    )
  await requireServed(ctx, resources)
  return { behind, covered }
}

/** What no API server serves any more (a resource that Kubernetes gave up) would lie under the old key for ever. Groups are not always known by keys. */
export async function requireServed(ctx: Context, resources: ReadonlySet<string>): Promise<void> {
  const plural = (resource: string) => resource.split('.')[0]!
  const found = await apiResources(await ctx.cluster.api(), () => true, ctx.signal)
  const served = new Set(found.map(({ name }) => plural(name)))
  const left = [...resources].filter(one => !served.has(plural(one)))
  if (left.length > 0)
    throw refused(
      `etcd holds values of what the API has not, or does not let be patched: ${left.join(', ')}`,
      'not-served',
      'Nobody can have them written anew. Remove what an older version left there, or rotate the other rules alone: -e encryption_resources=[…]',
    )
}

/** Keeps the file of a master as it is: it has the old key, which the way back needs once that was dropped. */
export const keepFile: StepDefinition<Context> = {
  id: 'keep-the-file',
  plan: ctx => `copy ${fileOn(ctx, ctx.host.name)} to ${keptFileOf(ctx)}`,
  run: async ctx => {
    const path = keptFileOf(ctx)
    await keepCopy(ctx, fileOn(ctx, ctx.host.name), path)
    return { path }
  },
  irreversible: 'a backup stays',
}

/** Copies a file of a host to the run's backups there, and compares the two. */
export async function keepCopy({ $ }: HostSession, file: string, path: string): Promise<void> {
  // What was cut off in the middle of it is no backup, and must not stand in the way of one.
  await $`umask 077; mkdir -p ${dirname(path)} && { [ -e ${path} ] || { cp ${file} ${path}.part && mv -f ${path}.part ${path}; }; } && cmp ${file} ${path}`
}

/** What the file of a master is called where it is kept. */
export const keptFileName = 'encryption-configuration'
export const keptFileOf = (ctx: Context) => `${backupsOf(ctx)}/${keptFileName}`

/** Which keys a snapshot needs: before, all that API servers have; once everything is written anew, the new one, and those of other rules. */
export async function needsOf(ctx: Context, isBefore: boolean): Promise<Need[]> {
  const { rules } = await configurationOf(ctx, ctx.hosts('masters')[0]!.name)
  const { old, next } = planOf(ctx)
  const isMeant = meant(planOf(ctx))
  const others = keysIn({ rules: rules.filter(rule => isBefore || !isMeant(rule)) })
  const own = isBefore ? needOf(old, keyIdOf(ctx, ids.keyBefore)) : needOf(next, keyIdOf(ctx, ids.sameKey))
  const needs = [...others.map(({ name }): Need => ({ name })), ...own]
  return [...new Map(needs.map(one => [one.name, one])).values()]
}

function needOf(key: KeyRef, keyId: string | undefined): Need[] {
  if (key.kind === 'identity') return []
  const name = calledOf(key.kind === 'kms' ? { ...key, version: 'v2' } : key)
  return [{ name, ...(keyId !== undefined && { keyId }) }]
}

/** Saves a snapshot of etcd, and notes beside it what it needs to be read: one from before the old key, one from after the new one. */
export const snapshot = (name: 'before' | 'after'): StepDefinition<Context> => ({
  id: `snapshot-${name}`,
  plan: ctx => `save a snapshot of etcd to ${backupsOf(ctx)}/etcd-${name}.db`,
  runOnce: true,
  run: async ctx => {
    const { session, access } = await etcdOf(ctx)
    const path = `${backupsOf(ctx)}/etcd-${name}.db`
    await session.$`umask 077; mkdir -p ${backupsOf(ctx)}`
    const saved = await saveSnapshot(session, access, path)
    await noteNeeds(session, path, await needsOf(ctx, name === 'before'))
    const needs = name === 'before' ? keyBefore(ctx) : keyAfter(ctx)
    ctx.log(`${session.host.name}:${path}, ${saved.size} bytes, needs ${needs} to be read`)
    return { path, ...saved }
  },
  irreversible: 'a backup stays',
})

const anyKey = () => secret(randomBytes(32).toString('base64'))

/** Makes the new key. It lies sealed off in the run's folder, and in the files of the API servers. */
export const makeKey: StepDefinition<Context> = {
  id: ids.key,
  plan: () => 'make a key of 32 bytes',
  remember: true,
  runOnce: true,
  when: ctx => planOf(ctx).next.kind !== 'identity',
  // Which key it is, is for whoever destroys it one day.
  run: ctx => ({ secret: anyKey(), key: needOf(planOf(ctx).next, undefined)[0]?.name }),
  rollback: () => {},
}
