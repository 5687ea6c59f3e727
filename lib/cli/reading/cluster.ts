// What commands that only read from a cluster share: which hosts, who is connected once, what runs there, the API through the masters, and
// what was left out, which must not pass for what is well.
import type { Command } from 'commander'
import { connect } from '../../connection/connect.ts'
import type { Connection } from '../../connection/connection.ts'
import { remoteFiles } from '../../connection/files.ts'
import { limiter } from '../../connection/limiter.ts'
import { remoteShell } from '../../connection/remote.ts'
import { exitCodes, RekeyError, UnreachableError } from '../../errors.ts'
import type { Inventory } from '../../inventory/index.ts'
import { type Cluster, type ClusterPlaces, openCluster } from '../../kubernetes/api/cluster.ts'
import { servedAt } from '../../kubernetes/components/control.ts'
import { type Discovery, discover } from '../../kubernetes/layout/discover.ts'
import * as kubeadm from '../../kubernetes/layout/kubeadm/index.ts'
import { adminKubeconfigOf } from '../../kubernetes/layout/plan.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, RunContext } from '../../playbook/model.ts'
import { failureOf } from '../../run/failure.ts'
import { type ConnectionOptions, openConnecting, withConnectionOptions } from '../options/connection.ts'
import { type InventoryOptions, openInventory, rolesSaid, withInventoryOptions } from '../options/inventory.ts'
import { settable } from '../options/settable.ts'
import { positiveInteger } from '../options/whole-number.ts'
import { interruptible } from '../running/interrupt.ts'

export interface ReadingOptions extends InventoryOptions, ConnectionOptions {
  limit?: string[]
  api?: boolean
  masters: string
  folder?: string[]
  forks: number
}

/** Adds the options that say which hosts are read, how, and through which the API is asked. */
export function withReadingOptions(command: Command): Command {
  const whole = withConnectionOptions(withInventoryOptions(command))
    .argument('[pattern]', 'the hosts', 'all')
    .option('-l, --limit <pattern>', 'only these hosts', (value, before: string[] = []) => [...before, value])
    .option(
      '--folder <path>',
      'look in this folder of the hosts too; may be given several times',
      (value, before: string[] = []) => [...before, value],
    )
    .option('--no-api', 'leave out what the API keeps')
    .option('--masters <pattern>', 'the hosts through which the API is asked', 'masters')
    .option('-f, --forks <number>', 'hosts that are read at the same time', positiveInteger, 16)
  return settable(whole, { forks: 'forks' })
}

type LeftOut = (what: string, error: RekeyError) => void

/** A cluster that is read. */
export interface Reading {
  readonly inventory: Inventory
  readonly hosts: readonly Host[]
  /** Those through which the API is asked: none where the inventory has none, or nobody wants to know what it keeps. */
  readonly masters: readonly Host[]
  readonly signal: AbortSignal
  /** Hosts, each connected once, and what runs on them. */
  readonly sessions: ReturnType<typeof openHosts>
  /** What people are told in the end. */
  readonly notices: string[]
  notice(text: string): void
  /** Tells that something could not be looked at: the exit code says so. */
  missed(text: string, code?: number): void
  /** What it is then, beside what was found. */
  missing(): number
  /** Reads from each host, some at a time. One that fails is told, left out, and gives `undefined`. */
  each<T>(read: (session: HostSession) => Promise<T>): Promise<(T | undefined)[]>
  /** The cluster, seen through its masters: opened by whoever asks first. */
  cluster(): Promise<Cluster>
  /** Does something with its API. Where that fails it is told, left out, and gives `undefined`; also where there are no masters. */
  inApi<T>(work: (cluster: Cluster) => Promise<T>): Promise<T | undefined>
}

/**
 * Opens a cluster to be read, has `work` read it, and closes it.
 * @throws RekeyError where no host is asked for
 */
export async function reading<T>(
  pattern: string,
  options: ReadingOptions,
  work: (reading: Reading) => Promise<T>,
): Promise<T> {
  const connecting = await openConnecting(options)
  const inventory = await openInventory(options, { connection: connecting.defaults })
  const hosts = inventory.select(pattern, { limit: options.limit?.join(',') })
  if (hosts.length === 0) throw new RekeyError(`no host matches "${pattern}"`, { code: 'run.no-hosts' })
  const notices: string[] = []
  const notice = (text: string) => void notices.push(text)
  let missing: number = exitCodes.done
  const missed = (text: string, code: number = exitCodes.hostFailed) => {
    notice(text)
    missing = Math.max(missing, code)
  }
  const leftOut: LeftOut = (what, error) =>
    missed(`${what} left out: ${error.message}`, error instanceof UnreachableError ? exitCodes.unreachable : undefined)
  const masters = options.api === false ? [] : mastersOf(inventory, options.masters, leftOut)
  notices.push(...rolesSaid(inventory))
  await connecting.unlock([...hosts, ...masters])
  const { signal, release } = interruptible()
  const sessions = openHosts(signal)
  const told = async <Read>(what: string, where: string, read: () => Promise<Read>): Promise<Read | undefined> => {
    try {
      return await read()
    } catch (thrown) {
      signal.throwIfAborted()
      const error = failureOf(thrown, where)
      if (!(error instanceof RekeyError)) throw error
      leftOut(what, error)
      return undefined
    }
  }
  const limit = limiter(options.forks)
  let opened: Promise<Cluster> | undefined
  const cluster = () => {
    opened ??= clusterOf(masters, sessions, signal)
    return opened
  }
  try {
    return await work({
      ...{ inventory, hosts, masters, signal, sessions, notices, notice, missed, missing: () => missing },
      each: read =>
        Promise.all(
          hosts.map(host => limit(() => told(`${host.name} is`, host.name, async () => read(await sessions.on(host))))),
        ),
      cluster,
      inApi: async ask =>
        masters.length === 0 ? undefined : told('what the API keeps is', 'API', async () => ask(await cluster())),
    })
  } finally {
    opened?.then(one => one.close()).catch(() => undefined)
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

async function clusterOf(
  masters: readonly Host[],
  sessions: ReturnType<typeof openHosts>,
  signal: AbortSignal,
): Promise<Cluster> {
  const run: RunContext = {
    ...{
      run: 'reading',
      folder: '',
      vars: {},
      mode: 'run',
      check: true,
      signal,
      timeline: { began: 0, plays: [], milestones: new Map() },
    },
    otherRun: reference => {
      throw new RekeyError(`what only reads has no other run: ${reference}`, { code: 'run.not-found' })
    },
    otherRuns: () => [],
    destroySecrets: () => [],
    hosts: () => [...masters],
    on: async name => sessions.on(typeof name === 'string' ? masters.find(one => one.name === name)! : name),
    ...{ log: () => undefined, milestone: () => undefined, redact: () => undefined, registered: () => undefined },
  }
  return openCluster(run, undefined, await placesOf(masters, sessions, signal))
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
