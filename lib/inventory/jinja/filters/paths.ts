// Filters over paths, of this machine and in general, as Python's `os.path` and `ntpath` have them.
import { globSync, realpathSync, statSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { TemplateError } from '../../python/python-values.ts'
import { bind, type Machine, string } from '../jinja-call.ts'
import { type Filters, sequence } from './filter.ts'

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function withoutSlashes(path: string): string {
  let end = path.length
  while (end > 0 && path[end - 1] === '/') end--
  return path.slice(0, end)
}

function directoryName(path: string): string {
  const head = path.slice(0, path.lastIndexOf('/') + 1)
  const bare = withoutSlashes(head)
  return bare === '' ? head : bare
}

function splitExtension(path: string): string[] {
  const name = baseName(path)
  const dot = name.replace(/^\.+/, dots => ' '.repeat(dots.length)).lastIndexOf('.')
  return dot === -1 ? [path, ''] : [path.slice(0, path.length - name.length + dot), name.slice(dot)]
}

/** `/a//b/../c` is `/a/c`. */
function normalPath(path: string): string {
  if (path === '') return '.'
  const root = path.startsWith('//') && !path.startsWith('///') ? '//' : path.startsWith('/') ? '/' : ''
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..' || (root === '' && parts.length === 0) || parts.at(-1) === '..') parts.push(part)
    else parts.pop()
  }
  return root + parts.join('/') || '.'
}

/** Paths behind each other: one that begins at the root leaves those before it out. */
function joinPaths(paths: readonly string[]): string {
  return paths.reduce((path, part) => {
    if (part.startsWith('/') || path === '') return part
    return path.endsWith('/') ? path + part : `${path}/${part}`
  })
}

const absolute = (path: string, { cwd }: Machine): string => normalPath(joinPaths([cwd, path]))

/** `~` and `~USER` at its begin as the folder they stand for. */
function expandUser(path: string, { environment }: Machine): string {
  const [, user] = /^~([^/]*)/.exec(path) ?? []
  if (user === undefined) return path
  if (user !== '' && user !== userName()) return path
  const home = environment['HOME'] ?? homedir()
  return withoutSlashes(home) + path.slice(user.length + 1) || '/'
}

function userName(): string | undefined {
  try {
    return userInfo().username
  } catch {
    // A user id without a name, as in containers.
    return undefined
  }
}

/** `$NAME` and `${NAME}` as the environment has them; others stay. */
function expandVariables(path: string, { environment }: Machine): string {
  return path.replace(/\$(?:(\w+)|\{([^}]*)\})/g, (whole, plain, braced) => environment[plain ?? braced] ?? whole)
}

/** A path without links, as far as there is something. */
function realPath(path: string): string {
  let [head, tail] = [path, '']
  for (;;) {
    try {
      return normalPath(realpathSync(head) + tail)
    } catch {
      if (head === '/' || head === '') return normalPath(path)
      tail = `/${baseName(head)}${tail}`
      head = directoryName(head)
    }
  }
}

function relativePath(path: string, start: string): string {
  const [to, from] = [path, start].map(one => one.split('/').filter(part => part !== ''))
  let common = 0
  while (common < to!.length && common < from!.length && to![common] === from![common]) common++
  return [...from!.slice(common).map(() => '..'), ...to!.slice(common)].join('/') || '.'
}

function commonPath(paths: readonly string[]): string {
  if (paths.length === 0) throw new TemplateError('"commonpath" of no path')
  const rooted = paths.map(path => path.startsWith('/'))
  if (new Set(rooted).size > 1) throw new TemplateError('"commonpath" of paths that begin at the root, and others')
  const parts = paths.map(path => path.split('/').filter(part => part !== '' && part !== '.'))
  let common = 0
  while (parts.every(one => common < one.length && one[common] === parts[0]![common])) common++
  return (rooted[0] ? '/' : '') + parts[0]!.slice(0, common).join('/')
}

/** The drive of a path of Windows, and the rest. */
function splitDrive(path: string): [string, string] {
  const share = /^[\\/]{2}[^\\/]+[\\/][^\\/]*/.exec(path)?.[0]
  const drive = share ?? (/^.:/.exec(path)?.[0] || '')
  return [drive, path.slice(drive.length)]
}

function windowsDirectory(path: string): string {
  const [drive, rest] = splitDrive(path)
  const head = rest.slice(0, Math.max(rest.lastIndexOf('\\'), rest.lastIndexOf('/')) + 1)
  let end = head.length
  while (end > 0 && /[\\/]/.test(head[end - 1]!)) end--
  return drive + (end === 0 ? head : head.slice(0, end))
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

export const paths: Filters = {
  basename: value => baseName(string(value)),
  commonpath: value => commonPath(sequence(value).map(string)),
  dirname: value => directoryName(string(value)),
  expanduser: (value, _args, { machine }) => expandUser(string(value), machine),
  expandvars: (value, _args, { machine }) => expandVariables(string(value), machine),
  fileglob: (value, _args, { machine }) =>
    globSync(absolute(string(value), machine))
      .filter(isFile)
      .sort(),
  normpath: value => normalPath(string(value)),
  path_join: value => (typeof value === 'string' ? value : joinPaths(sequence(value).map(string))),
  realpath: (value, _args, { machine }) => realPath(absolute(string(value), machine)),
  relpath: (value, args, { machine }) => {
    const { start } = bind(args, 'start')
    return relativePath(absolute(string(value), machine), absolute(string(start ?? '.'), machine))
  },
  splitext: value => splitExtension(string(value)),
  win_basename: value => string(value).split(/[\\/]/).at(-1),
  win_dirname: value => windowsDirectory(string(value)),
  win_splitdrive: value => splitDrive(string(value)),
}
