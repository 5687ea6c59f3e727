// How a value lies in etcd against how it would be written now, by the rules that API servers go by.
import { shown } from '../errors.ts'
import { type Census, isOwn } from './census.ts'
import { type EncryptionConfiguration, type Provider, providersOf } from './configuration.ts'
import { keyIdHashOf } from './in-force.ts'
import type { Stored } from './stored.ts'

/**
 * - `current`: it would be written so again
 * - `behind`: it is read, and would be written by another provider or key
 * - `unencrypted`: no rule is for it, and it is plain
 * - `unreadable`: no provider of its rules reads it, or nobody knows what it is
 */
export type Standing = 'current' | 'behind' | 'unencrypted' | 'unreadable'

/**
 * How values of a resource stand.
 * @param keyIdHashes SHA-256 in hex of the key that each KMS plugin has now, by its name, as far as it is known
 */
export function standingOf(
  resource: string,
  stored: Stored,
  configuration: EncryptionConfiguration,
  keyIdHashes: ReadonlyMap<string, string> = new Map(),
): Standing {
  if (stored.kind === 'unknown') return 'unreadable'
  const providers = isOwn(resource) ? [] : providersOf(configuration, resource)
  if (providers.length === 0) return stored.kind === 'plain' ? 'unencrypted' : 'unreadable'
  if (!providers.some(one => reads(one, stored))) return 'unreadable'
  return writes(providers[0]!, stored, keyIdHashes) ? 'current' : 'behind'
}

/** Values that would be written in another way now, or that nobody reads: how many of a resource there are, and how they lie there. */
export interface Behind {
  readonly what: string
  readonly count: number
  /** The key of one of them in etcd, where the census named any. */
  readonly example?: string | undefined
  readonly standing: Standing
}

/**
 * What of a census is not as it would be written now, of the resources that are meant.
 * @param covered how many values of those there are
 */
export function behindIn(
  { rows }: Census,
  configuration: EncryptionConfiguration,
  isMeant: (resource: string) => boolean,
  keyIdHashes?: ReadonlyMap<string, string>,
): { behind: Behind[]; covered: number; resources: ReadonlySet<string> } {
  let covered = 0
  const behind = new Map<string, Behind>()
  const resources = new Set<string>()
  for (const { resource, stored, count, keys } of rows) {
    if (!isMeant(resource)) continue
    const standing = standingOf(resource, stored, configuration, keyIdHashes)
    covered += count
    resources.add(resource)
    if (standing === 'current') continue
    const how =
      stored.kind === 'key'
        ? `${stored.provider} ${stored.name}`
        : stored.kind === 'kms'
          ? `kms ${stored.name}${stored.keyId === undefined ? '' : ` ${shown(stored.keyId)}`}`
          : stored.kind
    const what = `${resource} under ${how}`
    const { count: before = 0, example = keys[0] } = behind.get(what) ?? {}
    behind.set(what, { what, count: before + count, example, standing })
  }
  return { covered, behind: [...behind.values()], resources }
}

export const listed = (behind: readonly Behind[]) =>
  behind
    .map(({ what, count, example }) => {
      const such = example === undefined ? '' : ` (${count > 1 ? 'such as ' : ''}${example})`
      return `${count} ${what}${such}`
    })
    .join(', ')

function reads(provider: Provider, stored: Stored): boolean {
  switch (stored.kind) {
    case 'plain':
      return provider.kind === 'identity'
    case 'kms':
      return provider.kind === 'kms' && provider.version === stored.version && provider.name === stored.name
    case 'key':
      return provider.kind === stored.provider && provider.keys.some(({ name }) => name === stored.name)
    case 'unknown':
      return false
  }
}

function writes(provider: Provider, stored: Stored, keyIdHashes: ReadonlyMap<string, string>): boolean {
  if (!reads(provider, stored)) return false
  if (stored.kind === 'key') return 'keys' in provider && provider.keys[0]!.name === stored.name
  if (stored.kind !== 'kms' || stored.keyId === undefined) return true
  const now = keyIdHashes.get(stored.name)
  return now === undefined || now === keyIdHashOf(stored.keyId)
}
