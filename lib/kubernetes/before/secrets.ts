// What is proven of Secrets: those that were there are there still, and as they were, unless somebody wrote them meanwhile. What they
// hold is read, digested and forgotten; what is kept of each is a line.
import { createHmac, randomBytes } from 'node:crypto'
import { Secret } from '../../connection/shell.ts'
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { tokenSecretType } from '../trust/tokens.ts'

/** What Secrets were like. Plain data, to be registered: 80 bytes for each. */
export interface SecretsBefore {
  /** Keys the digests: without it nobody can try what a Secret may have held. It stays in the run's folder. */
  readonly salt: Secret
  /** A line for each: `namespace/name`, the beginning of its uid, its version, the digest of its contents. */
  readonly lines: string
}

/** What has become of the Secrets that were there. Plain data; all are named `namespace/name`. */
export interface SecretsComparison {
  /** How many hold what they held. */
  readonly unchanged: number
  /** Their contents are others, and nobody wrote them: that must not be. */
  readonly damaged: readonly string[]
  /** Somebody wrote other contents into them. */
  readonly written: readonly string[]
  readonly deleted: readonly string[]
  /** Deleted, and made anew under the same name. */
  readonly recreated: readonly string[]
  /** How many are there that were not: nobody's fault. */
  readonly added: number
}

/**
 * Notes what every Secret is like.
 * @throws ApiError, HostFailedError where they can't all be read
 */
export async function secretsBefore(api: KubernetesApi, signal?: AbortSignal): Promise<SecretsBefore> {
  const salt = randomBytes(32).toString('base64')
  const lines: string[] = []
  for await (const one of api.each('/api/v1/secrets', { signal }))
    lines.push(`${nameOf(one)} ${stateOf(one, salt).join(' ')}`)
  return { salt: new Secret(salt), lines: lines.join('\n') }
}

/**
 * Compares every Secret with what it was like.
 * That an API server lists them proves that it could read them when it last had to; it may do so from memory.
 * @throws ApiError, HostFailedError where they can't all be read
 */
export async function compareSecrets(
  api: KubernetesApi,
  before: SecretsBefore,
  signal?: AbortSignal,
): Promise<SecretsComparison> {
  const salt = before.salt.reveal()
  const missing = new Map<string, string>()
  for (const line of before.lines.split('\n')) {
    const end = line.indexOf(' ')
    if (end > 0) missing.set(line.slice(0, end), line.slice(end + 1))
  }
  const found = { damaged: [] as string[], written: [] as string[], recreated: [] as string[] }
  let [unchanged, added] = [0, 0]
  for await (const one of api.each('/api/v1/secrets', { signal })) {
    const name = nameOf(one)
    const line = missing.get(name)
    missing.delete(name)
    if (line === undefined) {
      added++
      continue
    }
    const [uid, version, digest] = line.split(' ')
    const [uidNow, versionNow, digestNow] = stateOf(one, salt)
    if (uid !== uidNow) found.recreated.push(name)
    else if (digest === digestNow) unchanged++
    else if (version === versionNow) found.damaged.push(name)
    else found.written.push(name)
  }
  return { unchanged, added, ...found, deleted: [...missing.keys()] }
}

/** What is to be told of a comparison, a line each; nothing where no Secret is another. */
export function tellSecrets({ written, deleted, recreated, added }: SecretsComparison): string[] {
  const lines: [readonly string[], string][] = [
    [written, 'written meanwhile by somebody else'],
    [deleted, 'deleted meanwhile'],
    [recreated, 'deleted and made anew meanwhile'],
  ]
  const told = lines.filter(([names]) => names.length > 0).map(([names, what]) => `Secrets ${what}: ${firstOf(names)}`)
  return added > 0 ? [...told, `Secrets that are new: ${added}`] : told
}

/** The first names of a list that may be long, and how many more there are. */
export function firstOf(names: readonly string[], most = 10): string {
  const shown = names.slice(0, most).join(', ')
  return names.length > most ? `${shown} and ${names.length - most} more` : shown
}

const nameOf = ({ metadata: { namespace, name } }: KubernetesObject) => `${namespace}/${name}`

function stateOf(
  { metadata, data, ...rest }: KubernetesObject,
  salt: string,
): [uid: string, version: string, digest: string] {
  const { uid = '', resourceVersion = '' } = metadata
  const entries = Object.entries((data ?? {}) as Record<string, string>).sort(([a], [b]) => (a < b ? -1 : 1))
  // Tokens are written anew by the controller-manager when the CA or the key of service accounts is another one.
  const digest =
    rest['type'] === tokenSecretType
      ? '-'
      : createHmac('sha256', salt).update(JSON.stringify(entries)).digest('base64url')
  return [uid.replaceAll('-', '').slice(0, 12), resourceVersion, digest.slice(0, 22)]
}
