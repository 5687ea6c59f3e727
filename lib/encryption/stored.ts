// A value as it lies in etcd, told apart by its own bytes: which provider wrote it, under which key. What it holds is never looked at or kept.
import { eachField } from '../operations/grpc/protobuf.ts'

/** Providers whose keys stand in the API servers' file. */
export const keyedProviders = ['aescbc', 'aesgcm', 'secretbox'] as const
export type KeyedProvider = (typeof keyedProviders)[number]

/** What a value was written by. Plain data, a few words. */
export type Stored =
  | {
      readonly kind: 'key'
      readonly provider: KeyedProvider
      readonly name: string
      /** Whether a file has a key of this name; of one that none has, the name may go on behind the colon that it was cut off at. */
      readonly known: boolean
    }
  | {
      readonly kind: 'kms'
      readonly version: 'v1' | 'v2'
      readonly name: string
      readonly known: boolean
      /** Which key of the plugin's, as the plugin calls it; v1 does not say. */
      readonly keyId?: string
    }
  | { readonly kind: 'plain'; readonly form: 'protobuf' | 'json' }
  | { readonly kind: 'unknown'; readonly why: string }

/** A provider with a name by which its values begin: a key's, or a KMS plugin's. */
export type NamedProvider =
  | { readonly kind: KeyedProvider; readonly name: string }
  | { readonly kind: 'kms'; readonly version: 'v1' | 'v2'; readonly name: string }

/** What people call it: `aescbc key-1`, `kms v2 vault`. What is kept is held against a key that is to be destroyed by this name. */
export const calledOf = (provider: NamedProvider): string =>
  provider.kind === 'kms' ? `kms ${provider.version} ${provider.name}` : `${provider.kind} ${provider.name}`

/** With how many bytes a value is told apart, but those of KMS v2: no name is longer. */
export const headBytes = 600

/** How every value begins that a provider wrote. */
const encrypted = 'k8s:enc:'
const kmsV2 = Buffer.from(`${encrypted}kms:v2:`)
const protobuf = Buffer.from('k8s\0')

/** What values of a provider begin with. */
export const prefixOf = (provider: NamedProvider): string =>
  provider.kind === 'kms'
    ? `${encrypted}kms:${provider.version}:${provider.name}:`
    : `${encrypted}${provider.kind}:v1:${provider.name}:`

/** Whether it takes the whole value to say under which key it lies: a KMS v2 plugin's key id comes behind the ciphertext. */
export const needsAll = (head: Uint8Array): boolean => startsWith(head, kmsV2)

/**
 * Tells values apart by the providers that files name. Prefixes are matched whole and the longest first, as names of keys may hold colons;
 * only where none matches is the name taken to end at the next colon.
 * @param providers of all files that are known
 * @returns what a value was written by; of a value that `needsAll` is false for, its first `headBytes` do
 */
export function tellingApart(providers: readonly NamedProvider[]): (value: Uint8Array) => Stored {
  const known = [...new Map(providers.map(one => [prefixOf(one), one]))]
    .map(([prefix, provider]) => ({ prefix: Buffer.from(prefix), provider }))
    .sort((a, b) => b.prefix.length - a.prefix.length)
  return value => {
    if (startsWith(value, protobuf)) return { kind: 'plain', form: 'protobuf' }
    // What is made of a custom resource.
    if (value[0] === 0x7b) return { kind: 'plain', form: 'json' }
    if (value.length === 0) return { kind: 'unknown', why: 'it is empty' }
    for (const { prefix, provider } of known)
      if (startsWith(value, prefix)) return written(provider, value.subarray(prefix.length), true)
    return guessed(value)
  }
}

/** By the name that ends at the next colon: exact for plugins, whose names have none. */
function guessed(value: Uint8Array): Stored {
  const head = Buffer.from(value.buffer, value.byteOffset, Math.min(value.length, headBytes)).toString('latin1')
  if (!head.startsWith(encrypted)) return { kind: 'unknown', why: 'no API server writes what it begins with' }
  const [, kind, version, name] = /^k8s:enc:(aescbc|aesgcm|secretbox|kms):(v[12]):([^:\x00-\x1f]*):/.exec(head) ?? []
  const behind = value.subarray(`${encrypted}${kind}:${version}:${name}:`.length)
  const text = Buffer.from(name ?? '', 'latin1').toString('utf8')
  if (kind === 'kms') return written({ kind, version: version as 'v1' | 'v2', name: text }, behind, false)
  if (kind !== undefined && version === 'v1') return written({ kind: kind as KeyedProvider, name: text }, behind, false)
  return { kind: 'unknown', why: 'its prefix is of no provider that is known' }
}

function written(provider: NamedProvider, behind: Uint8Array, known: boolean): Stored {
  const { name } = provider
  if (provider.kind !== 'kms') return { kind: 'key', provider: provider.kind, name, known }
  if (provider.version === 'v1') return { kind: 'kms', version: 'v1', name, known }
  const keyId = keyIdOf(behind)
  if (keyId === undefined)
    return { kind: 'unknown', why: `the KMS plugin ${name} wrote it, and it is cut off or damaged` }
  return { kind: 'kms', version: 'v2', name, known, keyId }
}

/** The longest key id that an API server takes from a plugin. */
const longestKeyId = 1024

/** The `keyID` of an `EncryptedObject` (k8s.io/apiserver, envelope/kmsv2/v2): field 2, each field before it skipped by its length. */
function keyIdOf(message: Uint8Array): string | undefined {
  let keyId: string | undefined
  const isWhole = eachField(message, (field, bytes) => {
    // Of a field that comes twice the last one counts, to protobuf.
    if (field === 2) keyId = Buffer.from(bytes).toString('utf8')
  })
  return isWhole && keyId !== undefined && keyId !== '' && keyId.length <= longestKeyId ? keyId : undefined
}

function startsWith(value: Uint8Array, prefix: Uint8Array): boolean {
  return value.length >= prefix.length && prefix.every((byte, index) => value[index] === byte)
}
