// A set of files that belong together (a key, its certificate, its chain): compared first, then staged, then swapped all at once.
import { createHash } from 'node:crypto'
import { dirname } from 'node:path'
import { safeFolders, splitPath } from '../connection/safe-folder.ts'
import { quote } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import { foreignWords } from '../foreign-words.ts'
import type { HostSession } from '../playbook/model.ts'
import { runLongScript } from './script.ts'
import { inFolders, stagedPath, swapFiles, unstageFiles } from './staging.ts'

/** A file as it shall be. */
export interface WantedFile {
  readonly path: string
  readonly content: Buffer
  /** Default: that of the file that is there, else 0644. */
  readonly mode?: number
  /** Names or numbers. Default: those of the file that is there, as far as they may be given to it again. */
  readonly user?: string
  readonly group?: string
  /** Make the folders above it where they are missing; without it a missing one is an error. */
  readonly createFolders: boolean
  /** How many backups are kept of what was there: `PATH.bak`, then `PATH.bak.2` for the one before it. */
  readonly backups: number
  /** Files of one component are backed up together, so that their backups of one number belong together. */
  readonly component: string
}

/** A file as it is. */
interface FoundFile {
  readonly kind: 'file' | 'folder' | 'none'
  readonly hash: string
  readonly mode: string
  readonly user: string
  readonly group: string
  readonly parent: boolean
}

/** What keeps a set from being placed, found before anything is changed; or which files of it differ. */
export interface FileSetCheck {
  /** Paths of the files whose content, mode or owner is not as it shall be. */
  readonly changed: readonly string[]
}

/** A file that differs, with what was not said about it taken from what is there. */
interface DifferingFile extends WantedFile {
  readonly mode: number
  /** `uid:gid` to keep, where less than both was said. */
  readonly before?: string
}

const defaultMode = 0o644

/**
 * The permissions that each file of a set will have: what is said of it, else what the host's file has.
 * Changes nothing.
 */
export async function modesOf(session: HostSession, wanted: readonly WantedFile[]): Promise<number[]> {
  if (wanted.every(({ mode }) => mode !== undefined)) return wanted.map(({ mode }) => mode!)
  const { found } = await inspect(session, wanted)
  return wanted.map((file, index) => modeOf(file, found[index]!))
}

const modeOf = ({ mode }: WantedFile, { kind, mode: before }: FoundFile) =>
  mode ?? (kind === 'file' ? Number.parseInt(before, 8) : defaultMode)

/**
 * Compare a set with what a host has. Changes nothing.
 * Throws `HostFailedError` for whatever would make placing it fail: a destination that is a folder, a missing folder, an
 * unknown user or group, an owner that only root can give.
 */
export async function checkFileSet(session: HostSession, wanted: readonly WantedFile[]): Promise<FileSetCheck> {
  return { changed: (await differing(session, wanted)).map(({ path }) => path) }
}

async function differing(session: HostSession, wanted: readonly WantedFile[]): Promise<DifferingFile[]> {
  const { host } = session
  const problem = (message: string) => {
    throw new HostFailedError(`${host.name}: ${message}`, { code: 'file-set.refused', host: host.name })
  }
  const { me, owners, found } = await inspect(session, wanted)
  return wanted.flatMap((file, index) => {
    const { path, user, group } = file
    const state = found[index]!
    if (state.kind === 'folder') problem(`${path} is a folder, and a file shall be there`)
    if (!state.parent && !file.createFolders) problem(`${path} can't be written: its folder is missing`)
    const uid = user === undefined ? undefined : owners.get(`u ${user}`)
    const gid = group === undefined ? undefined : owners.get(`g ${group}`)
    if (user !== undefined && !uid) problem(`there is no user "${user}" to own ${path}`)
    if (group !== undefined && !gid) problem(`there is no group "${group}" to own ${path}`)
    if (me.user !== '0' && ((uid && uid !== me.user) || (gid && !me.groups.includes(gid)))) {
      problem(`only root can give ${path} to ${[user, group].filter(Boolean).join(':')}`)
    }
    const mode = modeOf(file, state)
    const same =
      state.kind === 'file' &&
      state.hash === createHash('sha256').update(file.content).digest('hex') &&
      Number.parseInt(state.mode, 8) === mode &&
      (uid === undefined || uid === state.user) &&
      (gid === undefined || gid === state.group)
    const keeps = state.kind === 'file' && (user === undefined || group === undefined)
    return same ? [] : { ...file, mode, before: keeps ? `${state.user}:${state.group}` : undefined }
  })
}

/** Is told of what changes: before the first file is replaced, and where it turned out that none was. */
export interface PlacingWatch {
  about(changed: readonly string[]): Promise<void>
  undone(changed: readonly string[]): Promise<void>
}

/**
 * Put those files of a set in place that differ: each written beside its destination and compared with what was sent, then
 * all renamed in one script. Where that fails, also at the last of the renames, the host is as it was.
 * @param run names what is staged
 */
export async function placeFileSet(
  session: HostSession,
  run: string,
  wanted: readonly WantedFile[],
  watch?: PlacingWatch,
): Promise<FileSetCheck> {
  const files = await differing(session, wanted)
  const check = { changed: files.map(({ path }) => path) }
  if (files.length === 0) return check
  // What not everybody may read is taken for a secret.
  const announced = files.map(({ path, content, mode }) =>
    session.files.announce(path, () => ({ after: content, secret: (mode & 0o007) === 0 })),
  )
  await Promise.all(announced)
  const kept = check.changed.map(path => keptPath(path, run))
  const swap = { rename: check.changed, link: [], remove: [], tidy: kept }
  const made = await makeFolders(session, files)
  try {
    await stageSet(session, run, files)
    const components = new Set(files.map(({ component }) => component))
    await keepBackups(
      session,
      wanted.filter(({ component }) => components.has(component)),
    )
    await watch?.about(check.changed)
    await swapFiles(session, run, swap).catch(async error => {
      // Only where the script itself said so: of one whose answer was lost nobody knows how far it came.
      if (error.code === 'staging.swap') {
        await putBack(session, run, check.changed)
        await watch?.undone(check.changed)
      }
      throw error
    })
  } catch (error) {
    await unstageFiles(session, run, swap).catch(() => undefined)
    await unstageFiles(session, beforeOf(run), swap).catch(() => undefined)
    if (made.length > 0) await session.$({ nothrow: true })`rmdir -p -- ${made.toReversed()} 2>/dev/null; true`
    throw error
  }
  return check
}

async function inspect(session: HostSession, wanted: readonly WantedFile[]) {
  const users = [...new Set(wanted.flatMap(({ user }) => user ?? []))]
  const groups = [...new Set(wanted.flatMap(({ group }) => group ?? []))]
  const script = [
    'id -u; id -G',
    // A number needs no name.
    ...users.map(user => `echo "u ${isNumber(user) ? user : `$(id -u -- ${quote(user)} 2>/dev/null)`}"`),
    ...groups.map(group => `echo "g ${isNumber(group) ? group : `$(getent group ${quote(group)} | cut -d: -f3)`}"`),
    ...wanted.map(
      ({ path }) =>
        `f=${quote(path)}; p=no; [ ! -d ${quote(dirname(path))} ] || p=yes; ` +
        `if [ -d "$f" ]; then echo "folder - - - - $p"; elif [ -e "$f" ]; then ` +
        `echo "file $(sha256sum <"$f" | cut -c1-64) $(stat -L -c '%a %u %g' -- "$f") $p"; else echo "none - - - - $p"; fi`,
    ),
  ].join('\n')
  const { stdout } = await runLongScript(session.$, script, { quiet: true })
  const [user, mine, ...lines] = stdout.split('\n')
  const owners = new Map<string, string>()
  for (const [index, name] of users.entries()) owners.set(`u ${name}`, lines[index]!.slice(2))
  for (const [index, name] of groups.entries()) owners.set(`g ${name}`, lines[users.length + index]!.slice(2))
  const found = wanted.map((_, index): FoundFile => {
    const [kind, hash, mode, uid, gid, parent] = lines[users.length + groups.length + index]!.split(' ') as string[]
    return {
      kind: kind as FoundFile['kind'],
      hash: hash!,
      mode: mode!,
      user: uid!,
      group: gid!,
      parent: parent === 'yes',
    }
  })
  return { me: { user: user!, groups: mine!.split(' ') }, owners, found }
}

const isNumber = (name: string) => /^\d+$/.test(name)

/** Makes the missing folders; returns those that were made, the outermost first. */
async function makeFolders(session: HostSession, files: readonly WantedFile[]): Promise<string[]> {
  const folders = [...new Set(files.map(({ path }) => dirname(path)))]
  const script = folders.map(
    folder => `[ -d ${quote(folder)} ] || { _make ${quote(folder)} && echo ${quote(folder)}; }`,
  )
  const { stdout } = await runLongScript(session.$, ['set -e', safeFolders, ...script].join('\n'), { quiet: true })
  return stdout.split('\n').filter(Boolean)
}

/** Writes every file of a set beside its destination, in one script over stdin: its parts are what takes time, not its bytes. */
async function stageSet(session: HostSession, run: string, files: readonly DifferingFile[]): Promise<void> {
  const folders = Map.groupBy(files, ({ path }) => splitPath(path).folder)
  const script = [
    'set -e; umask 077',
    safeFolders,
    'trap _leave EXIT',
    ...[...folders].flatMap(([folder, those]) => stageFolder(folder, run, those)),
  ].join('\n')
  const { exitCode, stderr } = await session.$({ input: script, quiet: true, nothrow: true })`sh -s`
  if (exitCode === 0) return
  throw new HostFailedError(`${session.host.name}: the files could not be staged: ${foreignWords(stderr, 500)}`, {
    code: 'file-set.staging',
    host: session.host.name,
  })
}

/** Those of one folder: made in a private one, under numbers, and renamed to where they wait. */
function stageFolder(folder: string, run: string, files: readonly DifferingFile[]): string[] {
  const numbers = files.map((_, index) => index)
  const hashes = files.map(({ content }) => createHash('sha256').update(content).digest('hex'))
  const owner = ({ user, group }: WantedFile) => `${user ?? ''}${group === undefined ? '' : `:${group}`}`
  const grouped = (key: (file: DifferingFile) => string) =>
    [...Map.groupBy(numbers, index => key(files[index]!))].filter(([name]) => name !== '')
  return [
    `_in ${quote(folder)}; _private`,
    ...files.flatMap(({ path, content }, index) => [
      `base64 -d >${index} <<'.' || { echo ${quote(`${path} can't be written`)} >&2; exit 1; }`,
      ...base64Lines(content),
      '.',
    ]),
    `[ "$(sha256sum ${numbers.join(' ')} | sed 's/ .*//')" = ${quote(hashes.join('\n'))} ] || { echo 'a file did not arrive whole' >&2; exit 1; }`,
    // Who may not give files away leaves theirs, as consul-template does; what is asked for by name must be done.
    ...grouped(({ before = '' }) => before).map(
      ([name, group]) => `chown ${name} ${group.join(' ')} 2>/dev/null || true`,
    ),
    ...grouped(owner).map(([name, group]) => `chown ${quote(name)} ${group.join(' ')}`),
    ...grouped(({ mode }) => mode.toString(8)).map(([mode, group]) => `chmod ${mode} ${group.join(' ')}`),
    `sync ${numbers.join(' ')}`,
    ...files.flatMap(({ path }, index) => {
      const [there, kept] = [beside(path), beside(keptPath(path, run))]
      return [
        `mv -fT ${index} ${beside(stagedPath(path, run))}`,
        `if [ -e ${there} ]; then ln -T ${there} ${index} 2>/dev/null || cp -p ${there} ${index}; mv -fT ${index} ${kept}; else rm -f ${kept}; fi`,
      ]
    }),
    '_leave',
  ]
}

/** What was there waits beside what is staged until all of the set is in place. */
const beforeOf = (run: string) => `${run}-before`
const keptPath = (path: string, run: string) => stagedPath(path, beforeOf(run))

/** After a swap that stopped in the middle: what was replaced comes back, and what was not there goes. */
async function putBack(session: HostSession, run: string, paths: readonly string[]): Promise<void> {
  const script = inFolders(paths, path => {
    const [there, kept, staged] = [path, keptPath(path, run), stagedPath(path, run)].map(inside)
    return `if [ -e ${staged} ]; then rm -f ${kept}; elif [ -e ${kept} ]; then mv -fT ${kept} ${there}; else rm -f ${there}; fi`
  })
  await runLongScript(session.$, [safeFolders, ...script].join('\n'), { quiet: true, nothrow: true })
}

/** A file's name in the folder that was entered; and from a private one in it. */
const inside = (path: string) => quote(`./${splitPath(path).name}`)
const beside = (path: string) => quote(`../${splitPath(path).name}`)

const base64Lines = (content: Buffer) => content.toString('base64').match(/.{1,76}/g) ?? []

/** Moves the backups one number on, and copies what is there. A file that was not there has no backup of that number. */
async function keepBackups(session: HostSession, files: readonly WantedFile[]): Promise<void> {
  const kept = files.filter(({ backups }) => backups > 0)
  if (kept.length === 0) return
  const script = inFolders(
    kept.map(({ path }) => path),
    (path, index) => {
      const backup = (number: number) => inside(backupPath(path, number))
      const older = Array.from({ length: kept[index]!.backups - 1 }, (_, step) => kept[index]!.backups - step)
      return [
        ...older.map(
          number =>
            `if [ -e ${backup(number - 1)} ]; then mv -fT ${backup(number - 1)} ${backup(number)}; else rm -f ${backup(number)}; fi`,
        ),
        `if [ -e ${inside(path)} ]; then _private; cp -p ${beside(path)} 0; mv -fT 0 ${beside(backupPath(path, 1))}; _leave; else rm -f ${backup(1)}; fi`,
      ].join('\n')
    },
  )
  await runLongScript(session.$, ['set -e', safeFolders, 'trap _leave EXIT', ...script].join('\n'), { quiet: true })
}

const backupPath = (path: string, number: number) => (number === 1 ? `${path}.bak` : `${path}.bak.${number}`)
