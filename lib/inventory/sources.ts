// What `-i` may name: a file, a folder of them, an executable, or a list of hosts; read in order, later ones win.
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { extname, isAbsolute, join, normalize, resolve } from 'node:path'
import { at, RekeyError } from '../errors.ts'
import { parseAddress } from './addresses.ts'
import { addExecutableInventory } from './executable-source.ts'
import { addHost, ensureGroup, type InventoryData } from './groups.ts'
import { addIniInventory } from './ini-source.ts'
import { readText } from './variable-files.ts'
import { isEncrypted, type Vault } from './vault.ts'
import { vaultedInventory } from './vaulted.ts'
import { parseYaml } from './yaml/document.ts'
import type { YamlNode } from './yaml/node.ts'
import { addYamlInventory } from './yaml-source.ts'

export interface SourceContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly vault: Vault
  readonly notice: (line: string) => void
}

/** The absolute path of a source, `~` and `$NAME` expanded; a list of hosts stays as it is. */
export function resolveSource(source: string, { cwd, environment }: SourceContext): string {
  if (source.includes(',') && !existsSync(resolve(cwd, source))) return source
  const home = environment['HOME']
  let path = source.replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, bare, braced) => environment[bare ?? braced] ?? whole)
  if (home !== undefined) path = path.replace(/^~(?=\/|$)/, home)
  return normalize(isAbsolute(path) ? path : join(cwd, path))
}

/** Reads one source into the inventory. Throws `RekeyError` for whatever in it can't be read. */
export async function readSource(data: InventoryData, source: string, context: SourceContext): Promise<void> {
  if (isHostList(source)) return readHostList(data, source)
  const stats = statSync(source, { throwIfNoEntry: false })
  if (!stats) {
    throw new RekeyError(`there is no inventory at ${source}`, {
      code: 'inventory.missing',
      hint: 'Check the path given with -i; a list of hosts needs a comma: -i host1,host2 or -i host1,',
    })
  }
  if (stats.isDirectory()) return readFolder(data, source, context)
  return readFile(data, source, context)
}

/** True for `host1,host2,` as opposed to a path. */
export function isHostList(source: string): boolean {
  return source.includes(',') && !existsSync(source)
}

// What Ansible passes over in a folder: hidden files, its folders of variables, and files of other programs.
const ignoredNames = /^\.|^(?:host_vars|group_vars|vars_plugins)$/
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

async function readFolder(data: InventoryData, folder: string, context: SourceContext): Promise<void> {
  for (const name of readdirSync(folder).sort()) {
    if (ignoredNames.test(name) || ignoredExtensions.some(extension => name.endsWith(extension))) continue
    await readSource(data, join(folder, name), context)
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

async function readFile(data: InventoryData, file: string, context: SourceContext): Promise<void> {
  if (isProgram(file)) return addExecutableInventory({ data, source: file }, file, context)
  const stored = readText(file)
  if (!isEncrypted(stored)) return readInventory(data, file, stored, context)
  await readInventory(data, file, context.vault.decrypt(stored, file), context)
  vaultedInventory(data, file)
}

async function readInventory(data: InventoryData, file: string, text: string, context: SourceContext): Promise<void> {
  const collector = { data, source: file }
  const extension = extname(file)
  if (extension === '.toml') {
    throw new RekeyError(`${file}: inventories in TOML are not read`, {
      code: 'inventory.toml',
      hint: 'Convert it: ansible-inventory -i THIS --list --export --yaml.',
    })
  }
  if (!['.yml', '.yaml', '.json', ''].includes(extension)) return addIniInventory(collector, file, text)
  let root: YamlNode | undefined
  let problem: unknown
  try {
    root = parseYaml(text, { file, ...context })
  } catch (error) {
    problem = error
  }
  if (root?.kind === 'mapping' && root.entries.size > 0) return addYamlInventory(collector, file, root, context.notice)
  // Without an extension, what isn't YAML is INI; so is a file with nothing in it but comments, whatever its name.
  if (problem === undefined && root === undefined) return addIniInventory(collector, file, text)
  if (extension === '' && !looksLikeYaml(text)) return addIniInventory(collector, file, text)
  if (problem !== undefined) throw problem
  throw new RekeyError(`${at(file, root?.line ?? 1)}: an inventory must be a map of groups`, {
    code: 'inventory.shape',
    hint: 'Start with `all:` and put `hosts:` and `children:` below it; an INI file must not be called .yml.',
  })
}

/** Whether a file without an extension was meant as YAML: its first line that says something is `---` or `word:`. */
function looksLikeYaml(text: string): boolean {
  const first = text.split('\n').find(line => !/^\s*([#;].*)?$/.test(line)) ?? ''
  return /^---|^["']?[\w.-]+["']?:\s*(#.*)?$|^\s*\{/.test(first)
}

/** A file that may be run and says what runs it: Ansible reads other files with the executable bit as data, too. */
function isProgram(file: string): boolean {
  if ((statSync(file).mode & 0o111) === 0) return false
  try {
    accessSync(file, constants.X_OK)
  } catch {
    return false
  }
  const start = Buffer.alloc(4)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, start)
  } finally {
    closeSync(descriptor)
  }
  return start.toString('latin1', 0, 2) === '#!' || start.toString('latin1') === '\x7fELF'
}
