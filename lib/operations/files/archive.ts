// Files of a host, packed into an archive there: Ansible's `archive` (community.general), as tar.
import { randomInt } from 'node:crypto'
import { basename, dirname } from 'node:path'
import { splitPath } from '../../connection/safe-folder.ts'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession, StepContext } from '../../playbook/model.ts'
import { type Found, operation } from '../operation.ts'
import {
  absolutePath,
  checkedOptions,
  type Kind,
  type Kinds,
  oneOf,
  required,
  texts,
  truth,
  userName,
  wrongOptions,
} from '../options.ts'
import { inFolder, type Kept, keepRemoved, keptShape, runFileScript, undoKept } from './kept.ts'
import { type Mode, modeBits, modeKind } from './mode.ts'
import { type AtPath, type Looked, lookAt, withoutLastSlashes } from './paths.ts'

/** Files, and the archive that holds them. */
export interface ArchiveOptions {
  /** Files and folders. In the archive they are called as they are from the folder that all of them are in. */
  readonly path: string | readonly string[]
  readonly dest: string
  /** Default: `gz`. */
  readonly format?: 'gz' | 'bz2' | 'xz' | 'tar'
  /** Paths below those that are left out. */
  readonly excludePath?: string | readonly string[]
  /** Remove what was packed, once the archive was read back. */
  readonly remove?: boolean
  readonly mode?: Mode
  readonly owner?: string | number
  readonly group?: string | number
  /** Whether an archive that is replaced, and what `remove` removes, is kept in the run's folder, to come back: up to 20 MiB each. Default: true. */
  readonly keep?: boolean
}

/** What came of it. */
export interface Archived {
  /** The archives that were written, or whose attributes changed. */
  readonly changed: readonly string[]
}

const paths: Kind = {
  words: 'an absolute path, or a list of them',
  fits: value => texts.fits(value) && [value].flat().every(absolutePath.fits),
}

const kinds: Kinds<ArchiveOptions> = {
  path: required(paths),
  dest: required(absolutePath),
  format: oneOf('gz', 'bz2', 'xz', 'tar'),
  excludePath: paths,
  remove: truth,
  mode: modeKind,
  owner: userName,
  group: userName,
  keep: truth,
}

const compressor: Readonly<Record<string, string>> = { gz: 'gzip -n', bz2: 'bzip2', xz: 'xz', tar: 'cat' }

/**
 * Packs files of a host into an archive there, unless it holds just these already.
 * @throws HostFailedError where one of them is missing, or the archive can't be read back
 */
export const archive = operation<ArchiveOptions, Archived>({
  name: 'archive',
  check: given => {
    const options = checkedOptions('archive', given, kinds)
    const all = [options.path].flat().map(one => withoutLastSlashes(one))
    if (all.includes('/')) throw wrongOptions('archive({ path }): / has no folder that it is in')
    if (all.some(one => `${options.dest}/`.startsWith(`${one}/`)))
      throw wrongOptions('archive({ dest }): it must not lie in what is packed')
    return { ...options, path: all }
  },
  look,
  undo: undoKept,
  kept: keptShape,
})

/** What becomes of one archive. */
interface Change {
  readonly options: ArchiveOptions
  readonly would: readonly string[]
  readonly keep: () => Promise<Kept[]>
  readonly lines: readonly string[]
}

async function look(context: StepContext, wanted: readonly ArchiveOptions[]): Promise<Found<Archived>> {
  const sources = wanted.map(({ path }) => [path].flat())
  const looked = await lookAt(
    context,
    [...wanted.map(({ dest }) => ({ path: dest })), ...sources.flat().map(path => ({ path }))],
    {
      users: wanted.flatMap(({ owner }) => owner ?? []),
      groups: wanted.flatMap(({ group }) => group ?? []),
    },
  )
  const there = new Map(looked.at.map(at => [at.path, at]))
  const present = sources.map(all => all.filter(path => there.get(path)?.own))
  for (const [index, all] of sources.entries()) {
    const missing = all.filter(path => !present[index]!.includes(path))
    // Packed and removed the last time.
    const isDone = wanted[index]!.remove && missing.length === all.length && there.get(wanted[index]!.dest)?.own
    if (missing.length > 0 && !isDone) throw failure(context, `${missing.join(', ')} can't be packed: not there`)
  }
  const same = await compared(
    context,
    wanted.map((options, index) => ({ options, present: present[index]! })),
    there,
  )
  const changes = wanted.map((options, index) =>
    changeOf(context, { options, present: present[index]!, same: same[index]!, at: there.get(options.dest)!, looked }),
  )
  const due = changes.filter(({ would }) => would.length > 0)
  const changed = due.map(({ options }) => options.dest)
  return {
    would: changes.flatMap(({ would }) => would),
    result: { changed: [] },
    keep: async () => {
      const kept: Kept[] = []
      for (const { keep } of due) kept.push(...(await keep()))
      return kept
    },
    apply: async () => {
      await runFileScript(
        context,
        `pack ${changed.join(', ')}`,
        due.flatMap(({ lines }) => lines),
      )
      return { changed }
    },
  }
}

function failure({ host }: HostSession, message: string): HostFailedError {
  return new HostFailedError(`${host.name}: ${message}`, { code: 'archive.refused', host: host.name })
}

/** The folder that all of them are in, and what they are called from there. */
function rootOf(paths: readonly string[]): { root: string; names: readonly string[] } {
  let root = dirname(paths[0]!)
  while (!paths.every(path => root === '/' || path.startsWith(`${root}/`))) root = dirname(root)
  return { root, names: paths.map(path => `./${path.slice(root === '/' ? 1 : root.length + 1)}`) }
}

/** The words of tar that name what is packed. */
function packed({ path, excludePath = [] }: ArchiveOptions): string {
  const { root, names } = rootOf([path].flat())
  const left = [excludePath]
    .flat()
    .map(one => `--exclude=${quote(`./${one.slice(root === '/' ? 1 : root.length + 1)}`)}`)
  return `-C ${quote(root)} --anchored --no-wildcards ${left.join(' ')} -- ${names.map(quote).join(' ')}`
}

/** Which archives hold just what is there: the same names, and no difference. */
async function compared(
  context: StepContext,
  asked: readonly { readonly options: ArchiveOptions; readonly present: readonly string[] }[],
  there: ReadonlyMap<string, AtPath>,
): Promise<boolean[]> {
  const lines = asked.map(({ options, present }) => {
    if (!there.get(options.dest)?.own) return 'echo no'
    if (present.length === 0) return 'echo yes'
    const { root } = rootOf([options.path].flat())
    const dest = quote(options.dest)
    return `if [ "$(tar -tf ${dest} 2>/dev/null | sort)" = "$(tar -cf - ${packed(options)} 2>/dev/null | tar -tf - | sort)" ] && tar -C ${quote(root)} -df ${dest} >/dev/null 2>&1; then echo yes; else echo no; fi`
  })
  if (lines.every(line => line === 'echo no')) return lines.map(() => false)
  const told = await runFileScript(context, 'compare archives with what is there', lines)
  return told
    .split('\n')
    .slice(0, -1)
    .map(line => line === 'yes')
}

interface Case {
  readonly options: ArchiveOptions
  readonly present: readonly string[]
  readonly same: boolean
  readonly at: AtPath
  readonly looked: Looked
}

function changeOf(context: StepContext, { options, present, same, at, looked }: Case): Change {
  const { dest, format = 'gz', remove, mode, owner, group, keep = true } = options
  // What is in it is known once it is made, and what it takes to know it again is noted before.
  const mark = String(randomInt(1, 1_000_000_000)).padStart(9, '0')
  const is = at.own
  if (is && is.kind !== 'file') throw failure(context, `${dest} is there, and no file`)
  if (at.missing.length > 0) throw failure(context, `there is no folder ${dirname(dest)} for ${basename(dest)}`)
  const now = is?.bits ?? 0o666 & ~looked.umask
  const bits = mode === undefined ? now : modeBits(mode, { bits: now, folder: false }, looked.umask)
  const uid = owner === undefined ? is?.uid : looked.uid(owner)
  const gid = group === undefined ? is?.gid : looked.gid(group)
  const given = bits !== is?.bits || uid !== is?.uid || gid !== is?.gid
  const { folder, name } = splitPath(dest)
  const whose = uid === undefined && gid === undefined ? '-' : `${uid ?? ''}${gid === undefined ? '' : `:${gid}`}`
  const removed = remove ? present : []
  const pack = [
    `_in ${quote(folder)}; _private; umask 077`,
    `tar -cf t ${packed(options)}; ${compressor[format]} <t >a; rm -f t; tar -tf a >/dev/null`,
    ...(whose === '-' ? [] : [`chown ${whose} a`]),
    `chmod ${bits.toString(8)} a; touch -d "@$(date +%s).${mark}" a; sync a; mv -fT a ${quote(`../${name}`)}; sync ..; _leave`,
  ]
  return {
    options,
    would: [
      ...(same ? (given ? [`${dest}: mode or owner`] : []) : [`pack ${present.join(', ')} into ${dest}`]),
      ...removed.map(path => `remove ${path}`),
    ],
    keep: async () => {
      const kept: Kept[] = []
      if (same && is) kept.push({ kind: 'attributes', path: dest, bits: is.bits, uid: is.uid, gid: is.gid })
      const removal = async (path: string): Promise<Kept> =>
        keep ? await keepRemoved(context, path) : { kind: 'lost', path }
      if (!same && is) kept.push(await removal(dest))
      // Where the one of before does not come back, the new one stays.
      if (!same && (keep || !is)) kept.push({ kind: 'marked', path: dest, mark })
      for (const path of removed) kept.push(await removal(path))
      return kept
    },
    lines: [
      ...(same ? (given ? [`_attr ${inFolder(dest)} ${bits.toString(8)} ${whose} ${is!.identity}`] : []) : pack),
      ...removed.map(path => `_in ${quote(splitPath(path).folder)}; rm -rf -- ${quote(`./${splitPath(path).name}`)}`),
    ],
  }
}
