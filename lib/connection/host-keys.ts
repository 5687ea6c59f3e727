// Host keys against known_hosts files, as OpenSSH's sshd(8) describes them: plain, hashed and `[host]:port` names, wildcards,
// negation, `@revoked` and `@cert-authority`.
import { createHash, createHmac } from 'node:crypto'
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

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

/** The files that OpenSSH reads when nothing else is said. */
export function defaultKnownHostsFiles(): string[] {
  return [join(homedir(), '.ssh', 'known_hosts'), join(homedir(), '.ssh', 'known_hosts2'), '/etc/ssh/ssh_known_hosts']
}

/** Reads known_hosts files in order; a file that does not exist counts as empty, and so does a line that isn't an entry. */
export function readKnownHosts(files: readonly string[]): KnownHost[] {
  const known: KnownHost[] = []
  for (const file of files) {
    let text: string
    try {
      text = readFileSync(file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
      throw error
    }
    for (const [index, line] of text.split('\n').entries()) {
      const words = line.trim().split(/\s+/)
      if (words[0] === '' || words[0]?.startsWith('#')) continue
      const marker = words[0]?.startsWith('@') ? words.shift()?.slice(1) : undefined
      if (marker !== undefined && marker !== 'revoked' && marker !== 'cert-authority') continue
      const [names, keyType, key] = words
      if (names === undefined || keyType === undefined || key === undefined) continue
      known.push({ file, line: index + 1, marker, names, keyType, key: Buffer.from(key, 'base64') })
    }
  }
  return known
}

/** The entries that speak of `address` on `port`. */
export function entriesFor(known: readonly KnownHost[], address: string, port: number): KnownHost[] {
  const name = port === 22 ? address.toLowerCase() : `[${address.toLowerCase()}]:${port}`
  return known.filter(entry => namesMatch(entry.names, name))
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
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** The algorithm name at the head of a key blob, e.g. `ssh-ed25519`. */
export function keyTypeOf(key: Buffer): string {
  return key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1')
}

/** Appends a key to a known_hosts file, which is made (0600) where it is missing. */
export function recordHostKey(file: string, address: string, port: number, key: Buffer): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const name = port === 22 ? address : `[${address}]:${port}`
  appendFileSync(file, `${name} ${keyTypeOf(key)} ${key.toString('base64')}\n`, { mode: 0o600 })
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
      if (wildcardMatches(pattern.slice(1), name)) return false
    } else if (wildcardMatches(pattern, name)) {
      matched = true
    }
  }
  return matched
}

function wildcardMatches(pattern: string, name: string): boolean {
  const source = pattern
    .toLowerCase()
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`).test(name)
}
