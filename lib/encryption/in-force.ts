// What an API server encrypts by now, by what it says of itself, against the file that it was started with.
import { createHash } from 'node:crypto'
import { RekeyError } from '../errors.ts'
import { ApiError, type KubernetesApi } from '../kubernetes/api/api.ts'
import { startTimesOf } from '../kubernetes/components/control.ts'
import { fileOf } from '../kubernetes/components/files.ts'
import type { FoundComponent } from '../kubernetes/layout/host-layout.ts'
import type { HostSession } from '../playbook/model.ts'
import { type EncryptionConfiguration, readConfiguration } from './configuration.ts'

/** A KMS plugin, as an API server knows it. */
export interface PluginState {
  readonly name: string
  /** SHA-256 of the key id that it told last, in hex. */
  readonly keyIdHash?: string
  /** When that was, in seconds since 1970. */
  readonly asked?: number
}

/** What an API server tells of a key id in its place. */
export const keyIdHashOf = (keyId: string): string => createHash('sha256').update(keyId).digest('hex')

/** How an API server encrypts. */
export interface InForce {
  /** The file that it was started with; none where it encrypts nothing. */
  readonly file?: string
  /** SHA-256 of that file as it is now, in hex. */
  readonly hash?: string
  /** The same of what the server has in force, where it says so: from 1.34 on. */
  readonly serverHash?: string
  /**
   * Whether the server goes by the file as it is now. `presumably`: it does not say, and took it up after it was last written, by the clock of
   * its host.
   */
  readonly agrees: 'yes' | 'no' | 'presumably' | 'unknown'
  /** Whether it takes up changes of the file by itself. */
  readonly reloads: boolean
  /** How often it has failed to take one up since its start. */
  readonly failures: number
  /** What it says of the health of its plugins: `ok`, or which is not; none where it has none, or could not be asked. */
  readonly health?: string
  readonly plugins: readonly PluginState[]
  /** What is in the file. None where it could not be read. */
  readonly configuration?: EncryptionConfiguration
  /** Why not. */
  readonly problem?: string
}

/**
 * Reads it, and asks the server.
 * @param api of this very server; where nothing is given, only the file is read
 * @throws HostFailedError where the server does not answer, or the file can't be read
 */
export async function readInForce(
  session: HostSession,
  apiServer: FoundComponent,
  api?: Pick<KubernetesApi, 'getText'>,
): Promise<InForce> {
  const reloads = isOn(apiServer.flags['encryption-provider-config-automatic-reload']?.at(-1))
  const file = fileOf(apiServer, 'encryption')
  if (!file) return { agrees: 'yes', reloads, failures: 0, plugins: [] }
  const bytes = await session.files.read(file.path)
  const hash = createHash('sha256').update(bytes).digest('hex')
  const read = readOrProblem(bytes.toString('utf8'), `${session.host.name}:${file.path}`)
  const own = { file: file.path, hash, reloads, ...read }
  if (!api) return { ...own, agrees: 'unknown', failures: 0, plugins: [] }
  const hasPlugins = read.configuration?.rules.some(({ providers }) => providers.some(({ kind }) => kind === 'kms'))
  // First, since it has the server ask its plugins: what they answer stands in its metrics then.
  const health = hasPlugins ? await healthOf(api) : undefined
  const metrics = await api.getText('/metrics')
  const serverHash = metricsOf(metrics, 'apiserver_encryption_config_controller_last_config_info')
    .at(-1)
    ?.labels['hash']?.replace(/^sha256:/, '')
  const ofReloads = (name: string, status: string) =>
    metricsOf(metrics, `apiserver_encryption_config_controller_${name}`)
      .filter(({ labels }) => labels['status'] === status)
      .reduce((most, { value }) => Math.max(most, value), 0)
  const agrees = serverHash
    ? serverHash === hash
      ? 'yes'
      : 'no'
    : await byTime(session, apiServer, file.path, ofReloads('automatic_reload_last_timestamp_seconds', 'success'))
  return {
    ...own,
    ...{ agrees, failures: ofReloads('automatic_reloads_total', 'failure'), plugins: pluginsOf(metrics) },
    ...(serverHash !== undefined && { serverHash }),
    ...(health !== undefined && { health }),
  }
}

/** Whether the file is mounted by itself where the server runs: what takes its place on the host is not seen in there then. */
export async function isMountedItself({ $ }: HostSession, { flags, processes }: FoundComponent): Promise<boolean> {
  const inside = flags['encryption-provider-config']?.at(-1)
  if (inside === undefined || processes.length === 0) return false
  const mounts = `/proc/${processes[0]}/mountinfo`
  const { stdout } = await $({
    quiet: true,
    nothrow: true,
  })`awk -v p=${inside} '$5 == p { print "yes"; exit }' ${mounts}`
  return stdout.trim() === 'yes'
}

/** A flag without a value is on; how Go reads what is given. */
const isOn = (value: string | undefined) => value !== undefined && /^(|1|t|T|true|TRUE|True)$/.test(value)

function readOrProblem(text: string, where: string): Pick<InForce, 'configuration' | 'problem'> {
  try {
    return { configuration: readConfiguration(text, where) }
  } catch (error) {
    if (error instanceof RekeyError) return { problem: error.message }
    throw error
  }
}

/** Of a server that does not say what it has in force: when it read the file last, and when that was last written. */
async function byTime(
  session: HostSession,
  apiServer: FoundComponent,
  path: string,
  reloaded: number,
): Promise<InForce['agrees']> {
  const { stdout } = await session.$({ quiet: true })`stat -L -c %Y ${path}`
  const written = Number(stdout.trim())
  const started = await startTimesOf(session, apiServer)
  const readLast = Math.max(reloaded, ...started)
  // A file has a time of whole seconds here.
  return Number.isFinite(readLast) && written + 1 < readLast ? 'presumably' : 'unknown'
}

/**
 * Asks the server for the health of its plugins. A plugin of v2 is asked for its status by that, and for its key: the server notices at once
 * what it would have noticed within a minute.
 */
async function healthOf(api: Pick<KubernetesApi, 'getText'>): Promise<string> {
  try {
    return (await api.getText('/healthz/kms-providers')).trim()
  } catch (error) {
    if (error instanceof ApiError) return error.message
    throw error
  }
}

/** Of each plugin what it told last. */
function pluginsOf(metrics: string): PluginState[] {
  const told = metricsOf(metrics, 'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds')
  const latest = new Map<string, PluginState>()
  for (const { labels, value } of told) {
    const { provider_name: name = '', key_id_hash: hash = '' } = labels
    if (value > (latest.get(name)?.asked ?? 0))
      latest.set(name, { name, asked: value, keyIdHash: hash.replace(/^sha256:/, '') })
  }
  return [...latest.values()]
}

/** The samples of a metric in Prometheus' text. */
export function metricsOf(text: string, name: string): { labels: Record<string, string>; value: number }[] {
  return text.split('\n').flatMap(line => {
    if (!line.startsWith(name) || !/^[{ ]/.test(line.slice(name.length))) return []
    const [, inBraces = '', value = ''] = /^(?:\{(.*)\})? (\S+)/.exec(line.slice(name.length)) ?? []
    const labels = Object.fromEntries(
      [...inBraces.matchAll(/(?<!\w)(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, content]) => [
        label!,
        content!.replace(/\\(.)/g, '$1'),
      ]),
    )
    return [{ labels, value: Number(value) }]
  })
}

/** In what API servers differ, in a sentence. */
export function disagreementOf(servers: ReadonlyMap<string, Pick<InForce, 'hash' | 'agrees'>>): string | undefined {
  const hashes = Map.groupBy(servers, ([, { hash = 'none' }]) => hash)
  if (hashes.size > 1) {
    const groups = [...hashes.values()].map(group => group.map(([host]) => host).join(', '))
    return `the API servers have different files to encrypt by: ${groups.join(' | ')}`
  }
  const behind = [...servers].filter(([, { agrees }]) => agrees === 'no').map(([host]) => host)
  return behind.length > 0 ? `what is in force is not what the file says on ${behind.join(', ')}` : undefined
}

/** SHA-256 of the key that each plugin has now, by its name; of one that servers have different keys of, none is known to be it. */
export function keyIdsOf(servers: Iterable<Pick<InForce, 'plugins'>>): Map<string, string> {
  const told = [...servers].flatMap(({ plugins }) => plugins)
  const byName = Map.groupBy(told, ({ name }) => name)
  return new Map(
    [...byName].flatMap(([name, all]) => {
      const hashes = new Set(all.map(({ keyIdHash }) => keyIdHash))
      const [only] = hashes
      return hashes.size === 1 && only !== undefined ? [[name, only] as const] : []
    }),
  )
}
