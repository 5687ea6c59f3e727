// How a value lies in etcd against how it would be written now, by the rules that API servers go by.
import { createHash } from 'node:crypto'
import { isOwn } from './census.ts'
import { type EncryptionConfiguration, type Provider, providersOf } from './configuration.ts'
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
  return now === undefined || now === createHash('sha256').update(stored.keyId).digest('hex')
}
