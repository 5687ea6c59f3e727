// Files here that go to hosts: each is looked at, read and hashed once for all the hosts that get it.
import { createHash, hash as hashAtOnce } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { RekeyError } from '../../errors.ts'

/** A file here, and what tells that it is as it was. */
export interface Source {
  readonly path: string
  readonly size: number
  readonly state: string
}

/** Files are handed on in pieces of about this size, many small ones or a part of a big one. */
export const piece = 256 * 1024
/** Looked at in this turn of the event loop, in which many hosts ask for the same ones. */
const lookedAt = new Map<string, Source>()

export function sourceOf(path: string): Source {
  const known = lookedAt.get(path)
  if (known) return known
  try {
    const is = statSync(path, { bigint: true })
    if (!is.isFile()) throw new Error('it is no file')
    const { size, ctimeNs, ino } = is
    const source = { path, size: Number(size), state: `${ino} ${size} ${ctimeNs} ${path}` }
    if (lookedAt.size === 0) setImmediate(() => lookedAt.clear())
    lookedAt.set(path, source)
    return source
  } catch (error) {
    throw unreadable(path, error as Error)
  }
}

/** The hashes of files here: many hosts get the same ones. */
const hashes = new Map<string, Promise<string>>()

export function hashOf(source: Source, algorithm: string): Promise<string> {
  const key = `${algorithm} ${source.state}`
  const known = hashes.get(key) ?? readHash(source, algorithm)
  hashes.set(key, known)
  return known
}

async function readHash(source: Source, algorithm: string): Promise<string> {
  try {
    if (source.size <= piece) return hashAtOnce(algorithm, smallContent(source))
    const hash = createHash(algorithm)
    for await (const chunk of chunksOf(source)) hash.update(chunk)
    return hash.digest('hex')
  } catch (error) {
    throw unreadable(source.path, error as Error)
  }
}

export function unreadable(source: string, cause: Error): RekeyError {
  return new RekeyError(`${source} can't be read: ${cause.message}`, { code: 'copy.source', cause })
}

/** What was read last of files here: hosts that get the same ones are about as far as each other. */
const recent = new Map<string, { readonly bytes: unknown; readonly size: number }>()
/** Bytes of them that are kept. */
const mostRecent = 16 * 1024 * 1024
let recentSize = 0

/** What is in a file here that is no bigger than a piece. */
export function smallContent({ path, size, state }: Source): Buffer {
  return shared(state, size, () => readFileSync(path))
}

/** What is in a bigger file here. It ends early where the file does. */
export async function* chunksOf({ path, size, state }: Source): AsyncGenerator<Buffer> {
  const file = await open(path)
  try {
    for (let at = 0; at < size; at += piece) yield await shared(`${at} ${state}`, piece, () => readPiece(file, at))
  } finally {
    await file.close()
  }
}

function shared<Bytes extends Buffer | Promise<Buffer>>(key: string, size: number, read: () => Bytes): Bytes {
  const known = recent.get(key)
  const one = known ?? { bytes: read(), size }
  if (!known) recentSize += size
  // The last one that was asked for is the last to go.
  recent.delete(key)
  recent.set(key, one)
  for (const [oldest, { size }] of recent) {
    if (recentSize <= mostRecent) break
    recent.delete(oldest)
    recentSize -= size
  }
  return one.bytes as Bytes
}

async function readPiece(file: FileHandle, at: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafeSlow(piece), 0, piece, at)
  return buffer.subarray(0, bytesRead)
}
