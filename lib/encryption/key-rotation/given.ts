// What a rotation of the key that values are encrypted with goes by: what was found, what was planned, and how both are read by later steps.
import { join } from 'node:path'
import { z } from 'zod'
import type { Secret } from '../../connection/shell.ts'
import { HostFailedError, shown } from '../../errors.ts'
import type { Cluster } from '../../kubernetes/api/cluster.ts'
import { type EtcdAccess, etcdAccess, registryOf } from '../../kubernetes/components/etcd-access.ts'
import type { FoundComponent, HostLayout } from '../../kubernetes/layout/host-layout.ts'
import type { Host } from '../../playbook/host.ts'
import { type HostSession, type RunContext, type StepContext, unchanged } from '../../playbook/model.ts'
import { isOwn, takeCensus } from '../census.ts'
import {
  type EncryptionConfiguration,
  type EncryptionRule,
  namedProviders,
  nameOf,
  readConfiguration,
  rulesOf,
} from '../configuration.ts'
import type { KeyRef, NewKey } from '../edit.ts'
import { etcdValues } from '../etcd-values.ts'
import { keyIdsOf, readInForce } from '../in-force.ts'
import { type Behind, behindIn, standingOf } from '../standing.ts'
import { keyedProviders, tellingApart } from '../stored.ts'

export const variables = {
  /** What values are to be encrypted by: the provider of now where nothing is said. */
  encryption_provider: z.enum([...keyedProviders, 'identity']).optional(),
  /** Resources whose rules are rotated: all rules where nothing is said. */
  encryption_resources: z.array(z.string()).optional(),
  /** Where hosts keep what is backed up. */
  backup_directory: z.string().startsWith('/').default('/var/backups/rekey'),
}

export type Variables = z.output<z.ZodObject<typeof variables>>
export type Context = StepContext<Variables> & { readonly cluster: Cluster }
type Run = RunContext<Variables>

/** What `read` registers for each host. */
export interface Seen {
  readonly layout: HostLayout
  /** Of a master: its file, and that file's SHA-256 as it was. */
  readonly file?: string
  readonly hash?: string
  /** Whether its API server takes up changes of the file by itself; else only when it starts. A run of before that could be told took only such. */
  readonly reloads?: boolean
}

/** What `plan` registers. */
export interface Plan {
  /** The resources of each rule that is rotated. */
  readonly resources: readonly (readonly string[])[]
  readonly old: KeyRef
  readonly next: KeyRef
}

export const ids = {
  read: 'read-encryption',
  plan: 'plan-the-key',
  key: 'make-the-key',
  /** Registers the id of the key that a plugin had. */
  keyBefore: 'key-of-before',
  /** Registers the id of the key that the plugins of all masters have. */
  sameKey: 'same-key-everywhere',
  promote: 'promote-the-key',
} as const

export const seconds = (count: number) => count * 1_000

/** What a step returns that may have found all as it should be. */
export const changedIf = (did: boolean) => (did ? { changed: true } : unchanged())

function must<T>(value: T | undefined, step: string): T {
  if (value !== undefined) return value
  throw new HostFailedError(`nothing is known of what '${step}' found`, {
    code: 'encryption.not-prepared',
    hint: 'Begin the run at its first step.',
  })
}

export const seenOf = (run: Run, host: string): Seen => must(run.registered<Seen>(ids.read, host), ids.read)
export const planOf = (run: Run): Plan => must(run.registered<Plan>(ids.plan), ids.plan)

/** The key that is rotated to, with what it is. */
export const newKeyOf = (run: Run): NewKey =>
  withSecret(planOf(run).next, () => must(run.registered<{ secret: Secret }>(ids.key)?.secret, ids.key))

/** A key with what it is, where it is one that stands in the file. */
export const withSecret = (key: KeyRef, secret: () => Secret): NewKey =>
  key.kind === 'identity' || key.kind === 'kms' ? key : { ...key, secret: secret() }

/** Which rules of a file are rotated. */
export function meant({ resources }: Plan): (rule: EncryptionRule) => boolean {
  const known = new Set(resources.map(one => one.join(',')))
  return rule => known.has(rule.resources.join(','))
}

/** Which resources are rotated: those that a rule of the rotation is the most exact one for, by all rules of the file. */
export function rotated(configuration: EncryptionConfiguration, plan: Plan): (resource: string) => boolean {
  const isMeant = meant(plan)
  return resource => !isOwn(resource) && rulesOf(configuration, resource).some(isMeant)
}

export function nameOfKey(key: KeyRef): string {
  if (key.kind === 'identity') return 'no encryption'
  return key.kind === 'kms' ? `the KMS plugin ${key.name}` : `${key.kind} ${key.name}`
}

const withId = (key: KeyRef, keyId: string | undefined) =>
  keyId === undefined ? nameOfKey(key) : `${nameOfKey(key)} with its key ${shown(keyId)}`

/** The id of a plugin's key that a step has registered. */
export const keyIdOf = (run: Run, step: string) => run.registered<{ keyId?: string }>(step)?.keyId

/** What values lay under before the run, with the id of a plugin's key where a step has looked for it. */
export const keyBefore = (run: Run): string => withId(planOf(run).old, keyIdOf(run, ids.keyBefore))
/** What they lie under after it. */
export const keyAfter = (run: Run): string => withId(planOf(run).next, keyIdOf(run, ids.sameKey))

export function fileOn(run: Run, host: string): string {
  return must(seenOf(run, host).file, ids.read)
}

/** The masters whose API servers take up their file by themselves, or those that read it only when they start. */
export const mastersThat = (run: Run, reload: boolean): Host[] =>
  run.hosts('masters').filter(({ name }) => (seenOf(run, name).reloads ?? true) === reload)

export function apiServerOn(run: Run, host: string): FoundComponent {
  return must(seenOf(run, host).layout.components['kube-apiserver'], ids.read)
}

/** The folder of the run's backups on a host. */
export const backupsOf = ({ vars, run }: Pick<Run, 'vars' | 'run'>) => join(vars.backup_directory, run)

/** A host with etcd: of several, the first in the inventory. */
export async function etcdOf(run: Run): Promise<{ session: HostSession; access: EtcdAccess; prefix: string }> {
  const hosts = run.hosts('masters:etcd')
  const host = hosts.find(({ name }) => run.registered<Seen>(ids.read, name)?.layout.components.etcd)
  if (!host) throw new HostFailedError('no etcd was found on masters or hosts of etcd', { code: 'encryption.no-etcd' })
  const master = run.hosts('masters')[0]!
  return {
    session: await run.on(host),
    access: etcdAccess(seenOf(run, host.name).layout),
    prefix: registryOf(apiServerOn(run, master.name).flags),
  }
}

/** The text of a master's file, as it is now, and where it lies, for messages. */
export async function textOf(run: Run, host: string): Promise<readonly [text: string, where: string]> {
  const { files } = await run.on(host)
  const path = fileOn(run, host)
  return [await files.readText(path), `${host}:${path}`]
}

/** The file of a master, as it is now. */
export async function configurationOf(run: Run, host: string): Promise<EncryptionConfiguration> {
  return readConfiguration(...(await textOf(run, host)))
}

/** Whether Secrets are of what is rotated. */
export async function coversSecrets(run: Run): Promise<boolean> {
  return rotated(await configurationOf(run, run.hosts('masters')[0]!.name), planOf(run))('secrets')
}

/** The key that each KMS plugin has now, as all API servers have been told. One that some have another key of may write what others can't read. */
async function keyIdsNow(run: Context, { rules }: EncryptionConfiguration): Promise<Map<string, string>> {
  const writers = rules.map(({ providers }) => providers[0]!).filter(one => one.kind === 'kms')
  if (writers.length === 0) return new Map()
  const states = await Promise.all(
    run
      .hosts('masters')
      .map(async host => readInForce(await run.on(host), apiServerOn(run, host.name), await run.cluster.apiOf(host))),
  )
  const keyIds = keyIdsOf(states)
  const differing = writers.find(one => !keyIds.has(one.name))
  if (differing)
    throw new HostFailedError(`API servers have not the same key of ${nameOf(differing)}`, {
      code: 'encryption.key-ids-differ',
      hint: 'What one of them writes another one may not read. See by `rekey encryption` which of them has another one: its plugin is asked once a minute.',
    })
  return keyIds
}

/** Counts what lies in etcd, and what of the rotated resources would be written otherwise by the file as it is now. */
export async function countBehind(
  run: Context,
  below = '',
): Promise<{ behind: Behind[]; covered: number; resources: ReadonlySet<string> }> {
  const configuration = await configurationOf(run, run.hosts('masters')[0]!.name)
  const keyIds = await keyIdsNow(run, configuration)
  const { session, access, prefix } = await etcdOf(run)
  const tell = tellingApart(namedProviders(configuration.rules))
  const isRotated = rotated(configuration, planOf(run))
  const census = await takeCensus(
    // One value is asked for right after it was written through another member, perhaps: that must be there by then.
    etcdValues(session, access, `${prefix}${below}`, { signal: run.signal, serializable: below === '' }),
    prefix,
    tell,
    (resource, stored) => isRotated(resource) && standingOf(resource, stored, configuration, keyIds) !== 'current',
  )
  return behindIn(census, configuration, isRotated, keyIds)
}
