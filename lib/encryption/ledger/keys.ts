// Keys that values may lie under: what people call them, and what tells one from another of its name. For whoever asks which key something needs.
import type { Secret } from '../../connection/shell.ts'
import type { EncryptionConfiguration, Provider } from '../configuration.ts'
import { calledOf } from '../stored.ts'

export interface KnownKey {
  /** `aescbc key-1`, `kms v2 vault`. */
  readonly name: string
  /** The key itself, in base64, of one that stands in the file. */
  readonly secret?: Secret
}

/** Every key and plugin that values may lie under by a configuration. */
export const keysIn = ({ rules }: Pick<EncryptionConfiguration, 'rules'>): KnownKey[] =>
  rules.flatMap(({ providers }) => providers.flatMap(keysOf))

function keysOf(provider: Provider): KnownKey[] {
  if (provider.kind === 'identity') return []
  if (provider.kind === 'kms') return [{ name: calledOf(provider) }]
  const { kind, keys } = provider
  return keys.map(({ name, secret }) => ({ name: calledOf({ kind, name }), secret }))
}

/** What tells a key from every other one. Not to be shown: a key is in it. */
export const idOf = ({ name, secret }: KnownKey): string => (secret ? `${name} ${secret.reveal()}` : name)
