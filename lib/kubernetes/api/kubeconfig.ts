// Kubeconfigs: what a client needs of one, and one with another CA.
import { load } from 'js-yaml'
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
}

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
  const linked = config.contexts?.find(({ name }) => name === context)?.['context'] as Fields | undefined
  const cluster = linked?.['cluster'] ?? ''
  const user = linked?.['user'] ?? ''
  const server = fields(config.clusters, cluster, 'cluster')
  const own = fields(config.users, user, 'user')
  return {
    ...{ cluster, context, user, server: server['server'] },
    ca: decode(server['certificate-authority-data']),
    certificate: decode(own['client-certificate-data']),
    key: decode(own['client-key-data']),
    authorityFile: server['certificate-authority'],
    certificateFile: own['client-certificate'],
    keyFile: own['client-key'],
  }
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
