// ansible.cfg and the environment variables of Ansible: where the inventory is when nobody says so.
import { existsSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { at, RekeyError } from '../../errors.ts'
import { expandHome, passwdHome } from '../../operator.ts'
import { readText } from '../variables/variable-files.ts'
import type { VaultOptions } from '../vault/vault-passwords.ts'

export interface ConfigContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
}

/** A setting, and what it was read from, for saying so. */
export interface Setting {
  readonly value: string
  readonly from: string
  /** Relative paths in it start here. */
  readonly folder: string
}

/** Settings of Ansible that apply here. */
export interface AnsibleConfig {
  /** The setting from its environment variable, or else from ansible.cfg. */
  get(variable: string, section: string, key: string): Setting | undefined
}

/** Finds ansible.cfg as Ansible does: `ANSIBLE_CONFIG`, this folder, the home folder, `/etc/ansible`. */
export function readAnsibleConfig({ cwd, environment }: ConfigContext): AnsibleConfig {
  let sections: Map<string, Map<string, string>> | undefined
  const file = findConfig(cwd, environment)
  return {
    get(variable, section, key) {
      const own = environment[variable]
      if (own) return { value: own, from: variable, folder: cwd }
      if (file === undefined) return undefined
      sections ??= parseConfig(file, readText(file))
      const value = sections.get(section)?.get(key)
      return value ? { value, from: `${key} in ${file}`, folder: dirname(file) } : undefined
    },
  }
}

function findConfig(cwd: string, environment: NodeJS.ProcessEnv): string | undefined {
  const named = environment['ANSIBLE_CONFIG']
  if (named) {
    const path = resolve(cwd, expandHome(named, environment))
    const file = statSync(path, { throwIfNoEntry: false })?.isDirectory() ? join(path, 'ansible.cfg') : path
    if (existsSync(file)) return file
  }
  // Ansible ignores the file of a folder that everyone may write to.
  const shared = (statSync(cwd).mode & 0o002) !== 0
  const home = environment['HOME'] ?? passwdHome()
  const own = home ? [join(home, '.ansible.cfg')] : []
  const places = [...(shared ? [] : [join(cwd, 'ansible.cfg')]), ...own, '/etc/ansible/ansible.cfg']
  return places.find(place => existsSync(place))
}

function parseConfig(file: string, text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>()
  let current: Map<string, string> | undefined
  let key: string | undefined
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    // As Python's configparser: `;` starts a comment behind a value, `#` only at the start of a line.
    const line = raw.replace(/\s;.*$/, '')
    if (/^\s*([#;].*)?$/.test(line)) continue
    const header = /^\[([^\]]+)\]/.exec(line)
    if (header) {
      current = sections.get(header[1]!) ?? new Map()
      sections.set(header[1]!, current)
      key = undefined
      continue
    }
    if (/^\s/.test(line) && current && key !== undefined) {
      current.set(key, `${current.get(key)}\n${line.trim()}`)
      continue
    }
    const cut = line.search(/[=:]/)
    if (cut < 1 || !current) {
      throw new RekeyError(`${at(file, index + 1)}: "${line.trim()}" is neither a [section] nor key = value`, {
        code: 'inventory.ansible-config',
        hint: 'Correct that line of ansible.cfg, or name the inventory with -i.',
      })
    }
    key = line.slice(0, cut).trim().toLowerCase()
    current.set(key, line.slice(cut + 1).trim())
  }
  return sections
}

/** The sources that apply without `-i`, and the line that says where they come from. */
export function fallbackSources(config: AnsibleConfig): { sources: string[]; said: string } | undefined {
  const setting = config.get('ANSIBLE_INVENTORY', 'defaults', 'inventory')
  if (!setting) return undefined
  // A list of paths is separated by commas, and so is a list of hosts: only paths that exist are taken for a list.
  const parts = setting.value.split(',').map(part => part.trim())
  const paths = parts.filter(part => part !== '').map(part => resolve(setting.folder, expandHome(part)))
  const sources = paths.every(path => existsSync(path)) || parts.length === 1 ? paths : [setting.value]
  return { sources, said: `no -i given: the inventory is ${sources.join(', ')} (${setting.from})` }
}

/** Vault passwords that apply when the command line names none, said aloud. */
export function fallbackVaultOptions(
  options: VaultOptions,
  config: AnsibleConfig,
  notice: (line: string) => void,
): VaultOptions {
  if (options.vaultIds?.length || options.vaultPasswordFiles?.length || options.askVaultPassword) return options
  const ids = config.get('ANSIBLE_VAULT_IDENTITY_LIST', 'defaults', 'vault_identity_list')
  const file = config.get('ANSIBLE_VAULT_PASSWORD_FILE', 'defaults', 'vault_password_file')
  for (const setting of [ids, file]) if (setting) notice(`vault passwords come from ${setting.value} (${setting.from})`)
  const place = (source: string, { folder }: Setting): string =>
    source.startsWith('prompt') || source.startsWith('~') ? source : resolve(folder, source)
  return {
    vaultIds: ids?.value.split(',').map(slug => {
      const [id, source] = slug.trim().split('@', 2)
      return source === undefined ? place(id!, ids) : `${id}@${place(source, ids)}`
    }),
    vaultPasswordFiles: file && [place(file.value, file)],
  }
}

/** Settings that change what of an inventory is read, and which variables come out. */
export interface ReadingSettings {
  /** Endings of names that are passed over in a folder. */
  readonly ignoredExtensions: readonly string[]
  /** Python's regular expressions for names that are passed over in a folder. */
  readonly ignoredPatterns: readonly string[]
  /** `hash_behaviour = merge`: maps that several places set are laid over each other. */
  readonly mergeMaps: boolean
  /** `inject_facts_as_vars = false`: Ansible then sets `ansible_local`, to nothing here. */
  readonly factsApart: boolean
  /** Whether constructed inventories see the variables of `-e`. */
  readonly useExtraVars: boolean
}

const ignoredExtensions = [
  '.pyc',
  '.pyo',
  '.swp',
  '.bak',
  '~',
  '.rpm',
  '.md',
  '.txt',
  '.rst',
  '.orig',
  '.cfg',
  '.retry',
]

/** The settings of Ansible that change what is read. Throws `RekeyError` for a value that can't be understood. */
export function readingSettings(config: AnsibleConfig): ReadingSettings {
  const list = (variable: string, ...places: [section: string, key: string][]): string[] | undefined => {
    const setting = firstOf(config, variable, places)
    if (!setting) return undefined
    if (/\{\{|\{%/.test(setting.value)) throw badSetting(setting, 'a template is not evaluated there')
    return setting.value
      .split(',')
      .map(part => part.trim())
      .filter(part => part !== '')
  }
  const yes = (otherwise: boolean, variable: string, section: string, key: string): boolean => {
    const setting = config.get(variable, section, key)
    if (!setting) return otherwise
    if (/^(true|t|yes|y|on|1)$/i.test(setting.value)) return true
    if (/^(false|f|no|n|off|0)$/i.test(setting.value)) return false
    throw badSetting(setting, 'it is neither true nor false')
  }
  const hashes = config.get('ANSIBLE_HASH_BEHAVIOUR', 'defaults', 'hash_behaviour')
  if (hashes && !['merge', 'replace'].includes(hashes.value)) throw badSetting(hashes, 'it is merge or replace')
  return {
    ignoredExtensions:
      list(
        'ANSIBLE_INVENTORY_IGNORE',
        ['defaults', 'inventory_ignore_extensions'],
        ['inventory', 'ignore_extensions'],
      ) ?? ignoredExtensions,
    ignoredPatterns:
      list(
        'ANSIBLE_INVENTORY_IGNORE_REGEX',
        ['defaults', 'inventory_ignore_patterns'],
        ['inventory', 'ignore_patterns'],
      ) ?? [],
    mergeMaps: hashes?.value === 'merge',
    factsApart: !yes(true, 'ANSIBLE_INJECT_FACT_VARS', 'defaults', 'inject_facts_as_vars'),
    useExtraVars: yes(false, 'ANSIBLE_INVENTORY_USE_EXTRA_VARS', 'inventory_plugins', 'use_extra_vars'),
  }
}

function firstOf(
  config: AnsibleConfig,
  variable: string,
  places: readonly [section: string, key: string][],
): Setting | undefined {
  // Of several places in the file, the last one that is set counts.
  return places
    .toReversed()
    .map(([section, key]) => config.get(variable, section, key))
    .find(setting => setting !== undefined)
}

function badSetting(setting: Setting, why: string): RekeyError {
  return new RekeyError(`${setting.from} is "${setting.value}": ${why}`, {
    code: 'inventory.ansible-setting',
    hint: 'Correct it, or use an ansible.cfg of its own for rekey: ANSIBLE_CONFIG=/dev/null rekey …',
  })
}

// Further ones. Reading on without them would differ silently.
const unsupported: readonly (readonly [variable: string, section: string, key: string, harmless: RegExp])[] = [
  ['ANSIBLE_PRECEDENCE', 'defaults', 'precedence', /^$/],
  ['ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS', 'defaults', 'force_valid_group_names', /^(never|ignore)$/],
  ['ANSIBLE_YAML_FILENAME_EXT', 'defaults', 'yaml_valid_extensions', /^$/],
]

// Settings of connections: variables of the inventory are the one place where rekey looks for them.
const connectionSettings: readonly (readonly [variable: string, section: string, key: string, instead: string])[] = [
  ['ANSIBLE_REMOTE_USER', 'defaults', 'remote_user', 'ansible_user'],
  ['ANSIBLE_REMOTE_PORT', 'defaults', 'remote_port', 'ansible_port'],
  ['ANSIBLE_PRIVATE_KEY_FILE', 'defaults', 'private_key_file', 'ansible_ssh_private_key_file'],
  ['ANSIBLE_HOST_KEY_CHECKING', 'defaults', 'host_key_checking', 'ansible_host_key_checking'],
  ['ANSIBLE_SSH_ARGS', 'ssh_connection', 'ssh_args', 'ansible_ssh_args'],
  ['ANSIBLE_SSH_COMMON_ARGS', 'ssh_connection', 'ssh_common_args', 'ansible_ssh_common_args'],
  ['ANSIBLE_SSH_EXTRA_ARGS', 'ssh_connection', 'ssh_extra_args', 'ansible_ssh_extra_args'],
  ['ANSIBLE_BECOME', 'privilege_escalation', 'become', 'ansible_become'],
]

/** Throws `RekeyError` for a setting that would make Ansible read the same files differently; tells of the ignored ones. */
export function checkConfig(config: AnsibleConfig, notice: (line: string) => void): void {
  for (const [variable, section, key, harmless] of unsupported) {
    const setting = config.get(variable, section, key)
    if (!setting || harmless.test(setting.value.trim().toLowerCase())) continue
    throw new RekeyError(`${setting.from} is set, and rekey reads inventories as Ansible does without it`, {
      code: 'inventory.ansible-setting',
      hint: `Unset it for rekey, e.g. with an ansible.cfg of its own: ANSIBLE_CONFIG=/dev/null rekey …`,
    })
  }
  for (const [variable, section, key, instead] of connectionSettings) {
    const setting = config.get(variable, section, key)
    if (setting) notice(`${setting.from} is not used: set ${instead} in group_vars/all instead`)
  }
}
