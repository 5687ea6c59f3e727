// Sprig's hashes, its base64 and base32, and what it does with keys that are given. What it makes by chance is refused
// in functions.ts.
import { createDecipheriv, createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { derivePassword } from './derived-password.ts'
import { decodeBase64 } from './encodings.ts'
import { type GoFunction, type GoValue, kindOf, Struct } from './values.ts'

function stringOf(value: GoValue | undefined): string {
  if (typeof value === 'string') return value
  throw new Error(`needs a string, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

const hash =
  (algorithm: string): GoFunction =>
  text =>
    createHash(algorithm).update(stringOf(text), 'latin1').digest('hex')

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

function encodeBase32(bytes: string): string {
  const bits = [...bytes].map(one => one.charCodeAt(0).toString(2).padStart(8, '0')).join('')
  const letters = (bits.match(/.{1,5}/g) ?? []).map(part => base32[Number.parseInt(part.padEnd(5, '0'), 2)])
  return letters.join('').padEnd(Math.ceil(letters.length / 8) * 8, '=')
}

function decodeBase32(text: string): string {
  const joined = text.replaceAll(/[\r\n]/g, '')
  if (joined.length % 8 !== 0 || !/^[A-Z2-7]*(|={1}|={3}|={4}|={6})$/.test(joined)) {
    throw new Error('the text is not base32')
  }
  const letters = [...joined.replaceAll('=', '')]
  const bits = letters.map(letter => base32.indexOf(letter).toString(2).padStart(5, '0')).join('')
  return (bits.match(/.{8}/g) ?? []).map(part => String.fromCharCode(Number.parseInt(part, 2))).join('')
}

function adler32(bytes: string): string {
  let [a, b] = [1, 0]
  for (const one of Buffer.from(bytes, 'latin1')) {
    a = (a + one) % 65_521
    b = (b + a) % 65_521
  }
  return String(b * 65_536 + a)
}

function decryptAes(password: string, encrypted: string): string {
  if (encrypted === '') return ''
  const bytes = Buffer.from(decodeBase64(encrypted), 'latin1')
  const key = Buffer.alloc(32)
  key.write(password, 'latin1')
  try {
    const decipher = createDecipheriv('aes-256-cbc', key, bytes.subarray(0, 16))
    return Buffer.concat([decipher.update(bytes.subarray(16)), decipher.final()]).toString('latin1')
  } catch {
    // Its own error could tell of the padding.
    throw new Error('the text was not encrypted with this password')
  }
}

/** A certificate and its key out of base64, looked at before they are passed on. */
function givenCertificate(certificate: string, key: string): Struct {
  const [Cert, Key] = [decodeBase64(certificate), decodeBase64(key)]
  try {
    new X509Certificate(Cert)
    createPrivateKey(Key)
  } catch {
    throw new Error('needs a certificate and a key, PEM in base64')
  }
  return new Struct('certificate', { Cert, Key })
}

/** By their names without `sprig_`. */
export const cryptoFunctions: Readonly<Record<string, GoFunction>> = {
  adler32sum: text => adler32(stringOf(text)),
  sha1sum: hash('sha1'),
  sha256sum: hash('sha256'),
  sha512sum: hash('sha512'),
  b64enc: text => Buffer.from(stringOf(text), 'latin1').toString('base64'),
  b64dec: text => decodeBase64(stringOf(text)),
  b32enc: text => encodeBase32(stringOf(text)),
  b32dec: text => decodeBase32(stringOf(text)),
  derivePassword,
  decryptAES: (password, text) => decryptAes(stringOf(password), stringOf(text)),
  buildCustomCert: (certificate, key) => givenCertificate(stringOf(certificate), stringOf(key)),
}
