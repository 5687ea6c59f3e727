// Kubeconfigs that are handed to people: one that is made, and one of theirs that is given the trust of now.
import { load } from 'js-yaml'
import { RekeyError } from '../../errors.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import { asWanted, written } from './kubeconfig.ts'

/** A cluster as its users reach it. */
export interface ReachedCluster {
  readonly name: string
  readonly server: string
  /** The CAs by which its API servers are trusted, PEM. */
  readonly bundle: string
}

/** Somebody with a client certificate, PEM. */
export interface KubeconfigUser {
  readonly name: string
  readonly certificate: string
  readonly key: string
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** A kubeconfig of one cluster; with somebody whom it lets in, where one is given. */
export function kubeconfigText({ name: cluster, server, bundle }: ReachedCluster, user?: KubeconfigUser): string {
  const context = user && `${user.name}@${cluster}`
  return written({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: cluster, cluster: { server, 'certificate-authority-data': base64(bundle) } }],
    contexts: user ? [{ name: context, context: { cluster, user: user.name } }] : [],
    'current-context': context ?? '',
    users: user
      ? [
          {
            name: user.name,
            user: { 'client-certificate-data': base64(user.certificate), 'client-key-data': base64(user.key) },
          },
        ]
      : [],
  })
}

/** A cluster that stands in somebody's kubeconfig. */
export interface NamedCluster {
  readonly name: string
  readonly server?: string
  /** The CAs that it trusts, PEM; none where it names a file. */
  readonly authorities: readonly string[]
}

type Fields = Record<string, unknown>
interface Config {
  readonly clusters?: { readonly name?: unknown; cluster?: Fields }[]
}

/**
 * A kubeconfig with other trust for those of its clusters that are meant; everything else in it stays, byte for byte where nothing but a bundle takes
 * another's place.
 * @param where the file, for messages
 * @returns the text, and the names of these clusters
 * @throws RekeyError where it is not YAML
 */
export function withTrust(
  text: string,
  where: string,
  bundle: string,
  isMeant: (cluster: NamedCluster) => boolean,
): { readonly text: string; readonly clusters: readonly string[] } {
  const wanted = read(text, where)
  const clusters: string[] = []
  let next = text
  for (const { name, cluster } of wanted.clusters ?? []) {
    if (!cluster || !isMeant(named(name, cluster))) continue
    const held = cluster['certificate-authority-data']
    if (typeof held === 'string' && held !== '') next = next.replaceAll(held, base64(bundle))
    // A file is another's place than this one, and who verifies nothing has no CA.
    delete cluster['certificate-authority']
    delete cluster['insecure-skip-tls-verify']
    cluster['certificate-authority-data'] = base64(bundle)
    clusters.push(String(name))
  }
  if (clusters.length === 0) return { text, clusters }
  return { text: asWanted(next, wanted, where), clusters }
}

/** The clusters of a kubeconfig. Throws `RekeyError` where it is not YAML. */
export function clustersOf(text: string, where: string): NamedCluster[] {
  return (read(text, where).clusters ?? []).map(({ name, cluster }) => named(name, cluster ?? {}))
}

const named = (name: unknown, cluster: Fields): NamedCluster => ({
  name: String(name),
  ...(typeof cluster['server'] === 'string' && { server: cluster['server'] }),
  authorities: certificatesWithin(String(cluster['certificate-authority-data'] ?? '')),
})

function read(text: string, where: string): Config {
  try {
    const config = load(text)
    if (config !== null && typeof config === 'object' && !Array.isArray(config)) return config
  } catch {
    // The parser's own message would quote the file.
  }
  throw new RekeyError(`${where} is no kubeconfig`, { code: 'kubeconfig.not-yaml' })
}
