// Files with keys of tokens, as API servers and controller-managers read them: several keys one after the other, public ones, certificates, or
// a private one, whose public half counts.
import { createPublicKey } from 'node:crypto'
import { HostFailedError } from '../../../errors.ts'
import { digestOf } from '../../../pki/certificates/bundle-text.ts'

/** A key in a file. */
interface KeyBlock {
  readonly pem: string
  /** The SHA-256 of its public half. */
  readonly key: string
  readonly isPrivate: boolean
}

const blocks = /-----BEGIN ([A-Z ]*(?:PUBLIC KEY|PRIVATE KEY|CERTIFICATE))-----[^-]+-----END \1-----/g

/** The keys of a file, in their order. Throws `HostFailedError` where one can't be read: that file can't be written anew. */
export function keysIn(text: string, where: string): KeyBlock[] {
  return [...text.matchAll(blocks)].map(([pem, kind = '']) => {
    try {
      return { pem: `${pem}\n`, key: digestOf(createPublicKey(pem)), isPrivate: kind.includes('PRIVATE') }
    } catch (cause) {
      throw new HostFailedError(`${where} holds a key that can't be read`, { code: 'keysets.unread', cause })
    }
  })
}

/** The public half of a key, PEM. */
export const publicHalf = (pem: string): string =>
  createPublicKey(pem).export({ type: 'spki', format: 'pem' }).toString()

const joined = (keys: readonly Pick<KeyBlock, 'pem'>[]) => keys.map(({ pem }) => pem).join('')

/** A file that verifies tokens of one more key: it stands behind the others, which are older. */
export function withKey(text: string, publicKey: string, where: string): string {
  const { key } = keysIn(publicKey, where)[0] ?? { key: '' }
  if (keysIn(text, where).some(one => one.key === key)) return text
  return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${publicKey}`
}

/** The same with the key before the others: it is older than they. */
export function withFormerKey(text: string, publicKey: string, where: string): string {
  const { key } = keysIn(publicKey, where)[0] ?? { key: '' }
  return keysIn(text, where).some(one => one.key === key) ? text : `${publicKey}${text}`
}

/**
 * A file without keys, by which tokens are verified.
 * @param primary the public key that signs, PEM: it stands where there would be none, since no API server starts with an empty file
 */
export function withoutKeys(text: string, gone: readonly string[], primary: string, where: string): string {
  const all = keysIn(text, where)
  const left = all.filter(({ key }) => !gone.includes(key))
  if (left.length === all.length) return text
  return left.length === 0 ? primary : joined(left)
}

/**
 * A file that signs with another private key. Where tokens are verified by it, too, the one of before stays as a public key, before it.
 */
export function signingWith(text: string, privateKey: string, verifies: boolean, where: string): string {
  const { key } = keysIn(privateKey, where)[0] ?? { key: '' }
  if (keysIn(text, where).some(one => one.isPrivate && one.key === key)) return text
  if (!verifies) return privateKey
  const others = keysIn(text, where).filter(one => one.key !== key)
  return `${joined(others.map(one => (one.isPrivate ? { pem: publicHalf(one.pem) } : one)))}${privateKey}`
}
