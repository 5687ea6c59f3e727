// What there is at a path, and whose it is: Ansible's `file`.
import { normalize } from 'node:path'
import { splitPath } from '../../connection/safe-folder.ts'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { type Found, operation } from '../operation.ts'
import {
  absolutePath,
  checkedOptions,
  type Kinds,
  oneOf,
  required,
  text,
  truth,
  userName,
  wrongOptions,
} from '../options.ts'
import {
  attributeLine,
  attributesOf,
  inFolder,
  type Kept,
  keepRemoved,
  keptShape,
  linkLines,
  runFileScript,
  trustLines,
  undoKept,
} from './kept.ts'
import { type Mode, modeBits, modeKind, octal } from './mode.ts'
import { type AtPath, type Looked, lookAt, type Question, type Thing, withoutLastSlashes } from './paths.ts'

/** Something at a path, as it shall be. */
export interface FileOptions {
  readonly path: string
  /**
   * `file`: it is there, and only its attributes change. `directory`: made where it is missing, with the folders above it. `absent`: removed, folders
   * with all that is in them. `link`, `hard`: leads to `src`. `touch`: made empty where it is missing, else its times change.
   * Where nothing is said: what it is; `directory` with `recurse`.
   */
  readonly state?: 'file' | 'directory' | 'absent' | 'link' | 'hard' | 'touch'
  /** What a link leads to, as it shall say it. */
  readonly src?: string
  readonly mode?: Mode
  /** A name or a number. */
  readonly owner?: string | number
  readonly group?: string | number
  /** With `directory`: mode, owner and group are given to all that is in it. */
  readonly recurse?: boolean
  /** Attributes are given to what a link leads to, and not to the link. Default: true. */
  readonly follow?: boolean
  /** With `link`: also where `src` is not there, and where a file or an empty folder is in its place. With `hard`: also where another file is. */
  readonly force?: boolean
  readonly modificationTime?: 'preserve' | 'now'
  readonly accessTime?: 'preserve' | 'now'
  /** Whether what is removed is kept in the run's folder, to come back. Default: true. */
  readonly keep?: boolean
}

/** What came of it. */
export interface FileResult {
  /** The paths that were changed, in the order in which they were given. */
  readonly changed: readonly string[]
}

const kinds: Kinds<FileOptions> = {
  path: required(absolutePath),
  state: oneOf('file', 'directory', 'absent', 'link', 'hard', 'touch'),
  src: text,
  mode: modeKind,
  owner: userName,
  group: userName,
  recurse: truth,
  follow: truth,
  force: truth,
  modificationTime: oneOf('preserve', 'now'),
  accessTime: oneOf('preserve', 'now'),
  keep: truth,
}

/**
 * Makes a path be a file, folder or link, or nothing, and gives it mode and owner: Ansible's `file`.
 * @throws HostFailedError where something else is there that is not to be replaced
 */
export const file = operation<FileOptions, FileResult>({
  name: 'file',
  check(given) {
    const options = checkedOptions('file', given, kinds)
    const { state, src, recurse } = options
    if (src !== undefined && state !== 'link' && state !== 'hard')
      throw wrongOptions("file({ src }): it goes with state: 'link' or 'hard'")
    if (recurse && state !== undefined && state !== 'directory')
      throw wrongOptions("file({ recurse }): it goes with state: 'directory'")
    return { ...options, path: withoutLastSlashes(options.path) }
  },
  look,
  batches,
  joined: results => ({ changed: results.flatMap(({ changed }) => changed) }),
  undo: undoKept,
  kept: keptShape,
})

/** The path that `src` names, of what an option is about. */
function sourceOf({ src, state, path }: FileOptions): string {
  if (src === undefined || src.startsWith('/')) return src ?? path
  // As the link says it: from the folder that the link is in. A hard link is asked for by what it is called.
  return state === 'hard' ? src : `${splitPath(path).folder.replace(/\/$/, '')}/${src}`
}

/** What is about the same paths, or about one in another, is done one after the other. */
function batches(wanted: readonly FileOptions[]): FileOptions[][] {
  const groups: FileOptions[][] = []
  for (const one of wanted) {
    const last = groups.at(-1)
    const touches = last?.some(
      other =>
        isWithin(one.path, other.path) || isWithin(sourceOf(one), other.path) || isWithin(one.path, sourceOf(other)),
    )
    if (last && !touches) last.push(one)
    else groups.push([one])
  }
  return groups
}

/** Whether one of two paths is the other, or in it. */
function isWithin(one: string, other: string): boolean {
  const [first, second] = [normalize(`${one}/`), normalize(`${other}/`)]
  return first.startsWith(second) || second.startsWith(first)
}

/** One change, as a script does it. */
interface Change {
  readonly would: string
  /** What was there; a function where it is to be fetched. */
  readonly kept?: Kept | (() => Promise<Kept>)
  readonly lines: readonly string[]
}

async function look(session: HostSession, wanted: readonly FileOptions[]): Promise<Found<FileResult>> {
  const sources = wanted.map((options): Question => ({ path: sourceOf(options) }))
  const questions = wanted.map(
    // A folder that holds something is not replaced by a link.
    ({ path, recurse, state, force }): Question => ({ path, tree: recurse || (state === 'link' && force) }),
  )
  const looked = await lookAt(session, [...questions, ...sources], {
    users: wanted.flatMap(({ owner }) => owner ?? []),
    groups: wanted.flatMap(({ group }) => group ?? []),
  })
  const made = new Set<string>()
  const all = wanted.map((options, index) => {
    const [at, source] = [looked.at[index]!, looked.at[wanted.length + index]!]
    return changesFor({ session, options, at, source, looked, made })
  })
  const changes = all.flat()
  const changed = wanted.filter((_, index) => all[index]!.length > 0).map(({ path }) => path)
  return {
    would: changes.map(({ would }) => would),
    result: { changed },
    announce: async () => {
      for (const { options, at } of wanted.map((options, index) => ({ options, at: looked.at[index]! })))
        if (options.state === 'absent' && at.own?.kind === 'file')
          await session.files.announce(at.path, () => ({ after: undefined, secret: (at.own!.bits & 0o007) === 0 }))
    },
    keep: async () => {
      const kept: Kept[] = []
      for (const change of changes) {
        if (typeof change.kept === 'function') kept.push(await change.kept())
        else if (change.kept) kept.push(change.kept)
      }
      return kept
    },
    apply: async () => {
      await runFileScript(
        session,
        `do it: ${changes[0]?.would}${changes.length > 1 ? `, and ${changes.length - 1} more` : ''}`,
        changes.flatMap(({ lines }) => lines),
      )
      return { changed }
    },
  }
}

/** Where one thing stands. */
interface Case {
  readonly session: HostSession
  readonly options: FileOptions
  readonly at: AtPath
  readonly source: AtPath
  readonly looked: Looked
  /** Folders that are made by what is asked before. */
  readonly made: Set<string>
}

function changesFor(one: Case): Change[] {
  const { options, at } = one
  const state = options.state ?? (at.own ? kindOf(at.own) : options.recurse ? 'directory' : 'file')
  switch (state) {
    case 'absent':
      return removal(one)
    case 'directory':
      return folder(one)
    case 'link':
      return link(one)
    case 'hard':
      return hardLink(one)
    case 'touch':
      return touched(one)
  }
  const there = followed(one)
  if (there.kind !== 'file') {
    const what = there.kind === 'none' ? 'absent' : there.kind
    throw refused(one, `${options.path} is ${what}, and its attributes can't be set as those of a file`)
  }
  return attributes(one, there.thing)
}

/** What Ansible calls it: a file with several names is a hard link. */
function kindOf({ kind, links }: Thing): 'link' | 'directory' | 'hard' | 'file' {
  if (kind === 'other') return 'file'
  return kind === 'file' && links > 1 ? 'hard' : kind
}

/** What attributes are given to: what a link leads to, unless it is said otherwise. */
function followed({ options, at }: Case): { kind: 'none' } | { kind: string; thing: Thing } {
  const thing = options.follow === false ? at.own : at.behind
  if (!thing) return { kind: at.own ? 'a link to nothing' : 'none' } as { kind: 'none' }
  const { kind } = thing
  return { kind: kind === 'other' ? 'file' : kind, thing }
}

function refused({ session: { host } }: Case, message: string, hint?: string): HostFailedError {
  return new HostFailedError(`${host.name}: ${message}`, { code: 'file.refused', host: host.name, hint })
}

function removal({ session, options: { path, keep }, at: { own } }: Case): Change[] {
  if (!own) return []
  const { folder, name } = splitPath(path)
  return [
    {
      would: `remove ${path}${own.kind === 'directory' ? ' and all that is in it' : ''}`,
      kept: keep === false ? { kind: 'lost', path } : () => keepRemoved(session, path),
      lines: [
        `_in ${quote(folder)}; [ "$(stat -c %d:%i -- ${quote(`./${name}`)})" = ${own.identity} ] || { echo ${quote(`${path} was changed meanwhile`)} >&2; exit 1; }`,
        `rm -rf -- ${quote(`./${name}`)}; sync .`,
      ],
    },
  ]
}

/** The attributes that are asked for, of something that is made. */
function madeWith({ options: { mode, owner, group }, looked }: Case, folder: boolean) {
  const bits = (folder ? 0o777 : 0o666) & ~looked.umask
  const who = [owner === undefined ? '' : looked.uid(owner), group === undefined ? '' : `:${looked.gid(group)}`].join(
    '',
  )
  return { bits: mode === undefined ? bits : modeBits(mode, { bits, folder }, looked.umask), owner: who || '-' }
}

function folder(one: Case): Change[] {
  const { options, at } = one
  const { path, recurse } = options
  const there = followed(one)
  if ('thing' in there) {
    if (there.kind !== 'directory') throw refused(one, `${path} is there, and no folder`)
    return [...attributes(one, there.thing), ...(recurse ? at.tree.flatMap(each => attributes(one, each)) : [])]
  }
  if (at.own) throw refused(one, `${path} is a link to what is not there`)
  const { bits, owner } = madeWith(one, true)
  // As Ansible: those above it that are made have the same attributes.
  const due = [...at.missing, path].filter(each => !one.made.has(each))
  return due.map(each => {
    one.made.add(each)
    const { folder, name } = splitPath(each)
    return {
      would: `make the folder ${each}`,
      kept: { kind: 'folder', path: each },
      lines: [
        owner === '-'
          ? `_in ${quote(folder)}; mkdir -m ${bits.toString(8)} -- ${quote(`./${name}`)}`
          : // Where nobody else may enter: what is given away is what was made.
            `_in ${quote(folder)}; _private; mkdir -m 700 d; chown -- ${owner} d; chmod ${bits.toString(8)} d; [ ! -L ${quote(`../${name}`)} ] && [ ! -e ${quote(`../${name}`)} ] || { echo ${quote(`${each} is there by now`)} >&2; exit 1; }; mv -T d ${quote(`../${name}`)}; _leave`,
      ],
    }
  })
}

/** Mode, owner, group and times of what is there. */
function attributes({ options, at, looked }: Case, is: Thing): Change[] {
  const { mode, owner, group, modificationTime, accessTime } = options
  const isLink = is.kind === 'link'
  const bits =
    mode === undefined || isLink
      ? is.bits
      : modeBits(mode, { bits: is.bits, folder: is.kind === 'directory' }, looked.umask)
  const uid = owner === undefined ? is.uid : looked.uid(owner)
  const gid = group === undefined ? is.gid : looked.gid(group)
  const { path } = is
  const told = [
    ...(bits === is.bits ? [] : [`mode ${octal(is.bits)} → ${octal(bits)}`]),
    ...(uid === is.uid ? [] : [`owner ${is.uid} → ${uid}`]),
    ...(gid === is.gid ? [] : [`group ${is.gid} → ${gid}`]),
  ]
  const changes: Change[] = []
  if (told.length > 0) {
    changes.push({
      would: `${path}: ${told.join(', ')}`,
      kept: { kind: 'attributes', path, ...attributesOf(is) },
      lines: [...trustLines(at, is), attributeLine({ path, bits, uid, gid }, is)],
    })
  }
  const [read, changed] = [accessTime === 'now', modificationTime === 'now']
  if ((read || changed) && is.times) {
    changes.push({
      would: `${path}: ${[read ? 'access' : '', changed ? 'modification' : ''].filter(Boolean).join(' and ')} time`,
      kept: { kind: 'times', path, ...is.times },
      lines: [
        ...trustLines(at, is),
        `_hold ${inFolder(path)} ${is.identity}; touch -c ${read ? '-a' : ''} ${changed ? '-m' : ''} -- "$_f"`,
      ],
    })
  }
  return changes
}

function touched(one: Case): Change[] {
  const { options, at } = one
  const { path, modificationTime = 'now', accessTime = 'now' } = options
  const there = followed(one)
  if ('thing' in there)
    return attributes({ ...one, options: { ...options, modificationTime, accessTime } }, there.thing)
  if (at.own) throw refused(one, `${path} is a link to what is not there`)
  if (at.missing.length > 0) throw refused(one, `${path} can't be made: there is no folder ${splitPath(path).folder}`)
  const { bits, owner } = madeWith(one, false)
  const { folder, name } = splitPath(path)
  return [
    {
      would: `make the empty file ${path}`,
      kept: { kind: 'file', path, sha256: ofNothing },
      lines: [
        `_in ${quote(folder)}; _private; : >f; ${owner === '-' ? '' : `chown -- ${owner} f; `}chmod ${bits.toString(8)} f; mv -fT f ${quote(`../${name}`)}; _leave; sync .`,
      ],
    },
  ]
}

/** The sha256 of an empty file. */
const ofNothing = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

function link(one: Case): Change[] {
  const { session, options, at, source } = one
  const { path, src, force } = options
  const { own, target, tree } = at
  if (src === undefined) {
    if (own?.kind === 'link') return linkAttributes(one)
    throw refused(one, `${path} is no link, and its src is not given`)
  }
  if (!force && !source.behind)
    throw refused(one, `${source.path} is not there`, 'A link to what is not there yet takes force: true.')
  if (own && own.kind !== 'link' && !force)
    throw refused(one, `${path} is a ${own.kind}, and is not replaced by a link`, 'force: true replaces it.')
  if (own?.kind === 'directory' && tree.length > 0) throw refused(one, `${path} is a folder that holds something`)
  if (own?.kind === 'link' && target === src) return linkAttributes(one)
  const owner = options.follow === false ? madeWith(one, false).owner : '-'
  const lines = linkLines(path, src, owner)
  if (!own) return [{ would: `link ${path} → ${src}`, kept: { kind: 'link', path, target: src }, lines }]
  if (own.kind === 'link')
    return [
      {
        would: `link ${path} → ${src} (was ${target})`,
        kept: { kind: 'link', path, target: src, before: target },
        lines,
      },
    ]
  const emptied =
    own.kind === 'directory'
      ? [`_in ${quote(splitPath(path).folder)}; rmdir -- ${quote(`./${splitPath(path).name}`)}`]
      : []
  return [
    {
      would: `replace ${path} by a link → ${src}`,
      kept: () => keepRemoved(session, path),
      lines: emptied,
    },
    { would: `link ${path} → ${src}`, kept: { kind: 'link', path, target: src }, lines },
  ]
}

/** Of a link that is as it shall be: what it leads to has its attributes, unless it is said otherwise. */
function linkAttributes(one: Case): Change[] {
  const there = followed(one)
  return 'thing' in there ? attributes(one, there.thing) : []
}

function hardLink(one: Case): Change[] {
  const { session, options, at, source } = one
  const { path, src, force } = options
  const { own } = at
  if (src === undefined) {
    if (own && kindOf(own) === 'hard') return attributes(one, own)
    throw refused(one, `${path} is no hard link, and its src is not given`)
  }
  const to = source.behind
  if (!to) throw refused(one, `${src} is not there`)
  if (to.kind === 'directory') throw refused(one, `${src} is a folder: it can't have a second name`)
  if (own?.identity === to.identity) return attributes(one, own)
  if (own?.kind === 'directory') throw refused(one, `${path} is a folder`)
  if (own && own.kind !== 'link' && !force) throw refused(one, `${path} is another file`, 'force: true replaces it.')
  const { folder, name } = splitPath(path)
  const lines = [
    `_in ${quote(folder)}; _private; ln -- ${quote(source.real)} l; [ "$(stat -c %d:%i l)" = ${to.identity} ] || { echo ${quote(`${src} was changed meanwhile`)} >&2; exit 1; }; mv -fT l ${quote(`../${name}`)}; _leave; sync .`,
  ]
  const made: Change = {
    would: `make ${path} a name of ${src}`,
    kept: { kind: 'name', path, identity: to.identity },
    lines,
  }
  const after = attributes(one, { ...to, path })
  if (!own) return [made, ...after]
  return [{ would: `replace ${path}`, kept: () => keepRemoved(session, path), lines: [] }, made, ...after]
}
