// A file whose content only the holder of a passphrase, or of a key file, can read: AES-256-GCM, written whole.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, scrypt } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { RekeyError } from '../../errors.ts'

/** What opens the file. */
export type SealedFileKey = { readonly passphrase: string } | { readonly keyFile: string }

interface Header {
  readonly format: 'rekey-sealed-1'
  readonly kdf: 'scrypt' | 'key-file'
  readonly salt: string
  /** scrypt's cost, a power of two. */
  readonly cost?: number
}

const cost = 2 ** 16
/** What a header may ask for: it was read from a file, and each step up doubles the memory (256 MB at the last). */
const [leastCost, mostCost] = [2 ** 14, 2 ** 18]
const derive = promisify(scrypt) as (
  secret: string,
  salt: Buffer,
  length: number,
  options: { N: number; maxmem: number },
) => Promise<Buffer>

export interface SealedFile {
  /** The content; undefined where the file was not there when it was opened. */
  readonly content: string | undefined
  /** Seal another content, and put it in place of the old one at once. */
  replace(content: string): void
  /** Let others open the file. */
  close(): void
}

/**
 * Open a sealed file, for one process at a time. A file that is not there is made by the first `replace`.
 * Throws `RekeyError` for a wrong passphrase or key, a damaged file, and one that is in use.
 */
export async function openSealedFile(path: string, key: SealedFileKey): Promise<SealedFile> {
  const release = lock(path)
  try {
    const text = readIfThere(path)
    const sealed = text === undefined ? undefined : parse(text, path)
    const header: Header = sealed?.header ?? {
      format: 'rekey-sealed-1',
      kdf: 'passphrase' in key ? 'scrypt' : 'key-file',
      salt: randomBytes(16).toString('base64'),
      ...('passphrase' in key ? { cost } : {}),
    }
    const secret = await keyOf(header, key, path)
    const content = sealed && unseal(sealed, secret, path)
    return {
      content,
      replace: next => writeWhole(path, seal(next, header, secret)),
      close: release,
    }
  } catch (error) {
    release()
    throw error
  }
}

async function keyOf(header: Header, key: SealedFileKey, path: string): Promise<Buffer> {
  const salt = Buffer.from(header.salt, 'base64')
  if (header.kdf === 'scrypt') {
    if (!('passphrase' in key)) throw wrongKind(path, 'a passphrase')
    if (key.passphrase === '') throw new RekeyError(`${path}: the passphrase is empty`, { code: 'issuer.passphrase' })
    const N = header.cost ?? cost
    return derive(key.passphrase, salt, 32, { N, maxmem: 256 * N * 8 })
  }
  if (!('keyFile' in key)) throw wrongKind(path, 'a key file')
  const material = readKey(key.keyFile)
  return Buffer.from(hkdfSync('sha256', material, salt, 'rekey-sealed-1', 32))
}

function readKey(file: string): Buffer {
  const material = readIfThere(file, 'latin1')
  if (material === undefined) throw new RekeyError(`${file}: there is no key file`, { code: 'issuer.key-file' })
  if (material.trim().length < 32) {
    throw new RekeyError(`${file}: a key file must hold 32 bytes or more`, {
      code: 'issuer.key-file',
      hint: 'Make one with: openssl rand -base64 48',
    })
  }
  return Buffer.from(material.trim(), 'latin1')
}

function wrongKind(path: string, what: string): RekeyError {
  return new RekeyError(`${path}: was sealed with ${what}, and another kind of key is given`, {
    code: 'issuer.passphrase',
  })
}

interface Sealed {
  readonly header: Header
  readonly nonce: string
  readonly tag: string
  readonly data: string
}

function seal(content: string, header: Header, secret: Buffer): string {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', secret, nonce)
  cipher.setAAD(Buffer.from(JSON.stringify(header)))
  const data = Buffer.concat([cipher.update(content, 'utf8'), cipher.final()])
  const sealed: Sealed = {
    header,
    nonce: nonce.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
    data: data.toString('base64'),
  }
  return `${JSON.stringify(sealed)}\n`
}

function unseal({ header, nonce, tag, data }: Sealed, secret: Buffer, path: string): string {
  try {
    const decipher = createDecipheriv('aes-256-gcm', secret, Buffer.from(nonce, 'base64'), { authTagLength: 16 })
    decipher.setAAD(Buffer.from(JSON.stringify(header)))
    decipher.setAuthTag(Buffer.from(tag, 'base64'))
    return Buffer.concat([decipher.update(Buffer.from(data, 'base64')), decipher.final()]).toString('utf8')
  } catch {
    throw new RekeyError(`${path}: does not open with this passphrase or key, or is damaged`, {
      code: 'issuer.passphrase',
    })
  }
}

function parse(text: string, path: string): Sealed {
  let sealed: Sealed | undefined
  try {
    sealed = JSON.parse(text) as Sealed
  } catch {
    // Told below, like any other file that is none of ours.
  }
  if (sealed?.header?.format !== 'rekey-sealed-1') {
    throw new RekeyError(`${path}: is no file that rekey sealed`, { code: 'issuer.bad-file' })
  }
  const wrong = problemOf(sealed)
  if (wrong === undefined) return sealed
  throw new RekeyError(`${path}: is damaged: ${wrong}`, {
    code: 'issuer.bad-file',
    hint: 'Bring the file back from a backup: it is not opened, and not written to.',
  })
}

/** What rekey would never have written. Nothing of a file is authentic before it has been opened. */
function problemOf({ header, nonce, tag, data }: Sealed): string | undefined {
  const { kdf, salt, cost: asked = cost } = header
  if (kdf !== 'scrypt' && kdf !== 'key-file') return 'header.kdf is neither scrypt nor key-file'
  if (typeof salt !== 'string' || Buffer.from(salt, 'base64').length !== 16) return 'header.salt is none'
  const isCost =
    Number.isInteger(asked) && asked >= leastCost && asked <= mostCost && Number.isInteger(Math.log2(asked))
  if (!isCost) return `header.cost is no power of two from ${leastCost} to ${mostCost}`
  const text = Object.entries({ nonce, tag, data }).find(([, one]) => typeof one !== 'string')
  return text && `${text[0]} is missing`
}

function readIfThere(path: string, encoding: 'utf8' | 'latin1' = 'utf8'): string | undefined {
  try {
    return readFileSync(path, encoding)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new RekeyError(`${path}: can't be read (${code})`, { code: 'issuer.file', cause })
  }
}

/** Written beside, synced, and renamed: a crash leaves the old file or the new one. */
function writeWhole(path: string, text: string): void {
  const beside = `${path}.new`
  const file = openSync(beside, 'w', 0o600)
  try {
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(beside, path)
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

/** One process at a time. A lock whose process is gone is taken over. */
function lock(path: string): () => void {
  const file = `${path}.lock`
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      writeFileSync(file, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
      return () => rmSync(file, { force: true })
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code !== 'EEXIST') throw new RekeyError(`${path}: can't be locked (${code})`, { code: 'issuer.file', cause })
      const holder = Number(readIfThere(file) ?? 0)
      if (isAlive(holder)) {
        throw new RekeyError(`${path}: is in use by process ${holder}`, {
          code: 'issuer.in-use',
          hint: `Wait until it is done; or, if that is no rekey, remove ${file}.`,
        })
      }
      rmSync(file, { force: true })
    }
  }
  throw new RekeyError(`${path}: can't be locked`, { code: 'issuer.in-use' })
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
