// The folders of runs in the store, in pieces that are encrypted: another worker goes on with a run from there, as another machine does with a copy.
import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  type Dirent,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { RekeyError } from '../../errors.ts'
import type { Database, Query } from './database.ts'
import type { FleetKey } from './key.ts'

/** Whose folder it is. */
export interface FolderOf {
  readonly fleet: string
  readonly cluster: string
  readonly run: string
}

/** A folder that is kept in the store. */
export interface KeptFolder {
  /**
   * Stores what has changed since: the journal last, so that nothing is missing that it names.
   * @param fenced does something in the transaction that writes, and throws where the cluster is not ours any more: then nothing is written
   * @param whole also what steps printed, which nobody needs to go on
   */
  store(fenced: (query: Query) => Promise<void>, whole?: boolean): Promise<void>
}

const pieceSize = 256 * 1024
/** Bytes that are held in memory at once. */
const batchSize = 16 * 1024 * 1024
/** Read before all others, and stored after them: the end of the journal is never further than the journal, and that never further than the rest. */
const lines = 'events.jsonl'
const journal = ['journal-end.json', lines]
/** Pieces that a journal may have: 64 MB. */
const mostPieces = 256
/** Who has the folder on this machine is no matter of another one. */
const left = ['claims', 'last-run']
const printed = 'output'

interface Piece {
  readonly id: string
  readonly hash: string
  readonly bytes: Uint8Array
}

interface KnownFile {
  readonly stamp: string
  /** Which file it was, and how many bytes it had; 0 where it was another machine's. */
  readonly inode: bigint
  readonly size: bigint
  readonly pieces: readonly { readonly id: string; readonly hash: string }[]
}

/**
 * Keeps a folder.
 * @param known what `restoreFolder` found, where it was restored
 */
export function keepFolder(
  database: Database,
  key: FleetKey,
  of: FolderOf,
  folder: string,
  known: Map<string, KnownFile> = new Map(),
): KeptFolder {
  const place = [of.fleet, of.cluster, of.run]
  const write = async (query: Query, pieces: readonly Piece[]) => {
    for (const { id, bytes } of pieces)
      await query(
        `INSERT INTO rekey_fleet.piece (fleet, cluster, run, id, bytes) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (fleet, cluster, run, id) DO UPDATE SET bytes = excluded.bytes`,
        [...place, id, bytes],
      )
  }
  /** The pieces of a file that differ from what is stored, and what is known of it then. */
  const changesIn = async (path: string): Promise<{ pieces: Piece[]; file: KnownFile } | undefined> => {
    const found = statSync(join(folder, path), { throwIfNoEntry: false, bigint: true })
    if (!found?.isFile()) return undefined
    const stamp = `${found.size} ${found.mtimeNs} ${found.ino}`
    const before = known.get(path)
    if (before?.stamp === stamp) return { pieces: [], file: before }
    const pieces: Piece[] = []
    // A journal only grows, and a long one is not read again and again: from where its end was, with the piece before that.
    const grows = path === lines && before?.inode === found.ino && before.size <= found.size
    const all: KnownFile['pieces'][number][] = grows ? before.pieces.slice(0, -2) : []
    for (const [index, content] of contentsOf(join(folder, path), Number(found.size), all.length)) {
      const id = idOf(path, index)
      const hash = createHash('sha256').update(content).digest('hex')
      all.push({ id, hash })
      if (before?.pieces[index]?.hash === hash) continue
      const head = Buffer.from(`${JSON.stringify({ path, index })}\n`)
      pieces.push({ id, hash, bytes: await key.seal([...place, id], Buffer.concat([head, content])) })
    }
    return { pieces, file: { stamp, inode: found.ino, size: found.size, pieces: all } }
  }
  return {
    store: async (fenced, whole = false) => {
      // The journal as it is now, before anything that it names is read: it is never ahead.
      const first: [string, { pieces: Piece[]; file: KnownFile }][] = []
      for (const path of journal) {
        const changes = await changesIn(path)
        if (changes) first.push([path, changes])
      }
      const next = new Map(first.map(([path, { file }]) => [path, file]))
      let [batch, size]: [Piece[], number] = [[], 0]
      const others = filesIn(folder, whole).filter(path => !journal.includes(path))
      for (const path of others) {
        const changes = await changesIn(path)
        if (!changes) continue
        next.set(path, changes.file)
        for (const piece of changes.pieces) {
          batch.push(piece)
          size += piece.bytes.length
          if (size < batchSize) continue
          const full = batch
          await database.transaction(async query => {
            await fenced(query)
            await write(query, full)
          })
          ;[batch, size] = [[], 0]
        }
      }
      const ids = new Set([...next.values()].flatMap(({ pieces }) => pieces.map(({ id }) => id)))
      const isPrinted = (path: string) => path.startsWith(`${printed}/`)
      const gone = [...known].flatMap(([path, { pieces }]) =>
        !whole && isPrinted(path) ? [] : pieces.filter(({ id }) => !ids.has(id)).map(({ id }) => id),
      )
      await database.transaction(async query => {
        await fenced(query)
        await write(query, batch)
        for (const [, { pieces }] of first) await write(query, pieces)
        if (gone.length > 0)
          await query(
            'DELETE FROM rekey_fleet.piece WHERE fleet = $1 AND cluster = $2 AND run = $3 AND id = ANY($4::text[])',
            [...place, gone],
          )
      })
      for (const path of [...known.keys()]) if (!next.has(path) && (whole || !isPrinted(path))) known.delete(path)
      for (const [path, file] of next) known.set(path, file)
    },
  }
}

/**
 * Writes a run's folder as it is stored to a place where nothing of it is left.
 * @param only the journal, which is all that a later run goes by
 * @returns what it holds, for `keepFolder`; `undefined` where nothing is stored
 * @throws RekeyError where what is stored is not what was kept
 */
export async function restoreFolder(
  query: Query,
  key: FleetKey,
  of: FolderOf,
  folder: string,
  only?: 'journal',
): Promise<Map<string, KnownFile> | undefined> {
  const place = [of.fleet, of.cluster, of.run]
  const wanted = only && journal.flatMap(path => Array.from({ length: mostPieces }, (_, index) => idOf(path, index)))
  const rows = await query<{ id: string }>(
    'SELECT id FROM rekey_fleet.piece WHERE fleet = $1 AND cluster = $2 AND run = $3 AND ($4::text[] IS NULL OR id = ANY($4))',
    [...place, wanted ?? null],
  )
  if (rows.length === 0) return undefined
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const known = new Map<string, { id: string; hash: string }[]>()
  for (const { id } of rows) {
    const [row] = await query<{ bytes: Uint8Array }>(
      'SELECT bytes FROM rekey_fleet.piece WHERE fleet = $1 AND cluster = $2 AND run = $3 AND id = $4',
      [...place, id],
    )
    if (!row) continue
    const opened = await key.open([...place, id], row.bytes)
    const end = opened.indexOf(0x0a)
    const { path, index } = JSON.parse(opened.subarray(0, end).toString('utf8')) as { path: string; index: number }
    if (id !== idOf(path, index) || normalize(path) !== path || path.startsWith('..') || path.startsWith('/'))
      throw new RekeyError(`what is stored of ${of.run} names a file outside of its folder`, { code: 'fleet.folder' })
    const content = opened.subarray(end + 1)
    const file = join(folder, path)
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    const writer = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    writeSync(writer, content, 0, content.length, index * pieceSize)
    closeSync(writer)
    const pieces = known.get(path) ?? []
    pieces[index] = { id, hash: createHash('sha256').update(content).digest('hex') }
    known.set(path, pieces)
  }
  // Its time is another one here: it is read again, and found to be the same.
  return new Map([...known].map(([path, pieces]) => [path, { stamp: '', inode: 0n, size: 0n, pieces }]))
}

/** What is stored of a file says neither its name nor which host or step it is of. */
const idOf = (path: string, index: number) =>
  createHash('sha256').update(`${path}\0${index}`).digest('hex').slice(0, 40)

function filesIn(folder: string, whole: boolean): string[] {
  let entries: Dirent[]
  try {
    entries = readdirSync(folder, { withFileTypes: true, recursive: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return entries
    .filter(entry => entry.isFile())
    .map(({ name, parentPath }) => relative(folder, join(parentPath, name)))
    .filter(path => {
      const [top = ''] = path.split('/')
      return !left.includes(top) && !top.startsWith('claim-') && (whole || top !== printed)
    })
    .sort()
}

/** The pieces of a file, from one on. */
function* contentsOf(path: string, size: number, first: number): Generator<readonly [number, Buffer]> {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    // Gone since it was listed.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    for (let index = first; index === 0 || index * pieceSize < size; index++) {
      const content = Buffer.alloc(Math.min(pieceSize, Math.max(0, size - index * pieceSize)))
      const read = readSync(file, content, 0, content.length, index * pieceSize)
      yield [index, content.subarray(0, read)] as const
    }
  } finally {
    closeSync(file)
  }
}
