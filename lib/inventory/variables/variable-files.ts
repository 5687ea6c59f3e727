// group_vars and host_vars folders: which files belong to a group or host, and what they set.
import { closeSync, openSync, readdirSync, readSync, realpathSync, type Stats, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { at, RekeyError } from '../../errors.ts'
import type { Assignments } from '../groups.ts'
import { isMapping, keyText, typeName } from '../values.ts'
import { isEncrypted, type Vault } from '../vault/vault.ts'
import { vaulted } from '../vault/vaulted.ts'
import { parseYaml } from '../yaml/document.ts'
import { keyOf, toValue } from '../yaml/node.ts'

/** Variables of one group or host from one folder. Reading them is what opens an encrypted file. */
export type VariableLayer = () => Assignments

/** Finds variables beside an inventory source or a playbook. */
export interface VariableFolder {
  readonly path: string
  group(name: string): VariableLayer | undefined
  host(name: string): VariableLayer | undefined
}

const extensions = ['', '.yml', '.yaml', '.json']
const [maxDepth, maxFolders] = [50, 10_000]
/** A hundred times what inventories of thousands of hosts take. */
const maxFileSize = 64 * 1024 * 1024

/** Looks into `group_vars` and `host_vars` of a folder. Files that aren't encrypted are read, and so checked, at once. */
export function openVariableFolder(path: string, vault: Vault, notice: (line: string) => void): VariableFolder {
  const folder = statOf(path) ? realpathSync(path) : path
  const find = (kind: 'group_vars' | 'host_vars'): ((name: string) => VariableLayer | undefined) => {
    const place = join(folder, kind)
    const stats = statOf(place)
    if (!stats) return () => undefined
    if (!stats.isDirectory()) {
      notice(`${place} is not a folder, and is ignored`)
      return () => undefined
    }
    // One listing instead of four look-ups for each of thousands of hosts.
    const names = new Set(listFolder(place))
    return name => {
      // No name leads out of the folder.
      if (name.startsWith('/') || /(?:^|\/)\.\.?(?:\/|$)/.test(name)) return undefined
      const files = filesOf(place, name, names)
      return files.length === 0 ? undefined : layer(files, vault, notice)
    }
  }
  return { path: folder, group: find('group_vars'), host: find('host_vars') }
}

function filesOf(place: string, name: string, names: ReadonlySet<string>): string[] {
  for (const extension of extensions) {
    if (!name.includes('/') && !names.has(name + extension)) continue
    const path = join(place, name + extension)
    const stats = statOf(path)
    if (!stats) continue
    if (stats.isDirectory()) return filesBelow(path)
    return [path]
  }
  return []
}

function filesBelow(folder: string, walk: Walk = startWalk()): string[] {
  const here = enterFolder(folder, walk)
  return listFolder(folder)
    .sort()
    .flatMap(name => {
      if (name.startsWith('.') || name.endsWith('~')) return []
      const path = join(folder, name)
      const extension = extname(name)
      const stats = statOf(path)
      if (stats?.isDirectory()) return extension === '' ? filesBelow(path, here) : []
      return stats?.isFile() && extensions.includes(extension) ? [path] : []
    })
}

function layer(files: readonly string[], vault: Vault, notice: (line: string) => void): VariableLayer {
  const parts = files.map(file => {
    const text = readText(file)
    if (!isEncrypted(text)) {
      const read = readVariables(text, file, vault, notice)
      return () => read
    }
    let opened: Assignments | undefined
    return () => {
      opened ??= vaulted(readVariables(vault.decrypt(text, file), file, vault, notice))
      return opened
    }
  })
  if (parts.length === 1) return parts[0]!
  let merged: Assignments | undefined
  return () => {
    if (!merged) {
      merged = new Map()
      for (const part of parts) {
        for (const [name, assignment] of part()) merged.set(name, { ...assignment, replaced: merged.get(name) })
      }
    }
    return merged
  }
}

/** The variables that a YAML or JSON text sets. Throws `RekeyError` when it is not a map. */
export function readVariables(text: string, file: string, vault: Vault, notice: (line: string) => void): Assignments {
  const variables: Assignments = new Map()
  const root = parseYaml(text, { file, vault, notice })
  if (!root) return variables
  if (root.kind === 'mapping') {
    for (const { key, value } of root.entries.values()) {
      variables.set(keyText(keyOf(key)), { value: toValue(value), origin: { file, line: key.line } })
    }
    return variables
  }
  const value = toValue(root)
  // Ansible passes over what Python takes for false, e.g. a file with nothing but `---` or `[]`.
  if (!value || (Array.isArray(value) && value.length === 0) || isMapping(value)) return variables
  throw new RekeyError(`${at(file, root.line)}: a file of variables must be a map, not ${typeName(value)}`, {
    code: 'inventory.variables-shape',
    hint: 'Write each variable as `name: value`.',
  })
}

/** The text of a file. Throws `RekeyError` naming it when it can't be read or isn't UTF-8. */
export function readText(file: string): string {
  let bytes: Buffer
  try {
    bytes = readBytes(file)
  } catch (error) {
    throw unreadable(file, error)
  }
  const text = bytes.toString('utf8')
  if (text.includes('\ufffd') && !Buffer.from(text).equals(bytes)) {
    const good = bytes.findIndex((byte, index) => byte !== Buffer.from(text)[index])
    const line = bytes.subarray(0, good).toString('latin1').split('\n').length
    throw new RekeyError(`${at(file, line)}: not UTF-8 text`, {
      code: 'inventory.encoding',
      hint: 'Save the file as UTF-8.',
    })
  }
  return text
}

/** The names in a folder. Throws `RekeyError` naming it when it can't be read. */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path)
  } catch (error) {
    throw unreadable(path, error)
  }
}

/** The bytes of a file that is not too large. Of devices and pipes, only those that a shell opened (`<(…)`) are read. */
function readBytes(file: string): Buffer {
  const stats = statSync(file)
  if (stats.isDirectory()) throw new Error('it is a folder')
  if (!stats.isFile() && !/^\/dev\/null$|^\/(?:dev|proc\/self)\/fd\/\d+$/.test(file)) throw new Error('it is no file')
  const descriptor = openSync(file, 'r')
  try {
    const pieces: Buffer[] = []
    for (let size = 0; ; ) {
      const piece = Buffer.alloc(Math.min(1024 * 1024, Math.max(4096, stats.size + 1 - size)))
      const length = readSync(descriptor, piece)
      if (length === 0) return Buffer.concat(pieces)
      pieces.push(piece.subarray(0, length))
      size += length
      if (size > maxFileSize) throw new Error(`it is larger than ${maxFileSize / 1024 / 1024} MiB`)
    }
  } finally {
    closeSync(descriptor)
  }
}

function unreadable(path: string, error: unknown): RekeyError {
  const code = (error as NodeJS.ErrnoException).code
  const why = code === 'EACCES' ? 'permission denied' : code === 'ENOENT' ? 'no such file' : (error as Error).message
  return new RekeyError(`${path} can't be read: ${why}`, {
    code: 'inventory.unreadable',
    hint: code === 'EACCES' ? 'Give the user that runs rekey read access.' : 'Check the path.',
    cause: error,
  })
}

/** What is at a path, undefined for nothing. Throws `RekeyError` naming it when that can't be told. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    throw unreadable(path, error)
  }
}

/** The folders that lead to a place, and how many were looked into so far. */
export interface Walk {
  readonly way: readonly string[]
  readonly looked: { folders: number }
}

/** Where a search in folders begins. */
export const startWalk = (): Walk => ({ way: [], looked: { folders: 0 } })

/** A step into a folder. Throws `RekeyError` when it is one of those that lead to it, or when there is no end to them. */
export function enterFolder(folder: string, { way, looked }: Walk): Walk {
  const refuse = (what: string): RekeyError =>
    new RekeyError(`${folder}: ${what}`, {
      code: 'inventory.link-loop',
      hint: 'Remove the links that lead out of the folder.',
    })
  let real: string
  try {
    real = realpathSync(folder)
  } catch (error) {
    throw unreadable(folder, error)
  }
  if (way.includes(real)) throw refuse(`it leads back to ${real}, in a circle`)
  if (way.length >= maxDepth) throw refuse(`more than ${maxDepth} folders lie within each other`)
  if (++looked.folders > maxFolders) throw refuse(`more than ${maxFolders} folders were looked into`)
  return { way: [...way, real], looked }
}
