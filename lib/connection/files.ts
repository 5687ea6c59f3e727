// Files on a host: read whole, written atomically. Contents travel over stdin and stdout, so they work the same for every
// kind of connection and under `become`, and never show in a command line.
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { HostFailedError, UnknownOutcomeError } from '../errors.ts'
import { foreignWords } from '../foreign-words.ts'
import type { Connection, SpawnOptions } from './connection.ts'
import { safeFolders, splitPath } from './safe-folder.ts'
import { quote, Secret } from './shell.ts'

/** Who may do what with a file that is written. */
export interface FileOptions {
  /** Permission bits; 0o644 where nothing is said, 0o600 for a `secret()`. */
  readonly mode?: number
  /** `user`, `user:group` or numbers; whoever writes it where nothing is said. */
  readonly owner?: string
  /** The file whose place it will take, where it is written beside that one first: it is what a diff is about. */
  readonly replaces?: string
  /** Its content is shown to nobody, as that of a `secret()`. */
  readonly secret?: boolean
}

/** A file that changes. */
export interface FileChange {
  readonly path: string
  /** `undefined` where there is none, or it can't be read. */
  readonly before: Buffer | undefined
  /** `undefined` where it is removed. */
  readonly after: Buffer | undefined
  /** It is written as a `secret()`. */
  readonly secret: boolean
}

/** What a file will hold; `undefined` where it is removed. */
export type NextContent = Pick<FileChange, 'after' | 'secret'>

/** Is told of files that change, or that would. */
export type FileWatcher = (change: FileChange) => void

/** Bytes of a file that are read whole. What is bigger is downloaded. */
const largestRead = 64 * 1024 ** 2
/** Bytes of a file that are read for those who watch. */
const largestShown = 8 * 1024 ** 2

/** The files of one host. */
export interface RemoteFiles {
  /** A file's bytes, 64 MiB of them at most. Throws `HostFailedError` where it can't be read. */
  read(path: string): Promise<Buffer>
  /** A file as UTF-8 text. Throws `HostFailedError` where it can't be read. */
  readText(path: string): Promise<string>
  exists(path: string): Promise<boolean>
  /**
   * Writes beside the destination, syncs, compares the hash of what arrived, and renames. Whoever else may write to the folder can't have it
   * write elsewhere.
   */
  write(path: string, content: string | Buffer | Secret, options?: FileOptions): Promise<void>
  /** Whether writing it would change a file's content. Only looks, and tells whoever watches. */
  differs(path: string, content: string | Buffer | Secret): Promise<boolean>
  /** Tells whoever watches of a file that is about to change by other means than `write`; where nobody does, nothing is asked. */
  announce(path: string, next: () => NextContent | Promise<NextContent>): Promise<void>
  /** Copies a file to this machine (0600) without holding it in memory, and returns the sha256 of what arrived, in hex. */
  download(path: string, destination: string): Promise<string>
  /** The sha256 of a file in hex, as `sha256sum` prints it. */
  sha256(path: string): Promise<string>
}

/**
 * The files of the host at the other end of a connection.
 * @param watch told of every file that is written, which is then read before
 */
export function remoteFiles(connection: Connection, signal?: AbortSignal, watch?: FileWatcher): RemoteFiles {
  // What is done to files here may be done twice: a connection that drops in the middle is not the end of it.
  const twice = <T>(task: () => Promise<T>): Promise<T> =>
    task().catch(error => {
      if (error instanceof UnknownOutcomeError) return task()
      throw error
    })
  const run = async (what: string, script: string, { input, most }: { input?: Buffer; most?: number } = {}) => {
    const { code, stdout, stderr } = await twice(() => runScript(connection, script, { input, most, signal }))
    if (code !== 0) {
      const told = foreignWords(stderr, 500) || `exit status ${code}`
      throw new HostFailedError(`${connection.name}: could not ${what}: ${told}`, {
        code: 'file.failed',
        host: connection.name,
      })
    }
    return stdout
  }
  /** Nothing of a file that is too big to be shown. */
  const changeOf = async (path: string, next: NextContent): Promise<FileChange | undefined> => {
    const most = Math.max(largestShown, (next.after?.length ?? 0) + 1)
    const script = `head -c ${most} <${quote(path)}`
    const { code, stdout } = await twice(() => runScript(connection, script, { most: 2 * most, signal }))
    return stdout.length < most ? { path, before: code === 0 ? stdout : undefined, ...next } : undefined
  }
  const tell = (change: FileChange | undefined) => change && watch?.(change)
  const read = (path: string) => run(`read ${path}`, `cat ${quote(path)}`, { most: largestRead })
  return {
    differs: async (path, content) => {
      const after = bytesOf(content)
      const change = await changeOf(path, { after, secret: content instanceof Secret })
      if (change?.before?.equals(after)) return false
      tell(change)
      return true
    },
    announce: async (path, next) => {
      if (watch) tell(await changeOf(path, await next()))
    },
    read,
    readText: async path => (await read(path)).toString('utf8'),
    exists: async path => (await twice(() => runScript(connection, `test -e ${quote(path)}`, { signal }))).code === 0,
    sha256: async path => (await run(`hash ${path}`, `sha256sum <${quote(path)}`)).toString('utf8').slice(0, 64),
    download: (path, destination) => twice(() => download(connection, path, destination, signal)),
    write: async (path, content, { mode, owner, replaces = path, secret = content instanceof Secret } = {}) => {
      const bytes = bytesOf(content)
      const change = watch && (await changeOf(replaces, { after: bytes, secret }))
      const bits = (mode ?? (content instanceof Secret ? 0o600 : 0o644)).toString(8)
      const hash = createHash('sha256').update(bytes).digest('hex')
      await run(`write ${path}`, writeScript(path, hash, { bits, owner, replaces }), { input: bytes })
      tell(change)
    },
  }
}

/** Takes a file from stdin, and puts it in its place once it is known to be whole. */
export function writeScript(
  path: string,
  sha256: string,
  { bits, owner, replaces }: { bits: string; owner?: string; replaces: string },
): string {
  const { folder, name } = splitPath(path)
  return [
    'set -e; umask 077',
    safeFolders,
    `trap _leave EXIT; trap 'exit 1' HUP INT TERM PIPE; _in ${quote(folder)}`,
    `[ ! -d ${quote(`./${name}`)} ] || { echo 'it is a directory' >&2; exit 1; }`,
    '_private; cat >f',
    `[ "$(sha256sum <f | cut -c1-64)" = ${sha256} ] || { echo 'it did not arrive whole' >&2; exit 1; }`,
    // A change of the owner may take bits of the mode away.
    ...(owner === undefined ? [] : [`chown ${quote(owner)} f`]),
    `_label ${quote(`../${splitPath(replaces).name}`)} f; chmod ${bits} f; sync f; mv -fT f ${quote(`../${name}`)}; sync ..`,
  ].join('\n')
}

function bytesOf(content: string | Buffer | Secret): Buffer {
  return Buffer.from(content instanceof Secret ? content.reveal() : content)
}

async function download(
  connection: Connection,
  path: string,
  destination: string,
  signal?: AbortSignal,
): Promise<string> {
  const remote = connection.spawn(`cat ${quote(path)}`, { signal })
  const ended = new Promise<number | null>((resolve, reject) => {
    remote.on('error', reject)
    remote.on('close', resolve)
  })
  remote.stdin.end()
  const hash = createHash('sha256')
  let said = ''
  remote.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-1_000)
  })
  remote.stdout.on('data', (chunk: Buffer) => hash.update(chunk))
  const [code] = await Promise.all([ended, pipeline(remote.stdout, createWriteStream(destination, { mode: 0o600 }))])
  if (code === 0) return hash.digest('hex')
  throw new HostFailedError(`${connection.name}: could not read ${path}: ${foreignWords(said, 500)}`, {
    code: 'file.failed',
    host: connection.name,
  })
}

/** What a command left behind. */
export interface ScriptResult {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: Buffer
  readonly stderr: string
}

/** How a script is run. */
export interface ScriptOptions extends Pick<SpawnOptions, 'signal' | 'timeout' | 'asLogin'> {
  readonly input?: Buffer
  /** Bytes that it may print; 16 MiB where nothing is said. */
  readonly most?: number
}

/**
 * Runs a shell script on a host and collects all that it prints.
 * Rejects where nobody knows how it ended (`UnknownOutcomeError`, `CancelledError`, a time-out), and where it prints more than it may: then it
 * is ended. An exit status is a result.
 */
export function runScript(
  connection: Connection,
  script: string,
  { input, most = 16 * 1024 ** 2, signal, ...options }: ScriptOptions = {},
): Promise<ScriptResult> {
  return new Promise((resolve, reject) => {
    const stop = new AbortController()
    const ends = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal
    const remote = connection.spawn(script, { ...options, signal: ends })
    const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    let size = 0
    let failure: Error | undefined
    for (const name of ['stdout', 'stderr'] as const) {
      remote[name].on('data', (chunk: Buffer) => {
        size += chunk.length
        // What comes until it has ended is dropped: a host may send on all the time.
        if (size <= most) return parts[name].push(chunk)
        if (stop.signal.aborted) return
        parts.stdout = []
        parts.stderr = []
        reject(tooMuch(connection.name, most))
        stop.abort()
      })
    }
    remote.on('error', (error: Error) => {
      failure = error
    })
    remote.on('close', (code: number | null, killedBy: string | null) => {
      if (failure) return reject(failure)
      const { stdout, stderr } = parts
      resolve({ code, signal: killedBy, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') })
    })
    remote.stdin.on('error', () => {})
    remote.stdin.end(input)
  })
}

function tooMuch(name: string, most: number): HostFailedError {
  return new HostFailedError(`${name} printed more than the ${Math.round(most / 1024)} KiB that were expected of it`, {
    code: 'command.output-too-long',
    host: name,
  })
}
