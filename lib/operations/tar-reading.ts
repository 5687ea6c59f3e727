// The tar format, as much of it as reading an archive takes that tar has made on a host. What is in it is held in memory, and goes nowhere.
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { RekeyError } from '../errors.ts'

/** What an archive has at a path. */
export interface Archived {
  readonly kind: 'file' | 'folder' | 'link'
  /** Of a file. */
  readonly content: Buffer
  /** Where a link leads. */
  readonly target?: string
}

const block = 512
/** Keys and configuration are small: an archive that unpacks to more than this is none of them. */
const mostUnpacked = 512 * 1024 ** 2

/**
 * Reads a `.tgz`: by absolute path what is in it, as it lay below `/`. The formats are GNU's and POSIX's, with names of any length.
 * @throws RekeyError where it can't be read to its end
 */
export async function readArchive(path: string): Promise<ReadonlyMap<string, Archived>> {
  try {
    const bytes = await promisify(gunzip)(await readFile(path), { maxOutputLength: mostUnpacked })
    return new Map(entriesOf(bytes))
  } catch (cause) {
    throw new RekeyError(`${path} can't be read: ${(cause as Error).message}`, {
      code: 'archive.unreadable',
      hint: 'It is cut off or damaged. The host that it is from may have a copy of its own.',
      cause,
    })
  }
}

const kinds: Readonly<Record<string, Archived['kind']>> = {
  '0': 'file',
  '\0': 'file',
  '1': 'file',
  '5': 'folder',
  '2': 'link',
}

function* entriesOf(bytes: Buffer): Generator<[string, Archived]> {
  // What headers of their own say of the entry behind them.
  let long: { name?: string; target?: string } = {}
  const contents = new Map<string, Buffer>()
  for (let at = 0; ; ) {
    if (at + block > bytes.length) throw new Error('it ends in the middle')
    const header = bytes.subarray(at, at + block)
    if (header.every(byte => byte === 0)) return
    requireSum(header)
    const size = sizeOf(header)
    const content = bytes.subarray(at + block, at + block + size)
    if (content.length < size) throw new Error('it ends in the middle')
    at += block + Math.ceil(size / block) * block
    const type = String.fromCharCode(header[156] ?? 0)
    if (type === 'L') long.name = textOf(content)
    else if (type === 'K') long.target = textOf(content)
    else if (type === 'x') long = { ...long, ...pax(content) }
    else {
      const kind = kinds[type]
      const name = long.name ?? nameIn(header)
      const target = long.target ?? textOf(header.subarray(157, 257))
      long = {}
      // Nothing else is in a backup of files: sockets and devices are no keys.
      if (!kind) continue
      const path = `/${name.replace(/\/$/, '')}`
      // A file with several names is in an archive once, and by its other names as a link to the first.
      const own = type === '1' ? contents.get(`/${target}`) : content
      if (own === undefined) throw new Error(`${path} is ${target}, which is not in it`)
      if (kind === 'file') contents.set(path, own)
      yield [path, { kind, content: own, ...(kind === 'link' && { target }) }]
    }
  }
}

const textOf = (bytes: Buffer) => bytes.toString('utf8').replace(/\0.*$/s, '')

function nameIn(header: Buffer): string {
  const name = textOf(header.subarray(0, 100))
  // POSIX has the beginning of a longer one elsewhere; GNU has other things there.
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? textOf(header.subarray(345, 500)) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function sizeOf(header: Buffer): number {
  const field = header.subarray(124, 136)
  if (((field[0] ?? 0) & 0x80) !== 0) return Number(field.readBigUInt64BE(4))
  return Number.parseInt(textOf(field).trim() || '0', 8)
}

/** The sum of a header, taken with blanks in its own place. */
function requireSum(header: Buffer): void {
  const told = Number.parseInt(textOf(header.subarray(148, 156)).trim(), 8)
  let sum = 8 * 32
  for (const [index, byte] of header.entries()) if (index < 148 || index >= 156) sum += byte
  if (sum !== told) throw new Error('it is no tar archive, or damaged')
}

/** Lines of `LENGTH KEY=VALUE`. */
function pax(content: Buffer): { name?: string; target?: string } {
  const found = new Map<string, string>()
  for (let at = 0; at < content.length; ) {
    const blank = content.indexOf(' ', at)
    const length = Number(content.toString('latin1', at, blank))
    if (blank < 0 || !(length > 0)) throw new Error('it is damaged')
    const line = content.toString('utf8', blank + 1, at + length - 1)
    found.set(line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1))
    at += length
  }
  const [name, target] = [found.get('path'), found.get('linkpath')]
  return { ...(name !== undefined && { name }), ...(target !== undefined && { target }) }
}
