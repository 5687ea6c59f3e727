// What holds when the command line says nothing: the environment variables of Ansible, then rekey.yml, then ansible.cfg.
import { existsSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { at, RekeyError } from '../../errors.ts'
import { expandHome, passwdHome } from '../../operator.ts'
import { readText } from '../variables/variable-files.ts'
import type { VaultOptions } from '../vault/vault-passwords.ts'
import { readRepositoryFile } from './repository-file.ts'
import { type SettingName, settingKind, settingOf } from './settings.ts'

export interface ConfigContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
}

/** A setting, and what it was read from, for saying so. */
export interface Setting {
  readonly value: string
  /** What a list has, where it was written as one. */
  readonly values?: readonly string[]
  readonly from: string
  /** The file and the line; none where it is an environment variable. */
  readonly file?: string
  readonly line?: number
  /** It stands in rekey.yml, or as `rekey` in package.json; else it is one of Ansible's. */
  readonly own?: true
  /** Relative paths in it start here. */
  readonly folder: string
}

/** Settings that apply here. */
export interface Configuration {
  /** What was found of rekey.yml, and of ansible.cfg. */
  readonly files: { readonly rekey?: string; readonly ansible?: string }
  /** A file that was there and is not read, and why. */
  readonly ignored?: string
  /** A setting by its name in rekey.yml. */
  find(name: SettingName): Setting | undefined
  /** A setting by what Ansible calls it: from its environment variable, or else from rekey.yml, or else from ansible.cfg. */
  get(variable: string | undefined, section?: string, key?: string): Setting | undefined
}

/** Finds ansible.cfg as Ansible does (`ANSIBLE_CONFIG`, this folder, the home folder, `/etc/ansible`), and the repository's rekey.yml. */
export function readConfiguration({ cwd, environment }: ConfigContext): Configuration {
  let sections: Sections | undefined
  const ansible = findConfig(cwd, environment)
  const repository = readRepositoryFile(cwd, environment)
  const inEnvironment = (variable: string | undefined): Setting | undefined => {
    const own = variable && environment[variable]
    return own ? { value: own, from: variable, folder: cwd } : undefined
  }
  const inRepository = (name: SettingName | undefined): Setting | undefined => {
    const written = name && repository.settings.get(name)
    if (!written || repository.file === undefined) return undefined
    const { values, line } = written
    const from = `${name} in ${at(repository.file, line)}`
    const { file } = repository
    return { value: values.join(','), values, from, own: true, file, line, folder: dirname(file) }
  }
  const inAnsible = (section: string | undefined, key: string | undefined): Setting | undefined => {
    if (ansible === undefined || section === undefined || key === undefined) return undefined
    sections ??= parseConfig(ansible, readText(ansible))
    const found = sections.get(section)?.get(key)
    if (!found?.value) return undefined
    return {
      value: found.value,
      from: `${key} in ${ansible}`,
      file: ansible,
      line: found.line,
      folder: dirname(ansible),
    }
  }
  return {
    files: { rekey: repository.file, ansible },
    ignored: repository.ignored,
    find(name) {
      const { variable, section, key } = settingKind(name)
      return inEnvironment(variable) ?? inRepository(name) ?? inAnsible(section, key)
    },
    get(variable, section, key) {
      const name = section === undefined || key === undefined ? undefined : settingOf(section, key)
      return inEnvironment(variable) ?? inRepository(name) ?? inAnsible(section, key)
    },
  }
}

type Sections = Map<string, Map<string, { value: string; readonly line: number }>>

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

function parseConfig(file: string, text: string): Sections {
  const sections: Sections = new Map()
  let current: Map<string, { value: string; readonly line: number }> | undefined
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
      current.get(key)!.value += `\n${line.trim()}`
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
    current.set(key, { value: line.slice(cut + 1).trim(), line: index + 1 })
  }
  return sections
}

/** The sources that apply without `-i`, and the line that says where they come from. */
export function fallbackSources(config: Configuration): { sources: string[]; said: string } | undefined {
  const setting = config.get('ANSIBLE_INVENTORY', 'defaults', 'inventory')
  if (!setting) return undefined
  // A list of paths is separated by commas, and so is a list of hosts: only paths that exist are taken for a list.
  if (setting.values) {
    const sources = setting.values.map(one => (one.includes(',') ? one : resolve(setting.folder, expandHome(one))))
    return { sources, said: `no -i given: the inventory is ${sources.join(', ')} (${setting.from})` }
  }
  const parts = setting.value.split(',').map(part => part.trim())
  const paths = parts.filter(part => part !== '').map(part => resolve(setting.folder, expandHome(part)))
  const sources = paths.every(path => existsSync(path)) || parts.length === 1 ? paths : [setting.value]
  return { sources, said: `no -i given: the inventory is ${sources.join(', ')} (${setting.from})` }
}

/** Vault passwords that apply when the command line names none, said aloud. */
export function fallbackVaultOptions(
  options: VaultOptions,
  config: Configuration,
  notice: (line: string) => void,
): VaultOptions {
  if (options.vaultIds?.length || options.vaultPasswordFiles?.length || options.askVaultPassword) return options
  const ids = config.get('ANSIBLE_VAULT_IDENTITY_LIST', 'defaults', 'vault_identity_list')
  const file = config.get('ANSIBLE_VAULT_PASSWORD_FILE', 'defaults', 'vault_password_file')
  for (const setting of [ids, file]) if (setting) notice(`vault passwords come from ${setting.value} (${setting.from})`)
  const place = (source: string, { folder }: Setting): string =>
    source.startsWith('prompt') || source.startsWith('~') ? source : resolve(folder, source)
  return {
    vaultIds: (ids?.values ?? ids?.value.split(','))?.map(slug => {
      const [id, source] = slug.trim().split('@', 2)
      return source === undefined ? place(id!, ids!) : `${id}@${place(source, ids!)}`
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
export function readingSettings(config: Configuration): ReadingSettings {
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
    return setting ? yesOf(setting) : otherwise
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
  config: Configuration,
  variable: string,
  places: readonly [section: string, key: string][],
): Setting | undefined {
  // Of several places in the file, the last one that is set counts.
  return places
    .toReversed()
    .map(([section, key]) => config.get(variable, section, key))
    .find(setting => setting !== undefined)
}

/** What a setting says that is yes or no. Throws `RekeyError` where it says neither. */
export function yesOf(setting: Setting): boolean {
  if (/^(true|t|yes|y|on|1)$/i.test(setting.value)) return true
  if (/^(false|f|no|n|off|0)$/i.test(setting.value)) return false
  throw badSetting(setting, 'it is neither true nor false')
}

/** The error for a setting that can't be used. */
export function badSetting(setting: Setting, why: string): RekeyError {
  return new RekeyError(`${setting.from} is "${setting.value}": ${why}`, {
    code: 'inventory.ansible-setting',
    hint: setting.own
      ? 'Correct it there.'
      : setting.file === undefined
        ? `Correct it, or leave it out for rekey: env -u ${setting.from} rekey …`
        : 'Correct it, or use an ansible.cfg of its own for rekey: ANSIBLE_CONFIG=/dev/null rekey …',
  })
}

// Further ones. Reading on without them would differ silently.
const unsupported: readonly (readonly [variable: string, section: string, key: string, harmless: RegExp])[] = [
  ['ANSIBLE_PRECEDENCE', 'defaults', 'precedence', /^$/],
  ['ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS', 'defaults', 'force_valid_group_names', /^(never|ignore)$/],
  ['ANSIBLE_YAML_FILENAME_EXT', 'defaults', 'yaml_valid_extensions', /^$/],
]

// Further settings of connections: variables of the inventory are the one place where rekey looks for them.
const connectionSettings: readonly (readonly [variable: string, section: string, key: string, instead: string])[] = [
  ['ANSIBLE_REMOTE_PORT', 'defaults', 'remote_port', 'ansible_port'],
  ['ANSIBLE_HOST_KEY_CHECKING', 'defaults', 'host_key_checking', 'ansible_host_key_checking'],
  ['ANSIBLE_SSH_ARGS', 'ssh_connection', 'ssh_args', 'ansible_ssh_args'],
]

/** Settings that only Ansible's file and environment have, by their names there. */
export const furtherSettings: readonly (readonly [variable: string, section: string, key: string])[] = [
  ['ANSIBLE_HASH_BEHAVIOUR', 'defaults', 'hash_behaviour'],
  ['ANSIBLE_INJECT_FACT_VARS', 'defaults', 'inject_facts_as_vars'],
  ['ANSIBLE_INVENTORY_IGNORE', 'defaults', 'inventory_ignore_extensions'],
  ['ANSIBLE_INVENTORY_IGNORE_REGEX', 'defaults', 'inventory_ignore_patterns'],
  ['ANSIBLE_INVENTORY_USE_EXTRA_VARS', 'inventory_plugins', 'use_extra_vars'],
]

/** Throws `RekeyError` for a setting that would make Ansible read the same files differently; tells of the ignored ones. */
export function checkConfig(config: Configuration, notice: (line: string) => void): void {
  if (config.ignored) notice(config.ignored)
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
