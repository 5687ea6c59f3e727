// What steps returned, kept in the run's folder for a resumed run: a line of JSON each, and every secret in it in a file of its own.
// It is read from there when it is asked for; what is asked for often stays in the memory, as far as there is room.
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { Secret } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import { processSecrets } from '../../secrets/index.ts'
import { fileNameOf } from '../folder/file-name.ts'
import { cannotKeep, openLineFile } from '../folder/line-file.ts'
import { readLines } from '../folder/line-reader.ts'
import { fromJson, fromOldJson, longestValue, toJson } from './plain-data.ts'

/** What steps returned, by step id and host. */
export interface Registered {
  /** Whether a step returned something on a host, be it that it is lost. */
  has(step: string, host: string): boolean
  /**
   * What it returned, as a run that is gone on with gets it; without a host, on the first one that has it. `undefined` where it returned nothing.
   * @throws RekeyError where it did, and that is lost
   */
  get(step: string, host?: string): unknown
  /**
   * Keeps what a step returned. Resolves once it is on the disk.
   * Rejects with `RekeyError` where it can't be kept.
   */
  save(step: string, host: string, value: unknown): Promise<void>
}

/** What was returned, in the files of a run's folder. */
export interface RegisteredFile extends Registered {
  /** What of the file can't be used, a line each. */
  readonly damage: readonly string[]
  /** That the file of a secret is not there: whoever has the folder whole can go on with the run. */
  readonly missing: RekeyError | undefined
  close(): void
}

/** What it takes to open the file. */
export interface RegisteredOptions {
  /** Tells texts that must not stand in it; they go to the files of the secrets. */
  isSecret(text: string): boolean
  /** On which hosts steps returned something, as the journal says. */
  readonly returned?: ReadonlyMap<string, ReadonlySet<string>>
}

/** Where a value is. */
interface Place {
  readonly at: number
  readonly size: number
}

/** A line that is written today. */
interface Written {
  readonly step: string
  readonly host: string
  readonly format?: unknown
  readonly value?: unknown
}

const fileName = 'registered.jsonl'
const secretsFolder = 'secrets'
/** Written since data that looks like a mark is told from one. */
const format = 2
/** A sign takes six bytes at most, as an escape. */
const longestLine = 6 * longestValue + 64 * 1024
/** Bytes of JSON whose values stay in the memory. */
const mostKept = 16 * 1024 * 1024

/**
 * Opens `registered.jsonl` in a run's folder. Lines that can't be read are passed over: what they held is lost.
 * @throws RekeyError where the file can't be read or written
 */
export function openRegistered(folder: string, { isSecret, returned }: RegisteredOptions): RegisteredFile {
  const path = join(folder, fileName)
  const places = new Map<string, Map<string, Place | undefined>>()
  const kept = keepLatest(mostKept)
  const damage: string[] = []
  let missing: RekeyError | undefined
  const decoded = (written: Written) => decodedIn(folder, written)
  const put = (step: string, host: string, place: Place | undefined) => {
    kept.forget(places.get(step)?.get(host))
    places.set(step, (places.get(step) ?? new Map<string, Place | undefined>()).set(host, place))
  }

  for (const [step, hosts] of returned ?? []) for (const host of hosts) put(step, host, undefined)
  try {
    for (const { number, at, text, broken } of readLines(path, { longest: longestLine })) {
      // It was being written when its writer was killed: its step did not end.
      if (broken) continue
      const written = text === undefined ? undefined : parsed(text)
      if (!written) damage.push(`${path}:${number} can't be read: what a step returned is lost`)
      else if (!('value' in written)) places.get(written.step)?.delete(written.host)
      else {
        const place = { at, size: Buffer.byteLength(text ?? '') }
        put(written.step, written.host, place)
        try {
          // Now, and not when it is asked for: the secrets in it must not be shown before.
          kept.put(place, decoded(written))
        } catch (error) {
          if (error instanceof RekeyError) missing ??= error
          damage.push(
            `${path}:${number}: what '${written.step}' returned on ${written.host} is lost: ${(error as Error).message}`,
          )
          put(written.step, written.host, undefined)
        }
      }
    }
  } catch (error) {
    throw cannotRead(path, error as Error)
  }
  const file = openLineFile(path)

  const read = ({ at, size }: Place): unknown => {
    const text = Buffer.allocUnsafe(size)
    const descriptor = openSync(path, 'r')
    try {
      for (let done = 0; done < size; ) {
        const more = readSync(descriptor, text, done, size - done, at + done)
        if (more === 0) throw new Error('it ends in the middle')
        done += more
      }
    } finally {
      closeSync(descriptor)
    }
    return decoded(JSON.parse(text.toString('utf8')) as Written)
  }
  const keep = (step: string, host: string, text: string, parts = partsOf(text)): string => {
    const name = `${fileNameOf(step)}.${fileNameOf(host)}.${randomBytes(8).toString('hex')}`.slice(-240)
    const own = join(folder, secretsFolder, name)
    try {
      mkdirSync(join(folder, secretsFolder), { recursive: true, mode: 0o700 })
      writeFileSync(own, JSON.stringify({ text, parts } satisfies KeptSecret), { mode: 0o600, flush: true, flag: 'wx' })
    } catch (error) {
      throw cannotKeep(own, error as Error)
    }
    return name
  }
  return {
    damage,
    missing,
    has: (step, host) => places.get(step)?.has(host) ?? false,
    get: (step, host) => {
      const hosts = places.get(step)
      const on = host ?? hosts?.keys().next().value
      if (on === undefined || !hosts?.has(on)) return undefined
      const place = hosts.get(on)
      if (place === undefined) throw lost(step, on, path)
      const known = kept.get(place)
      if (known) return known.value
      try {
        const value = read(place)
        kept.put(place, value)
        return value
      } catch (error) {
        throw lost(step, on, path, error as Error)
      }
    },
    save: async (step, host, value) => {
      const json =
        value === undefined
          ? undefined
          : jsonOf(step, host, value, { isSecret, keep: (text, parts) => keep(step, host, text, parts) })
      // Most steps return nothing; what one returned before, when it was done the last time, holds no more.
      if (json === undefined && !places.get(step)?.has(host)) return
      const head = JSON.stringify({ step, host, format })
      const line = json === undefined ? head : `${head.slice(0, -1)},"value":${json}}`
      const at = file.add(line)
      if (json === undefined) places.get(step)?.delete(host)
      else put(step, host, { at, size: Buffer.byteLength(line) })
      await file.flush()
    },
    close: file.close,
  }
}

/** What a line of the file stands for; the secrets in it are told of. Throws where they are lost. */
function decodedIn(folder: string, { step, host, format: how, value }: Written): unknown {
  const secrets = join(folder, secretsFolder)
  if (how === format) return fromJson(value, name => readSecret(secrets, name))
  // Before, a name was made of these.
  const start = `${step}.${host.replaceAll('/', '_')}.`
  const isName = (name: string) => name.startsWith(start) && /^[0-9a-f]{8}$/.test(name.slice(start.length))
  return fromOldJson(value, name => readOldSecret(secrets, name), isName)
}

/** What a step returned on a host, or why that can't be told. */
export type Returned = { readonly step: string; readonly host: string } & (
  | { readonly value: unknown }
  | { readonly lost: string }
)

/**
 * What steps returned, one after the other, for those who only look: nothing is opened to be written. The secrets in it are `Secret`s, and told of.
 * @throws Error where the file can't be read
 */
export function* registeredIn(folder: string): Generator<Returned> {
  for (const { text, broken } of readLines(join(folder, fileName), { longest: longestLine })) {
    const written = text === undefined || broken ? undefined : parsed(text)
    if (!written || !('value' in written)) continue
    const { step, host } = written
    try {
      yield { step, host, value: decodedIn(folder, written) }
    } catch (error) {
      yield { step, host, lost: (error as Error).message }
    }
  }
}

/** By which steps something is in the file of a folder, and on which hosts. @throws Error where it can't be read */
export function* returnedIn(folder: string): Generator<{ readonly step: string; readonly host: string }> {
  for (const { text } of readLines(join(folder, fileName), { longest: longestLine })) {
    const written = text === undefined ? undefined : parsed(text)
    if (written) yield written
  }
}

/** What steps returned of a run that nobody can go on with: it is in the memory alone. */
export function registeredInMemory(): Registered {
  const values = new Map<string, Map<string, unknown>>()
  return {
    has: (step, host) => values.get(step)?.has(host) ?? false,
    get: (step, host) => (host === undefined ? values.get(step)?.values().next().value : values.get(step)?.get(host)),
    save: async (step, host, value) => {
      if (value === undefined) values.get(step)?.delete(host)
      else values.set(step, (values.get(step) ?? new Map<string, unknown>()).set(host, value))
    },
  }
}

function parsed(line: string): Written | undefined {
  try {
    const written = JSON.parse(line) as Partial<Written> | null
    return typeof written?.step === 'string' && typeof written.host === 'string' ? (written as Written) : undefined
  } catch {
    return undefined
  }
}

function jsonOf(step: string, host: string, value: unknown, texts: Parameters<typeof toJson>[1]): string | undefined {
  try {
    return toJson(value, texts)
  } catch (error) {
    if (!(error instanceof RekeyError) || error.code !== 'run.registered') throw error
    throw new RekeyError(`what '${step}' returned on ${host} can't be kept: ${error.message}`, {
      code: error.code,
      hint: error.hint,
      host,
      step,
    })
  }
}

/** A secret in a file of its own. */
interface KeptSecret {
  readonly text: string
  /** What of it is secret by itself. */
  readonly parts: readonly string[]
}

/** The secrets of this process that are in a text: the rest of it may be seen elsewhere. What looks like one does so always. */
function partsOf(text: string): readonly string[] {
  const found = text
    .split('\n')
    .flatMap(line => processSecrets.search.find(line).found.map(({ from, to }) => line.slice(from, to)))
  return found.length > 0 ? found : [text]
}

/** Reads a secret, which is told of thereby. */
function readSecret(folder: string, name: string): Secret {
  return readingSecret(folder, name, content => {
    const { text, parts, destroyed } = JSON.parse(content) as KeptSecret & { readonly destroyed?: string }
    if (destroyed !== undefined)
      throw new RekeyError(`${join(folder, name)} was destroyed: what this run kept in it is gone for good`, {
        code: 'run.secret-destroyed',
        hint: 'rekey run destroy-old-key does so. What needs it can not be done again, or undone.',
      })
    if (typeof text !== 'string' || !Array.isArray(parts) || !parts.every(part => typeof part === 'string'))
      throw new Error('it holds no secret')
    return new Secret(text, parts)
  })
}

/** The same where nothing but the text was kept: which part of it is secret is known to nobody any more. */
function readOldSecret(folder: string, name: string): Secret {
  return readingSecret(folder, name, content => new Secret(content))
}

/**
 * Destroys secrets that steps of a run returned: written over where they lie, for what that is worth on the file system, and a word in the place of each.
 * @returns how many there were
 * @throws RekeyError where one can't be written
 */
export function destroySecretsIn(folder: string, isMeant: (text: string) => boolean): number {
  const secrets = join(folder, secretsFolder)
  let count = 0
  for (const name of existsSync(secrets) ? readdirSync(secrets) : []) {
    const path = join(secrets, name)
    try {
      const file = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW)
      try {
        const content = readFileSync(file, 'utf8')
        const text = textIn(content)
        if (text === undefined || !isMeant(text)) continue
        writeSync(file, Buffer.alloc(Buffer.byteLength(content)), 0, undefined, 0)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      writeFileSync(`${path}.new`, JSON.stringify({ destroyed: new Date().toISOString() }), {
        mode: 0o600,
        flush: true,
      })
      renameSync(`${path}.new`, path)
      count++
    } catch (error) {
      throw cannotKeep(path, error as Error)
    }
  }
  return count
}

/** The text in the file of a secret, where one is left: those of an earlier rekey hold it and no more. */
function textIn(content: string): string | undefined {
  try {
    const read = JSON.parse(content) as { text?: unknown } | null
    return typeof read?.text === 'string' ? read.text : undefined
  } catch {
    return content
  }
}

/** No name leads out of the folder, be it by a link. */
function readingSecret(folder: string, name: string, take: (content: string) => Secret): Secret {
  const path = join(folder, name)
  try {
    if (/[/\0]|^\.*$/.test(name)) throw new Error('it is no name of a file')
    return take(readFileSync(path, { encoding: 'utf8', flag: constants.O_RDONLY | constants.O_NOFOLLOW }))
  } catch (cause) {
    if (cause instanceof RekeyError) throw cause
    throw new RekeyError(`${path} can't be read`, {
      code: 'run.secret-missing',
      hint: 'Copy the folder of the run whole, with the files that only its owner may read.',
      cause,
    })
  }
}

/** Keeps the values that were asked for last, by where they are, as many as there is room for. */
function keepLatest(room: number) {
  const values = new Map<Place, unknown>()
  let left = room
  const forget = (place: Place | undefined) => {
    if (place && values.delete(place)) left += place.size
  }
  return {
    forget,
    get: (place: Place): { readonly value: unknown } | undefined => {
      if (!values.has(place)) return undefined
      const value = values.get(place)
      values.delete(place)
      values.set(place, value)
      return { value }
    },
    put: (place: Place, value: unknown) => {
      forget(place)
      if (place.size > room) return
      values.set(place, value)
      left -= place.size
      for (const oldest of values.keys()) {
        if (left >= 0) break
        forget(oldest)
      }
    },
  }
}

function lost(step: string, host: string, path: string, cause?: Error): RekeyError {
  const why = cause ? `: ${cause.message}` : ''
  return new RekeyError(`what '${step}' returned on ${host} is lost: ${path} does not have it any more${why}`, {
    code: 'run.registered-lost',
    host,
    hint:
      (cause as Partial<RekeyError> | undefined)?.hint ??
      'Put the file back as it was; or do by hand what needs it, as the playbook says.',
    cause,
  })
}

function cannotRead(path: string, cause: Error): RekeyError {
  return new RekeyError(`${path} can't be read: ${cause.message}`, {
    code: 'run.registered-lost',
    hint: 'What steps returned stands there, and whoever goes on needs it.',
    cause,
  })
}
