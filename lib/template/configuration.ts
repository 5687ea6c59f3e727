// consul-template's configuration files, HCL or JSON: which templates go where, and which Vault answers them.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { at, RekeyError } from '../errors.ts'
import type { TemplateDelimiters } from './engine.ts'
import { type HclEntry, type HclObject, type HclValue, parseHcl } from './hcl.ts'

/** One `template` block, defaults filled in. */
export interface TemplateBlock {
  /** `file:line` of the block. */
  readonly place: string
  /** Exactly one of the two is there: a file, or the template itself. */
  readonly source?: string
  readonly contents?: string
  readonly destination: string
  /** Default: those of the file that is there, else 0644. */
  readonly permissions?: number
  readonly user?: string
  readonly group?: string
  readonly backup: boolean
  readonly createDestinationFolders: boolean
  /** A text for the shell, or a program with its arguments. */
  readonly command?: string | readonly string[]
  /** Milliseconds. */
  readonly commandTimeout: number
  /** What the command finds in its environment. */
  readonly commandEnvironment: Readonly<Record<string, string>>
  readonly delimiters?: TemplateDelimiters
  readonly strictKeys: boolean
  /** Names of functions that the template may not call; `*` stands for any characters. */
  readonly deniedFunctions: readonly string[]
  /** `file` reads below this folder only. */
  readonly sandboxPath?: string
}

/** The `vault` block, as far as it says where Vault is and who asks. */
export interface VaultBlock {
  readonly address?: string
  readonly token?: string
  readonly tokenFile?: string
  /** The token is wrapped: it is good for one exchange against the real one. */
  readonly unwrapToken?: boolean
  readonly namespace?: string
  readonly caFile?: string
  /** The CAs themselves, in PEM. */
  readonly authorities?: string
  /** A folder of CAs. */
  readonly caFolder?: string
  readonly clientCertificateFile?: string
  readonly clientKeyFile?: string
  readonly serverName?: string
  /** `ssl.verify = false`: whoever connects decides whether that is enough. */
  readonly skipVerify?: boolean
  /** The login that the block's `k8s_auth_role_name` asks for. */
  readonly kubernetes?: {
    readonly role: string
    readonly mount?: string
    readonly token?: string
    readonly tokenFile?: string
  }
}

export interface TemplateConfiguration {
  readonly templates: readonly TemplateBlock[]
  readonly vault: VaultBlock
  /** Settings that have no meaning for one rendering, each once: `syslog (a.hcl:3)`. */
  readonly ignored: readonly string[]
}

/** Settings that are about a daemon, or about servers that rekey asks nothing. */
const blocksWithoutUse = ['consul', 'nomad', 'deduplicate', 'syslog', 'log_file', 'wait', 'exec']
const withoutUse = new Set([
  ...blocksWithoutUse,
  ...['log_level', 'pid_file', 'max_stale', 'kill_signal', 'reload_signal', 'block_query_wait'],
  ...['err_on_failed_lookup', 'once', 'template_error_fatal'],
])
const vaultWithoutUse = new Set([
  ...['enabled', 'renew_token', 'retry', 'transport', 'client_user_agent'],
  ...['default_lease_duration', 'lease_renewal_threshold'],
])

/**
 * Read a configuration: one file, or every file of a folder and the folders in it, in the order of their names.
 * Throws `RekeyError` with the place in the file for what can't be read, and for settings that are not known.
 */
export function readConfiguration(path: string): TemplateConfiguration {
  const files = filesAt(path)
  return joined(
    files.map(file => (files.includes(path) ? readParts(readText(file), file) : readPartsAmong(path, file))),
  )
}

/** What one file of a folder says. Throws as `readParts` does, and says why the file was read at all. */
function readPartsAmong(folder: string, file: string): Parts {
  try {
    return readParts(readText(file), file)
  } catch (error) {
    if (!(error instanceof RekeyError) || error.hint !== undefined) throw error
    const { message, code } = error
    const hint = `Every file in ${folder} is read as configuration, as consul-template does: templates lie elsewhere, or name one file.`
    throw new RekeyError(message, { code, hint, cause: error })
  }
}

/** Parse the text of one configuration file. Throws as `readConfiguration` does. */
export function parseConfiguration(text: string, file: string): TemplateConfiguration {
  return joined([readParts(text, file)])
}

/** What one file says; what its templates say is read once the delimiters of all files are known. */
interface Parts {
  readonly file: string
  readonly blocks: readonly HclObject[]
  readonly vault: VaultBlock
  readonly delimiters?: TemplateDelimiters
  readonly ignored: readonly string[]
}

function readParts(text: string, file: string): Parts {
  const ignored: string[] = []
  let vault: VaultBlock = {}
  let delimiters: TemplateDelimiters | undefined
  const blocks: HclObject[] = []
  for (const entry of parseHcl(text, file).entries) {
    if (entry.key === 'template') blocks.push(...objects(entry, file))
    else if (entry.key === 'vault') vault = { ...vault, ...vaultBlock(entry, file, ignored) }
    else if (entry.key === 'default_delimiters') delimiters = defaultDelimiters(entry, file)
    else if (withoutUse.has(entry.key)) ignored.push(unused(entry, file))
    else throw unknown(entry, file, ['template', 'vault', 'default_delimiters', ...withoutUse])
  }
  return { file, blocks, vault, delimiters, ignored }
}

/** What has no use is still looked at: consul-template takes a block for a block only. */
function unused(entry: HclEntry, file: string): string {
  // Where Consul is may be said in one word.
  const oneWord = entry.key === 'consul' && entry.value.kind === 'string'
  if (blocksWithoutUse.includes(entry.key) && !oneWord) objects(entry, file)
  return `${entry.key} (${at(file, entry.line)})`
}

function joined(parts: readonly Parts[]): TemplateConfiguration {
  const ignored = parts.flatMap(part => part.ignored)
  const delimiters = parts.findLast(part => part.delimiters)?.delimiters
  const templates = parts.flatMap(({ file, blocks }) =>
    blocks.map(block => templateBlock(block, file, delimiters, ignored)),
  )
  return { templates, vault: Object.assign({}, ...parts.map(part => part.vault)), ignored: firstOfEach(ignored) }
}

/** Each setting by its first place. */
function firstOfEach(ignored: readonly string[]): string[] {
  const names = new Map<string, string>()
  for (const one of ignored) {
    const name = one.split(' (')[0]!
    if (!names.has(name)) names.set(name, one)
  }
  return [...names.values()]
}

function templateBlock(
  block: HclObject,
  file: string,
  delimiters: TemplateDelimiters | undefined,
  ignored: string[],
): TemplateBlock {
  const settings = settingsOf(block, file, {
    ...{ source: text, contents: text, destination: text, user: text, group: text, sandbox_path: text },
    ...{ backup: bool, create_dest_dirs: bool, error_on_missing_key: bool, error_fatal: bool },
    ...{ perms: permissions, command, command_timeout: duration, left_delimiter: text, right_delimiter: text },
    ...{
      uid: number,
      gid: number,
      function_denylist: texts,
      function_blacklist: texts,
      exec: execBlock,
      wait: anything,
    },
  })
  const place = at(file, block.line)
  for (const name of ['wait', 'error_fatal'] as const) {
    if (settings[name] !== undefined) ignored.push(`template.${name} (${place})`)
  }
  const bits = settings.perms ?? 0
  if (bits > 0o777) ignored.push(`template.perms above 0777 (${place})`)
  for (const name of settings.exec?.ignored ?? []) ignored.push(`template.exec.${name} (${place})`)
  const { source, contents, destination } = settings
  // As in consul-template, an empty text says nothing.
  if (!source === !contents) {
    throw new RekeyError(`${place}: a template needs source or contents, ${source ? 'not both' : 'and has neither'}`, {
      code: 'configuration.template',
    })
  }
  if (!destination) {
    throw new RekeyError(`${place}: the template has no destination`, { code: 'configuration.template' })
  }
  const left = settings.left_delimiter || delimiters?.left
  const right = settings.right_delimiter || delimiters?.right
  return {
    place,
    source: source || undefined,
    contents: contents || undefined,
    destination,
    // As in consul-template, 0 says nothing, and of more than nine bits the last nine count.
    permissions: bits === 0 ? undefined : bits & 0o777,
    user: settings.user ?? settings.uid?.toString(),
    group: settings.group ?? settings.gid?.toString(),
    backup: settings.backup ?? false,
    createDestinationFolders: settings.create_dest_dirs ?? true,
    command: settings.exec?.command ?? settings.command,
    commandTimeout: settings.exec?.timeout ?? settings.command_timeout ?? 30_000,
    commandEnvironment: settings.exec?.environment ?? {},
    delimiters: left || right ? { left: left || '{{', right: right || '}}' } : undefined,
    strictKeys: settings.error_on_missing_key ?? false,
    deniedFunctions: [...(settings.function_denylist ?? []), ...(settings.function_blacklist ?? [])],
    sandboxPath: settings.sandbox_path,
  }
}

function vaultBlock(entry: HclEntry, file: string, ignored: string[]): VaultBlock {
  const blocks = objects(entry, file)
  return Object.assign(
    {},
    ...blocks.map(block => {
      for (const one of block.entries) {
        if (vaultWithoutUse.has(one.key)) ignored.push(`vault.${one.key} (${at(file, one.line)})`)
      }
      const entries = block.entries.filter(one => !vaultWithoutUse.has(one.key))
      const settings = settingsOf({ ...block, entries }, file, {
        ...{ address: text, token: text, namespace: text, ssl: sslBlock, vault_agent_token_file: text },
        unwrap_token: bool,
        ...{ k8s_auth_role_name: text, k8s_service_mount_path: text },
        ...{ k8s_service_account_token: text, k8s_service_account_token_path: text },
      })
      const { address, token, namespace, ssl, vault_agent_token_file: tokenFile, k8s_auth_role_name: role } = settings
      const kubernetes = role && {
        role,
        mount: settings.k8s_service_mount_path,
        token: settings.k8s_service_account_token,
        tokenFile: settings.k8s_service_account_token_path,
      }
      const unwrapToken = settings.unwrap_token || undefined
      const who = { token, tokenFile, unwrapToken, kubernetes: kubernetes || undefined }
      return withoutUndefined({ address, namespace, ...ssl, ...who })
    }),
  )
}

function sslBlock(entry: HclEntry, file: string): Partial<VaultBlock> {
  const [block] = objects(entry, file)
  const settings = settingsOf(block!, file, {
    ...{ enabled: bool, verify: bool, server_name: text, cert: text, key: text },
    ...{ ca_cert: text, ca_cert_bytes: text, ca_path: text },
  })
  return withoutUndefined({
    caFile: settings.ca_cert,
    authorities: settings.ca_cert_bytes,
    caFolder: settings.ca_path,
    clientCertificateFile: settings.cert,
    // As in consul-template, one file may hold both.
    clientKeyFile: settings.key ?? settings.cert,
    serverName: settings.server_name,
    skipVerify: settings.verify === false ? true : undefined,
  })
}

interface Exec {
  readonly command?: string | readonly string[]
  readonly timeout?: number
  readonly environment?: Readonly<Record<string, string>>
  /** What has no meaning where a command runs once and is waited for. */
  readonly ignored: readonly string[]
}

/** `exec` has a meaning in one rendering where it runs a command after it. */
function execBlock(entry: HclEntry, file: string): Exec {
  const [block] = objects(entry, file)
  const settings = settingsOf(block!, file, {
    ...{ command, timeout: duration, env: environment, enabled: bool },
    ...{ kill_signal: text, kill_timeout: duration, reload_signal: text, splay: duration },
  })
  if (settings.enabled === false) return { ignored: [] }
  const unused = (['kill_signal', 'kill_timeout', 'reload_signal', 'splay'] as const).filter(name => name in settings)
  const ignored = [...unused, ...(settings.env?.ignored ?? []).map(name => `env.${name}`)]
  return { command: settings.command, timeout: settings.timeout, environment: settings.env?.custom, ignored }
}

interface ExecEnvironment {
  readonly custom: Readonly<Record<string, string>>
  /** What chooses among the variables of consul-template itself, which are not on the host. */
  readonly ignored: readonly string[]
}

function environment(entry: HclEntry, file: string): ExecEnvironment {
  const [block] = objects(entry, file)
  const { custom = [], ...others } = settingsOf(block!, file, {
    ...{ custom: texts, pristine: bool, allowlist: texts, denylist: texts, whitelist: texts, blacklist: texts },
  })
  const pairs = custom.map(pair => {
    const place = pair.indexOf('=')
    const [name, value] = place < 0 ? [pair, ''] : [pair.slice(0, place), pair.slice(place + 1)]
    // A shell sets them, and what is no name would be a command to it.
    if (/^[A-Za-z_]\w*$/.test(name) && !value.includes('\0')) return [name, value]
    const { line, column } = block!.entries.find(({ key }) => key === 'custom') ?? entry
    throw new RekeyError(`${at(file, line, column)}: custom: ${JSON.stringify(name)} can't be the name of a variable`, {
      code: 'configuration.kind',
      hint: 'Each is NAME=value; a name has letters, digits and _, and no digit first.',
    })
  })
  return { custom: Object.fromEntries(pairs), ignored: Object.keys(others) }
}

function defaultDelimiters(entry: HclEntry, file: string): TemplateDelimiters {
  const [block] = objects(entry, file)
  const { left = '{{', right = '}}' } = settingsOf(block!, file, { left: text, right: text })
  return { left, right }
}

type Read<T> = (entry: HclEntry, file: string) => T
type Settings<R extends Record<string, Read<unknown>>> = { [K in keyof R]?: ReturnType<R[K]> }

/** Read a block's settings by a table of what may stand in it. The last of several counts. */
function settingsOf<R extends Record<string, Read<unknown>>>(block: HclObject, file: string, table: R): Settings<R> {
  const found: Record<string, unknown> = {}
  for (const entry of block.entries) {
    const read = Object.hasOwn(table, entry.key) ? table[entry.key] : undefined
    if (!read) throw unknown(entry, file, Object.keys(table))
    if (entry.value.kind !== 'null') found[entry.key] = read(entry, file)
  }
  return found as Settings<R>
}

const text: Read<string> = (entry, file) => {
  if (entry.value.kind === 'string') return entry.value.value
  throw wrongKind(entry, file, 'a string')
}

const number: Read<number> = (entry, file) => {
  if (entry.value.kind === 'number') return entry.value.value
  throw wrongKind(entry, file, 'a number')
}

const bool: Read<boolean> = (entry, file) => {
  if (entry.value.kind === 'bool') return entry.value.value
  throw wrongKind(entry, file, 'true or false')
}

const texts: Read<string[]> = (entry, file) => {
  const { value } = entry
  if (value.kind === 'string') return value.value.split(',')
  return textItems(entry, file)
}

function textItems(entry: HclEntry, file: string): string[] {
  const { value } = entry
  if (value.kind === 'list' && value.items.every(item => item.kind === 'string')) {
    return value.items.map(item => (item as HclValue & { kind: 'string' }).value)
  }
  throw wrongKind(entry, file, 'a list of strings')
}

const command: Read<string | readonly string[]> = (entry, file) => {
  const words = entry.value.kind === 'string' ? [entry.value.value] : textItems(entry, file)
  // consul-template gives a single text to the shell, and several words to the system as they are.
  return words.length === 1 ? words[0]! : words
}

const anything: Read<true> = () => true

/** `perms = 0600` and `perms = "0600"`. */
const permissions: Read<number> = (entry, file) => {
  const { value } = entry
  const mode = value.kind === 'string' && /^[0-7]+$/.test(value.value) ? Number.parseInt(value.value, 8) : undefined
  const read = mode ?? (value.kind === 'number' ? value.value : undefined)
  if (read !== undefined && Number.isInteger(read) && read >= 0 && read <= 0o7777) return read
  throw wrongKind(entry, file, 'permissions in octal, e.g. "0600"')
}

/** Milliseconds of a duration as Go writes it: `30s`, `1m30s`, `500ms`. */
const duration: Read<number> = (entry, file) => {
  const units: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  const { value } = entry
  if (value.kind === 'string' && /^(\d+(\.\d+)?([nuµm]?s|m|h))+$/.test(value.value)) {
    const parts = value.value.matchAll(/(\d+(?:\.\d+)?)([nuµm]?s|m|h)/g)
    return [...parts].reduce((sum, [, count, unit]) => sum + Number(count) * units[unit!]!, 0)
  }
  throw wrongKind(entry, file, 'a duration, e.g. "30s"')
}

/** The blocks of a key: one, or a list of them as JSON writes several. */
function objects({ key, value }: HclEntry, file: string): HclObject[] {
  const items = value.kind === 'list' ? value.items : [value]
  return items.map(item => {
    if (item.kind === 'object') return item
    throw new RekeyError(`${at(file, item.line, item.column)}: "${key}" must be a block: ${key} { … }`, {
      code: 'configuration.kind',
    })
  })
}

function wrongKind({ key, value }: HclEntry, file: string, what: string): RekeyError {
  return new RekeyError(`${at(file, value.line, value.column)}: "${key}" must be ${what}`, {
    code: 'configuration.kind',
  })
}

function unknown({ key, line, column }: HclEntry, file: string, known: readonly string[]): RekeyError {
  const names = [...known].sort().join(', ')
  return new RekeyError(`${at(file, line, column)}: the setting "${key}" is not known`, {
    code: 'configuration.unknown',
    hint: `Known here are ${names}.`,
  })
}

function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T
}

function filesAt(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path]
    const entries = readdirSync(path, { recursive: true, encoding: 'utf8' })
    // What begins with two dots is how Kubernetes keeps the files of a mounted ConfigMap, which are links to there.
    const files = entries.filter(name => !/(^|\/)\.\./.test(name)).map(name => join(path, name))
    const regular = files.filter(file => statSync(file).isFile())
    if (regular.length === 0) {
      throw new RekeyError(`${path}: there is no configuration file in this folder`, { code: 'configuration.file' })
    }
    return regular.sort()
  } catch (cause) {
    if (cause instanceof RekeyError) throw cause
    throw unreadable(path, cause)
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw unreadable(file, cause)
  }
}

function unreadable(path: string, cause: unknown): RekeyError {
  return new RekeyError(`${path}: the configuration can't be read (${(cause as NodeJS.ErrnoException).code})`, {
    code: 'configuration.file',
    cause,
  })
}
