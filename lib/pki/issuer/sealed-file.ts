// A file whose content only the holder of a passphrase, or of a key file, can read: AES-256-GCM, written whole.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, scrypt } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { isLifeSocket, isListenedOn, type LifeSocket, openLifeSocket } from '../../process/life-socket.ts'
import { isAlive, isOfThisBoot, type ProcessIdentity, thisProcess } from '../../process-identity.ts'

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
  const release = await lock(path)
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

/** Written beside, synced, and renamed: a crash, or a full disk, leaves the old file or the new one. */
function writeWhole(path: string, text: string): void {
  const beside = `${path}.new`
  try {
    rmSync(beside, { force: true })
    writeFileSync(beside, text, { flag: 'wx', mode: 0o600, flush: true })
    renameSync(beside, path)
    syncFolder(dirname(path))
  } catch (cause) {
    rmSync(beside, { force: true })
    throw cannotWrite(path, cause)
  }
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

function cannotWrite(path: string, cause: unknown): RekeyError {
  return new RekeyError(`${path}: can't be written: ${(cause as Error).message}`, {
    code: 'issuer.file',
    hint: 'Nothing of it was changed. See to space and permissions of its folder, and do it again.',
    cause,
  })
}

/** Who has a file, as its lock says. */
interface Holder extends ProcessIdentity {
  /** Where its process is asked for, beside the file. */
  readonly socket?: string
}

/** One process at a time. A lock whose process is known to be gone is taken over. */
async function lock(path: string): Promise<() => void> {
  const file = `${path}.lock`
  const folder = dirname(path)
  let socket: LifeSocket | undefined
  try {
    // Before the lock is seen: whoever sees it finds somebody there.
    socket = await openLifeSocket(folder)
    const own: Holder = { ...thisProcess(), ...(socket ? { socket: socket.name } : {}) }
    for (let attempt = 0; attempt < 3; attempt++) {
      if (made(file, JSON.stringify(own))) {
        const { close } = socket ?? { close: () => {} }
        return () => {
          rmSync(file, { force: true })
          close()
        }
      }
      await takeAway(path, file)
    }
    throw inUse(path, file, 'another process')
  } catch (error) {
    socket?.close()
    throw error instanceof RekeyError ? error : cannotWrite(file, error)
  }
}

function made(file: string, text: string): boolean {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    rmSync(file, { force: true })
    throw error
  }
}

/** Takes the lock of a process away that is gone. Throws `RekeyError` where it is not, or nobody can tell. */
async function takeAway(path: string, file: string): Promise<void> {
  const text = readIfThere(file)
  if (text === undefined) return
  const holder = holderOf(text)
  if (!holder) throw inUse(path, file, 'a process that its lock does not name', true)
  const folder = dirname(path)
  const { socket } = holder
  const asked = socket !== undefined && isOfThisBoot(holder) ? () => isListenedOn(folder, socket) : () => undefined
  const alive = isAlive(holder) ?? (await asked())
  if (alive !== false) {
    throw inUse(path, file, `process ${holder.pid}${alive ? '' : ` on ${holder.machine}`}`, alive === undefined)
  }
  // Of two who come at once, one takes it; the other may have taken the lock that the first has made since.
  const aside = `${file}.${randomBytes(8).toString('hex')}`
  try {
    renameSync(file, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  const taken = readIfThere(aside)
  if (taken !== text) {
    made(file, taken ?? '')
    rmSync(aside, { force: true })
    throw inUse(path, file, 'another process')
  }
  rmSync(aside, { force: true })
  if (socket !== undefined && isLifeSocket(socket)) rmSync(join(folder, socket), { force: true })
}

function holderOf(text: string): Holder | undefined {
  try {
    const { machine, pid, started, scope, socket } = JSON.parse(text) as Partial<Holder>
    if (typeof machine !== 'string' || typeof pid !== 'number' || typeof started !== 'string') return undefined
    return {
      ...{ machine, pid, started },
      ...(typeof scope === 'string' ? { scope } : {}),
      ...(typeof socket === 'string' ? { socket } : {}),
    }
  } catch {
    return undefined
  }
}

function inUse(path: string, file: string, who: string, unclear = false): RekeyError {
  return new RekeyError(`${path}: ${unclear ? 'may be' : 'is'} in use by ${foreignWords(who)}`, {
    code: 'issuer.in-use',
    hint: unclear
      ? `From here nobody can tell whether it still runs. Where it does not, remove ${file}.`
      : 'Wait until it is done.',
  })
}
