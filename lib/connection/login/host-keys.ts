// Host keys against known_hosts files, as OpenSSH's sshd(8) describes them: plain, hashed and `[host]:port` names, wildcards,
// negation, `@revoked` and `@cert-authority`.
import { createHash, createHmac } from 'node:crypto'
import {
  accessSync,
  appendFileSync,
  type BigIntStats,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { homeFolder } from '../../operator.ts'
import { matchesWildcards } from '../../wildcard.ts'

/** One line of a known_hosts file. */
export interface KnownHost {
  readonly file: string
  readonly line: number
  readonly marker?: 'revoked' | 'cert-authority'
  readonly names: string
  readonly keyType: string
  readonly key: Buffer
}

/** What a known_hosts lookup says of a key. */
export type HostKeyVerdict =
  | { readonly is: 'known' }
  | { readonly is: 'unknown' }
  | { readonly is: 'changed'; readonly recorded: KnownHost }
  | { readonly is: 'revoked'; readonly recorded: KnownHost }

/** The files that OpenSSH reads when nothing else is said. Throws `RekeyError` for a user without a home folder. */
export function defaultKnownHostsFiles(): string[] {
  const own = join(homeFolder(), '.ssh')
  return [join(own, 'known_hosts'), join(own, 'known_hosts2'), '/etc/ssh/ssh_known_hosts']
}

/** The entries of one known_hosts file, so that those of one host of many are found at once. */
interface KnownHostsFile {
  /** What tells that the file is as it was. */
  readonly state: string
  /** Entries of nothing but plain names, by each of them. */
  readonly plain: ReadonlyMap<string, readonly KnownHost[]>
  /** Those with hashed names, wildcards or negations. */
  readonly others: readonly KnownHost[]
}

const read = new Map<string, KnownHostsFile>()

/**
 * The entries that speak of `address` on `port`, of known_hosts files in their order. A file that does not exist counts as empty, and
 * so does a line that isn't an entry. Throws `RekeyError` for one that can't be read.
 */
export function entriesFor(files: readonly string[], address: string, port: number): KnownHost[] {
  const name = port === 22 ? address.toLowerCase() : `[${address.toLowerCase()}]:${port}`
  return files.flatMap(file => {
    const { plain, others } = readKnownHosts(file)
    const entries = [...(plain.get(name) ?? []), ...others.filter(({ names }) => namesMatch(names, name))]
    return entries.sort((a, b) => a.line - b.line)
  })
}

/** Throws `RekeyError` for a known_hosts file that is there and can't be read. One that is not there may be. */
export function requireReadable(file: string): void {
  if (!statsOf(file)) return
  try {
    accessSync(file, constants.R_OK)
  } catch (error) {
    throw unusable(file, `can't be read: ${(error as Error).message}`, error)
  }
}

/** Of `/dev/null` there are none: nothing is read from what is no file, it may never end. */
function statsOf(file: string): BigIntStats | undefined {
  let stats: BigIntStats | undefined
  try {
    stats = statSync(file, { bigint: true, throwIfNoEntry: false })
  } catch (error) {
    throw unusable(file, `can't be read: ${(error as Error).message}`, error)
  }
  if (!stats || stats.isFile()) return stats
  if (file === '/dev/null') return undefined
  throw unusable(file, stats.isDirectory() ? 'is a folder, and no file' : 'is no file')
}

/** The error for a known_hosts file that can't be used. */
export function unusable(file: string, why: string, cause?: unknown): RekeyError {
  return new RekeyError(`the known_hosts file ${file} ${why}`, {
    code: 'connection.known-hosts',
    hint: 'Mend it, or name another one: ansible_ssh_common_args: -o UserKnownHostsFile=FILE.',
    cause,
  })
}

function readKnownHosts(file: string): KnownHostsFile {
  const stats = statsOf(file)
  const state = stats ? `${stats.dev} ${stats.ino} ${stats.size} ${stats.mtimeNs}` : ''
  const before = read.get(file)
  if (before?.state === state) return before
  const plain = new Map<string, KnownHost[]>()
  const others: KnownHost[] = []
  for (const entry of stats ? entriesOf(file) : []) {
    if (/[|*?!]/.test(entry.names)) others.push(entry)
    else {
      for (const name of new Set(entry.names.toLowerCase().split(','))) {
        const entries = plain.get(name) ?? []
        plain.set(name, entries)
        entries.push(entry)
      }
    }
  }
  const known = { state, plain, others }
  read.set(file, known)
  return known
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw unusable(file, `can't be read: ${(error as Error).message}`, error)
  }
}

function* entriesOf(file: string): Generator<KnownHost> {
  for (const [index, line] of contentOf(file).split('\n').entries()) {
    const words = line.trim().split(/\s+/)
    if (words[0] === '' || words[0]?.startsWith('#')) continue
    const marker = words[0]?.startsWith('@') ? words.shift()?.slice(1) : undefined
    if (marker !== undefined && marker !== 'revoked' && marker !== 'cert-authority') continue
    const [names, keyType, key] = words
    if (names === undefined || keyType === undefined || key === undefined) continue
    yield { file, line: index + 1, marker, names, keyType, key: Buffer.from(key, 'base64') }
  }
}

/**
 * Judges the key that a host presented.
 * @param entries the entries of that host, from `entriesFor`
 * @param key the key blob as on the wire
 */
export function judgeHostKey(entries: readonly KnownHost[], key: Buffer): HostKeyVerdict {
  const revoked = entries.find(entry => entry.marker === 'revoked' && entry.key.equals(key))
  if (revoked) return { is: 'revoked', recorded: revoked }
  const plain = entries.filter(entry => entry.marker === undefined)
  if (plain.some(entry => entry.key.equals(key))) return { is: 'known' }
  const type = keyTypeOf(key)
  const changed = plain.find(entry => entry.keyType === type) ?? plain[0]
  return changed ? { is: 'changed', recorded: changed } : { is: 'unknown' }
}

/** `SHA256:…`, as ssh and ssh-keygen print it. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256')
    .update(key)
    .digest('base64')
    .replace(/={1,2}$/, '')}`
}

/** The algorithm name at the head of a key blob, e.g. `ssh-ed25519`. */
export function keyTypeOf(key: Buffer): string {
  return key.length < 4 ? '' : key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1')
}

/**
 * Appends a key to a known_hosts file, which is made (0600) where it is missing. Throws `RekeyError` where it can't be written: a key that
 * nobody remembers could be another one the next time.
 */
export function recordHostKey(file: string, address: string, port: number, key: Buffer): void {
  const name = port === 22 ? address : `[${address}]:${port}`
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    const line = `${name} ${keyTypeOf(key)} ${key.toString('base64')}\n`
    // All at once: others may append, too.
    appendFileSync(file, endsInLine(file) ? line : `\n${line}`, { mode: 0o600 })
  } catch (error) {
    throw unusable(file, `can't be written, to accept the key of ${name}: ${(error as Error).message}`, error)
  }
}

/**
 * Ends the last line of a known_hosts file, for others that will append to it. Where it can't be written, they will find out.
 */
export function endLastLine(file: string): void {
  try {
    if (!endsInLine(file)) appendFileSync(file, '\n')
  } catch {
    // As said.
  }
}

/** Whether the last line of a file has an end: what is appended to one that has none would spoil both. */
function endsInLine(file: string): boolean {
  const stats = statSync(file, { throwIfNoEntry: false })
  if (!stats?.isFile() || stats.size === 0) return true
  const descriptor = openSync(file, 'r')
  try {
    const last = Buffer.alloc(1)
    readSync(descriptor, last, 0, 1, stats.size - 1)
    return last.toString('latin1') === '\n'
  } finally {
    closeSync(descriptor)
  }
}

function namesMatch(names: string, name: string): boolean {
  let matched = false
  for (const pattern of names.split(',')) {
    if (pattern.startsWith('|1|')) {
      const [, , salt, hash] = pattern.split('|')
      const digest = createHmac('sha1', Buffer.from(salt ?? '', 'base64'))
        .update(name)
        .digest('base64')
      if (digest === hash) matched = true
    } else if (pattern.startsWith('!')) {
      if (matchesWildcards(pattern.slice(1).toLowerCase(), name, '?')) return false
    } else if (matchesWildcards(pattern.toLowerCase(), name, '?')) {
      matched = true
    }
  }
  return matched
}
