// Cases of operations: what a folder holds, what is asked, and what ansible-core made of it (npm run test:update-ansible writes that). The
// script and the tests share this.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'

/** One thing in a folder. A folder's name ends with a slash, and it has a mode only. */
export interface Entry {
  readonly content?: string
  /** In hex, where it is no text. */
  readonly bytes?: string
  /** What an archive holds, where `archives` is said of the cases. */
  readonly holds?: Tree
  readonly mode?: string
  /** What a symbolic link says. */
  readonly link?: string
  /** The first name of the same file. */
  readonly same?: string
  /** `uid:gid`, where it is not that of who runs the test. */
  readonly owner?: string
}

/** What is in a folder, by the paths in it. */
export type Tree = Readonly<Record<string, Entry>>

/** What ansible-core made of a case. */
export interface Answer {
  /** Its message, where it failed; null where rekey does not. */
  readonly failed?: string | null
  /** Whether it would change something, by its check mode. */
  readonly check: boolean | 'failed' | 'skipped'
  readonly changed: boolean
  /** Whether it changed something the second time. */
  readonly again: boolean
  /** What the folder holds after the first time. */
  readonly after: Tree
  /** Of the first file, by `--diff`. */
  readonly diff?: { readonly before: string; readonly after: string }
  /** The fields of its result that the case asks for. */
  readonly results?: Readonly<Record<string, unknown>>
}

/** A case, as the files have it. */
export interface Case {
  readonly about: string
  /** Why it takes root. */
  readonly root?: string
  readonly before?: Tree
  /** rekey's options; `@` is the folder of the case. */
  readonly options: Readonly<Record<string, unknown>>
  /** Where Ansible's are others; null takes one away. */
  readonly ansibleOptions?: Readonly<Record<string, unknown>>
  readonly vars?: Readonly<Record<string, unknown>>
  readonly environment?: Readonly<Record<string, string>>
  /** Fields of Ansible's result that are written down. */
  readonly results?: readonly string[]
  /** How the answer was got, where the module can't be asked here; it stays as it is. */
  readonly by?: string
  /** Where rekey does something else, why, and what: the fields of the answer that are others. */
  readonly rekey?: Partial<Answer> & { readonly why: string }
  /** What the folder holds once it is undone, where that is not what it held before. */
  readonly undone?: Tree
  readonly ansible?: Answer
}

/** The cases of an operation. */
export interface CaseFile {
  /** Ansible's module; without one, nothing is asked. */
  readonly module?: string
  /** Whether programs in stand-ins/ take the place of the host's own: what they keep is in the folder of the case. */
  readonly standIns?: boolean
  /** Whether archives are told by what they hold, as no two of them have the same bytes. */
  readonly archives?: boolean
  readonly cases: readonly Case[]
}

/** What such programs need of the environment. */
export function standInEnvironment({ standIns }: CaseFile, place: string): Readonly<Record<string, string>> {
  if (!standIns) return {}
  const path = process.env['PATH']!
  const folder = join(import.meta.dirname, 'stand-ins')
  return { REKEY_STAND_IN: place, PATH: path.startsWith(`${folder}:`) ? path : `${folder}:${path}` }
}

/** `@/x` in what is asked, in the place of a case. */
export function withFolder(value: unknown, folder: string): unknown {
  if (typeof value === 'string') return value.replace(/^@(?=\/|$)/, folder).replaceAll(/(?<=[\s:'"=])@(?=\/)/g, folder)
  if (Array.isArray(value)) return value.map(one => withFolder(one, folder))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withFolder(one, folder)]))
}

/** Makes a folder that holds this. */
export function makeTree(folder: string, tree: Tree): void {
  mkdirSync(folder, { mode: 0o755 })
  for (const [name, { content, bytes, holds, mode, link, same, owner }] of Object.entries(tree)) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true })
    if (name.endsWith('/')) mkdirSync(path, { recursive: true })
    else if (link !== undefined) symlinkSync(withFolder(link, folder) as string, path)
    else if (same !== undefined) linkSync(join(folder, same), path)
    else if (holds !== undefined) packTree(path, holds)
    else writeFileSync(path, bytes === undefined ? (content ?? '') : Buffer.from(bytes, 'hex'))
    if (owner !== undefined) {
      const [uid, gid] = owner.split(':').map(Number)
      chownSync(path, uid!, gid!)
    }
    if (link === undefined && same === undefined)
      chmodSync(path, Number.parseInt(mode ?? (name.endsWith('/') ? '755' : '644'), 8))
  }
}

function packTree(path: string, holds: Tree): void {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-holds-'))
  makeTree(join(folder, 'x'), holds)
  spawnSync('tar', ['-C', join(folder, 'x'), '-caf', path, '.'])
  rmSync(folder, { recursive: true })
}

/** What an archive holds; `undefined` where it is none. */
function heldBy(path: string): Tree | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-holds-'))
  try {
    return spawnSync('tar', ['-C', folder, '-xpf', path]).status === 0 ? treeOf(folder) : undefined
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * What is in a folder.
 * @param archives tells archives by what they hold
 */
export function treeOf(folder: string, archives = false): Tree {
  const seen = new Map<number, string>()
  // A link to a folder is not gone into.
  const below = (path: string): string[] =>
    readdirSync(join(folder, path), { withFileTypes: true }).flatMap(entry => {
      const name = `${path}${entry.name}`
      return entry.isDirectory() ? [`${name}/`, ...below(`${name}/`)] : [name]
    })
  const described = (name: string): Entry => {
    const path = join(folder, name)
    const { mode, uid, gid, ino } = lstatSync(path)
    const whose = uid === process.getuid?.() && gid === process.getgid?.() ? {} : { owner: `${uid}:${gid}` }
    const bits = (mode & 0o7777).toString(8).padStart(4, '0')
    if ((mode & 0o170000) === 0o120000) return { link: readlinkSync(path).replace(folder, '@'), ...whose }
    if (name.endsWith('/')) return { mode: bits, ...whose }
    if (seen.has(ino)) return { same: seen.get(ino)! }
    seen.set(ino, basename(name))
    const holds = archives && /\.(tar|tgz|tbz|txz)$/.test(name) ? heldBy(path) : undefined
    if (holds) return { holds, mode: bits, ...whose }
    const bytes = readFileSync(path)
    const content = bytes.toString('utf8')
    const isText = Buffer.from(content).equals(bytes)
    return {
      ...(isText ? { content: content.replaceAll(folder, '@') } : { bytes: bytes.toString('hex') }),
      mode: bits,
      ...whose,
    }
  }
  // As Python sorts them: by code points.
  const byName = (one: string, other: string) => Buffer.compare(Buffer.from(one), Buffer.from(other))
  return Object.fromEntries(
    below('')
      .sort(byName)
      .map(name => [name, described(name)]),
  )
}
