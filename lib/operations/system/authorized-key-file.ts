// The file that `authorizedKey` changes, on a host: read, written and put back. It is mostly in a folder of the account itself, who may put a
// link or another file wherever a name is expected: nothing of that is followed, and nothing is given to the account that was not its own.
import { createHash } from 'node:crypto'
import { writeScript } from '../../connection/files.ts'
import { splitPath } from '../../connection/safe-folder.ts'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { runFileScript } from '../files/kept.ts'
import { notedList } from '../notes.ts'
import { absolutePath } from '../options.ts'

/** Which file. */
export interface Sought {
  readonly user: string
  readonly path?: string
  readonly follow?: boolean
}

/** A file as it is. */
export interface Found {
  readonly path: string
  /** The account's numbers, as `uid:gid`. */
  readonly owner: string
  /** It is what a link leads to. */
  readonly isBehind: boolean
  /** Missing where there is none. */
  readonly content?: string
  /** Mode, owner and identity of the file; missing where there is none. */
  readonly file?: string
  /** The same of its folder. */
  readonly folder?: string
}

/** What a file was and came to, for the way back. Plain data. */
export interface Kept extends Found {
  readonly user: string
  readonly after: string
  /** Whether its folder is made for the account, or made 0700. */
  readonly managed: boolean
}

const uidOf = (owner: string) => owner.split(':')[0]!
const ownerIn = (attributes: string) => attributes.split(' ')[1]!

/** An account's own file; one of root's, where nobody else chose it; what everybody may read. Anything else would come to the account. */
const lookScript = `while IFS=: read -r u f p; do (
  h=$(getent passwd "$u") || { echo "there is no user $u" >&2; exit 1; }
  o=$(printf '%s\\n' "$h" | cut -d: -f3,4); b=
  [ "$p" ] || p=$(printf '%s\\n' "$h" | cut -d: -f6)/.ssh/authorized_keys
  if [ "$f" ] && [ -L "$p" ]; then r=$(readlink -f -- "$p") && _trust "$p" "$r" || exit; p=$r; b=link; fi
  printf '%s\\n' "$p" "$o" "$b"
  d=\${p%/*}; d=\${d:-/}; n=./\${p##*/}
  if [ ! -e "$d" ] && [ ! -L "$d" ]; then printf '\\n\\n\\n'; exit 0; fi
  _in "$d" || exit
  stat -c '%a %u:%g %d:%i' .
  if [ -L "$n" ]; then echo "$p is a link: with follow what it leads to is changed, where nobody else can have laid it" >&2; exit 1; fi
  if [ ! -e "$n" ]; then printf '\\n\\n'; exit 0; fi
  [ -f "$n" ] || { echo "$p is no file" >&2; exit 1; }
  i=$(stat -c %d:%i "$n"); command exec 9<"$n" || exit
  set -- $(stat -L -c '%f %u %d:%i' /proc/self/fd/9) $(stat -c '%u %f' .)
  [ $# = 5 ] && [ "$3" = "$i" ] && [ $((0x$1 & 0xf000)) = $((0x8000)) ] || { echo "$p was changed meanwhile" >&2; exit 1; }
  [ "$2" = "\${o%:*}" ] || [ $((0x$1 & 4)) != 0 ] || { { [ "$4" = 0 ] || [ -O . ]; } && [ $((0x$5 & 0x12)) = 0 ]; } ||
    { echo "$p is not $u's, who may not read it: it is not given to them" >&2; exit 1; }
  stat -L -c '%a %u:%g %d:%i' /proc/self/fd/9
  base64 <&9 | tr -d '\\n'; echo
) || exit; done`

/**
 * Looks for the files, in one round trip.
 * @throws HostFailedError where one can't be read, or is not the account's to have
 */
export async function lookAt(session: HostSession, wanted: readonly Sought[]): Promise<Found[]> {
  const input = wanted.map(({ user, follow, path = '' }) => `${user}:${follow ? 'follow' : ''}:${path}\n`).join('')
  const told = await runFileScript(session, 'read authorized keys', [lookScript], Buffer.from(input))
  const lines = told.split('\n')
  return wanted.map((_, index) => {
    const [path = '', owner = '', link = '', folder, file, content = ''] = lines.slice(6 * index, 6 * index + 6)
    return {
      path,
      owner,
      isBehind: link !== '',
      ...(folder ? { folder } : {}),
      // Byte by byte: comments may be in any encoding.
      ...(file ? { file, content: Buffer.from(content, 'base64').toString('latin1') } : {}),
    }
  })
}

/**
 * Whether the folder of a file is made for the account, or made 0700: one that is there must be the account's own.
 * @throws HostFailedError where that is asked for, and it is somebody else's
 */
export function isManaged(
  { host }: HostSession,
  { path, owner, folder, isBehind }: Found,
  asked: boolean | undefined,
  isElsewhere: boolean,
): boolean {
  const isAsked = asked ?? !(isElsewhere || isBehind)
  if (!isAsked || folder === undefined || uidOf(ownerIn(folder)) === uidOf(owner)) return isAsked
  throw new HostFailedError(`${host.name}: ${splitPath(path).folder} is not the account's own: it is not given to it`, {
    code: 'authorized-key.folder',
    host: host.name,
    hint: 'Give it to the account by hand, or say manageDir: false.',
  })
}

/** Writes a file as it shall be. */
export async function write(session: HostSession, kept: Kept): Promise<void> {
  const { path, owner, folder, file, isBehind, managed, after } = kept
  const { folder: above } = splitPath(path)
  const lines: string[] = []
  if (!folder) lines.push(managed ? makeFolder(above, owner) : `_make ${quote(above)}`)
  else if (managed && !folder.startsWith(`700 ${owner} `)) lines.push(folderLine(above, `700 ${owner}`, folder))
  const isRoots = file && folder && [file, folder].every(one => uidOf(ownerIn(one)) !== uidOf(owner))
  const [bits, whose] = file && (isBehind || isRoots) ? file.split(' ') : ['600', owner]
  await put(session, path, after, { bits: bits!, owner: whose!, before: lines })
}

/** Is made where nobody else can enter it, and takes its place with its owner. */
function makeFolder(path: string, owner: string): string {
  const { folder, name } = splitPath(path)
  return `_in ${quote(folder)}; _private; mkdir -m 700 d; chown ${quote(owner)} d; mv -T d ${quote(`../${name}`)}; _leave`
}

/** Gives a folder mode and owner, if it is still the one that was looked at. */
function folderLine(path: string, to: string, is: string): string {
  const { folder, name } = splitPath(path)
  const [mode, owner] = to.split(' ')
  return ['_attr', ...[folder, name, mode!, owner === ownerIn(is) ? '-' : owner!, is.split(' ')[2]!].map(quote)].join(
    ' ',
  )
}

/** Puts a text in the place of a file. Whoever watches was told before. */
async function put(
  session: HostSession,
  path: string,
  content: string,
  { bits, owner, before = [] }: { bits: string; owner: string; before?: readonly string[] },
): Promise<void> {
  const input = Buffer.from(content, 'latin1')
  const script = writeScript(path, createHash('sha256').update(input).digest('hex'), { bits, owner, replaces: path })
  await runFileScript(session, `write ${path}`, [...before, script], input)
}

/** Puts back what was. What somebody else has changed since stays. */
export async function takeBack(session: HostSession, kept: Kept): Promise<void> {
  const { path, user, content = '', after, file, folder } = kept
  const [now] = await lookAt(session, [{ user, path }])
  const above = splitPath(path)
  const lines: string[] = []
  if (now?.content !== undefined && now.content !== content) {
    const next = now.content === after ? content : merged(content, after, now.content)
    const [bits, owner] = (file ?? now.file!).split(' ')
    if (file === undefined && next === '')
      lines.push(`_in ${quote(above.folder)}; rm -f -- ${quote(`./${above.name}`)}`)
    else await put(session, path, next, { bits: bits!, owner: owner! })
  }
  if (now?.folder !== undefined && folder === undefined) {
    const { folder: up, name } = splitPath(above.folder)
    lines.push(`_in ${quote(up)}; rmdir -- ${quote(`./${name}`)} 2>/dev/null || :`)
  } else if (now?.folder !== undefined && kept.managed && now.folder !== folder) {
    // Another folder than the one that was changed is whoever's it is.
    const [was, is] = [folder!, now.folder].map(one => one.split(' '))
    if (was![2] === is![2]) lines.push(folderLine(above.folder, folder!, now.folder))
  }
  if (lines.length > 0) await runFileScript(session, `put ${path} back`, lines)
}

/** The lines of before, with those that somebody else has put in since. */
function merged(before: string, after: string, now: string): string {
  const [was, made, is] = [before, after, now].map(text =>
    text.split(/\r?\n/).filter((line, at, all) => line !== '' || at < all.length - 1),
  )
  const back = [
    ...is!.filter(line => was!.includes(line) || !made!.includes(line)),
    ...was!.filter(line => !is!.includes(line)),
  ]
  return back.map(line => `${line}\n`).join('')
}

/** The name of an account, that can be taken for nothing else. */
export const accountName = /^(?!-)[^:\s/\0]+$/

/** What is noted of files, as it may be: it comes from a run's folder, and words of scripts are made of it. */
export const keptKeys = notedList<Kept>('its files', isKept)

function isKept(one: Partial<Record<keyof Kept, unknown>> | null): boolean {
  if (typeof one !== 'object' || one === null) return false
  const fits = (value: unknown, what: RegExp) => typeof value === 'string' && what.test(value)
  const isOptional = (value: unknown, what: RegExp) => value === undefined || fits(value, what)
  const attributes = /^[0-7]{1,4} \d+:\d+ \d+:\d+$/
  return (
    absolutePath.fits(one.path) &&
    fits(one.user, accountName) &&
    fits(one.owner, /^\d+:\d+$/) &&
    fits(one.after, /^[\0-\xff]*$/) &&
    isOptional(one.content, /^[\0-\xff]*$/) &&
    isOptional(one.file, /^[0-7]{1,3} \d+:\d+ \d+:\d+$/) &&
    (one.content === undefined) === (one.file === undefined) &&
    isOptional(one.folder, attributes) &&
    typeof one.managed === 'boolean' &&
    // A folder that was the account's own is given to nobody else.
    (!one.managed || one.folder === undefined || uidOf(ownerIn(one.folder as string)) === uidOf(one.owner as string))
  )
}
