// `rekey encryption`: what API servers encrypt by, and what lies in etcd under which key. Reads only.
import { basename, dirname } from 'node:path'
import { Command } from 'commander'
import { type Census, type CensusRow, takeCensus } from '../../encryption/census.ts'
import { type EncryptionConfiguration, namedProviders, nameOf } from '../../encryption/configuration.ts'
import { etcdValues } from '../../encryption/etcd-values.ts'
import { disagreementOf, type InForce, keyIdsOf, readInForce } from '../../encryption/in-force.ts'
import { isOfHosts, keysOfBackup } from '../../encryption/ledger/backups.ts'
import { keptSnapshots, type Need } from '../../encryption/ledger/kept.ts'
import { type Standing, standingOf } from '../../encryption/standing.ts'
import { calledOf, type Stored, tellingApart } from '../../encryption/stored.ts'
import { RekeyError } from '../../errors.ts'
import { backupsIn } from '../../kubernetes/backups/manifest.ts'
import { etcdAccess, registryOf } from '../../kubernetes/components/etcd-access.ts'
import type { HostLayout } from '../../kubernetes/layout/host-layout.ts'
import { give, say, tell } from '../../output/print.ts'
import { visible, visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import type { HostSession } from '../../playbook/model.ts'
import { failureOf } from '../../run/failure.ts'
import { runsDirectory } from '../../run/folder/folder.ts'
import { runFolders } from '../../run/journal/history.ts'
import { type Reading, type ReadingOptions, reading, withReadingOptions } from './cluster.ts'

interface EncryptionOptions extends ReadingOptions {
  json?: boolean
}

/** The command `rekey encryption`, for `lib/cli/main.ts` to mount. */
export function encryptionCommand(): Command {
  const command = new Command('encryption').description(
    'how a cluster encrypts in etcd: what each API server goes by, and how many values lie under which key; reads only',
  )
  return withReadingOptions(command)
    .option('--json', 'everything, as JSON')
    .action(async (pattern: string, options: EncryptionOptions) => {
      process.exitCode = await reading(pattern, options, cluster => tellEncryption(cluster, options))
    })
}

/** A host, and what runs on it. */
interface Found {
  readonly session: HostSession
  readonly layout: HostLayout
}

interface JudgedRow extends CensusRow {
  readonly standing: Standing
}

interface Counted extends Census {
  /** Whose etcd was read. */
  readonly host: string
  readonly rows: readonly JudgedRow[]
}

async function tellEncryption(cluster: Reading, options: EncryptionOptions): Promise<number> {
  const { hosts, notices, notice } = cluster
  const looked = await cluster.each(async (session): Promise<Found | undefined> => {
    const layout = (await cluster.sessions.found(session.host))?.layout
    return layout && { session, layout }
  })
  const found = looked.filter(one => one !== undefined)
  const servers = await serversOf(cluster, found)
  if (servers.size === 0)
    throw new RekeyError(`no API server was found on ${hosts.map(({ name }) => name).join(', ')}`, {
      code: 'encryption.none',
      hint: notices[0] ?? 'Are the masters among these hosts? What an API server encrypts by is read where it runs.',
    })
  tellDoubts(servers, notice)
  const configuration = [...servers.values()].find(one => one.configuration)?.configuration ?? nothing
  const counted = await countValues(cluster, found, servers, configuration)
  const snapshots = await snapshotsOf(cluster, found)
  if (options.json) give(`${visibleJson({ ...asJson(servers, configuration, counted), snapshots, notices }, 2)}\n`)
  else {
    const parts = [
      ...[serverLines(servers), ruleLines(configuration), counted ? censusLines(counted) : []],
      snapshotLines(snapshots),
    ]
    say(
      parts
        .filter(lines => lines.length > 0)
        .map(lines => lines.map(visible).join('\n'))
        .join('\n\n'),
    )
    for (const text of notices) tell(`Notice: ${text}`)
  }
  return cluster.missing()
}

const nothing: EncryptionConfiguration = { rules: [], doubts: [] }

/** What each API server has in force. One that can't be asked is told, and known by its file. */
async function serversOf(cluster: Reading, found: readonly Found[]): Promise<Map<string, InForce>> {
  const all = await Promise.all(
    found.map(async ({ session, layout }) => {
      const { name } = session.host
      const apiServer = layout.components['kube-apiserver']
      if (!apiServer) return []
      const master = cluster.masters.find(one => one.name === name)
      const read = (asked: boolean) =>
        orTold(cluster, `what the API server of ${name} has in force is`, name, async () =>
          readInForce(session, apiServer, asked && master ? await (await cluster.cluster()).apiOf(master) : undefined),
        )
      const state = (await read(true)) ?? (master && (await read(false)))
      return state ? [[name, state] as const] : []
    }),
  )
  return new Map(all.flat())
}

async function orTold<T>(cluster: Reading, what: string, host: string, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (thrown) {
    cluster.signal.throwIfAborted()
    const error = failureOf(thrown, host)
    if (!(error instanceof RekeyError)) throw error
    cluster.missed(`${what} left out: ${error.message}`)
    return undefined
  }
}

function tellDoubts(servers: ReadonlyMap<string, InForce>, notice: (text: string) => void): void {
  const differ = disagreementOf(servers)
  if (differ !== undefined) notice(differ)
  for (const [host, { problem, failures, configuration }] of servers) {
    if (problem !== undefined) notice(`no API server would take this file: ${problem}`)
    if (failures > 0)
      notice(`the API server of ${host} failed ${failures} times to take up its file since it was started`)
    for (const doubt of configuration?.doubts ?? []) notice(doubt)
  }
}

/** Counts in the etcd of the first host that answers: every member has all of it. */
async function countValues(
  cluster: Reading,
  found: readonly Found[],
  servers: ReadonlyMap<string, InForce>,
  configuration: EncryptionConfiguration,
): Promise<Counted | undefined> {
  const flags = found.flatMap(({ layout }) => layout.components['kube-apiserver'] ?? []).map(one => one.flags)
  const prefix = registryOf(flags[0] ?? {})
  if (flags.some(one => one['etcd-servers-overrides']))
    cluster.notice('some resources are kept in another etcd (--etcd-servers-overrides), which is not counted')
  const names = [...servers.values()].flatMap(one => namedProviders(one.configuration?.rules ?? []))
  const keyIds = keyIdsOf(servers.values())
  for (const { session, layout } of found.filter(one => one.layout.components.etcd)) {
    const { name } = session.host
    const counted = await orTold(cluster, `what lies in the etcd of ${name} is`, name, () =>
      takeCensus(
        etcdValues(session, etcdAccess(layout), prefix, { signal: cluster.signal }),
        prefix,
        tellingApart(names),
      ),
    )
    if (!counted) continue
    const rows = counted.rows.map(row => ({
      ...row,
      standing: standingOf(row.resource, row.stored, configuration, keyIds),
    }))
    return { ...counted, host: name, rows }
  }
  cluster.missed('nothing was counted: on none of these hosts an etcd was found that answers')
  return undefined
}

/** A snapshot of etcd that is kept somewhere. */
interface Kept {
  /** `m1:/var/backups/rekey/RUN/etcd.db`; of one on this machine, what `rekey backups` calls it. */
  readonly where: string
  /** Without these it can't be read; undefined where nobody knows. */
  readonly needs?: readonly Need[]
}

/** The ledger: which snapshot that is kept, on the hosts or on this machine, needs which keys to be read. */
async function snapshotsOf(cluster: Reading, found: readonly Found[]): Promise<Kept[]> {
  const here: Kept[] = []
  // One after the other: an archive is looked through in the memory.
  for (const backup of runFolders(runsDirectory()).flatMap(backupsIn)) {
    if (backup.snapshot === undefined || !isOfHosts(backup, cluster.hosts)) continue
    const keys = await keysOfBackup(backup).catch(() => undefined)
    const names = keys && [...new Set(keys.map(({ name }) => name))]
    here.push({ where: backup.id, ...(names && { needs: names.map(name => ({ name })) }) })
  }
  const known = new Map(here.map(one => [one.where, one.needs]))
  const there = await Promise.all(
    found.map(async ({ session }) => {
      const { name, vars } = session.host
      const directory = typeof vars['backup_directory'] === 'string' ? vars['backup_directory'] : '/var/backups/rekey'
      const kept = await orTold(cluster, `what ${name} keeps is`, name, () => keptSnapshots(session, directory))
      return (kept ?? []).map(
        ({ path, needs = known.get(basename(dirname(path))) }): Kept => ({
          where: `${name}:${path}`,
          ...(needs && { needs }),
        }),
      )
    }),
  )
  return [...here, ...there.flat()]
}

function snapshotLines(snapshots: readonly Kept[]): string[] {
  if (snapshots.length === 0) return []
  const said = (needs: Kept['needs']) =>
    needs === undefined
      ? 'not known'
      : needs.map(({ name, keyId }) => (keyId === undefined ? name : `${name}, ${keyId}`)).join('; ') || 'no key'
  return table([['SNAPSHOT OF ETCD', 'NEEDS'], ...snapshots.map(({ where, needs }) => [where, said(needs)])])
}

const agreements: Readonly<Record<InForce['agrees'], string>> = {
  yes: 'the same',
  no: 'ANOTHER ONE',
  presumably: 'the same, by its time',
  unknown: 'not known',
}

function serverLines(servers: ReadonlyMap<string, InForce>): string[] {
  const header = ['', 'API SERVER', 'FILE', 'SHA-256', 'IN FORCE', 'RELOADS', 'KMS']
  const rows = [...servers].map(([host, one]) => [
    one.agrees === 'no' || one.problem !== undefined || !isHealthy(one) ? '✖' : '✔',
    ...[host, one.file ?? '-', one.hash?.slice(0, 12) ?? '-', one.file ? agreements[one.agrees] : 'no encryption'],
    ...[one.file === undefined ? '-' : one.reloads ? 'by itself' : 'when started', one.health ?? '-'],
  ])
  return table([header, ...rows])
}

/** What a check of health says when all is well. */
const isHealthy = ({ health }: InForce) => health === undefined || health === 'ok'

function ruleLines({ rules }: EncryptionConfiguration): string[] {
  return rules.map(({ resources, providers }) => {
    const [writes, ...read] = providers.map(one =>
      one.kind === 'identity' ? 'no provider, as plain values' : nameOf(one),
    )
    return `${resources.join(', ')}: written with ${writes}${read.length > 0 ? `; read with ${read.join(', ')} too` : ''}`
  })
}

const marks: Readonly<Record<Standing, string>> = { current: '✔', behind: '✖', unencrypted: ' ', unreadable: '✖' }
const order: readonly Standing[] = ['unreadable', 'behind', 'current', 'unencrypted']

/** More namespaces than these are counted and not listed. */
const mostNamespaces = 6

function censusLines({ host, rows, values, bytes }: Counted): string[] {
  const groups = [
    ...Map.groupBy(rows, ({ resource, stored, standing }) => JSON.stringify([resource, stored, standing])),
  ].map(([, group]) => group)
  const shown = groups.flatMap(group =>
    group.length > mostNamespaces || group[0]!.standing === 'unencrypted' ? [merged(group)] : group,
  )
  shown.sort((a, b) => order.indexOf(a.standing) - order.indexOf(b.standing) || a.resource.localeCompare(b.resource))
  const header = ['', 'RESOURCE', 'NAMESPACE', 'STORED', 'KEY ID', 'VALUES', 'BYTES', '']
  const cells = shown.map(row => [
    ...[marks[row.standing], row.resource, row.namespace ?? '-', storedAs(row.stored)],
    ...[row.stored.kind === 'kms' ? (row.stored.keyId ?? '-') : '-', String(row.count), String(row.bytes)],
    remarkOf(row),
  ])
  const unknown = rows.flatMap(({ keys, stored }) =>
    keys.map(key => `✖ ${key}: ${stored.kind === 'unknown' ? stored.why : ''}`),
  )
  return [`${values} values of ${bytes} bytes in the etcd of ${host}`, ...table([header, ...cells]), ...unknown]
}

function merged(group: readonly JudgedRow[]): JudgedRow {
  const sum = (of: (row: JudgedRow) => number) => group.reduce((all, row) => all + of(row), 0)
  const namespace = group.length > 1 ? `${group.length} namespaces` : group[0]!.namespace
  return {
    ...group[0]!,
    ...(namespace !== undefined && { namespace }),
    count: sum(row => row.count),
    bytes: sum(row => row.bytes),
  }
}

/** How a value lies there, as people say it. */
function storedAs(stored: Stored): string {
  if (stored.kind === 'plain') return 'plain'
  if (stored.kind === 'unknown') return 'unknown'
  return calledOf(stored.kind === 'kms' ? stored : { kind: stored.provider, name: stored.name })
}

function remarkOf({ standing, stored }: JudgedRow): string {
  if (standing === 'behind') return 'would be written with another key now'
  if (standing !== 'unreadable') return ''
  return stored.kind === 'unknown' ? stored.why : 'no provider of the file reads it'
}

/** What a machine reads: docs/templates.md says what each member is. No key is in it, and no value. */
function asJson(
  servers: ReadonlyMap<string, InForce>,
  { rules }: EncryptionConfiguration,
  counted: Counted | undefined,
) {
  return {
    servers: [...servers].map(([host, { configuration: _, ...state }]) => ({ host, ...state })),
    rules: rules.map(({ resources, providers }) => ({
      resources,
      providers: providers.map(one => ({
        kind: one.kind,
        ...('keys' in one && { keys: one.keys.map(({ name }) => name) }),
        ...(one.kind === 'kms' && { version: one.version, name: one.name, endpoint: one.endpoint }),
      })),
    })),
    ...(counted && {
      census: { host: counted.host, values: counted.values, bytes: counted.bytes, rows: counted.rows },
    }),
  }
}
