// What `-i` may name: a file, a folder of them, an executable, or a list of hosts; read in order, later ones win.
import { accessSync, closeSync, constants, existsSync, openSync, readSync, statSync } from 'node:fs'
import { extname, isAbsolute, join, normalize, resolve } from 'node:path'
import { at, RekeyError } from '../../errors.ts'
import { parseAddress } from '../addresses.ts'
import { addHost, type Collector, compareText, ensureGroup, folderOf, type InventoryData } from '../groups.ts'
import { searchRegex } from '../pattern.ts'
import { isKey, keyText } from '../values.ts'
import { enterFolder, listFolder, readText, startWalk, statOf, type Walk } from '../variables/variable-files.ts'
import { isEncrypted } from '../vault/vault.ts'
import { vaultedInventory } from '../vault/vaulted.ts'
import { parseYaml } from '../yaml/document.ts'
import type { MappingEntry, MappingNode, YamlNode } from '../yaml/node.ts'
import { addConstructedInventory, isConstructed } from './constructed.ts'
import { addExecutableInventory } from './executable-source.ts'
import { addIniInventory } from './ini-source.ts'
import type { SourceContext } from './source-context.ts'
import { addYamlInventory, isTrue } from './yaml-source.ts'

/** The absolute path of a source, `~` and `$NAME` expanded; a list of hosts stays as it is. */
export function resolveSource(
  source: string,
  { cwd, environment, notice }: Pick<SourceContext, 'cwd' | 'environment' | 'notice'>,
): string {
  if (source.includes(',')) {
    if (!existsSync(resolve(cwd, source))) return source
    notice(`-i ${source}: ansible-core 2.19 can't read an inventory with a comma in its path; rekey does`)
  }
  const home = environment['HOME']
  let path = source.replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, bare, braced) => environment[bare ?? braced] ?? whole)
  if (home !== undefined) path = path.replace(/^~(?=\/|$)/, home)
  return normalize(isAbsolute(path) ? path : join(cwd, path))
}

/** Reads one source into the inventory. Throws `RekeyError` for whatever in it can't be read. */
export async function readSource(data: InventoryData, source: string, context: SourceContext): Promise<void> {
  if (isHostList(source)) readHostList(data, source)
  else await readPath(data, source, context, startWalk())
}

/** Reads a file or folder. `walk`: the folders in which it was found. */
async function readPath(data: InventoryData, path: string, context: SourceContext, walk: Walk): Promise<void> {
  const stats = statOf(path)
  if (!stats) {
    throw new RekeyError(`there is no inventory at ${path}`, {
      code: 'inventory.missing',
      hint: 'Check the path given with -i; a list of hosts needs a comma: -i host1,host2 or -i host1,',
    })
  }
  if (stats.isDirectory()) return readFolder(data, path, context, walk)
  await readFile(data, path, context, walk.way.length > 0)
  context.processed.push(folderOf(path))
}

/** True for `host1,host2,` as opposed to a path. */
export function isHostList(source: string): boolean {
  return source.includes(',') && !existsSync(source)
}

// What Ansible passes over in every folder: hidden files, and its folders of variables.
const ignoredNames = /^\.|^(?:host_vars|group_vars|vars_plugins)$/

async function readFolder(data: InventoryData, folder: string, context: SourceContext, walk: Walk): Promise<void> {
  const here = enterFolder(folder, walk)
  const { ignoredExtensions, ignoredPatterns } = context.settings
  const patterns = ignoredPatterns.map(pattern => searchRegex(pattern, 'inventory_ignore_patterns of ansible.cfg'))
  for (const name of listFolder(folder).sort(compareText)) {
    if (ignoredNames.test(name) || ignoredExtensions.some(extension => name.endsWith(extension))) continue
    if (patterns.some(matches => matches(name))) continue
    await readPath(data, join(folder, name), context, here)
  }
}

function readHostList(data: InventoryData, source: string): void {
  const origin = { file: `-i ${source}` }
  const ungrouped = ensureGroup(data, 'ungrouped', origin)
  for (const part of source.split(',')) {
    const text = part.trim()
    if (text === '') continue
    // Ansible expands no ranges here: such a host keeps its brackets.
    const address = parseAddress(text)
    const { host, port } = address && !address.host.includes('[') ? address : { host: text, port: undefined }
    if (!data.hosts.has(host)) addHost({ data, source }, host, ungrouped, port, origin)
  }
}

/** `found`: in a folder, beside files that may be something else. */
async function readFile(data: InventoryData, file: string, context: SourceContext, found: boolean): Promise<void> {
  if (isProgram(file)) return addExecutableInventory({ data, source: file }, file, context)
  const stored = readText(file)
  const encrypted = isEncrypted(stored)
  await readInventory(data, file, encrypted ? context.vault.decrypt(stored, file) : stored, context, found)
  if (encrypted) vaultedInventory(data, file)
}

async function readInventory(
  data: InventoryData,
  file: string,
  text: string,
  context: SourceContext,
  found: boolean,
): Promise<void> {
  const collector = { data, source: file }
  const extension = extname(file)
  const root = ['.yml', '.yaml', '.json', ''].includes(extension) ? parseInventory(file, text, context) : undefined
  if (root) {
    const plugin = root.entries.get('plugin')
    if (plugin && isTrue(plugin.value)) addPlugin(collector, file, root, plugin, context)
    else addYamlInventory(collector, file, root, { notice: context.notice, found })
  } else if (extension === '.toml') {
    // Few have one, and a start is done sooner without what reads it.
    const { addTomlInventory } = await import('./toml-source.ts')
    addTomlInventory(collector, file, text, context.notice)
  } else addIniInventory(collector, file, text)
}

/** The map of a YAML inventory; undefined for what isn't YAML, and so is INI whatever its name, and where only comments are. */
function parseInventory(file: string, text: string, context: SourceContext): MappingNode | undefined {
  let root: YamlNode | undefined
  try {
    root = parseYaml(text, { file, ...context })
  } catch (error) {
    if (looksLikeYaml(text)) throw error
    return undefined
  }
  if (root?.kind === 'mapping' && root.entries.size > 0) return root
  if (root === undefined || !looksLikeYaml(text)) return undefined
  throw new RekeyError(`${at(file, root.line)}: an inventory must be a map of groups`, {
    code: 'inventory.shape',
    hint: 'Start with `all:` and put `hosts:` and `children:` below it.',
  })
}

function addPlugin(
  collector: Collector,
  file: string,
  root: MappingNode,
  { key, value }: MappingEntry,
  context: SourceContext,
): void {
  const name = value.kind === 'scalar' && isKey(value.value) ? keyText(value.value) : 'a list or map'
  const where = at(file, key.line)
  if (!isConstructed(name)) {
    throw new RekeyError(`${where}: the inventory plugin "${name}" runs in Ansible only`, {
      code: 'inventory.plugin',
      hint: 'Write what it finds to a file: ansible-inventory -i THIS --list --export --yaml, or use an executable inventory.',
    })
  }
  if (!/\.ya?ml$/.test(file)) {
    throw new RekeyError(`${where}: Ansible reads a constructed inventory from .yml and .yaml only`, {
      code: 'inventory.plugin',
      hint: 'Rename the file.',
    })
  }
  addConstructedInventory(collector, file, root, context)
}

/** Whether a file was meant as YAML: its first line that says something is `---`, `word:`, `- ` or `{`. */
function looksLikeYaml(text: string): boolean {
  const first = text.split('\n').find(line => !/^\s*(?:[#;].*)?$/.test(line)) ?? ''
  return /^---|^["']?[\w.-]+["']?:\s*(?:#.*)?$|^["']?[\w.-]+["']?: |^\s*[{]|^\s*- /.test(first)
}

/** A file that may be run and says what runs it: Ansible reads other files with the executable bit as data, too. */
function isProgram(file: string): boolean {
  const stats = statSync(file)
  // A socket can't be opened, and a pipe would be waited for.
  if (!stats.isFile() || (stats.mode & 0o111) === 0) return false
  const start = Buffer.alloc(4)
  try {
    accessSync(file, constants.X_OK)
    const descriptor = openSync(file, 'r')
    try {
      readSync(descriptor, start)
    } finally {
      closeSync(descriptor)
    }
  } catch {
    // What can't be read either is told by who reads it.
    return false
  }
  return start.toString('latin1', 0, 2) === '#!' || start.toString('latin1') === '\x7fELF'
}
