// Many files, or big ones, to a host: one look tells which of them differ; only those are sent, in one stream, compared there with
// what was sent, and then renamed.
import { hash as hashAtOnce } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, dirname, isAbsolute } from 'node:path'
import { Readable } from 'node:stream'
import type { NextContent } from '../connection/files.ts'
import { safeFolders } from '../connection/safe-folder.ts'
import { quote, raw, Secret } from '../connection/shell.ts'
import { HostFailedError, RekeyError } from '../errors.ts'
import type { HostSession } from '../playbook/model.ts'
import { type Mode, modeBits } from './files/mode.ts'
import { chunksOf, hashOf, piece, type Source, smallContent, sourceOf, unreadable } from './files/sources.ts'
import { tarEnd, tarFile, tarFolder, tarPadding } from './tar.ts'

/** A file as it shall be on a host. */
export interface CopiedFile {
  /** Where it shall be: absolute. Missing folders above it are made. */
  readonly path: string
  /** What shall be in it: either this … */
  readonly content?: string | Buffer | Secret
  /** … or what is in this file here, which is not held in memory. */
  readonly source?: string
  /** Permission bits. Where nothing is said: 0o600 for a `secret()`, else those of the file that is there, and 0o644 for a new one. */
  readonly mode?: Mode
  /** `user` or `user:group`, names or numbers. Where nothing is said: those of the file that is there, as far as they may be given to it again. */
  readonly owner?: string
}

/** What came of it. */
export interface Copied {
  /** The paths that were written, in the order in which they were given. */
  readonly changed: readonly string[]
  /** How many bytes were sent as their contents. */
  readonly bytes: number
}

/** A file whose content is known. */
interface Wanted {
  readonly path: string
  readonly content: Buffer | Source
  readonly size: number
  /** In hex. Worked out when it is first asked for. Throws `RekeyError` where the source can't be read. */
  hash(by: Hashing): Promise<string>
  readonly mode: number
  readonly owner?: string
  /** `uid:gid` of what is there, where nobody said whose it shall be, or a user or a group alone. */
  readonly before?: string
  readonly secret: boolean
}

/** What was asked for, before it is known what is there. */
type Asked = Omit<Wanted, 'mode' | 'before'> & { readonly mode: Mode | undefined }

/** What a host compares files by: the fastest program that it has. All of them print a line a file, the hash first. */
const hashings = {
  // It has instructions of the processor do it, where there are some. Not worth its start for little.
  openssl: { command: 'openssl dgst -r -sha256', algorithm: 'sha256' },
  b2sum: { command: 'b2sum --', algorithm: 'blake2b512' },
  sha256sum: { command: 'sha256sum --', algorithm: 'sha256' },
} as const
type Hashing = keyof typeof hashings
/** The bits of a new file, and what chmod's words without u, g, o or a leave alone. */
const [newMode, usualUmask] = [0o644, 0o022]
/** Bytes from which openssl is looked for. */
const muchToHash = 8 * 1024 * 1024

/** What a host has. */
interface Found {
  readonly hashing: Hashing
  readonly files: ReadonlyMap<
    string,
    { readonly kind: number; readonly mode: string; readonly owner: readonly string[]; readonly size: number }
  >
  readonly hashes: ReadonlyMap<string, string>
  readonly missingFolders: readonly string[]
}

/** A bigger file is not read for a diff. */
const largestShown = 8 * 1024 * 1024
/** The highest four bits of what stat calls the mode, of a file. */
const regularFile = 8
/** So many files are synced one by one; more, by syncing their file system. */
const mostSyncedAlone = 32

/** What differs, and what becomes of it. */
export interface Compared {
  /** The paths of those that `send` writes. */
  readonly changed: readonly string[]
  readonly missingFolders: readonly string[]
  /** The hash (sha256, hex) of what is written to a path. */
  sha256(path: string): Promise<string>
  isSecret(path: string): boolean
  /** Tells whoever watches. */
  announce(): Promise<void>
  /**
   * All are written beside their destinations, synced and compared with what was sent before the first of them is renamed: what failed until
   * then leaves every file as it was. Whoever else may write to a folder can't have anything written elsewhere.
   * @throws HostFailedError when one can't be written, or did not arrive whole
   */
  send(): Promise<Copied>
}

/**
 * Compares files of a host with what they shall be. Changes nothing.
 * @throws RekeyError when a source can't be read, or a path won't do
 */
export async function compareFiles(session: HostSession, files: readonly CopiedFile[]): Promise<Compared> {
  const { changed, found } = await compare(session, files)
  const at = (path: string) => changed.find(file => file.path === path)!
  const paths = changed.map(({ path }) => path)
  return {
    changed: paths,
    missingFolders: found.missingFolders,
    sha256: path => at(path).hash('sha256sum'),
    isSecret: path => isSecret(at(path)),
    announce: () => announce(session, changed),
    send: async () => {
      await send(session, changed, found)
      return { changed: paths, bytes: changed.reduce((sum, { size }) => sum + size, 0) }
    },
  }
}

/** The paths of those files that `copy` would write. Changes nothing. */
export async function differingFiles(session: HostSession, files: readonly CopiedFile[]): Promise<string[]> {
  const { changed } = await compare(session, files)
  return changed.map(({ path }) => path)
}

/** For a `plan`: what `copy` would do, a line a file. Changes nothing, and tells whoever watches. */
export async function wouldCopy(session: HostSession, files: readonly CopiedFile[]): Promise<string[]> {
  const { changed } = await compare(session, files)
  await announce(session, changed)
  return changed.map(({ path }) => `write ${path}`)
}

async function compare(
  session: HostSession,
  files: readonly CopiedFile[],
): Promise<{ changed: Wanted[]; found: Found }> {
  const asked = files.map(askedFile)
  const found = await look(session, asked)
  const wanted = asked.map(file => wantedFile(file, found))
  const different = await Promise.all(wanted.map(file => differs(session, file, found)))
  return { changed: wanted.filter((_, index) => different[index]), found }
}

async function announce({ files }: HostSession, changed: readonly Wanted[]): Promise<void> {
  for (const file of changed) if (file.size <= largestShown) await files.announce(file.path, () => nextOf(file))
}

/** Throws `RekeyError` for a file that can't be copied, whatever is there. */
export function checkCopied({ path, content, source }: CopiedFile): void {
  if (!isAbsolute(path) || path.includes('\n') || path.includes('\0') || path.endsWith('/')) {
    throw new RekeyError(`${JSON.stringify(path)} can't be copied to: it must be the absolute path of a file`, {
      code: 'copy.path',
    })
  }
  if ((content === undefined) === (source === undefined)) {
    throw new RekeyError(`${path}: either its content or its source must be given`, { code: 'copy.content' })
  }
}

function askedFile(file: CopiedFile): Asked {
  checkCopied(file)
  const { path, content, source, mode, owner } = file
  const secret = content instanceof Secret
  const bits = mode ?? (secret ? 0o600 : undefined)
  if (source !== undefined) {
    const content = sourceOf(source)
    const hash = (by: Hashing) => hashOf(content, hashings[by].algorithm)
    return { path, content, size: content.size, hash, mode: bits, owner, secret }
  }
  const bytes = Buffer.from(content instanceof Secret ? content.reveal() : (content ?? ''))
  const hash = async (by: Hashing) => hashAtOnce(hashings[by].algorithm, bytes)
  return { path, content: bytes, size: bytes.length, hash, mode: bits, owner, secret }
}

/** With what was not said of it taken from what is there. */
function wantedFile(file: Asked, { files }: Found): Wanted {
  const there = files.get(file.path)
  const bits = there ? Number.parseInt(there.mode, 8) : newMode
  const mode = file.mode === undefined ? bits : modeBits(file.mode, { bits, folder: false }, usualUmask)
  const [, , uid, gid] = there?.owner ?? []
  const isWhole = /^[^:]+:[^:]+$/.test(file.owner ?? '')
  // What only some could read until now is shown to nobody.
  const secret = file.secret || (there !== undefined && (bits & 0o007) === 0)
  return { ...file, mode, secret, ...(there && !isWhole ? { before: `${uid}:${gid}` } : {}) }
}

/** What not everybody may read is taken for a secret. */
const isSecret = ({ mode, secret }: Wanted) => secret || (mode & 0o007) === 0

/** For a diff. */
async function nextOf(file: Wanted): Promise<NextContent> {
  const { content } = file
  const after = Buffer.isBuffer(content) ? content : await readFile(content.path)
  return { after, secret: isSecret(file) }
}

/** Asks a host for the kinds, modes, owners and hashes of files, and for the folders that are missing, all at once. */
async function look({ $, host }: HostSession, wanted: readonly Asked[]): Promise<Found> {
  const folders = [...new Set(wanted.flatMap(({ path }) => foldersAbove(path)))].sort()
  const isMuch = wanted.reduce((sum, { size }) => sum + size, 0) >= muchToHash
  // A number may have no name, and looking for one take longer than all the rest.
  const names = wanted.some(({ owner }) => /[^0-9:]/.test(owner ?? '')) ? '%U %G' : '- -'
  const openssl = 'command -v openssl >/dev/null && grep -qw -e sha_ni -e sha2 /proc/cpuinfo'
  const script = `if ${isMuch ? openssl : 'false'}; then echo openssl; sum=${quote(hashings.openssl.command)}
elif command -v b2sum >/dev/null; then echo b2sum; sum=${quote(hashings.b2sum.command)}
else echo sha256sum; sum=${quote(hashings.sha256sum.command)}; fi; echo --
all=$(cat); list() { printf '%s\\n' "$all" | sed -n "s/^$1 //p"; }
list f | tr '\\n' '\\0' | xargs -0 stat -L -c '%f %a ${names} %u %g %s %n' -- 2>/dev/null; echo --
list f | tr '\\n' '\\0' | xargs -0 $sum 2>/dev/null; echo --
list d | while IFS= read -r d; do [ -d "$d" ] || printf '%s\\n' "$d"; done`
  const input = [...wanted.map(({ path }) => `f ${path}\n`), ...folders.map(folder => `d ${folder}\n`)].join('')
  const { stdout, stderr } = await $({ input, quiet: true, nothrow: true })`${raw(script)}`
  const [programs, stats, sums, missing] = stdout.split(/^--\n/m).map(part => part.split('\n').slice(0, -1))
  const hashing = (Object.keys(hashings) as Hashing[]).find(one => one === programs?.[0])
  if (!hashing || !stats || !sums || !missing) throw failure(host.name, 'could not be compared', 'compare', stderr)
  const files = stats.map(line => {
    const [bits = '0', mode = '', user = '', group = '', uid = '', gid = '', size, ...path] = line.split(' ')
    const owner = [user, group, uid, gid]
    return [path.join(' '), { kind: Number.parseInt(bits, 16) >> 12, mode, owner, size: Number(size) }] as const
  })
  return { hashing, files: new Map(files), hashes: new Map(sums.map(hashLine)), missingFolders: missing }
}

/** A line of a hash: b2sum and sha256sum write a backslash in a name as two, and one before the line that says so. */
function hashLine(line: string): [path: string, hash: string] {
  const escaped = line.startsWith('\\')
  const [, hash = '', path = ''] = /^\\?([0-9a-f]+) .(.*)$/.exec(line) ?? []
  return [escaped ? path.replaceAll('\\\\', '\\') : path, hash]
}

async function differs(
  { host }: HostSession,
  { path, size, hash, mode, owner }: Wanted,
  { hashing, files, hashes }: Found,
): Promise<boolean> {
  const file = files.get(path)
  if (!file) return true
  if (file.kind !== regularFile) {
    throw new HostFailedError(`${host.name}: ${path} is not a file there, and a file shall be`, {
      code: 'copy.not-a-file',
      host: host.name,
    })
  }
  const [user, group] = owner?.split(':') ?? []
  const [userName, groupName, uid, gid] = file.owner
  const isOwner = (wanted: string | undefined, name?: string, id?: string) =>
    !wanted || wanted === name || wanted === id
  return (
    file.size !== size ||
    Number.parseInt(file.mode, 8) !== mode ||
    !isOwner(user, userName, uid) ||
    !isOwner(group, groupName, gid) ||
    hashes.get(path) !== (await hash(hashing))
  )
}

function foldersAbove(path: string): string[] {
  const folder = dirname(path)
  return folder === '/' ? [] : [...foldersAbove(folder), folder]
}

/**
 * Sends files into a folder that nobody else may enter, in the one that most of them go to, and has them checked there. Then those of each
 * other folder are moved into one in that, and in the end all of them take their places by renames.
 */
async function send(session: HostSession, files: readonly Wanted[], found: Found): Promise<void> {
  const { $, host } = session
  const plan = planOf(files, found)
  let broken: Error | undefined
  const stream = Readable.from(
    gathered(plan, error => {
      broken = error
    }),
  )
  const { exitCode, stderr } = await $({ input: stream, quiet: true, nothrow: true })`${raw(placeScript(plan))}`
  stream.destroy()
  if (broken) throw broken
  if (exitCode !== 0) throw failure(host.name, 'could not be copied, and are as they were', 'failed', stderr)
}

/** What is sent, and what the host is told to do with it. */
interface Plan {
  readonly files: readonly Wanted[]
  readonly hashing: Hashing
  /** Made, the outermost before those within it. */
  readonly missing: readonly string[]
  /** The folders that files go to, that with the most bytes first: it has the room for all of them. */
  readonly folders: readonly string[]
  /** What is to be done with which staged files: the word that marks them in the list, and the command. */
  readonly changes: readonly { readonly word: string; readonly command: string; readonly files: readonly Wanted[] }[]
}

function planOf(files: readonly Wanted[], { hashing, missingFolders: missing }: Found): Plan {
  const by = (name: 'owner' | 'before') =>
    [...Map.groupBy(files, file => file[name] ?? '')].filter(([one]) => one !== '')
  const [owners, before] = [by('owner'), by('before')]
  // A change of the owner takes these bits away.
  const special = files.filter(({ mode, owner, before: of }) => (owner ?? of) !== undefined && (mode & 0o6000) !== 0)
  const modes = [...Map.groupBy(special, ({ mode }) => mode.toString(8))]
  const folders = [...Map.groupBy(files, ({ path }) => dirname(path))].map(([folder, those]) => ({
    folder,
    size: those.reduce((sum, { size }) => sum + size, 0),
  }))
  return {
    files,
    hashing,
    missing,
    folders: folders.sort((one, other) => other.size - one.size).map(({ folder }) => folder),
    changes: [
      // Who may not give files away leaves theirs; what is asked for by name must be done.
      ...before.map(([owner, group], index) => ({
        word: `b${index}`,
        command: `sh -c ${quote(`chown ${quote(owner)} "$@" 2>/dev/null || :`)} sh`,
        files: group,
      })),
      ...owners.map(([owner, group], index) => ({ word: `o${index}`, command: `chown ${quote(owner)}`, files: group })),
      ...modes.map(([mode, group]) => ({ word: `m${mode}`, command: `chmod ${mode}`, files: group })),
    ],
  }
}

/** Where a file is staged, from the folder that was made for it: in one by the number of its destination. */
const staged = ({ path }: Wanted, { folders }: Plan) => `${folders.indexOf(dirname(path))}/${basename(path)}`
/** The lists that the host works by: of files and folders, which comes first in the stream, and of the hashes, which comes last. */
const [listName, sumsName] = ['list', 'sums']

/**
 * Whoever may write to a destination could rename what is made there, and put a link in its place: each folder is entered by `safeFolders`,
 * and one that was made for us is known again by its number.
 */
function placeScript({ folders, missing, changes, files, hashing }: Plan): string {
  const main = folders[0] ?? '/'
  const sync = files.length <= mostSyncedAlone ? `find "$1" ! -type d -exec sync {} +` : 'sync -f .'
  return `set -e; umask 077
${safeFolders}
p= n= made=
# Enters FOLDER, and the one in it that was made before.
again() { _in "$1" && cd -P "./$2" && [ "$(stat -c %d:%i .)" = "$3" ] || { echo "$1: somebody else changes what is made there" >&2; return 1; }; }
note() { p="$p$1
$_s $(stat -c %d:%i .)
"; _s=; }
each() { printf '%s' "$p" | while IFS= read -r d && read -r s i; do "$@" || return; done; }
clean() {
  set +e; trap '' HUP INT TERM PIPE; exec 9<&-
  each drop 2>/dev/null
  [ "$1" = 0 ] || printf '%s' "$made" | sort -r | while IFS= read -r d; do ( _in "\${d%/*}/" && rmdir -- "./\${d##*/}" ) 2>/dev/null; done
}
drop() { ( again "$d" "$s" "$i" && rm -rf -- ./* && cd .. && rmdir -- "$s" ); }
trap 'r=$?; _leave; clean $r' EXIT; trap 'exit 1' HUP INT TERM PIPE
make() { [ -d "$1" ] || { umask 022; _make "$1"; umask 077; made="$made$1
"; }; }
${missing
  .filter(folder => `${main}/`.startsWith(`${folder}/`))
  .map(folder => `make ${quote(folder)}`)
  .join('\n')}
_in ${quote(main)}; _private; note ${quote(main)}; exec 9<.
# GNU's tar reads ten KiB at a time; in bigger pieces it lets sshd write on. Others take no notice.
TAR_OPTIONS='-b 1024' tar -xpomf -
[ "$(sed 's/^[^ ]* .//' ${sumsName} | tr '\\n' '\\0' | xargs -0 ${hashings[hashing].command} 2>/dev/null | sed 's/^[\\]//; s/ .*//')" = "$(sed 's/ .*//' ${sumsName})" ] ||
  { echo 'not everything arrived whole' >&2; exit 1; }
list() { sed -n "s/^$1 //p" ${listName}; }
${changes.map(({ word, command }) => `list ${word} | tr '\\n' '\\0' | xargs -0 ${command} --`).join('\n')}
list n >missing; list d >folders
while IFS= read -r d; do make "$d"; done <missing
cd -P /proc/self/fd/9/.
settle() { ${sync}; }
settle 0; k=0
while IFS= read -r d; do
  k=$((k + 1)); _in "$d"; _private; note "$d"
  mv -- "/proc/self/fd/9/$k" .; settle $k
done <folders
k=0
place() {
  ( again "$d" "$s" "$i" && find "$k" ! -type d -exec sh -c 'exec mv -f -- "$@" ../' sh {} + && sync .. ) || return
  k=$((k + 1))
}
each place`
}

/** The stream: the list, the folders, the files, their hashes. Small parts go together, big ones by and by; it ends early where a source fails. */
async function* gathered(plan: Plan, fail: (error: Error) => void): AsyncGenerator<Buffer> {
  const { files, folders, missing, changes, hashing } = plan
  // Worked out while files are on their way.
  const sums = Promise.all(files.map(file => file.hash(hashing)))
  // Nobody waits for them where the stream ends early.
  sums.catch(() => {})
  let parts: Buffer[] = []
  let size = 0
  const take = () => {
    const [only = Buffer.alloc(0), ...more] = parts
    const all = more.length === 0 ? only : Buffer.concat(parts)
    parts = []
    size = 0
    return all
  }
  const add = (...more: Buffer[]) => {
    parts.push(...more)
    for (const { length } of more) size += length
  }
  const text = (path: string, lines: readonly string[]) => {
    const content = Buffer.from(lines.map(line => `${line}\n`).join(''))
    add(tarFile(path, content.length, 0o600), content, tarPadding(content.length))
  }
  text(listName, [
    ...missing.map(folder => `n ${folder}`),
    ...folders.slice(1).map(folder => `d ${folder}`),
    ...changes.flatMap(({ word, files: those }) => those.map(file => `${word} ${staged(file, plan)}`)),
  ])
  for (const number of folders.keys()) add(tarFolder(`${number}`, 0o700))
  try {
    for (const file of files) {
      add(tarFile(staged(file, plan), file.size, file.mode))
      if (Buffer.isBuffer(file.content)) add(file.content)
      else if (file.size <= piece) add(smallContent(file.content))
      else {
        for await (const chunk of chunksOf(file.content)) {
          // What stands before a big piece goes by itself: the piece needs no copy of it.
          if (chunk.length === piece && size > 0) yield take()
          add(chunk)
          if (size >= piece) yield take()
        }
      }
      add(tarPadding(file.size))
      if (size >= piece) yield take()
    }
    const known = await sums
    text(
      sumsName,
      files.map((file, index) => `${known[index]}  ${staged(file, plan)}`),
    )
    add(tarEnd)
  } catch (error) {
    const cause = error as Error
    fail(cause instanceof RekeyError ? cause : unreadable('a file', cause))
  }
  yield take()
}

function failure(host: string, what: string, code: string, stderr: string): HostFailedError {
  return new HostFailedError(`${host}: files ${what}: ${stderr.trim() || 'it says nothing'}`, {
    code: `copy.${code}`,
    host,
  })
}
