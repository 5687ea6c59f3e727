// Files that get another content: read once, changed here, written once and in one rename. What all operations on contents share.
import { createHash } from 'node:crypto'
import { splitPath } from '../../connection/safe-folder.ts'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { Found } from '../operation.ts'
import { type Kinds, text, truth, userName } from '../options.ts'
import type { FileResult } from './file.ts'
import { attributeLine, attributesOf, type Kept, runFileScript, trustLines } from './kept.ts'
import { type Mode, modeBits, modeKind, octal } from './mode.ts'
import { type AtPath, type Looked, lookAt } from './paths.ts'

/** What is said of a file, beside what it holds. */
export interface WriteOptions {
  readonly mode?: Mode
  /** A name or a number. */
  readonly owner?: string | number
  readonly group?: string | number
  /** Keep what it held beside it, as `FILE.2026-11-29@17:00:00~`. What `rekey rollback` needs is kept anyway. */
  readonly backup?: boolean
  /** A command that must find the new file good before it takes its place; `%s` is where it waits. */
  readonly validate?: string
}

export const writeKinds: Kinds<WriteOptions> = {
  mode: modeKind,
  owner: userName,
  group: userName,
  backup: truth,
  validate: {
    ...text,
    words: 'a command with %s for the file',
    fits: value => typeof value === 'string' && value.includes('%s'),
  },
}

/** A file, and what becomes of it. */
export interface Edit {
  readonly path: string
  readonly options: WriteOptions
  /** Whether a link stays, and what it leads to is written. */
  readonly follow: boolean
  /** Whether folders above it are made. */
  readonly makesFolders?: boolean
  /** What it holds is not shown, whoever may read it. */
  readonly secret?: boolean
  /** What it shall hold, by what it holds (`undefined`: there is no file); `undefined` where it is left as it is. Throws for what can't be. */
  edit(before: Buffer | undefined, at: AtPath): Buffer | undefined
}

/** Bytes of a file that are read to be changed. */
const largestEdited = 8 * 1024 ** 2

/** What becomes of one file. */
interface Change {
  readonly path: string
  readonly would: readonly string[]
  readonly kept: readonly Kept[]
  /** The content that it gets. */
  readonly after?: Buffer
  readonly before?: Buffer
  readonly secret: boolean
  readonly lines: readonly string[]
}

/**
 * Looks at files and works out what becomes of them, in one round trip; several edits of one file follow each other.
 * @throws HostFailedError for what is no file, can't be read, or is too big
 */
export async function lookToWrite(session: HostSession, edits: readonly Edit[]): Promise<Found<FileResult>> {
  const paths = [...new Set(edits.map(({ path }) => path))]
  const looked = await lookAt(
    session,
    paths.map(path => ({ path, content: largestEdited })),
    {
      users: edits.flatMap(({ options }) => options.owner ?? []),
      groups: edits.flatMap(({ options }) => options.group ?? []),
    },
  )
  const changes = paths.map((path, index) => {
    const those = edits.filter(edit => edit.path === path)
    return changeOf(session, those, looked.at[index]!, looked)
  })
  const changed = changes.filter(({ would }) => would.length > 0).map(({ path }) => path)
  return {
    would: changes.flatMap(({ would }) => would),
    result: { changed },
    announce: async () => {
      for (const { path, after, secret } of changes)
        if (after) await session.files.announce(path, () => ({ after, secret }))
    },
    keep: () => changes.flatMap(({ kept }) => kept),
    apply: async () => {
      const only = changes.flatMap(({ after, lines }) => (after ? [] : lines))
      if (only.length > 0) await runFileScript(session, 'set modes and owners', only)
      for (const { path, after, lines } of changes)
        if (after) await runFileScript(session, `write ${path}`, lines, after)
      return { changed }
    },
  }
}

function changeOf(session: HostSession, edits: readonly Edit[], at: AtPath, looked: Looked): Change {
  const { follow, makesFolders } = edits[0]!
  const options: WriteOptions = Object.assign({}, ...edits.map(edit => edit.options))
  const is = follow ? at.behind : at.own?.kind === 'link' ? undefined : at.own
  const path = follow ? at.real : at.path
  const refuse = (message: string) =>
    new HostFailedError(`${session.host.name}: ${message}`, { code: 'file.refused', host: session.host.name })
  if (is?.kind === 'directory') throw refuse(`${path} is a folder, and a file shall be there`)
  if (is && is.kind !== 'file') throw refuse(`${path} is no file`)
  if (is && at.unreadable) throw refuse(`${path} can't be read`)
  if (is && !at.content)
    throw refuse(`${path} has ${is.size} bytes: no more than ${largestEdited} are read to be changed`)
  const before = is ? at.content : undefined
  const trust = follow ? trustLines(at, at.behind) : []
  let content = before
  for (const { edit } of edits) content = edit(content, at) ?? content
  const secret = edits.some(edit => edit.secret)
  // Nothing there, and nothing to be.
  if (!content) return { path, would: [], kept: [], secret, lines: [] }
  const { mode, owner, group } = options
  const [uid, gid] = [
    owner === undefined ? undefined : looked.uid(owner),
    group === undefined ? undefined : looked.gid(group),
  ]
  const bits = modeBitsOf(mode, is?.bits, looked.umask)
  if (before && content.equals(before)) {
    const wanted = { path, bits, uid: uid ?? is!.uid, gid: gid ?? is!.gid }
    const told = [
      ...(bits === is!.bits ? [] : [`mode ${octal(is!.bits)} → ${octal(bits)}`]),
      ...(wanted.uid === is!.uid ? [] : [`owner ${is!.uid} → ${uid}`]),
      ...(wanted.gid === is!.gid ? [] : [`group ${is!.gid} → ${gid}`]),
    ]
    if (told.length === 0) return { path, would: [], kept: [], secret, lines: [] }
    const kept: Kept = { kind: 'attributes', path, ...attributesOf(is!) }
    return { path, would: [`${path}: ${told.join(', ')}`], kept: [kept], secret, lines: [attributeLine(wanted, is!)] }
  }
  if (at.missing.length > 0 && !makesFolders)
    throw refuse(`${path} can't be written: there is no folder ${splitPath(path).folder}`)
  const sha256 = createHash('sha256').update(content).digest('hex')
  const replaced: Kept[] = before
    ? [{ kind: 'content', path, sha256, content: before.toString('base64'), secret, ...attributesOf(is!) }]
    : at.own?.kind === 'link' && !follow
      ? [{ kind: 'unlinked', path, target: at.target!, sha256 }]
      : [{ kind: 'file', path, sha256 }]
  return {
    path,
    would: [...at.missing.map(folder => `make the folder ${folder}`), `write ${path}`],
    kept: [...at.missing.map((folder): Kept => ({ kind: 'folder', path: folder })), ...replaced],
    before,
    after: content,
    secret: secret || (bits & 0o007) === 0,
    lines: [
      ...trust,
      ...writeLines({
        path,
        sha256,
        bits,
        missing: at.missing,
        options,
        was: is && `${is.uid}:${is.gid}`,
        owner: ownerWord(uid, gid),
      }),
    ],
  }
}

function modeBitsOf(mode: Mode | undefined, before: number | undefined, umask: number): number {
  const bits = before ?? 0o666 & ~umask
  return mode === undefined ? bits : modeBits(mode, { bits, folder: false }, umask)
}

const ownerWord = (uid?: number, gid?: number) => `${uid ?? ''}${gid === undefined ? '' : `:${gid}`}`

interface Written {
  readonly path: string
  readonly sha256: string
  readonly bits: number
  readonly missing: readonly string[]
  readonly options: WriteOptions
  /** Whose the file was, where there was one. */
  readonly was?: string
  readonly owner: string
}

/** Takes a file from stdin, and puts it in its place once it is known to be whole, and found good. */
function writeLines({ path, sha256, bits, missing, options, was, owner }: Written): string[] {
  const { folder, name } = splitPath(path)
  const there = quote(`../${name}`)
  const validate = options.validate?.replaceAll('%s', '"$PWD/f"')
  return [
    ...(missing.length > 0 ? [`_make ${quote(folder)}`] : [`_in ${quote(folder)}`]),
    '_private; umask 077; cat >f',
    `[ "$(sha256sum <f | cut -c1-64)" = ${sha256} ] || { echo 'it did not arrive whole' >&2; exit 1; }`,
    // Who may not give files away leaves theirs; what is asked for by name must be done.
    ...(was === undefined ? [] : [`chown ${was} f 2>/dev/null || :`]),
    ...(owner === '' ? [] : [`chown ${quote(owner)} f`]),
    `_label ${there} f; chmod ${bits.toString(8)} f`,
    ...(validate === undefined
      ? []
      : [
          `( ${validate} ) </dev/null >&2 || { echo ${quote(`${options.validate} does not find it good`)} >&2; exit 1; }`,
        ]),
    ...(options.backup
      ? [`[ ! -f ${there} ] || { cp -p -- ${there} b; mv -fT b ${quote(`../${name}.`)}"$(date +%F@%T)~"; }`]
      : []),
    `sync f; mv -fT f ${there}; sync ..; _leave`,
  ]
}
