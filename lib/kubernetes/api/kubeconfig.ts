// Kubeconfigs: what a client needs of one, and one with the CA and the client of another.
import { isDeepStrictEqual } from 'node:util'
import { dump, load } from 'js-yaml'
import { RekeyError } from '../../errors.ts'

/** What a client needs to talk to an API server. PEM texts. */
export interface ApiCredentials {
  readonly server: string
  readonly ca: string
  readonly certificate?: string
  readonly key?: string
}

/** A kubeconfig's current context, by its names, and what it leads to. */
export interface KubeconfigFacts extends ApiCredentials {
  readonly cluster: string
  readonly context: string
  readonly user: string
  /** The file with the client certificate, where it is not in the kubeconfig itself. */
  readonly certificateFile?: string
}

/** The current context of a kubeconfig as it stands there: what it holds itself, and what it names files for. */
export interface KubeconfigFields {
  readonly cluster: string
  readonly context?: string
  readonly user: string
  readonly server?: string
  /** PEM. */
  readonly ca?: string
  readonly certificate?: string
  readonly key?: string
  readonly authorityFile?: string
  readonly certificateFile?: string
  readonly keyFile?: string
  /** Whether it holds more than this: other contexts, clusters or users, or what else may be said of one of them. */
  readonly more: boolean
}

/** What is said of a cluster, a user and a context where it is no more than they need. */
const usual = {
  cluster: ['server', 'certificate-authority-data', 'certificate-authority'],
  user: ['client-certificate-data', 'client-certificate', 'client-key-data', 'client-key'],
  context: ['cluster', 'user'],
} as const

interface Named<T> {
  readonly name: string
  readonly [member: string]: T | string | undefined
}
type Fields = Record<string, string | undefined>

/**
 * Reads the current context of a kubeconfig.
 * @param where its file and host, for messages
 * @throws RekeyError where it has no current context, or no embedded CA
 */
export function readKubeconfig(text: string, where: string): KubeconfigFacts {
  const { context, server, ca, certificateFile, ...own } = kubeconfigFields(text, where)
  if (context === undefined || server === undefined || ca === undefined) {
    const missing =
      context === undefined ? 'current context' : server === undefined ? 'server' : 'certificate-authority-data'
    throw new RekeyError(`${where} has no ${missing}`, { code: 'kubeconfig.incomplete' })
  }
  const { cluster, user, certificate, key } = own
  return { ...{ cluster, context, user, server, ca }, certificate, key, certificateFile }
}

/**
 * Reads the current context of a kubeconfig, whatever it lacks.
 * @throws RekeyError where it is not YAML
 */
export function kubeconfigFields(text: string, where: string): KubeconfigFields {
  const config = parse(text, where)
  const context = config['current-context'] || config.contexts?.[0]?.name
  const { cluster = '', user = '' } = fields(config.contexts, context ?? '', 'context')
  const { cluster: server, user: own } = currentOf(config)
  return {
    ...{ cluster, context, user, server: server['server'] },
    ca: decode(server['certificate-authority-data']),
    certificate: decode(own['client-certificate-data']),
    key: decode(own['client-key-data']),
    authorityFile: server['certificate-authority'],
    certificateFile: own['client-certificate'],
    keyFile: own['client-key'],
    more: holdsMore(config),
  }
}

/**
 * A kubeconfig with the CA and the client that another one has for its current context. Whatever else it holds is somebody's, and stays: byte
 * for byte where the values that it had can be told from all others.
 * @param where its file and host, for messages
 * @param members which of the two: its client alone, where the CAs in it are to stay
 * @throws RekeyError where one of them is not YAML
 */
export function withCurrentOf(
  text: string,
  other: string,
  where: string,
  members: readonly ('cluster' | 'user')[] = ['cluster', 'user'],
): string {
  const [wanted, next] = [parse(text, where), currentOf(parse(other, where))]
  const now = currentOf(wanted)
  let edited = text
  for (const member of members) {
    for (const name of usual[member]) {
      const [before, after] = [now[member][name], next[member][name]]
      if (name === 'server' || before === after) continue
      if (after === undefined) delete now[member][name]
      else now[member][name] = after
      if (before && after) edited = edited.replaceAll(before, after)
    }
  }
  return asWanted(edited, wanted, where)
}

/** An edited text, which keeps what is beside its values, where it says what is wanted; else what is wanted, written anew. */
export const asWanted = (edited: string, wanted: object, where: string): string =>
  isDeepStrictEqual(parse(edited, where), wanted) ? edited : written(wanted)

/** A kubeconfig as text. */
export const written = (config: object): string => dump(config, { lineWidth: -1, noRefs: true })

type Config = ReturnType<typeof parse>

function currentOf(config: Config) {
  const name = config['current-context'] || config.contexts?.[0]?.name
  const linked = fields(config.contexts, name ?? '', 'context')
  return {
    cluster: fields(config.clusters, linked['cluster'] ?? '', 'cluster'),
    user: fields(config.users, linked['user'] ?? '', 'user'),
  }
}

function holdsMore({ clusters = [], contexts = [], users = [] }: Config): boolean {
  const said = [
    ['cluster', clusters],
    ['context', contexts],
    ['user', users],
  ] as const
  return said.some(([member, entries]) => {
    const known: readonly string[] = usual[member]
    return entries.length > 1 || entries.some(one => Object.keys(one[member] ?? {}).some(name => !known.includes(name)))
  })
}

function parse(text: string, where: string) {
  try {
    return (load(text) ?? {}) as {
      'current-context'?: string
      clusters?: Named<Fields>[]
      contexts?: Named<Fields>[]
      users?: Named<Fields>[]
    }
  } catch {
    // The parser's own message would quote the file.
    throw new RekeyError(`${where} is not YAML`, { code: 'kubeconfig.not-yaml' })
  }
}

function fields(entries: readonly Named<Fields>[] | undefined, name: string, member: string): Fields {
  return (entries?.find(entry => entry.name === name)?.[member] as Fields | undefined) ?? {}
}

function decode(data: string | undefined): string | undefined {
  return data ? Buffer.from(data, 'base64').toString('utf8') : undefined
}
