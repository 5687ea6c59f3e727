// A key that nothing needs any more is destroyed for good: whatever is kept of it on the hosts and in the folders of runs. Refused while an API server
// has it, a value lies under it, or a snapshot that is kept somewhere needs it.
import { basename } from 'node:path'
import { z } from 'zod'
import type { Secret } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import { backupsIn, hostsWithin } from '../../kubernetes/backups/manifest.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, ReportSection, RunContext, StepContext, StepDefinition } from '../../playbook/model.ts'
import { takeCensus } from '../census.ts'
import { namedProviders, readConfiguration, rulesOf } from '../configuration.ts'
import { etcdValues } from '../etcd-values.ts'
import { keyIdHashOf, readInForce } from '../in-force.ts'
import {
  type Context as AnyContext,
  apiServerOn,
  configurationOf,
  etcdOf,
  fileOn,
  type Variables as Rotation,
} from '../key-rotation/given.ts'
import { keptFileName, refused, requireOneEtcd } from '../key-rotation/prepare.ts'
import { type KeyedProvider, type NamedProvider, prefixOf, type Stored, tellingApart } from '../stored.ts'
import { isOfHosts, keysOfBackup, snapshotHas } from './backups.ts'
import { filesWith, hasText, keptSnapshots, type Need } from './kept.ts'
import { type KnownKey, keysIn } from './keys.ts'

export const variables = {
  /** The key, as `rekey encryption` names it: `aescbc key-1`, `kms v2 vault`. */
  destroy_key: z
    .string()
    .regex(/^(aescbc|aesgcm|secretbox|kms v[12]) \S.*$/, "such as 'aescbc key-1' or 'kms v2 vault'"),
  /** Of a KMS plugin, which of its keys: the id, as `rekey encryption` shows it. Left out: all that it ever wrote with. */
  destroy_key_id: z.string().min(1).optional(),
}

type Own = Rotation & z.output<z.ZodObject<typeof variables>>
export type Context = StepContext<Own> & Pick<AnyContext, 'cluster'>

const ids = { destroy: 'destroy-the-key' } as const

/** The key by what values begin with that lie under it. */
function providerOf({ vars: { destroy_key } }: Pick<RunContext<Own>, 'vars'>): NamedProvider {
  const [, kind, version, name] = /^(aescbc|aesgcm|secretbox|kms)(?: (v[12]))? (.+)$/.exec(destroy_key)!
  if (kind === 'kms') return { kind, version: version as 'v1' | 'v2', name: name! }
  return { kind: kind as KeyedProvider, name: name! }
}

const called = ({ vars: { destroy_key: key, destroy_key_id: id } }: Pick<RunContext<Own>, 'vars'>) =>
  id === undefined ? key : `${key} with its key ${id}`

const isPlugin = (ctx: Pick<RunContext<Own>, 'vars'>) => providerOf(ctx).kind === 'kms'

/** No API server has the key, and nothing in etcd lies under it. */
export const unused: StepDefinition<Context> = {
  id: 'key-is-not-used',
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const [first] = ctx.hosts('masters')
    const configuration = await configurationOf(ctx, first!.name)
    requireOneEtcd(ctx, resource => rulesOf(configuration, resource).length > 0)
    for (const host of ctx.hosts('masters')) await requireWithout(ctx, host)
    const names = namedProviders(configuration.rules)
    const { session, access, prefix } = await etcdOf(ctx)
    // What most members have agreed on: one that lags might not know yet what was written last.
    const pages = etcdValues(session, access, prefix, { signal: ctx.signal, serializable: false })
    const isUnder = isUnderKey(ctx)
    const { rows, values } = await takeCensus(pages, prefix, tellingApart([...names, providerOf(ctx)]), (_, stored) =>
      isUnder(stored),
    )
    const under = rows.filter(({ stored }) => isUnder(stored))
    if (under.length > 0)
      throw refused(
        `${under.reduce((all, { count }) => all + count, 0)} values lie under ${called(ctx)}, such as ${under[0]!.keys[0]}`,
        'key-in-use',
        'They could not be read any more. `rekey encryption` says where they are; rotate-encryption-key has them written anew.',
      )
    ctx.log(`none of ${values} values lies under ${called(ctx)}`)
    return { values }
  },
}

function isUnderKey(ctx: Context): (stored: Stored) => boolean {
  const key = providerOf(ctx)
  const { destroy_key_id: id } = ctx.vars
  return stored => {
    if (stored.kind === 'key') return key.kind === stored.provider && key.name === stored.name
    if (stored.kind !== 'kms' || key.kind !== 'kms') return false
    if (stored.version !== key.version || stored.name !== key.name) return false
    return id === undefined || stored.keyId === undefined || stored.keyId === id
  }
}

/** The API server of a master does without the key: its file, which it has in force, lacks it; of a plugin that stays, it has been told of another one. */
async function requireWithout(ctx: Context, host: Host): Promise<void> {
  const { name } = host
  const key = providerOf(ctx)
  const { rules } = await configurationOf(ctx, name)
  if (!namedProviders(rules).some(one => prefixOf(one) === prefixOf(key))) return
  const { destroy_key_id: id } = ctx.vars
  if (key.kind === 'kms' && id !== undefined) {
    const { plugins } = await readInForce(await ctx.on(host), apiServerOn(ctx, name), await ctx.cluster.apiOf(host))
    const now = plugins.find(one => one.name === key.name)?.keyIdHash
    if (now !== undefined && now !== keyIdHashOf(id)) return
  }
  throw refused(
    `the API server of ${name} has ${called(ctx)} still (${name}:${fileOn(ctx, name)})`,
    'key-in-use',
    'Rotate to another key first: rotate-encryption-key, rotate-kms-plugin, rotate-kms-key or rotate-hsm-key.',
    name,
  )
}

/** Nothing that is kept, on a host or on this machine, is a snapshot that needs the key, or a backup that has it. */
export const unneeded: StepDefinition<Context> = {
  id: 'nothing-kept-needs-the-key',
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    await requireUnneeded(ctx)
  },
}

/** Throws where something that is kept needs the key, or is a backup that has it. Returns the key itself, as `secretsOf` does. */
async function requireUnneeded(ctx: Context): Promise<Secret[]> {
  const { keys, needing: here } = await onThisMachine(ctx)
  const secrets = await secretsOf(ctx, keys)
  const needing = [...here]
  for (const session of await sessionsOf(ctx)) {
    const { name } = session.host
    const snapshots = await keptSnapshots(session, ctx.vars.backup_directory)
    for (const { path, needs } of snapshots)
      if (needs ? isNeeded(ctx, needs) : await mayNeed(ctx, session, path)) needing.push(`${name}:${path}`)
    for (const path of await holding(ctx, session, secrets)) if (!isKeptFile(path)) needing.push(`${name}:${path}`)
  }
  if (needing.length > 0)
    throw refused(
      `${called(ctx)} is needed by, or lies in: ${needing.join(', ')}`,
      'key-needed',
      'Without it these snapshots can not be read, ever. Remove them first where nobody wants them any more: those of runs by rekey backups --prune, those on hosts by hand.',
    )
  ctx.log(`nothing that is kept needs ${called(ctx)}`)
  return secrets
}

const isNeeded = ({ vars: { destroy_key: key, destroy_key_id: id } }: Context, needs: readonly Need[]) =>
  needs.some(({ name, keyId }) => name === key && (id === undefined || keyId === undefined || keyId === id))

/** What values have in them that lie under the key: what they begin with, and behind the ciphertext the id of a plugin's key. */
const marksOf = (ctx: Context): string[] => {
  const { destroy_key_id: id } = ctx.vars
  const provider = providerOf(ctx)
  // KMS v1 writes no id.
  const isWritten = provider.kind === 'kms' && provider.version === 'v2'
  return [prefixOf(provider), ...(isWritten && id !== undefined ? [id] : [])]
}

/** Of a snapshot of which nothing is noted, its bytes say whether it needs the key. */
async function mayNeed(ctx: Context, session: HostSession, path: string): Promise<boolean> {
  for (const mark of marksOf(ctx)) if (!(await hasText(session, path, mark))) return false
  return true
}

/** The hosts that keep backups, each as it is worked on. */
const sessionsOf = (ctx: Context) => Promise.all(ctx.hosts('masters:etcd').map(host => ctx.on(host)))

/** What runs keep on this machine: which of their backups need the key, or have it in them, and what it is. */
async function onThisMachine(ctx: Context): Promise<{ keys: KnownKey[]; needing: string[] }> {
  const hosts = ctx.hosts('masters:etcd')
  const [keys, needing]: [KnownKey[], string[]] = [[], []]
  for (const folder of ctx.otherRuns()) {
    const backups = backupsIn(folder)
    const named = hostsWithin(folder).some(name => hosts.some(host => host.name === name))
    if (named && (backups.length === 0 || backups.some(({ damage }) => damage.length > 0))) {
      needing.push(`${basename(folder)} on this machine (it does not say, or not whole, what it holds)`)
      continue
    }
    for (const backup of backups) {
      if (!isOfHosts(backup, hosts)) continue
      const found = (await keysOfBackup(backup)).filter(({ name }) => name === ctx.vars.destroy_key)
      keys.push(...found)
      // Which of a plugin's keys it was, no file says, and the files of then may be those of after a rotation: the snapshot's bytes do.
      if ((!isPlugin(ctx) && found.length > 0) || (await snapshotHas(backup, marksOf(ctx))))
        needing.push(`${backup.id} on this machine`)
    }
  }
  return { keys, needing }
}

const isKeptFile = (path: string) => basename(path) === keptFileName

/** The key itself, as it lies in what rotations have kept of files, and in backups: several, where it was another one at another time. */
async function secretsOf(ctx: Context, more: readonly KnownKey[]): Promise<Secret[]> {
  if (isPlugin(ctx)) return []
  const keys = [...more]
  for (const { $, files, host } of await sessionsOf(ctx)) {
    const { vars } = ctx
    const { stdout } = await $({
      quiet: true,
    })`[ ! -d ${vars.backup_directory} ] || find ${vars.backup_directory}/ -type f -name ${keptFileName}`
    for (const path of stdout.split('\n').filter(Boolean)) {
      try {
        keys.push(...keysIn(readConfiguration(await files.readText(path), `${host.name}:${path}`)))
      } catch (error) {
        if (!(error instanceof RekeyError) || error.code !== 'encryption.configuration') throw error
        ctx.log(`left as it is, since no API server would take it: ${error.message}`)
      }
    }
  }
  const own = keys.flatMap(({ name, secret }) => (secret && name === ctx.vars.destroy_key ? [secret] : []))
  return [...new Map(own.map(secret => [secret.reveal(), secret])).values()]
}

/** The files below the folder of a host's backups that the key lies in. */
async function holding(ctx: Context, session: HostSession, secrets: readonly Secret[]): Promise<string[]> {
  const found: string[] = []
  for (const secret of secrets) found.push(...(await filesWith(session, ctx.vars.backup_directory, secret)))
  return [...new Set(found)]
}

/** What was destroyed. */
interface Destroyed {
  /** Runs in whose folders it was. */
  readonly runs: readonly string[]
  /** Files on hosts. */
  readonly files: readonly string[]
}

/** Destroys it where rekey keeps it: first in the folders of runs on this machine, then on the hosts; and looks again. */
export const destroy: StepDefinition<Context> = {
  id: ids.destroy,
  runOnce: true,
  irreversible: 'a key that is destroyed does not come back: that is what this is for',
  when: ctx => !isPlugin(ctx),
  plan: ctx =>
    `destroy ${called(ctx)} in the folders of runs on this machine, and in ${ctx.vars.backup_directory} of every host`,
  run: async (ctx): Promise<Destroyed> => {
    // Whatever --tags and --start-at-step leave out, and however long ago it was that a run which is gone on with has looked.
    await unused.run(ctx)
    const secrets = await requireUnneeded(ctx)
    const meant = new Set(secrets.map(secret => secret.reveal()))
    // By what they are, and never by the key's name: that of another cluster may be the same.
    const runs = ctx.destroySecrets(text => meant.has(text))
    const files: string[] = []
    for (const session of await sessionsOf(ctx)) {
      const { name } = session.host
      const own = (await holding(ctx, session, secrets)).filter(isKeptFile)
      // Written over first, for what that is worth on the file system that it is on.
      if (own.length > 0)
        await session.$`for file in ${own}; do shred -fu -- "$file" 2>/dev/null || rm -f -- "$file"; done`
      const left = await holding(ctx, session, secrets)
      if (left.length > 0)
        throw refused(
          `${name} has the key still, in ${left.join(', ')}`,
          'key-left',
          'Remove it by hand, and go on: rekey resume.',
          name,
        )
      files.push(...own.map(path => `${name}:${path}`))
    }
    ctx.log(
      files.length + runs.length === 0
        ? `no copy of ${called(ctx)} was found`
        : `destroyed in ${files.length} files of hosts, and in the folders of ${runs.length} runs`,
    )
    return { runs, files }
  },
}

/** What is left to be done where the key is kept by somebody else. */
const elsewhere = (ctx: Pick<RunContext<Own>, 'vars'>): string =>
  isPlugin(ctx)
    ? 'rekey has no part in the key of a KMS plugin. In Vault, raise min_decryption_version of the transit key (and trim it), or delete it; in a cloud, schedule its destruction; in an HSM, pkcs11-tool --delete-object, in each token.'
    : 'copies that somebody made elsewhere: of the files of API servers, of disks and machines, of folders of runs on other machines'

/** What was destroyed, and what is left to do. */
export function report(run: RunContext<Own>): ReportSection[] {
  const destroyed = run.registered<Destroyed>(ids.destroy)
  if (run.mode === 'rollback' || (!destroyed && !isPlugin(run))) return []
  return [
    {
      title: called(run),
      rows: [
        ['is needed by', 'nothing in etcd, no API server, no snapshot that was found'],
        ...(destroyed
          ? [
              [
                'destroyed in',
                [...destroyed.files, ...destroyed.runs.map(one => `${one} on this machine`)].join(', ') ||
                  'nothing: no copy was found',
              ] as const,
            ]
          : []),
        ['left to you', elsewhere(run)],
      ],
    },
  ]
}
