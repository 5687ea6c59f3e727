// An archive, unpacked on a host: Ansible's `unarchive`, for tar.
import { closeSync, createReadStream, openSync, readSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { z } from 'zod'
import { safeFolders } from '../../connection/safe-folder.ts'
import { quote, raw } from '../../connection/shell.ts'
import { HostFailedError, RekeyError, shown } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { HostSession, StepContext } from '../../playbook/model.ts'
import { type Found, operation } from '../operation.ts'
import {
  absolutePath,
  checkedOptions,
  type Kinds,
  required,
  text,
  texts,
  truth,
  userName,
  wrongOptions,
} from '../options.ts'
import { attributeLine, notedBytes, notedHash, notedPath, runFileScript } from './kept.ts'
import { type Mode, modeBits, modeKind } from './mode.ts'
import { lookAt, withoutLastSlashes } from './paths.ts'

/** An archive, and the folder that it is unpacked in. */
export interface UnarchiveOptions {
  /** The archive: on this machine, or with `remoteSrc` on the host. tar, as it is or packed by gzip, bzip2, xz or zstd. */
  readonly src: string
  /** The folder, which must be there. */
  readonly dest: string
  readonly remoteSrc?: boolean
  /** Nothing is done where this is there. */
  readonly creates?: string
  /** Names in the archive that are left out, or the only ones that are unpacked; `*` stands for any letters. */
  readonly exclude?: string | readonly string[]
  readonly include?: string | readonly string[]
  /** Files that are newer than those of the archive stay. */
  readonly keepNewer?: boolean
  /** Further words of tar, such as `--strip-components=1`. */
  readonly extraOpts?: readonly string[]
  /** Given to all that is unpacked. */
  readonly mode?: Mode
  readonly owner?: string | number
  readonly group?: string | number
  /** Whether what is replaced is kept in the run's folder, to come back: up to 20 MiB, packed. Default: true; else nothing of it can be undone. */
  readonly keep?: boolean
}

/** What came of it. */
export interface Unarchived {
  /** The folders that something was unpacked in. */
  readonly changed: readonly string[]
}

const kinds: Kinds<UnarchiveOptions> = {
  src: required(text),
  dest: required(absolutePath),
  remoteSrc: truth,
  creates: absolutePath,
  exclude: texts,
  include: texts,
  keepNewer: truth,
  extraOpts: texts,
  mode: modeKind,
  owner: userName,
  group: userName,
  keep: truth,
}

/** A name in an archive: of nothing outside of the folder that it is unpacked in. */
const isInner = (name: string) => !/[\n\0]|^\//.test(name) && !name.split('/').includes('..')

/** The folders that a name is in. */
function foldersIn(name: string): string[] {
  const parts = name.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}

const innerName = z.string().refine(isInner, 'a name that leads elsewhere')
const hashes = z.array(z.tuple([innerName, notedHash]))

/** What was there of what is unpacked. */
const keptArchive = z.strictObject({
  dest: notedPath,
  /** Names that were not there, each folder before what is in it. */
  made: z.array(innerName),
  /** What the archive has for files. */
  unpacked: hashes,
  /** The files that were there, as they were, … */
  was: hashes,
  /** … and an archive of all that was there, in base64. */
  before: notedBytes.optional(),
  /** Nobody wanted it kept. */
  lost: z.boolean().optional(),
})
type KeptArchive = z.infer<typeof keptArchive>

/**
 * Unpacks an archive on a host, where what it holds is not there already, as it is in it.
 * @throws HostFailedError where the folder is missing, or the archive can't be read
 */
export const unarchive = operation<UnarchiveOptions, Unarchived>({
  name: 'unarchive',
  check: given => {
    const options = checkedOptions('unarchive', given, kinds)
    if (options.include !== undefined && options.exclude !== undefined)
      throw wrongOptions('unarchive(): include and exclude exclude each other')
    if (options.remoteSrc && !absolutePath.fits(options.src))
      throw wrongOptions('unarchive({ src }): with remoteSrc it must be an absolute path')
    if (/\.(zip|jar|war)$/i.test(options.src))
      throw wrongOptions(
        'unarchive({ src }): only tar is unpacked',
        'Unpack a zip by the host’s own program: $`unzip …`.',
      )
    if ([options.extraOpts ?? []].flat().some(word => /^(-[A-Za-z]*[PC]|--(ab|di))/.test(word)))
      throw wrongOptions('unarchive({ extraOpts }): no word may have it unpack outside of dest')
    return { ...options, dest: withoutLastSlashes(options.dest) }
  },
  look,
  undo: undoArchives,
  kept: z.array(keptArchive),
})

async function look(context: StepContext, wanted: readonly UnarchiveOptions[]): Promise<Found<Unarchived>> {
  const changes: Unpacking[] = []
  for (const options of wanted) changes.push(await unpackingOf(context, options))
  const due = changes.filter(({ would }) => would.length > 0)
  const changed = due.map(({ options: { dest } }) => dest)
  return {
    would: due.flatMap(({ would }) => would),
    result: { changed: [] },
    keep: async () => {
      const kept: KeptArchive[] = []
      for (const one of due) kept.push(await keepBefore(context, one))
      return kept
    },
    apply: async () => {
      for (const one of due) await unpack(context, one)
      return { changed }
    },
  }
}

/** What becomes of one archive. */
interface Unpacking {
  readonly options: UnarchiveOptions
  readonly would: readonly string[]
  readonly names: readonly string[]
  readonly missing: readonly string[]
  /** What the archive has for files; where it differs. */
  readonly unpacked: KeptArchive['unpacked']
  /** Whether it is unpacked; else only attributes change. */
  readonly differs: boolean
}

/** Differences that tar tells of, and what they are about. */
const differences: readonly (readonly [RegExp, ((options: UnarchiveOptions, isRoot: boolean) => boolean)?])[] = [
  [/: Uid differs$/, ({ owner }, isRoot) => isRoot && owner === undefined],
  [/: Gid differs$/, ({ group }, isRoot) => isRoot && group === undefined],
  [/: Mode differs$/, ({ mode }) => mode === undefined],
  [/: (Mod time differs|Size differs|Contents differ|Symlink differs|File type differs|Not linked to .*)$/],
  [/: Warning: Cannot (stat|open): No such file or directory$/],
]

async function unpackingOf(context: StepContext, options: UnarchiveOptions): Promise<Unpacking> {
  const { src, dest, creates } = options
  const nothing = { options, would: [], names: [], missing: [], unpacked: [], differs: false }
  const told = await withArchive(context, options, `read ${src}`, [
    ...(creates === undefined
      ? []
      : [`if [ -e ${quote(creates)} ] || [ -L ${quote(creates)} ]; then echo done; exit; fi`]),
    'id -u',
    `LC_ALL=C tar --list --quoting-style=escape ${tarWords(options, { shown: true })} >"$_w/names"`,
    // What stands for a line break, and what else is written otherwise, has this in it.
    `if grep -q '\\\\' "$_w/names"; then LC_ALL=C tar --list --quoting-style=literal ${tarWords(options, { shown: true })} >"$_w/literal"`,
    `[ "$(wc -l <"$_w/names")" = "$(wc -l <"$_w/literal")" ] || { echo 'a name in it has a line break' >&2; exit 1; }; mv "$_w/literal" "$_w/names"; fi`,
    `cat "$_w/names"; echo --`,
    // Refused for that, below: nothing more is asked of it.
    `if grep -Eq '(^|/)\\.\\.(/|$)' "$_w/names"; then exit; fi`,
    `LC_ALL=C tar --list --verbose --quoting-style=escape ${tarWords(options, { shown: true })} | cut -c1 | paste -d '\\0' - "$_w/names" | sed -n 's/^l//p'; echo --`,
    `LC_ALL=C tar --diff ${tarWords(options)} >"$_w/diff" 2>&1 || :; cat "$_w/diff"; echo --`,
    // What will be there is noted before: it is told from what somebody makes of it.
    `[ ! -s "$_w/diff" ] || LC_ALL=C tar --extract --to-command='s=$(sha256sum); printf "%s %s\\n" "\${s%% *}" "$TAR_FILENAME"' ${tarWords({ ...options, keepNewer: false })}; echo --`,
    // With the folders that they are in, which an archive may not name.
    `while IFS= read -r n; do n=\${n%/}; while [ "$n" ] && ! [ -e "./$n" ] && ! [ -L "./$n" ]; do printf '%s\\n' "$n"; case $n in */*) n=\${n%/*} ;; *) n= ;; esac; done; done <"$_w/names"`,
  ])
  if (told.trim() === 'done') return nothing
  const [user = '', ...lines] = told.split('\n').slice(0, -1)
  const first = lines.indexOf('--')
  const linked = lines.indexOf('--', first + 1)
  const second = lines.indexOf('--', linked + 1)
  const third = lines.indexOf('--', second + 1)
  // As tar does where it unpacks.
  const names = lines.slice(0, first).map(name => name.replace(/^\/+/, ''))
  // What is behind a link that comes with it is elsewhere, too.
  const links = new Set(lines.slice(first + 1, linked).map(name => normalize(name.replace(/^\/+/, ''))))
  const outer = names.find(name => !isInner(name) || foldersIn(normalize(name)).some(folder => links.has(folder)))
  if (outer !== undefined)
    throw new HostFailedError(`${context.host.name}: ${src} holds ${shown(outer)}, which leads out of ${dest}`, {
      code: 'unarchive.name',
      host: context.host.name,
    })
  if (names.length === 0)
    throw new HostFailedError(`${context.host.name}: ${src} holds nothing to unpack`, {
      code: 'unarchive.empty',
      host: context.host.name,
    })
  const differs = lines
    .slice(linked + 1, second)
    // What has no name left, since its first parts were taken away, is not unpacked.
    .filter(line => !/: : Warning: Cannot stat/.test(line))
    .some(line => differences.some(([words, counts]) => words.test(line) && (counts?.(options, user === '0') ?? true)))
  const missing = [...new Set(lines.slice(third + 1).map(name => name.replace(/^\/+/, '')))]
  const unpacked = lines
    .slice(second + 1, third)
    .map((line): [string, string] => [line.slice(65).replace(/^\/+/, ''), line.slice(0, 64)])
  const found = { options, names, missing, unpacked, differs }
  const would = differs
    ? [`unpack ${src} in ${dest}`]
    : (await attributeLines(context, found)).length > 0
      ? [`modes and owners in ${dest}`]
      : []
  return { ...found, would }
}

/** tar's words for an archive at "$_a", in the folder that was entered. */
function tarWords(
  { exclude = [], include = [], keepNewer, extraOpts = [], src, remoteSrc }: UnarchiveOptions,
  { shown = false } = {},
): string {
  const named = [include].flat()
  return [
    remoteSrc ? '' : compressionOf(src),
    extraOpts.length > 0 && shown ? '--show-transformed-names' : '',
    ...[extraOpts].flat().map(quote),
    ...[exclude].flat().map(one => `--exclude=${quote(one.replace(/\/$/, ''))}`),
    keepNewer ? '--keep-newer-files' : '',
    '-f "$_a"',
    ...(named.length > 0 ? ['--wildcards --', ...named.map(quote)] : []),
  ]
    .filter(Boolean)
    .join(' ')
}

const magics: readonly (readonly [string, string])[] = [
  ['1f8b', '-z'],
  ['425a68', '-j'],
  ['fd377a585a00', '-J'],
  ['28b52ffd', '--zstd'],
]

/** How an archive here is packed, by its first bytes. */
function compressionOf(src: string): string {
  const bytes = Buffer.alloc(6)
  try {
    const file = openSync(src, 'r')
    readSync(file, bytes)
    closeSync(file)
  } catch (cause) {
    throw new RekeyError(`unarchive({ src }): ${src} can't be read: ${(cause as Error).message}`, {
      code: 'unarchive.source',
      hint: 'An archive that is on the host takes remoteSrc: true.',
      cause,
    })
  }
  return magics.find(([magic]) => bytes.toString('hex').startsWith(magic))?.[1] ?? ''
}

/** Runs lines in the folder that is unpacked in, with the archive at "$_a" and a folder for themselves at "$_w". */
async function withArchive(
  { $, host }: HostSession,
  options: UnarchiveOptions,
  what: string,
  lines: readonly string[],
): Promise<string> {
  const { src, dest, remoteSrc } = options
  // Read before a host is asked: it is told here what is wrong with it.
  if (!remoteSrc) compressionOf(src)
  const script = [
    'set -e; umask 077',
    safeFolders,
    `_w=$(mktemp -d); trap 'rm -rf -- "$_w"' EXIT; trap 'exit 1' HUP INT TERM PIPE`,
    remoteSrc ? `_a=${quote(src)}; [ -r "$_a" ] || { echo "$_a can't be read" >&2; exit 1; }` : '_a=$_w/a; cat >"$_a"',
    `_in ${quote(dest)}; umask 022`,
    ...lines,
  ].join('\n')
  const input = remoteSrc ? {} : { input: createReadStream(src) }
  const { exitCode, stdout, stderr } = await $({ quiet: true, nothrow: true, ...input })`${raw(script)}`
  if (exitCode === 0) return stdout
  throw new HostFailedError(`${host.name}: could not ${what}: ${foreignWords(stderr, 500) || `exit ${exitCode}`}`, {
    code: 'unarchive.failed',
    host: host.name,
  })
}

/** Bytes of what is replaced that are kept, packed. */
const mostKept = 20 * 1024 ** 2

async function keepBefore(
  context: StepContext,
  { options, names, missing, unpacked }: Unpacking,
): Promise<KeptArchive> {
  const { dest, keep = true } = options
  if (!keep) return { dest, made: [], unpacked: [], was: [], lost: true }
  const gone = new Set(missing)
  const there = [
    ...new Set(
      names
        .map(name => name.replace(/\/$/, ''))
        .filter(name => !gone.has(name) && !gone.has(`${name}/`) && name !== '.'),
    ),
  ]
  const made = missing.map(name => name.replace(/\/$/, '')).filter(name => name !== '.')
  if (there.length === 0) return { dest, made, unpacked, was: [] }
  const was = await filesAt(context, dest, there)
  const before = await runFileScript(
    context,
    `keep what is in ${dest}`,
    [
      `_in ${quote(dest)}; _w=$(mktemp -d); trap '_leave; rm -rf -- "$_w"' EXIT; cat >"$_w/names"`,
      'tar --format=posix --pax-option=delete=atime,delete=ctime -czf "$_w/a" --no-recursion --verbatim-files-from -T "$_w/names"',
      `[ "$(stat -c %s "$_w/a")" -le ${mostKept} ] || { echo 'what is replaced is more than is kept in the folder of a run: say keep: false, and it can’t be undone' >&2; exit 1; }`,
      'base64 <"$_w/a"',
    ],
    Buffer.from(there.map(name => `./${name}\n`).join('')),
  )
  return { dest, made, unpacked, was: [...was], before: before.replaceAll('\n', '') }
}

/** What is in the files among names, as a hash; of a folder or a link, none. */
async function filesAt(session: HostSession, dest: string, names: readonly string[]): Promise<Map<string, string>> {
  const looked = await lookAt(
    session,
    names.map(name => ({ path: join(dest, name), content: 0 })),
  )
  return new Map(
    looked.at.flatMap(({ own, sha256 }, index): [string, string][] =>
      own?.kind === 'file' ? [[names[index]!, sha256 ?? '0'.repeat(64)]] : [],
    ),
  )
}

async function unpack(context: StepContext, found: Unpacking): Promise<void> {
  const { options, differs } = found
  if (differs) await withArchive(context, options, `unpack ${options.src}`, [`tar --extract ${tarWords(options)}`])
  const lines = await attributeLines(context, found)
  if (lines.length > 0) await runFileScript(context, `set modes and owners in ${options.dest}`, lines)
}

/** Lines that give all that was unpacked what is asked for. */
async function attributeLines(
  context: StepContext,
  { options, names }: Pick<Unpacking, 'options' | 'names'>,
): Promise<string[]> {
  const { dest, mode, owner, group } = options
  if (mode === undefined && owner === undefined && group === undefined) return []
  const paths = [...new Set(names.map(name => join(dest, name).replace(/(?<=.)\/$/, '')).filter(path => path !== dest))]
  const looked = await lookAt(
    context,
    paths.map(path => ({ path })),
    {
      users: owner === undefined ? [] : [owner],
      groups: group === undefined ? [] : [group],
    },
  )
  return looked.at.flatMap(({ own }) => {
    if (!own) return []
    const isLink = own.kind === 'link'
    const bits =
      mode === undefined || isLink
        ? own.bits
        : modeBits(mode, { bits: own.bits, folder: own.kind === 'directory' }, looked.umask)
    const [uid, gid] = [
      owner === undefined ? own.uid : looked.uid(owner),
      group === undefined ? own.gid : looked.gid(group),
    ]
    const same = bits === own.bits && uid === own.uid && gid === own.gid
    return same ? [] : [attributeLine({ path: own.path, bits, uid, gid }, own)]
  })
}

/** Removes what was not there, and unpacks what was; what somebody changed since is left as it is, and told. */
async function undoArchives(
  session: HostSession & Partial<Pick<StepContext, 'log'>>,
  kept: readonly KeptArchive[],
): Promise<void> {
  const left: string[] = []
  for (const one of kept.toReversed()) left.push(...(await undoArchive(session, one)))
  if (left.length === 0) return
  const { host } = session
  throw new HostFailedError(
    `${host.name}: ${left.join(', ')} ${left.length > 1 ? 'were' : 'was'} changed since: left as it is`,
    { code: 'file.changed-since', host: host.name, hint: 'Look at it, and put it right by hand. The rest is undone.' },
  )
}

/** @returns the paths that are left */
async function undoArchive(
  session: HostSession & Partial<Pick<StepContext, 'log'>>,
  { dest, made, unpacked, was, before, lost }: KeptArchive,
): Promise<string[]> {
  if (lost) session.log?.(`what was unpacked in ${dest} stays: what was there was not kept`)
  // Of an archive, the last of a name is what is there.
  const [after, first] = [new Map(unpacked), new Map(was)]
  const hashes = new Set(after.values())
  const now = await filesAt(session, dest, [...new Set([...made, ...first.keys(), ...after.keys()])])
  const isTheirs = (name: string) => {
    const is = now.get(name)
    if (is === undefined || is === first.get(name)) return false
    // A second name of a file is not among them.
    return after.has(name) ? is !== after.get(name) : !hashes.has(is)
  }
  const theirs = new Set([...now.keys()].filter(isTheirs))
  // Files before the folders that they are in; a folder that somebody else put something into stays.
  const inner = made
    .filter(name => !theirs.has(name))
    .sort((one, other) => other.split('/').length - one.split('/').length)
  const lines = [
    'while IFS= read -r d && IFS= read -r n; do',
    '( [ -d "$d" ] && _in "$d" || exit 0; if [ -d "./$n" ] && [ ! -L "./$n" ]; then rmdir -- "./$n" 2>/dev/null || :; else rm -f -- "./$n"; fi ); done',
  ]
  const named = inner.map(name => {
    const path = join(dest, name)
    const cut = path.lastIndexOf('/')
    return `${path.slice(0, cut) || '/'}\n${path.slice(cut + 1)}\n`
  })
  if (named.length > 0)
    await runFileScript(session, `remove what was unpacked in ${dest}`, lines, Buffer.from(named.join('')))
  if (before !== undefined) {
    const without = [...theirs].map(name => `--exclude=${quote(`./${name}`)}`).join(' ')
    await runFileScript(
      session,
      `put back what was in ${dest}`,
      [`_in ${quote(dest)}; base64 -d | tar -xpzf - --anchored --no-wildcards ${without}`],
      Buffer.from(before),
    )
  }
  return [...theirs].map(name => join(dest, name))
}
