// A file of a host, brought to this machine: Ansible's `fetch`.
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, isAbsolute, join, normalize, resolve } from 'node:path'
import { z } from 'zod'
import { HostFailedError, RekeyError } from '../../errors.ts'
import type { HostSession, StepContext } from '../../playbook/model.ts'
import { type Found, operation } from '../operation.ts'
import { absolutePath, checkedOptions, type Kinds, required, text, truth } from '../options.ts'
import { notedBytes, notedHash, notedPath } from './kept.ts'
import { type Mode, modeBits, modeKind } from './mode.ts'
import { type AtPath, lookAt } from './paths.ts'

/** A file of a host, and where it goes here. */
export interface FetchOptions {
  /** The file on the host; what a link leads to. */
  readonly src: string
  /** The folder here that gets `HOST/SRC`, with `SRC` as the whole path on the host. From the folder where rekey was started. */
  readonly dest: string
  /** `dest` is the file itself; with a `/` at its end, the folder that gets it under its own name. Hosts that share it overwrite each other's. */
  readonly flat?: boolean
  /** false: a file that is missing there is no failure. Default: true. */
  readonly failOnMissing?: boolean
  /** Bits of a file that is new here. Default: 0o600, what a host has may be a secret. */
  readonly mode?: Mode
}

/** What came of it. */
export interface Fetched {
  /** The files here, in the order in which they were given. */
  readonly files: readonly {
    readonly src: string
    readonly dest: string
    readonly sha256: string
    readonly changed: boolean
  }[]
}

const kinds: Kinds<FetchOptions> = {
  src: required(absolutePath),
  dest: required(text),
  flat: truth,
  failOnMissing: truth,
  mode: modeKind,
}

/** What there was here before. */
const keptHere = z.strictObject({
  path: notedPath,
  sha256: notedHash,
  /** Folders that were not there, the outermost first. */
  folders: z.array(notedPath),
  before: z.strictObject({ content: notedBytes, bits: z.int().min(0).max(0o7777) }).optional(),
})
type KeptHere = z.infer<typeof keptHere>

/** Bytes of a file that come along when it is looked at. */
const mostAtOnce = 1024 ** 2

/**
 * Brings files of a host to this machine, each in one rename, once all of it has arrived.
 * @throws HostFailedError for a file that is missing, or is a folder
 */
export const fetch = operation<FetchOptions, Fetched>({
  name: 'fetch',
  check: given => checkedOptions('fetch', given, kinds),
  look,
  undo: async (_session: HostSession, kept: readonly KeptHere[], asked?: readonly FetchOptions[]) => {
    for (const { path } of kept) requireAsked(path, asked)
    for (const one of kept.toReversed()) undoHere(one)
  },
  kept: z.array(keptHere),
})

async function look(context: StepContext, wanted: readonly FetchOptions[]): Promise<Found<Fetched>> {
  const { at } = await lookAt(
    context,
    wanted.map(({ src }) => ({ path: src, content: mostAtOnce })),
  )
  const files = wanted.flatMap((options, index) => fileOf(context, options, at[index]!) ?? [])
  const result = (did: boolean): Fetched => ({
    files: files.map(({ src, dest, sha256, changed }) => ({ src, dest, sha256, changed: did && changed })),
  })
  const due = files.filter(({ changed }) => changed)
  return {
    would: due.map(({ src, dest }) => `fetch ${src} to ${dest}`),
    result: result(false),
    keep: () =>
      due.map(
        ({ dest, sha256 }): KeptHere => ({
          path: dest,
          sha256,
          folders: missingAbove(dest),
          before: contentHere(dest),
        }),
      ),
    apply: async () => {
      for (const one of due) await bring(context, one)
      return result(true)
    },
  }
}

interface Fetching {
  readonly src: string
  readonly dest: string
  readonly sha256: string
  readonly content?: Buffer
  readonly changed: boolean
  readonly bits: number
}

function fileOf(
  { host }: StepContext,
  options: FetchOptions,
  { path, behind, sha256, content, unreadable }: AtPath,
): Fetching | undefined {
  const { failOnMissing = true, mode = 0o600 } = options
  if (behind?.kind !== 'file' || unreadable || !sha256) {
    const why = !behind
      ? 'is not there'
      : behind.kind === 'directory'
        ? 'is a folder'
        : unreadable
          ? "can't be read"
          : 'is no file'
    if (!failOnMissing) return undefined
    throw new HostFailedError(`${host.name}: ${path} ${why}, and can't be fetched`, {
      code: 'fetch.missing',
      host: host.name,
      hint: 'failOnMissing: false lets it be missing.',
    })
  }
  const dest = destinationOf(host.name, options)
  const here = existsSync(dest) ? statSync(dest) : undefined
  if (here && !here.isFile())
    throw new RekeyError(`fetch(): ${dest} is no file`, {
      code: 'fetch.destination',
      hint: 'A / at its end says that it is a folder that gets the file.',
    })
  const changed = !here || hashOf(readFileSync(dest)) !== sha256
  const bits = here ? here.mode & 0o7777 : modeBits(mode, { bits: 0o600, folder: false }, 0o077)
  return { src: path, dest, sha256, content, changed, bits }
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

function destinationOf(host: string, { src, dest, flat }: FetchOptions): string {
  if (flat) return resolve(dest.endsWith('/') ? join(dest, basename(src)) : dest)
  // Of an absolute path no `..` is left.
  return join(resolve(dest), host, normalize(src))
}

function missingAbove(path: string): string[] {
  const folder = dirname(path)
  return existsSync(folder) ? [] : [...missingAbove(folder), folder]
}

function contentHere(path: string): KeptHere['before'] {
  if (!existsSync(path)) return undefined
  return { content: readFileSync(path).toString('base64'), bits: statSync(path).mode & 0o7777 }
}

async function bring({ files, host }: StepContext, { src, dest, sha256, content, bits }: Fetching): Promise<void> {
  mkdirSync(dirname(dest), { recursive: true })
  // Hosts may bring the same at once, and others may write to the folder that it goes to.
  const own = mkdtempSync(join(dirname(dest), '.rekey-'))
  const waiting = join(own, 'file')
  try {
    if (content) writeFileSync(waiting, content, { mode: 0o600, flush: true, flag: 'wx' })
    else if ((await files.download(src, waiting)) !== sha256) {
      throw new HostFailedError(`${host.name}: ${src} was changed while it was fetched`, {
        code: 'fetch.hash',
        host: host.name,
      })
    }
    chmodSync(waiting, bits)
    renameSync(waiting, dest)
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}

/** What is undone on this machine is what the step brings here, as far as its playbook says that. */
function requireAsked(path: string, asked: readonly FetchOptions[] | undefined): void {
  // From another folder, what is not absolute is elsewhere.
  if (!asked?.every(({ dest }) => isAbsolute(dest))) return
  if (asked.some(({ dest }) => `${normalize(path)}/`.startsWith(`${resolve(dest)}/`.replace('//', '/')))) return
  throw new RekeyError(`${path} is none of what the step fetches: it is left as it is`, {
    code: 'operation.note',
    hint: 'The folder of the run notes it. Did somebody change it?',
  })
}

function undoHere({ path, sha256, folders, before }: KeptHere): void {
  const now = existsSync(path) ? hashOf(readFileSync(path)) : undefined
  const bytes = before && Buffer.from(before.content, 'base64')
  if (now === undefined && !bytes) return
  if (bytes && now === hashOf(bytes)) return
  if (now !== sha256) {
    throw new RekeyError(`${path} was changed since it was fetched: it is left as it is`, {
      code: 'fetch.changed-since',
    })
  }
  if (!before || !bytes) {
    rmSync(path)
    // Those of other hosts may be in them.
    for (const folder of folders.toReversed()) if (readdirSync(folder).length === 0) rmdirSync(folder)
    return
  }
  const own = mkdtempSync(join(dirname(path), '.rekey-'))
  try {
    writeFileSync(join(own, 'file'), bytes, { mode: 0o600, flush: true, flag: 'wx' })
    chmodSync(join(own, 'file'), before.bits)
    renameSync(join(own, 'file'), path)
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}
