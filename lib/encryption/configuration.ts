// EncryptionConfiguration, the file by which an API server encrypts: read and checked as the API server does, and held to more than that where
// a rotation needs it.
import { type Secret, secret } from '../connection/shell.ts'
import { at, RekeyError, shown } from '../errors.ts'
import { type LocatedYaml, locatedYaml, type YamlPath } from '../kubernetes/located-yaml.ts'
import { calledOf, type KeyedProvider, keyedProviders, type NamedProvider } from './stored.ts'

export interface EncryptionKey {
  readonly name: string
  /** In base64, as it stands in the file. */
  readonly secret: Secret
  readonly line: number
}

/** One of the providers of a rule: the first one writes, all of them read. */
export type Provider = { readonly line: number } & (
  | { readonly kind: KeyedProvider; readonly keys: readonly EncryptionKey[] }
  | ({ readonly kind: 'kms'; readonly version: 'v1' | 'v2' } & PluginProvider)
  | { readonly kind: 'identity' }
)

/** A KMS plugin, as a provider names it. */
export interface PluginProvider {
  readonly name: string
  /** `unix:///run/kms/first.sock`. */
  readonly endpoint: string
  /** How long an API server waits for it: `3s`. */
  readonly timeout?: string
}

/** Resources that go together, and how they are encrypted. */
export interface EncryptionRule {
  readonly resources: readonly string[]
  readonly providers: readonly Provider[]
  readonly line: number
}

export interface EncryptionConfiguration {
  readonly rules: readonly EncryptionRule[]
  /** What an API server takes and what makes a rotation unsafe, each with its place. */
  readonly doubts: readonly string[]
}

/**
 * Reads an EncryptionConfiguration. Its keys are secret from then on.
 * @param where the file, for messages
 * @throws RekeyError for what an API server would not start with, with file and line
 */
export function readConfiguration(text: string, where: string): EncryptionConfiguration {
  const yaml = locatedYaml(text, where)
  const reader = readerOf(yaml, where)
  const { kind, apiVersion } = reader.map([], 'an EncryptionConfiguration')
  if (kind !== 'EncryptionConfiguration' || apiVersion !== 'apiserver.config.k8s.io/v1')
    reader.wrong(
      [],
      `kind ${shown(kind)}, apiVersion ${shown(apiVersion)} is no EncryptionConfiguration of apiserver.config.k8s.io/v1`,
    )
  const rules = reader.list(['resources'], 'resources').map((_, index) => ruleOf(reader, ['resources', index]))
  checkMasks(reader, rules)
  checkPlugins(reader, rules)
  return { rules, doubts: doubtsOf(rules, where) }
}

/** The rules that a resource is encrypted by: every one that has its most exact name. Rules that are left out mask nothing: give all of them. */
export function rulesOf({ rules }: EncryptionConfiguration, resource: string): EncryptionRule[] {
  const group = groupOf(resource)
  for (const name of [resource, `*.${group}`, '*.*']) {
    const own = rules.filter(({ resources }) => resources.some(one => normal(one) === normal(name)))
    if (own.length > 0) return own
  }
  return []
}

/** How a resource is encrypted, in the order in which its providers are tried. None: not at all. */
export const providersOf = (configuration: EncryptionConfiguration, resource: string): Provider[] =>
  rulesOf(configuration, resource).flatMap(({ providers }) => providers)

/** By which names of providers values may begin. */
export function namedProviders(rules: readonly EncryptionRule[]): NamedProvider[] {
  return rules.flatMap(({ providers }) =>
    providers.flatMap((provider): NamedProvider[] => {
      if (provider.kind === 'identity') return []
      if (provider.kind === 'kms') return [{ kind: 'kms', version: provider.version, name: provider.name }]
      return provider.keys.map(({ name }) => ({ kind: provider.kind, name }))
    }),
  )
}

/** What a provider is called by people: `aescbc key-1`, `kms v2 vault`, `none`. */
export function nameOf(provider: Provider): string {
  if (provider.kind === 'identity') return 'none'
  if (provider.kind === 'kms') return calledOf(provider)
  return `${provider.kind} ${provider.keys.map(({ name }) => name).join(', ')}`
}

const groupOf = (resource: string) => /\.(.*)$/s.exec(resource)?.[1] ?? ''
/** `secrets` and `secrets.` are the same, as are `*.` and what has no group. */
const normal = (resource: string) => resource.replace(/\.$/, '')

type Reader = ReturnType<typeof readerOf>

/** What is asked of a file, each with the place where it is not so. */
function readerOf({ value, lineOf }: LocatedYaml, where: string) {
  const wrong = (path: YamlPath, what: string): never => {
    throw new RekeyError(`${at(where, lineOf(path))}: ${what}`, {
      code: 'encryption.configuration',
      hint: 'An API server would not start with this file, and one that runs would not take it up.',
    })
  }
  const get = (path: YamlPath) =>
    path.reduce<unknown>((one, step) => (one as Record<string | number, unknown> | null | undefined)?.[step], value)
  return {
    where,
    wrong,
    get,
    line: lineOf,
    map: (path: YamlPath, what: string): Record<string, unknown> => {
      const found = get(path)
      if (found === null || typeof found !== 'object' || Array.isArray(found)) return wrong(path, `this is not ${what}`)
      return found as Record<string, unknown>
    },
    list: (path: YamlPath, what: string): unknown[] => {
      const found = get(path)
      if (!Array.isArray(found) || found.length === 0)
        return wrong(path, `there must be a list of ${what}, with one at least`)
      return found
    },
    text: (path: YamlPath, what: string): string => {
      const found = get(path)
      if (typeof found !== 'string' || found === '') return wrong(path, `there must be ${what}, as text`)
      return found
    },
  }
}

function ruleOf(reader: Reader, path: YamlPath): EncryptionRule {
  const resources = reader
    .list([...path, 'resources'], 'resources')
    .map((_, index) => reader.text([...path, 'resources', index], 'the name of a resource'))
  for (const [index, name] of resources.entries()) {
    const problem = problemOf(name)
    if (problem) reader.wrong([...path, 'resources', index], `${shown(name)} ${problem}`)
  }
  checkOverlap(reader, [...path, 'resources'], resources)
  const providers = reader
    .list([...path, 'providers'], 'providers')
    .map((_, index) => providerOf(reader, [...path, 'providers', index]))
  return { resources, providers, line: reader.line(path) }
}

/** Why an API server does not take the name of a resource. */
function problemOf(name: string): string | undefined {
  if (name !== name.toLowerCase()) return 'has capital letters'
  if (name === '*') return 'has no group: everything is "*.*", what has no group "*."'
  if (/^(apiserveripinfo|serviceipallocations|servicenodeportallocations)$/.test(name)) return 'is none of the API'
  const group = groupOf(name)
  if (group === 'events.k8s.io') return 'is kept as "events"'
  if (group === 'extensions') return 'is kept under another group'
  if (group === '*' && name !== '*.*') return 'would be of all groups: only "*.*" may be'
  return undefined
}

function checkOverlap(reader: Reader, path: YamlPath, resources: readonly string[]): void {
  for (const [index, one] of resources.entries()) {
    const before = resources.slice(0, index)
    if (before.some(other => normal(other) === normal(one))) reader.wrong([...path, index], `${one} is there twice`)
    const other = before.find(
      name =>
        name === '*.*' ||
        one === '*.*' ||
        (groupOf(name) === groupOf(one) && (name.startsWith('*') || one.startsWith('*'))),
    )
    if (other !== undefined) reader.wrong([...path, index], `${one} and ${other} overlap`)
  }
}

const kinds = [...keyedProviders, 'kms', 'identity'] as const

function providerOf(reader: Reader, path: YamlPath): Provider {
  const map = reader.map(path, 'a provider')
  const named = kinds.filter(kind => map[kind] !== undefined && map[kind] !== null)
  const [kind] = named
  const line = reader.line(path)
  if (kind === undefined || named.length > 1)
    return reader.wrong(path, `a provider is exactly one of ${kinds.join(', ')}; identity is written "identity: {}"`)
  if (kind === 'identity') return { kind, line }
  if (kind === 'kms') return { line, ...pluginOf(reader, [...path, 'kms']) }
  const keys = reader
    .list([...path, kind, 'keys'], 'keys')
    .map((_, index) => keyOf(reader, [...path, kind, 'keys', index], kind))
  return { kind, keys, line }
}

function pluginOf(reader: Reader, path: YamlPath) {
  const map = reader.map(path, 'a KMS plugin')
  const version = map['apiVersion'] === undefined || map['apiVersion'] === '' ? 'v1' : map['apiVersion']
  if (version !== 'v1' && version !== 'v2')
    return reader.wrong([...path, 'apiVersion'], `apiVersion ${shown(version)} is neither v1 nor v2`)
  const name = reader.text([...path, 'name'], 'a name of the plugin')
  if (version === 'v2' && name.includes(':')) reader.wrong([...path, 'name'], `the name ${shown(name)} has a colon`)
  const endpoint = reader.text([...path, 'endpoint'], 'the endpoint of the plugin')
  if (!endpoint.startsWith('unix:')) reader.wrong([...path, 'endpoint'], `${shown(endpoint)} is no socket: unix://…`)
  if (version === 'v2' && map['cachesize'] !== undefined && map['cachesize'] !== null)
    reader.wrong([...path, 'cachesize'], 'a plugin of v2 has no cachesize')
  const timeout = map['timeout'] ?? undefined
  if (timeout !== undefined && !(typeof timeout === 'string' && isTimeout(timeout)))
    reader.wrong([...path, 'timeout'], `the timeout ${shown(timeout)} is no duration above 0, such as 3s`)
  return { kind: 'kms', version, name, endpoint, ...(typeof timeout === 'string' && { timeout }) } as const
}

/** Whether Go reads it as a duration, and it is more than none. */
export const isTimeout = (text: string) =>
  /^\+?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$/.test(text) && /[1-9]/.test(text)

const sizes: Record<KeyedProvider, readonly number[]> = { aescbc: [16, 24, 32], aesgcm: [16, 24, 32], secretbox: [32] }

function keyOf(reader: Reader, path: YamlPath, kind: KeyedProvider): EncryptionKey {
  reader.map(path, 'a key')
  const name = reader.text([...path, 'name'], 'a name of the key')
  const text = reader.text([...path, 'secret'], 'the secret of the key, in base64')
  const bytes = Buffer.from(text, 'base64')
  // Go leaves out ends of lines, takes nothing else that is not of the alphabet, and does not mind what the last bits are that make no byte.
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text.replace(/[\r\n]/g, '')))
    reader.wrong([...path, 'secret'], `the secret of the key ${shown(name)} is not base64`)
  if (!sizes[kind].includes(bytes.length))
    reader.wrong(
      [...path, 'secret'],
      `the key ${shown(name)} has ${bytes.length} bytes; ${kind} wants ${sizes[kind].join(' or ')}`,
    )
  return { name, secret: secret(text), line: reader.line(path) }
}

/** What `*.*` or `*.group` stands for in an earlier rule can't be said again: an API server refuses the file. */
function checkMasks(reader: Reader, rules: readonly EncryptionRule[]): void {
  for (const [index, rule] of rules.entries()) {
    const earlier = rules.slice(0, index).flatMap(({ resources }) => resources.map(normal))
    for (const [nth, name] of rule.resources.entries()) {
      const mask = [normal(`*.${groupOf(name)}`), '*.*'].find(one => earlier.includes(one))
      if (mask !== undefined)
        reader.wrong(['resources', index, 'resources', nth], `${name} is masked by the earlier ${mask}`)
    }
  }
}

/** The name of a v2 plugin is that of no other. */
function checkPlugins(reader: Reader, rules: readonly EncryptionRule[]): void {
  const names = new Set<string>()
  for (const [index, { providers }] of rules.entries())
    for (const [nth, provider] of providers.entries()) {
      if (provider.kind !== 'kms') continue
      if (names.has(provider.name) && provider.version === 'v2')
        reader.wrong(
          ['resources', index, 'providers', nth],
          `the name ${shown(provider.name)} is another plugin's already`,
        )
      names.add(provider.name)
    }
}

function doubtsOf(rules: readonly EncryptionRule[], where: string): string[] {
  const doubts: string[] = []
  const known = new Map<string, EncryptionKey>()
  for (const { providers } of rules)
    for (const provider of providers) {
      if (provider.kind === 'kms' && provider.version === 'v1')
        doubts.push(
          `${at(where, provider.line)}: the KMS plugin ${provider.name} is of v1, which does not say which key it wrote with`,
        )
      if (provider.kind === 'identity' || provider.kind === 'kms') continue
      const here = new Set<string>()
      for (const key of provider.keys) {
        const id = `${provider.kind}:${key.name}`
        const other = known.get(id)
        if (other && other.secret.reveal() !== key.secret.reveal())
          doubts.push(
            `${at(where, key.line)}: ${provider.kind} has another key of the name ${shown(key.name)} in line ${other.line}: values of the two can't be told apart`,
          )
        else if (here.has(key.name))
          doubts.push(`${at(where, key.line)}: ${provider.kind} has the key ${shown(key.name)} twice`)
        here.add(key.name)
        if (!other) known.set(id, key)
      }
    }
  const resources = rules.flatMap(({ resources }) => resources.map(normal))
  for (const name of new Set(resources.filter((one, index) => resources.indexOf(one) !== index)))
    doubts.push(`${where}: ${name} is in several rules: it is written by the first of them`)
  return doubts
}
