// `rekey certs`: every certificate of a cluster and every copy of its CAs, what is due or doesn't fit first.
import { Command, InvalidArgumentError, Option } from 'commander'
import { connect } from '../connection/connect.ts'
import type { Connection } from '../connection/connection.ts'
import { remoteFiles } from '../connection/files.ts'
import { limiter } from '../connection/limiter.ts'
import { remoteShell } from '../connection/remote.ts'
import { exitCodes, RekeyError, UnreachableError } from '../errors.ts'
import type { Inventory } from '../inventory/index.ts'
import type { KubernetesObject } from '../kubernetes/api/api.ts'
import { type ClusterPlaces, openCluster } from '../kubernetes/api/cluster.ts'
import type { CensusEntry } from '../kubernetes/census/entry.ts'
import { fileCertificates } from '../kubernetes/census/files.ts'
import { type JudgedEntry, judgeCensus, knowsTrust } from '../kubernetes/census/judge.ts'
import { apiCertificates } from '../kubernetes/census/objects.ts'
import { endpointsOf, nodeAddress, servedCertificates } from '../kubernetes/census/ports.ts'
import { servedAt } from '../kubernetes/components/control.ts'
import { type Discovery, discover } from '../kubernetes/layout/discover.ts'
import * as kubeadm from '../kubernetes/layout/kubeadm/index.ts'
import { adminKubeconfigOf } from '../kubernetes/layout/plan.ts'
import { give, say, tell } from '../output/print.ts'
import { visible, visibleJson } from '../output/text.ts'
import { parseDuration } from '../playbook/duration.ts'
import type { Host } from '../playbook/host.ts'
import type { HostSession, RunContext } from '../playbook/model.ts'
import { failureOf } from '../run/failure.ts'
import { type ConnectionOptions, openConnecting, withConnectionOptions } from './options/connection.ts'
import { type InventoryOptions, openInventory, rolesSaid, withInventoryOptions } from './options/inventory.ts'
import { positiveInteger } from './options/whole-number.ts'
import { interruptible } from './running/interrupt.ts'

interface CertsOptions extends InventoryOptions, ConnectionOptions {
  limit?: string[]
  within: number
  json?: boolean
  api: boolean
  masters: string
  folder?: string[]
  forks: number
}

type LeftOut = (what: string, error: RekeyError) => void

/** The command `rekey certs`, for `lib/cli/main.ts` to mount. */
export function certsCommand(): Command {
  const command = new Command('certs')
    .description('every certificate and every copy of a CA, on the hosts and in the API; reads only')
    .argument('[pattern]', 'the hosts', 'all')
  return withConnectionOptions(withInventoryOptions(command))
    .option('-l, --limit <pattern>', 'only these hosts', (value, before: string[] = []) => [...before, value])
    .addOption(
      new Option(
        '--within <duration>',
        'exit with 2 when something ends within this time, or relies on a CA that no master trusts any more',
      )
        .argParser(readDuration)
        .default(readDuration('30d'), '30d'),
    )
    .option('--json', 'everything, as JSON')
    .option(
      '--folder <path>',
      'look in this folder of the hosts too; may be given several times',
      (value, before: string[] = []) => [...before, value],
    )
    .option('--no-api', 'leave out what the API keeps')
    .option('--masters <pattern>', 'the hosts through which the API is asked', 'masters')
    .option('-f, --forks <number>', 'hosts that are read at the same time', positiveInteger, 16)
    .action(async (pattern: string, options: CertsOptions) => {
      process.exitCode = await census(pattern, options)
    })
}

async function census(pattern: string, options: CertsOptions): Promise<number> {
  const connecting = await openConnecting(options)
  const inventory = await openInventory(options, { connection: connecting.defaults })
  const hosts = inventory.select(pattern, { limit: options.limit?.join(',') })
  if (hosts.length === 0) throw new RekeyError(`no host matches "${pattern}"`, { code: 'run.no-hosts' })
  const notices: string[] = []
  const notice = (text: string) => void notices.push(text)
  // What could not be looked at must not pass for what is well.
  let missing: number = exitCodes.done
  const missed = (text: string, code: number = exitCodes.hostFailed) => {
    notice(text)
    missing = Math.max(missing, code)
  }
  const leftOut: LeftOut = (what, error) =>
    missed(`${what} left out: ${error.message}`, error instanceof UnreachableError ? exitCodes.unreachable : undefined)
  const masters = options.api ? mastersOf(inventory, options.masters, leftOut) : []
  notices.push(...rolesSaid(inventory))
  await connecting.unlock([...hosts, ...masters])
  const { signal, release } = interruptible()
  const sessions = openHosts(signal)
  try {
    const limit = limiter(options.forks)
    // First of all the API: it knows on which address a node serves.
    const { nodes, copies } =
      masters.length > 0 ? await inApi(masters, sessions, signal, notice, leftOut) : { nodes: [], copies: [] }
    const onHosts = await Promise.all(
      hosts.map(host =>
        limit(async () => {
          try {
            const session = await sessions.on(host)
            const served = await servedCertificates(
              session,
              notice,
              endpointsOf(host, await nodeAddress(session, nodes), (await sessions.found(host))?.layout),
            )
            return [...(await fileCertificates(session, notice, options.folder, missed)), ...served]
          } catch (thrown) {
            signal.throwIfAborted()
            const error = failureOf(thrown, host.name)
            if (!(error instanceof RekeyError)) throw error
            leftOut(`${host.name} is`, error)
            return []
          }
        }),
      ),
    )
    const entries: CensusEntry[] = [...onHosts.flat(), ...copies]
    const judged = judgeCensus(entries, { within: options.within })
    if (copies.some(({ facts }) => facts.isAuthority) && !knowsTrust(entries))
      notice(
        'no CA of a master was read: whether the copies of CAs in the API are those that masters trust is not known',
      )
    if (options.json) give(`${jsonOf(judged, notices)}\n`)
    else say(report(judged))
    if (!options.json) for (const text of notices) tell(`Notice: ${text}`)
    if (missing > 0) return missing
    return judged.some(({ due, stale }) => due || stale) ? exitCodes.hostFailed : exitCodes.done
  } finally {
    sessions.close()
    release()
  }
}

/** The hosts through which the API is asked; where the inventory has no masters, what it keeps is left out, and that is told. */
function mastersOf(inventory: Inventory, pattern: string, leftOut: LeftOut): Host[] {
  try {
    const hosts = inventory.select(pattern)
    if (hosts.length > 0) return hosts
    throw new RekeyError(`no host matches '${pattern}'`, { code: 'inventory.no-masters' })
  } catch (error) {
    if (!(error instanceof RekeyError) || error.code !== 'inventory.no-masters') throw error
    leftOut('what the API keeps is', error)
    return []
  }
}

async function inApi(
  masters: Host[],
  sessions: ReturnType<typeof openHosts>,
  signal: AbortSignal,
  notice: (text: string) => void,
  leftOut: LeftOut,
): Promise<{ nodes: readonly KubernetesObject[]; copies: readonly CensusEntry[] }> {
  const run: RunContext = {
    ...{
      run: 'certs',
      folder: '',
      vars: {},
      mode: 'run',
      check: true,
      signal,
      timeline: { plays: [], milestones: new Map() },
    },
    hosts: () => masters,
    on: async name => sessions.on(typeof name === 'string' ? masters.find(one => one.name === name)! : name),
    ...{ log: () => undefined, milestone: () => undefined, redact: () => undefined, registered: () => undefined },
  }
  const found = await placesOf(masters, sessions, signal)
  const cluster = openCluster(run, undefined, found)
  try {
    return { nodes: await cluster.nodes(), copies: await apiCertificates(await cluster.api(), notice) }
  } catch (thrown) {
    signal.throwIfAborted()
    const error = failureOf(thrown, 'API')
    if (!(error instanceof RekeyError)) throw error
    leftOut('what the API keeps is', error)
    return { nodes: [], copies: [] }
  } finally {
    cluster.close()
  }
}

/** Where the masters have the administrator's kubeconfig, and where their API servers listen; kubeadm's places, where nothing was found. */
async function placesOf(
  masters: readonly Host[],
  sessions: ReturnType<typeof openHosts>,
  signal: AbortSignal,
): Promise<ClusterPlaces> {
  const found = new Map(
    await Promise.all(
      masters.map(async host => [host.name, await sessions.found(host).catch(() => undefined)] as const),
    ),
  )
  signal.throwIfAborted()
  const administrators = masters.flatMap(host => {
    const path = adminKubeconfigOf(found.get(host.name)?.files ?? new Map())
    return path === undefined ? [] : [{ host, path }]
  })
  return {
    administrator: master =>
      administrators.find(({ host }) => host === master) ??
      administrators[0] ?? { host: master, path: kubeadm.adminKubeconfig },
    apiServer: ({ name }) => {
      const component = found.get(name)?.layout.components['kube-apiserver']
      return component ? servedAt(component) : { address: '127.0.0.1', port: kubeadm.apiServerPort }
    },
  }
}

/** Hosts to read from, each connected once, and what runs on them. */
function openHosts(signal: AbortSignal) {
  const open = new Map<string, Promise<Connection>>()
  const layouts = new Map<string, Promise<Discovery | undefined>>()
  const on = async (host: Host): Promise<HostSession> => {
    const opening = open.get(host.name) ?? connect(host.name, host.connection, signal)
    open.set(host.name, opening)
    const connection = await opening
    return {
      host,
      $: remoteShell(connection, { signal, timeout: 60_000 }),
      files: remoteFiles(connection, signal),
      forward: (address, port) => connection.forward(address, port),
    }
  }
  // What runs in a way that nobody knows has certificates all the same.
  const look = async (host: Host) =>
    discover(await on(host)).catch((error: RekeyError) => {
      if (error.code?.startsWith('layout.')) return undefined
      throw error
    })
  return {
    on,
    /** What runs on a host; undefined where that is not known. */
    found: (host: Host): Promise<Discovery | undefined> => {
      const looking = layouts.get(host.name) ?? look(host)
      layouts.set(host.name, looking)
      return looking
    },
    close: () => {
      for (const opening of open.values()) opening.then(one => one.close()).catch(() => undefined)
    },
  }
}

/** What a machine reads: dates in ISO, nothing that is secret, nothing that a terminal would obey. */
function jsonOf(judged: readonly JudgedEntry[], notices: readonly string[]): string {
  const everything = {
    certificates: judged.map(({ facts, ...entry }) => ({
      ...entry,
      subject: facts.subject,
      commonName: facts.commonName,
      organizations: facts.organizations,
      dnsNames: facts.dnsNames,
      ipAddresses: facts.ipAddresses,
      emailAddresses: facts.emailAddresses,
      uris: facts.uris,
      issuer: facts.issuer,
      serialNumber: facts.serialNumber,
      fingerprint: facts.fingerprint,
      notBefore: facts.notBefore.toISOString(),
      notAfter: facts.notAfter.toISOString(),
      isAuthority: facts.isAuthority,
      keyType: facts.keyType,
    })),
    notices,
  }
  return visibleJson(everything, 2)
}

/** A line for each; copies of one CA that fit are told together. */
function report(judged: readonly JudgedEntry[]): string {
  const rows: string[][] = []
  const copies = new Map<string, JudgedEntry[]>()
  for (const entry of judged) {
    if (entry.kind === 'api' && entry.facts.isAuthority && entry.problems.length === 0 && !entry.due) {
      copies.set(entry.facts.fingerprint, [...(copies.get(entry.facts.fingerprint) ?? []), entry])
      continue
    }
    rows.push([...columns(entry), entry.where, describe(entry), entry.problems.join('; ')].map(visible))
  }
  for (const entries of copies.values()) {
    const [first] = entries
    const where = entries.length === 1 ? first!.where : `${entries.length} copies in the API (${kindsOf(entries)})`
    rows.push([...columns(first!), where, describe(first!), ''].map(visible))
  }
  const header = ['', 'UNTIL', 'DAYS', 'ISSUER', 'WHERE', 'WHAT', '']
  const widths = header.map((_, index) => Math.max(header[index]!.length, ...rows.map(row => row[index]!.length)))
  const lines = [header, ...rows].map(row =>
    row
      .map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index]!)))
      .join('  ')
      .trimEnd(),
  )
  const stale = judged.filter(one => one.stale).length
  const wrong = judged.filter(({ problems }) => problems.length > 0).length
  const due = judged.filter(one => one.due).length
  return `${lines.join('\n')}\n\n${judged.length} certificates, ${due} due, ${wrong} with something that doesn't fit${stale > 0 ? `, ${stale} of a CA that no master trusts any more` : ''}`
}

function columns({ facts, daysLeft, due, problems, issuerFingerprint }: JudgedEntry): string[] {
  const mark = problems.length > 0 ? '✖' : due ? '!' : '✔'
  const issuer = issuerFingerprint ? issuerFingerprint.slice(0, 11) : '-'
  return [mark, facts.notAfter.toISOString().slice(0, 10), String(daysLeft), issuer]
}

function describe({ facts, component, kind }: JudgedEntry): string {
  const what = facts.isAuthority ? `CA ${facts.fingerprint.slice(0, 11)}` : component
  return `${what}${kind === 'served' ? ' (serves)' : ''}: ${facts.subject}${names(facts)}`
}

/** The first of the names that a certificate is for, and how many more there are: all of them are in the JSON. */
function names({ dnsNames, ipAddresses }: JudgedEntry['facts']): string {
  const [first, second, ...more] = [...dnsNames, ...ipAddresses]
  if (first === undefined) return ''
  return ` for ${[first, second].filter(Boolean).join(', ')}${more.length > 0 ? ` and ${more.length} more` : ''}`
}

function kindsOf(entries: readonly JudgedEntry[]): string {
  const counts = Map.groupBy(entries, ({ where }) => where.split(/[ /]/)[0]!)
  return [...counts].map(([kind, all]) => `${all.length} ${kind}${all.length > 1 ? 's' : ''}`).join(', ')
}

function readDuration(value: string): number {
  const read = parseDuration(value)
  if (read === undefined) throw new InvalidArgumentError('It must be a time like 30d, 12h or 90m.')
  return read
}
