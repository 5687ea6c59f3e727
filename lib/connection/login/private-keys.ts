// Private keys that need a passphrase: which they are, and unlocking each once for all hosts. Unlocking is slow on purpose.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { homeFolder } from '../../operator.ts'
import type { ConnectionSettings, UnlockedKey } from '../settings.ts'
import { Secret } from '../shell.ts'

/** The keys that ssh tries when nobody names one. Throws `RekeyError` for a user without a home folder. */
export function defaultKeyFiles(): string[] {
  return ['id_ed25519', 'id_ecdsa', 'id_rsa'].map(name => join(homeFolder(), '.ssh', name))
}

/** Whether a private key can't be used without its passphrase. */
export function isLocked(text: string): boolean {
  const opened = opensshKey(text)
  return opened ? opened.cipher !== 'none' : /^Proc-Type: 4,ENCRYPTED|BEGIN ENCRYPTED PRIVATE KEY/m.test(text)
}

/** The public half of a locked key, as on the wire, where its format shows it. */
export function publicHalf(text: string): Buffer | undefined {
  return opensshKey(text)?.publicKey
}

/**
 * The key files that a connection can't use before somebody types a passphrase: neither unlocked already nor held by the
 * agent.
 */
export async function lockedKeyFiles(settings: ConnectionSettings): Promise<string[]> {
  const files = settings.kind === 'local' ? [] : keyFilesOf(settings)
  const locked = files.flatMap(file => {
    const text = settings.unlockedKeys?.has(file) ? undefined : readable(file)
    return text !== undefined && isLocked(text) ? [{ file, half: publicHalf(text) }] : []
  })
  if (locked.length === 0) return []
  // node-ssh and what is below it take 47 ms to import: only for those who need them.
  const { agentKeys } = await import('./agent.ts')
  const held = await agentKeys()
  if (settings.privateKeyFile === undefined && held.length > 0) return []
  return locked.filter(({ half }) => !held.some(key => half?.equals(key.getPublicSSH()))).map(({ file }) => file)
}

function keyFilesOf({ privateKeyFile, password }: ConnectionSettings): readonly string[] {
  if (privateKeyFile !== undefined) return [privateKeyFile]
  return password === undefined ? defaultKeyFiles() : []
}

/**
 * Unlocks a private key. Returns `undefined` when the passphrase is wrong.
 * @throws RekeyError when the key is of a kind that can't be read
 */
export async function unlockKey(file: string, passphrase: string): Promise<UnlockedKey | undefined> {
  const { default: ssh2 } = await import('ssh2')
  const key = ssh2.utils.parseKey(readFileSync(file), passphrase)
  if (!(key instanceof Error)) return { key, passphrase: new Secret(passphrase) }
  if (/integrity|bad passphrase|bad decrypt|decrypt/i.test(key.message)) return undefined
  throw new RekeyError(`${file}: this private key can't be read: ${key.message}`, {
    code: 'connection.private-key',
    hint: `Load it into an agent with ssh-add, or write it in OpenSSH's format: ssh-keygen -p -f ${file}`,
  })
}

/** The key's text; undefined where there is none. */
export function readable(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

/** What a key in OpenSSH's own format says without being unlocked (PROTOCOL.key of OpenSSH). */
function opensshKey(text: string): { cipher: string; publicKey: Buffer } | undefined {
  const begin = '-----BEGIN OPENSSH PRIVATE KEY-----'
  const from = text.indexOf(begin)
  const to = text.indexOf('-----END', from)
  if (from === -1 || to === -1) return undefined
  const body = text.slice(from + begin.length, to)
  const bytes = Buffer.from(body, 'base64')
  let at = 'openssh-key-v1\0'.length
  const next = () => {
    const length = bytes.readUInt32BE(at)
    at += 4 + length
    return bytes.subarray(at - length, at)
  }
  try {
    const cipher = next().toString('latin1')
    next()
    next()
    at += 4
    return { cipher, publicKey: next() }
  } catch {
    return undefined
  }
}
