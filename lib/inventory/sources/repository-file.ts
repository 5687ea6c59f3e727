// rekey.yml, or `rekey` in package.json: what holds in a repository where nobody says otherwise.
import { existsSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { at, RekeyError } from '../../errors.ts'
import { expandHome } from '../../operator.ts'
import { suggestion } from '../../suggestion.ts'
import { keyText, typeName } from '../values.ts'
import { readText } from '../variables/variable-files.ts'
import { createVault } from '../vault/vault.ts'
import { parseYaml } from '../yaml/document.ts'
import { keyOf, type MappingEntry, toValue, type YamlNode } from '../yaml/node.ts'
import { type SettingKind, type SettingName, settingKind, settings } from './settings.ts'

/** What a file says of a setting: texts as they stand there, `true` and `false` for yes and no. */
export interface WrittenSetting {
  readonly values: readonly string[]
  readonly line: number
}

/** A file of settings that was read, or one that was not, and why. */
export interface RepositoryFile {
  readonly file?: string
  readonly settings: ReadonlyMap<SettingName, WrittenSetting>
  readonly ignored?: string
}

const none: RepositoryFile = { settings: new Map() }

/**
 * Reads what holds in a repository: the file that `REKEY_CONFIG` names; or rekey.yml, or package.json with `rekey` in it, of this folder or
 * the nearest one above it in the same git repository. As with ansible.cfg, none is read that everybody may write.
 * @throws RekeyError with file and line for what is no setting, or is none of its kind
 */
export function readRepositoryFile(cwd: string, environment: NodeJS.ProcessEnv): RepositoryFile {
  const named = environment['REKEY_CONFIG']
  if (named) {
    const file = resolve(cwd, expandHome(named, environment))
    return { file, settings: settingsOf(file) }
  }
  for (const folder of foldersOf(cwd)) {
    const [yaml, manifest] = [join(folder, 'rekey.yml'), join(folder, 'package.json')]
    const inManifest = existsSync(manifest) && isSetIn(manifest)
    if (!existsSync(yaml) && !inManifest) continue
    const file = existsSync(yaml) ? yaml : manifest
    const open = [folder, file].find(path => (statSync(path).mode & 0o002) !== 0)
    if (open !== undefined)
      return { ...none, ignored: `${file} is not read: everybody may write to ${open === file ? 'it' : open}` }
    if (file === yaml && inManifest)
      throw new RekeyError(`${yaml} and "rekey" in ${manifest} are both there`, {
        code: 'settings.twice',
        hint: 'Keep one of them.',
      })
    return { file, settings: settingsOf(file) }
  }
  return none
}

/** This folder, and those above it up to the root of its git repository. */
function foldersOf(cwd: string): string[] {
  const folders = [cwd]
  while (!existsSync(join(folders.at(-1)!, '.git'))) {
    const above = dirname(folders.at(-1)!)
    if (above === folders.at(-1)) return [cwd]
    folders.push(above)
  }
  return folders
}

/** Whether a package.json has settings. One that is no JSON is npm's affair. */
function isSetIn(manifest: string): boolean {
  try {
    const read: unknown = JSON.parse(readText(manifest))
    return typeof read === 'object' && read !== null && Object.hasOwn(read, 'rekey')
  } catch {
    return false
  }
}

function settingsOf(file: string): Map<SettingName, WrittenSetting> {
  const whole = parseYaml(readText(file), { file, vault: createVault([]), notice: line => refuse(line) })
  const isManifest = basename(file) === 'package.json' && whole?.kind === 'mapping'
  const root = isManifest ? [...whole.entries.values()].find(({ key }) => key.value === 'rekey')?.value : whole
  const found = new Map<SettingName, WrittenSetting>()
  if (root && !isNothing(root)) read(file, '', entriesOf(file, 'it', root), found)
  return found
}

/** A key that stands twice is a mistake, not a warning. */
function refuse(line: string): never {
  throw new RekeyError(line.replace('; this one counts', ''), { code: 'settings.twice', hint: 'Keep one of them.' })
}

const names = Object.keys(settings)

function read(
  file: string,
  above: string,
  entries: Iterable<MappingEntry>,
  found: Map<SettingName, WrittenSetting>,
): void {
  for (const { key, value } of entries) {
    const name = `${above}${keyText(keyOf(key))}`
    const line = key.line
    if (isName(name)) {
      if (!isNothing(value)) found.set(name, { values: valuesOf(file, name, settingKind(name), line, value), line })
    } else if (names.some(one => one.startsWith(`${name}.`))) {
      if (!isNothing(value)) read(file, `${name}.`, entriesOf(file, name, value), found)
    } else {
      const here = names.filter(one => one.startsWith(above)).map(one => one.slice(above.length).split('.')[0]!)
      const known = [...new Set(here)]
      const elsewhere = names.find(one => one.endsWith(`.${name}`))
      throw new RekeyError(
        `${at(file, line)}: "${name}" is no setting${elsewhere ? `; did you mean '${elsewhere.replace('.', ': ')}'?` : suggestion(name.slice(above.length), known)}`,
        { code: 'settings.unknown', hint: `There are: ${known.join(', ')}.` },
      )
    }
  }
}

const isName = (name: string): name is SettingName => Object.hasOwn(settings, name)

const isNothing = (node: YamlNode): boolean => node.kind === 'scalar' && node.value === null

function entriesOf(file: string, name: string, node: YamlNode): Iterable<MappingEntry> {
  if (node.kind === 'mapping') return node.entries.values()
  throw new RekeyError(`${at(file, node.line)}: ${name} must be a map, not ${typeName(toValue(node))}`, {
    code: 'settings.shape',
    hint: 'rekey config tells what there is.',
  })
}

function valuesOf(file: string, name: string, { shape }: SettingKind, line: number, node: YamlNode): string[] {
  const items = shape === 'texts' && node.kind === 'sequence' ? node.items : [node]
  return items.map(item => {
    const value = item.kind === 'scalar' ? item.value : undefined
    if (shape === 'yes' ? typeof value === 'boolean' : isText(value)) return String(value)
    const wanted = { yes: 'true or false', text: 'a text', texts: 'a text, or a list of texts' }[shape]
    throw new RekeyError(`${at(file, item.line)}: ${name} must be ${wanted}, not ${typeName(toValue(item))}`, {
      code: 'settings.shape',
      hint: `Correct line ${line}.`,
    })
  })
}

const isText = (value: unknown): boolean => ['string', 'number', 'bigint'].includes(typeof value) && value !== ''
