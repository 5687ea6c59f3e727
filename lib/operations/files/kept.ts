// What there was at paths before an operation changed them, and how it comes back: only what was changed, and only where nobody changed it since.
import { z } from 'zod'
import { safeFolders, splitPath } from '../../connection/safe-folder.ts'
import { quote, type Secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { HostSession, StepContext } from '../../playbook/model.ts'
import { runLongScript } from '../script.ts'
import { type AtPath, lookAt, type Thing } from './paths.ts'

/** Who may do what with something, as numbers. */
const attributes = z.strictObject({
  bits: z.int().min(0).max(0o7777),
  uid: z.int().min(0),
  gid: z.int().min(0),
})
export type Attributes = Readonly<z.infer<typeof attributes>>

/** An absolute path, as notes have it. */
export const notedPath = z.string().regex(/^\/[^\0]*$/, 'no absolute path')
/** sha256, in hex. */
export const notedHash = z.string().regex(/^[0-9a-f]{64}$/, 'no sha256')
/** Bytes, in base64. */
export const notedBytes = z.string().refine(text => !/[^A-Za-z0-9+/=]/.test(text), 'no base64')
const time = z.string().regex(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4}$/, 'no time')
const target = z.string().regex(/^[^\0]+$/, 'no target of a link')

const kept = z.discriminatedUnion('kind', [
  /** A folder was made. */
  z.strictObject({ kind: z.literal('folder'), path: notedPath }),
  /** A file was written, where there was none, or one of which an archive is kept (`before` is its hash) … */
  z.strictObject({ kind: z.literal('file'), path: notedPath, sha256: notedHash, before: notedHash.optional() }),
  /** … or one that held this, in base64, for whom it was readable. */
  z.strictObject({
    kind: z.literal('content'),
    path: notedPath,
    sha256: notedHash,
    content: notedBytes,
    /** It is shown to nobody. */
    secret: z.boolean().optional(),
    ...attributes.shape,
  }),
  /** … or a link that said this. */
  z.strictObject({ kind: z.literal('unlinked'), path: notedPath, sha256: notedHash, target }),
  /** A link was laid: where there was nothing, or another link. */
  z.strictObject({ kind: z.literal('link'), path: notedPath, target, before: target.optional() }),
  /** A second name of a file was made, where there was nothing. */
  z.strictObject({ kind: z.literal('name'), path: notedPath, identity: z.string().regex(/^\d+:\d+$/) }),
  /** A file was made whose content nobody knew before. What it was given as the last digits of its time tells it from others. */
  z.strictObject({ kind: z.literal('marked'), path: notedPath, mark: z.string().regex(/^\d{9}$/) }),
  z.strictObject({ kind: z.literal('attributes'), path: notedPath, ...attributes.shape }),
  z.strictObject({ kind: z.literal('times'), path: notedPath, read: time, changed: time }),
  /** It was removed, or something else took its place: an archive of it, in base64, from the folder that it is in. */
  z.strictObject({ kind: z.literal('removed'), path: notedPath, archive: notedBytes.min(1) }),
  /** The same, and nobody wanted it kept. */
  z.strictObject({ kind: z.literal('lost'), path: notedPath }),
])

/** One change, and what it takes to undo it. Plain data. */
export type Kept = z.infer<typeof kept>
/** What operations on files note. */
export const keptShape: z.ZodType = z.array(kept)

/** Of a thing as it is. */
export const attributesOf = ({ bits, uid, gid }: Thing): Attributes => ({ bits, uid, gid })

/**
 * Functions for scripts that have `safeFolders`, in which no link that others lay leads anywhere else:
 *
 * - `_attr FOLDER NAME MODE OWNER IDENTITY` sets bits and owner (`-`: as they are) of what is there, if it is still that.
 * - `_times FOLDER NAME READ CHANGED IDENTITY` sets the times, likewise.
 * - `_trust LINK REAL` fails where a link on the way from LINK to REAL is one that somebody else may have laid: what is behind it is not theirs to choose.
 */
const attributeFunctions = `_hold() {
_in "$1" || return
_f=./$2; _k=; _l=$(stat -c '%d:%i %f' -- "$_f") || return
_i=\${_l% *}; _l=$((0x\${_l#* } & 0xf000))
[ "$_i" = "$3" ] || { echo "$1/$2 was changed meanwhile" >&2; return 1; }
if [ "$_l" = $((0xa000)) ]; then _k=link; return; fi
# What is open stays what it is, whatever becomes of its name. A pipe would wait for somebody.
if { [ "$_l" = $((0x8000)) ] || [ "$_l" = $((0x4000)) ]; } && command exec 9<"$_f"; then
_f=/proc/self/fd/9
[ "$(stat -L -c %d:%i "$_f")" = "$_i" ] || { echo "$1/$2 was changed meanwhile" >&2; return 1; }
else
# By its name, then: where nobody else can put a link in its place.
set -- $(stat -c '%u %f' .)
[ $((0x$2 & 0x12)) = 0 ] && { [ "$1" = 0 ] || [ -O . ]; } || { echo "$_f can't be opened, in a folder that others may write to" >&2; return 1; }
fi
}
_attr() {
_hold "$1" "$2" "$5" || return
if [ "$_k" ]; then [ "$4" = - ] || chown -h -- "$4" "$_f" || return; return 0; fi
[ "$4" = - ] || chown -- "$4" "$_f" || return
[ "$3" = - ] || chmod "$3" "$_f" || return
command exec 9<&-
}
_trust() {
_q=$1; _m=0
while :; do
_v=\${_q%/*}; _in "\${_v:-/}" || return
_b=./\${_q##*/}
[ -L "$_b" ] || break
set -- "$1" "$2" $(stat -c '%u %f' . "$_b")
{ [ "$3" = 0 ] || [ -O . ]; } && { [ $((0x$4 & 0x12)) = 0 ] || { [ $((0x$4 & 0x200)) != 0 ] && { [ "$5" = 0 ] || [ "$5" = "$(id -u)" ]; }; }; } ||
{ echo "$1 is a link that others may lay, and is not followed" >&2; return 1; }
_m=$((_m + 1)); [ $_m -le 40 ] || { echo "$1: too many links" >&2; return 1; }
_q=$(readlink "$_b"); _q=\${_q%/}; case $_q in /*) ;; *) _q=$(env pwd -P)/$_q ;; esac
set -- "$1" "$2"
done
_q=$(env pwd -P); [ "\${_q%/}/\${_b#./}" = "$2" ] || { echo "$1 leads elsewhere by now" >&2; return 1; }
}
_times() {
_hold "$1" "$2" "$5" || return
[ "$_k" ] && set -- -h "$3" "$4" || set -- '' "$3" "$4"
touch $1 -a -d "$2" -- "$_f" && touch $1 -m -d "$3" -- "$_f" && command exec 9<&-
}`

/** The words of `_attr` and its kin for a path: its folder and its name. */
export function inFolder(path: string): string {
  const { folder, name } = splitPath(path)
  return `${quote(folder)} ${quote(name)}`
}

/** Runs a script that has all functions of this room; a failure is told of the host, with what it did not do. */
export async function runFileScript(
  { $, host }: HostSession,
  what: string,
  lines: readonly string[],
  input?: Buffer | Secret,
): Promise<string> {
  const script = [
    'set -e; umask 022',
    safeFolders,
    attributeFunctions,
    `trap _leave EXIT; trap 'exit 1' HUP INT TERM PIPE`,
    ...lines,
  ].join('\n')
  const options = { quiet: true, nothrow: true }
  const { exitCode, stdout, stderr } = input
    ? await $({ ...options, input })`sh -c ${script}`
    : await runLongScript($, script, options)
  if (exitCode === 0) return stdout
  throw new HostFailedError(`${host.name}: could not ${what}: ${foreignWords(stderr, 500) || `exit ${exitCode}`}`, {
    code: 'file.failed',
    host: host.name,
  })
}

/** The most of what is removed that is kept, in KiB: it lies in the run's folder. */
const mostKept = 20 * 1024

/**
 * Archives what will be removed, and brings it here.
 * @throws HostFailedError where it is too much: before anything is removed
 */
export async function keepRemoved(session: HostSession, path: string): Promise<Kept> {
  const { folder, name } = splitPath(path)
  const archive = await runFileScript(session, `keep ${path} before it is removed`, [
    `_in ${quote(folder)}`,
    `_n=$(du -sk -- ${quote(`./${name}`)} | cut -f1); [ "$_n" -le ${mostKept} ] || { echo "it is $_n KiB, more than is kept in the folder of a run: say keep: false, and it can't be undone" >&2; exit 1; }`,
    // As the only one of its folder, by its own name: what is in it can't be taken for an option.
    // In the format that has times to the last digit.
    // A pipe ends as its last command does, and what can't be archived must not be taken for kept.
    `exec 3>&1; _ended=$({ { tar --format=posix --pax-option=delete=atime,delete=ctime -czf - -- ${quote(`./${name}`)} 4>&-; echo $? >&4; } | base64 >&3; } 4>&1); exec 3>&-; [ "$_ended" = 0 ]`,
  ])
  return { kind: 'removed', path, archive: archive.replaceAll('\n', '') }
}

/**
 * Undoes changes, the last first. What is as it was already is left alone; a folder that something is in stays, and that is told.
 * @throws HostFailedError where something was changed since, by somebody else: before anything of it is touched
 */
export async function undoKept(
  session: HostSession & Partial<Pick<StepContext, 'log'>>,
  kept: readonly Kept[],
): Promise<void> {
  // Each sees what the one after it has left: neighbours that do not touch each other go together.
  for (const together of batches(kept.toReversed())) {
    const { at } = await lookAt(
      session,
      together.map(({ path }) => ({ path, content: 0 })),
    )
    const lines: string[] = []
    for (const [index, one] of together.entries()) {
      if (one.kind === 'content') await putBack(session, one, at[index]!)
      else if (one.kind === 'removed') await unpack(session, one)
      else if (one.kind === 'lost') session.log?.(`${one.path} does not come back: it was not kept`)
      else lines.push(...undoLines(session, one, at[index]!))
    }
    if (lines.length === 0) continue
    const told = await runFileScript(session, 'undo what was done to files', lines)
    for (const line of told.split('\n').filter(Boolean)) session.log?.(line)
  }
}

function batches(kept: readonly Kept[]): Kept[][] {
  const groups: Kept[][] = []
  for (const one of kept) {
    const last = groups.at(-1)
    const touches = last?.some(
      ({ path }) => `${path}/`.startsWith(`${one.path}/`) || `${one.path}/`.startsWith(`${path}/`),
    )
    if (last && !touches) last.push(one)
    else groups.push([one])
  }
  return groups
}

function changedSince({ host }: HostSession, path: string): HostFailedError {
  return new HostFailedError(`${host.name}: ${path} was changed since: it is left as it is`, {
    code: 'file.changed-since',
    host: host.name,
    hint: 'Look at it, and put it right by hand.',
  })
}

/** Lines of a script that undo a change. */
function undoLines(session: HostSession, kept: Kept, { path, own, target, sha256 }: AtPath): string[] {
  const since = () => changedSince(session, path)
  const { folder, name } = splitPath(path)
  const remove = (how: string) => [`_in ${quote(folder)}; ${how} -- ${quote(`./${name}`)}; sync .`]
  switch (kept.kind) {
    case 'folder':
      if (!own) return []
      if (own.kind !== 'directory') throw since()
      // What others put into it is theirs.
      return [
        `_in ${quote(folder)}; [ -n "$(ls -A -- ${quote(`./${name}`)})" ] && echo ${quote(`${path} stays: something is in it`)} || { rmdir -- ${quote(`./${name}`)}; sync .; }`,
      ]
    case 'file':
      // It was never replaced, or is back already.
      if (!own || (kept.before !== undefined && sha256 === kept.before)) return []
      if (own.kind !== 'file' || sha256 !== kept.sha256) throw since()
      return remove('rm -f')
    case 'unlinked':
      if (own?.kind === 'link' && target === kept.target) return []
      if (own && sha256 !== kept.sha256) throw since()
      return linkLines(path, kept.target)
    case 'name':
      if (!own) return []
      if (own.identity !== kept.identity) throw since()
      return remove('rm -f')
    case 'marked':
      if (!own) return []
      if (own.kind !== 'file' || !own.times?.changed.includes(`.${kept.mark} `)) throw since()
      return remove('rm -f')
    case 'link':
      if (!own && kept.before === undefined) return []
      if (own?.kind !== 'link' || (target !== kept.target && target !== kept.before)) throw since()
      if (kept.before === undefined) return remove('rm -f')
      return linkLines(path, kept.before)
    case 'attributes': {
      if (!own) throw since()
      const { bits, uid, gid } = kept
      const same = (own.kind === 'link' || own.bits === bits) && own.uid === uid && own.gid === gid
      return same ? [] : [attributeLine(kept, own)]
    }
    case 'times':
      return own ? [`_times ${inFolder(path)} ${quote(kept.read)} ${quote(kept.changed)} ${own.identity}`] : []
  }
  return []
}

/** The line that gives something these attributes. The owner is named only where it is another one: not everybody may name it. */
export function attributeLine({ path, bits, uid, gid }: Attributes & { path: string }, is: Thing): string {
  const [owns, mode] = [uid === is.uid && gid === is.gid, bits === is.bits && (bits & 0o6000) === 0]
  return `_attr ${inFolder(path)} ${mode ? '-' : bits.toString(8)} ${owns ? '-' : quote(`${uid}:${gid}`)} ${quote(is.identity)}`
}

/** Lines that let what a link leads to be changed only where nobody else says what that is. */
export function trustLines(
  { path, own, behind, real }: Pick<AtPath, 'path' | 'own' | 'behind' | 'real'>,
  is: Thing | undefined,
): string[] {
  return own?.kind === 'link' && is === behind ? [`_trust ${quote(path)} ${quote(real)}`] : []
}

/** Lines that lay a link in one rename, whatever link or file is in its place. */
export function linkLines(path: string, target: string, owner = '-'): string[] {
  const { folder, name } = splitPath(path)
  return [
    `_in ${quote(folder)}; _private; ln -s -- ${quote(target)} l; ${owner === '-' ? '' : `chown -h -- ${owner} l; `}mv -fT l ${quote(`../${name}`)}; _leave; sync .`,
  ]
}

async function putBack(session: HostSession, kept: Kept & { kind: 'content' }, now: AtPath): Promise<void> {
  const { path, sha256, content, bits, uid, gid, secret } = kept
  const bytes = Buffer.from(content, 'base64')
  if (now.own?.kind !== 'file') throw changedSince(session, path)
  if (now.sha256 !== sha256) {
    const { createHash } = await import('node:crypto')
    if (now.sha256 !== createHash('sha256').update(bytes).digest('hex')) throw changedSince(session, path)
    return
  }
  await session.files.write(path, bytes, { mode: bits, owner: `${uid}:${gid}`, secret })
}

/**
 * Puts back what was removed. Of a folder, what is left of it may be there: it was cut off, or is undone in several steps. What somebody made in
 * its place is left as it is.
 */
async function unpack(session: HostSession, { path, archive }: Kept & { kind: 'removed' }): Promise<void> {
  const { folder, name } = splitPath(path)
  const [back, there] = [quote(`x/${name}`), quote(`../${name}`)]
  const lines = [
    `_in ${quote(folder)}; _private; mkdir x; base64 -d | tar -C x -xpzf -`,
    `if [ ! -e ${there} ] && [ ! -L ${there} ]; then mv -T -- ${back} ${there}`,
    `elif ! LC_ALL=C diff -rq --no-dereference -- ${back} ${there} >d 2>&1; then`,
    // Only what is missing: all that is there is in the archive, just so.
    `if grep -qv '^Only in x/' d || [ -L ${there} ] || [ ! -d ${there} ]; then echo changed; else mv -T -- ${there} o; mv -T -- ${back} ${there}; fi`,
    'fi; _leave; sync .',
  ]
  const told = await runFileScript(session, `put ${path} back`, lines, Buffer.from(archive))
  if (told.trim() === 'changed') throw changedSince(session, path)
}
