// What is at paths of a host, asked for all of them at once.
import { createHash } from 'node:crypto'
import { quote } from '../../connection/shell.ts'
import { HostFailedError, shown } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { runLongScript } from '../script.ts'

/** What is asked of a path. */
export interface Question {
  readonly path: string
  /** Bytes of a file up to which its content is asked for; none where nothing is said. What is bigger is hashed. */
  readonly content?: number
  /** Whether all that is below a folder is asked for, too. */
  readonly tree?: boolean
}

/** What a name in a folder stands for; `other` is a device, a pipe or a socket. */
export type PathKind = 'file' | 'directory' | 'link' | 'other'

/** One thing that is there. */
export interface Thing {
  readonly path: string
  readonly kind: PathKind
  /** Permission bits. */
  readonly bits: number
  readonly uid: number
  readonly gid: number
  /** How many names it has. */
  readonly links: number
  /** Device and inode, as the host writes them. */
  readonly identity: string
  readonly size: number
  /** When it was read and changed last, as the host writes it. */
  readonly times?: { readonly read: string; readonly changed: string }
}

/** What is at a path. */
export interface AtPath {
  readonly path: string
  /** `undefined` where nothing is. */
  readonly own?: Thing
  /** Of a link: what it says. */
  readonly target?: string
  /** What is behind it: what a link leads to, in its own place; what it is itself, where it is none. */
  readonly behind?: Thing
  /** Where a link leads, whether something is there or not. */
  readonly real: string
  /** Of a file, or a link to one: what is in it, where that was asked for and is not more. */
  readonly content?: Buffer
  /** Of a file whose content was asked for: its hash (sha256, hex). */
  readonly sha256?: string
  /** It is there, and we may not read it. */
  readonly unreadable: boolean
  /** The folders above it that are missing, the outermost first. */
  readonly missing: readonly string[]
  /** All that is below it, each folder before what is in it. */
  readonly tree: readonly Thing[]
}

/** What a host told. */
export interface Looked {
  readonly at: readonly AtPath[]
  /** What is taken from the bits of all that is made. */
  readonly umask: number
  /** Numbers of the users and groups that were asked for, by name. Throws `HostFailedError` for one that there is not. */
  uid(name: string | number): number
  gid(name: string | number): number
}

const statFormat = '%f %u %g %h %d:%i %s %x|%y'

/** Prints what is at a path, a line for each thing that was asked. */
const functions = `_b() { base64 | tr -d '\\n'; echo; }
_tell() {
if [ -L "$1" ]; then stat -c '${statFormat}' -- "$1"; readlink -- "$1" | _b; readlink -m -- "$1" | _b; stat -L -c '${statFormat}' -- "$1" 2>/dev/null || echo -
elif [ -e "$1" ]; then stat -c '${statFormat}' -- "$1"; else echo -; fi
if [ "$2" = - ] || ! [ -f "$1" ]; then echo -
elif ! [ -r "$1" ]; then echo '!'
elif [ "$(stat -L -c %s -- "$1")" -le "$2" ]; then printf =; _b <"$1"; else sha256sum <"$1" | cut -c1-64; fi
_d=$1; _n=0
while _d=\${_d%/*}; [ "$_d" ] && ! [ -d "$_d" ]; do _n=$((_n + 1)); done; echo $_n
# As FOLDER/. a link to one is followed, and none below it.
[ "$3" = - ] || { [ -d "$1" ] && find "$1/." -mindepth 1 -exec stat --printf '${statFormat} %n\\0' {} + | _b || echo; }
}`

/**
 * Asks a host what is at paths, and for the numbers of users and groups.
 * @throws HostFailedError where it can't tell
 */
export async function lookAt(
  { $, host }: HostSession,
  questions: readonly Question[],
  { users = [], groups = [] }: { users?: readonly (string | number)[]; groups?: readonly (string | number)[] } = {},
): Promise<Looked> {
  const named = (names: readonly (string | number)[]) => [...new Set(names.map(String))].filter(name => !isNumber(name))
  const [userNames, groupNames] = [named(users), named(groups)]
  const script = [
    functions,
    'umask',
    ...userNames.map(name => `echo "$(id -u -- ${quote(name)} 2>/dev/null)"`),
    ...groupNames.map(
      name =>
        `echo "$({ getent group ${quote(name)} || grep -F ${quote(`${name}:`)} /etc/group | grep -m1 "^"${quote(`${name}:`)}; } 2>/dev/null | cut -d: -f3)"`,
    ),
    ...questions.map(({ path, content, tree }) => `_tell ${quote(path)} ${content ?? '-'} ${tree ? 'tree' : '-'}`),
  ].join('\n')
  const { stdout, exitCode, stderr } = await runLongScript($, script, { quiet: true, nothrow: true })
  const lines = stdout.split('\n')
  const next = (): string => {
    const line = lines.shift()
    if (line !== undefined && exitCode === 0) return line
    throw new HostFailedError(`${host.name}: what is there can't be told: ${stderr.trim() || `exit ${exitCode}`}`, {
      code: 'file.look',
      host: host.name,
    })
  }
  const umask = Number.parseInt(next(), 8)
  const [uids, gids] = [userNames, groupNames].map(names => new Map(names.map(name => [name, next()])))
  const thing = (line: string, path: string, isBelow = false): Thing => {
    const found = readThing(line, path, isBelow)
    if (found) return found
    throw new HostFailedError(`${host.name}: what is at ${path} can't be told: ${shown(line)}`, {
      code: 'file.look',
      host: host.name,
    })
  }
  const at = questions.map(question => readAnswer(question, next, thing))
  const number = (what: string, known: ReadonlyMap<string, string>) => (name: string | number) => {
    if (isNumber(name)) return Number(name)
    const found = known.get(String(name))
    if (found) return Number(found)
    throw new HostFailedError(`${host.name} has no ${what} "${name}"`, { code: 'file.owner', host: host.name })
  }
  return { at, umask, uid: number('user', uids!), gid: number('group', gids!) }
}

const isNumber = (name: string | number) => /^\d+$/.test(String(name))
const decoded = (line: string) => Buffer.from(line, 'base64').toString('utf8').replace(/\n$/, '')

type ReadThing = (line: string, path: string, isBelow?: boolean) => Thing

function readAnswer({ path, tree }: Question, next: () => string, thing: ReadThing): AtPath {
  const line = next()
  const own = line === '-' ? undefined : thing(line, path)
  let [target, real, behind]: [string | undefined, string, Thing | undefined] = [undefined, path, own]
  if (own?.kind === 'link') {
    target = decoded(next())
    real = decoded(next())
    const there = next()
    behind = there === '-' ? undefined : thing(there, real)
  }
  const told = next()
  const content = told.startsWith('=') ? Buffer.from(told.slice(1), 'base64') : undefined
  const folders = foldersAbove(path)
  const missing = folders.slice(folders.length - Number(next()))
  // A name may hold whatever a line may, and its end, too.
  const below = tree ? Buffer.from(next(), 'base64').toString('utf8').split('\0').slice(0, -1) : []
  return {
    path,
    own,
    target,
    real,
    behind,
    content,
    sha256: content ? createHash('sha256').update(content).digest('hex') : told.length === 64 ? told : undefined,
    unreadable: told === '!',
    missing,
    tree: below.map(each => thing(each, path, true)),
  }
}

const kinds: Readonly<Record<number, PathKind>> = { 8: 'file', 4: 'directory', 10: 'link' }

/** What a line says; `undefined` where it is none of ours. A name that comes with it is one below `path`. */
function readThing(line: string, path: string, isBelow: boolean): Thing | undefined {
  const times = '\\d[^|]*'
  const found = new RegExp(
    `^([0-9a-f]+) (\\d+) (\\d+) (\\d+) (\\d+:\\d+) (\\d+) (${times})\\|(\\S+ \\S+ \\S+)(?: (.*))?$`,
    's',
  ).exec(line)
  const [, mode = '', uid, gid, links, identity = '', size, read = '', changed = '', name] = found ?? []
  // It was asked for as `path/.`.
  const start = `${path}/./`
  if (!found || isBelow !== (name !== undefined) || (isBelow && !name?.startsWith(start))) return undefined
  const bits = Number.parseInt(mode, 16)
  return {
    path: name === undefined ? path : `${path === '/' ? '' : path}/${name.slice(start.length)}`,
    kind: kinds[bits >> 12] ?? 'other',
    bits: bits & 0o7777,
    uid: Number(uid),
    gid: Number(gid),
    links: Number(links),
    identity,
    size: Number(size),
    times: { read, changed },
  }
}

/** The folders that a path is in, the outermost first. */
export function foldersAbove(path: string): string[] {
  const parts = path.split('/').filter(Boolean).slice(0, -1)
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`)
}

/** A path without slashes at its end. */
export function withoutLastSlashes(path: string): string {
  let end = path.length
  while (end > 1 && path[end - 1] === '/') end--
  return path.slice(0, end)
}
