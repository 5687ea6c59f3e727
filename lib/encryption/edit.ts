// What a rotation does to an EncryptionConfiguration: a key is added as one that reads, made the one that writes, and dropped.
import type { Secret } from '../connection/shell.ts'
import { at, RekeyError } from '../errors.ts'
import { editLists, type ListEdit, type YamlPath } from '../kubernetes/located-yaml.ts'
import { type EncryptionKey, type EncryptionRule, type PluginProvider, readConfiguration } from './configuration.ts'
import type { KeyedProvider } from './stored.ts'

/** A KMS plugin of v2, in the place of a key: what it has for keys, no file says. */
type PluginRef = { readonly kind: 'kms' } & PluginProvider

/** A key of a provider, a KMS plugin, or no encryption. */
export type KeyRef = { readonly kind: KeyedProvider; readonly name: string } | PluginRef | { readonly kind: 'identity' }

/** A key with what it is. */
export type NewKey =
  | { readonly kind: KeyedProvider; readonly name: string; readonly secret: Secret }
  | PluginRef
  | { readonly kind: 'identity' }

/** Which rules are meant. */
export type RuleChoice = (rule: EncryptionRule) => boolean

/**
 * Adds a key that every server can read with and none writes with. Where a rule has it already, it stays as it is.
 * @param where the file, for messages
 * @returns the text, all else in it as it was
 * @throws RekeyError where another key of that provider has its name, or the file can't be edited
 */
export function addReader(text: string, where: string, key: NewKey, choice: RuleChoice): string {
  const { rules } = readConfiguration(text, where)
  if (key.kind === 'kms') refuseOtherPlugin(rules, where, key)
  else if (key.kind !== 'identity') refuseOtherKey(rules, where, key)
  return edited(text, where, choice, (rule, path) => {
    if (placeOf(rule, key)) return []
    const first = rule.providers[0]!
    if (key.kind === 'identity') return [{ kind: 'insert', list: path, at: 1, item: { identity: {} } }]
    if (key.kind === 'kms') {
      const { kind: _, ...plugin } = key
      return [{ kind: 'insert', list: path, at: 1, item: { kms: { apiVersion: 'v2', ...plugin } } }]
    }
    const item = { name: key.name, secret: key.secret.reveal() }
    if (first.kind === key.kind) return [{ kind: 'insert', list: [...path, 0, key.kind, 'keys'], at: 1, item }]
    return [{ kind: 'insert', list: path, at: 1, item: { [key.kind]: { keys: [item] } } }]
  })
}

/**
 * Makes a key the one that writes. Where it does so already, the rule stays as it is.
 * @throws RekeyError where a rule lacks it, or the file can't be edited
 */
export function promote(text: string, where: string, key: KeyRef, choice: RuleChoice): string {
  return edited(text, where, choice, (rule, path) => {
    const place = placeOf(rule, key)
    if (!place)
      throw new RekeyError(`${at(where, rule.line)}: ${named(key)} is not among the keys of this rule`, {
        code: 'encryption.no-such-key',
        hint: 'A key must be one that every server reads with before any of them writes with it.',
      })
    const { provider, nth } = place
    return [
      ...(nth !== undefined && nth > 0
        ? [{ kind: 'raise', list: keysPath(path, rule, provider), at: nth } as const]
        : []),
      ...(provider > 0 ? [{ kind: 'raise', list: path, at: provider } as const] : []),
    ]
  })
}

/**
 * Takes a key out, and its provider with its last one. Where a rule lacks it, that stays as it is.
 * @throws RekeyError where it is the one that writes, or the file can't be edited
 */
export function drop(text: string, where: string, key: KeyRef, choice: RuleChoice): string {
  return edited(text, where, choice, (rule, path) => {
    const place = placeOf(rule, key)
    if (!place) return []
    const { provider, nth } = place
    if (provider === 0 && (nth ?? 0) === 0)
      throw new RekeyError(`${at(where, rule.line)}: ${named(key)} is what values are written with`, {
        code: 'encryption.drops-writer',
        hint: 'Another key must be promoted first, and everything written anew with it.',
      })
    const found = rule.providers[provider]!
    const only = nth === undefined || ('keys' in found && found.keys.length === 1)
    return [
      { kind: 'remove', ...(only ? { list: path, at: provider } : { list: keysPath(path, rule, provider), at: nth }) },
    ]
  })
}

function named(key: KeyRef): string {
  if (key.kind === 'identity') return 'identity'
  return `the ${key.kind === 'kms' ? 'KMS plugin' : `${key.kind} key`} ${JSON.stringify(key.name)}`
}

const keysPath = (path: YamlPath, rule: EncryptionRule, provider: number): YamlPath => [
  ...path,
  provider,
  rule.providers[provider]!.kind,
  'keys',
]

function edited(
  text: string,
  where: string,
  choice: RuleChoice,
  edits: (rule: EncryptionRule, providers: YamlPath) => ListEdit[],
): string {
  const { rules } = readConfiguration(text, where)
  const all = rules.flatMap((rule, index) => (choice(rule) ? edits(rule, ['resources', index, 'providers']) : []))
  const next = editLists(text, where, all)
  // Whatever was made of it must be a file that an API server takes.
  readConfiguration(next, where)
  return next
}

/** Whether a rule has a key among those that are read with. */
export const hasKey = (rule: EncryptionRule, key: KeyRef): boolean => placeOf(rule, key) !== undefined

/** Where a rule has a key: the first place, which is where it is read with first. */
function placeOf({ providers }: EncryptionRule, key: KeyRef): { provider: number; nth?: number } | undefined {
  for (const [provider, found] of providers.entries()) {
    if (found.kind !== key.kind) continue
    if (key.kind === 'identity') return { provider }
    if (found.kind === 'kms') {
      if (found.name === key.name) return { provider }
      continue
    }
    const nth = 'keys' in found ? found.keys.findIndex(({ name }) => name === key.name) : -1
    if (nth >= 0) return { provider, nth }
  }
  return undefined
}

function refuseOtherKey(
  rules: readonly EncryptionRule[],
  where: string,
  { kind, name, secret }: Extract<NewKey, { secret: Secret }>,
): void {
  const same = rules
    .flatMap(({ providers }) => providers)
    .flatMap((provider): readonly EncryptionKey[] => (provider.kind === kind ? provider.keys : []))
    .find(key => key.name === name && key.secret.reveal() !== secret.reveal())
  if (same)
    throw new RekeyError(`${at(where, same.line)}: ${kind} has another key of the name ${JSON.stringify(name)}`, {
      code: 'encryption.name-taken',
      hint: 'Values of the two could not be told apart, in etcd or by the API servers: take another name.',
    })
}

function refuseOtherPlugin(rules: readonly EncryptionRule[], where: string, { name, endpoint }: PluginRef): void {
  const plugins = rules.flatMap(({ providers }) => providers).filter(one => one.kind === 'kms')
  const same = plugins.find(one => one.name === name && one.endpoint !== endpoint)
  if (same)
    throw new RekeyError(`${at(where, same.line)}: there is another KMS plugin of the name ${JSON.stringify(name)}`, {
      code: 'encryption.name-taken',
      hint: 'Values of the two could not be told apart, in etcd or by the API servers: take another name.',
    })
}
