// The remote `$`: zx's own, its commands run on a host.
import type { Readable } from 'node:stream'
import { type ProcessOutput, ProcessPromise, type Options as ZxOptions, $ as zx } from 'zx/core'
import { RekeyError, type UnknownOutcomeError } from '../errors.ts'
import type { Connection, RemoteProcess } from './connection.ts'
import { quote, Raw, Secret } from './shell.ts'

/** What `$({…})` takes beside zx's `nothrow` and `quiet`. */
export interface RemoteOptions {
  /** Fed to the command's stdin; a `secret()` may be given only here. */
  readonly input?: string | Buffer | Readable | Secret
  /** Milliseconds until the command's process group is ended on the host. */
  readonly timeout?: number
  /** A failing command resolves. A dropped connection still counts as an unknown outcome of the step. */
  readonly nothrow?: boolean
  /** Its output is not shown and not journalled: for what is long, or holds secrets. */
  readonly quiet?: boolean
  /** Directory to run in; the command is not run when it can't be entered. */
  readonly cwd?: string
}

/** zx's `$` on a host: `` await $`systemctl restart ${unit}` ``. */
export interface Remote {
  (pieces: TemplateStringsArray, ...values: unknown[]): ProcessPromise
  (options: RemoteOptions): Remote
}

/** What the remote `$` tells its step about. */
export interface RemoteObserver {
  /** A piece of output as it came, split anywhere but inside a character. */
  output?(stream: 'stdout' | 'stderr', text: string): void
  /** Ends every command that it starts from now on, and those that run. */
  signal?: AbortSignal
  /** Milliseconds until a command is ended, where it says nothing itself. */
  timeout?: number
}

/**
 * Makes the remote `$` of a connection.
 * A value in the template is quoted for a POSIX shell, an array word by word; `raw()` goes in as it stands; a `secret()` is
 * refused, since command lines are seen by everybody on the host.
 */
export function remoteShell(connection: Connection, observer: RemoteObserver = {}): Remote {
  const make = (options: RemoteOptions): Remote => {
    const remote = (first: TemplateStringsArray | RemoteOptions, ...values: unknown[]) => {
      if (!Array.isArray(first)) return make({ ...options, ...(first as RemoteOptions) })
      return start(first as unknown as TemplateStringsArray, values, options)
    }
    return remote as Remote
  }

  const start = (pieces: TemplateStringsArray, values: unknown[], options: RemoteOptions): ProcessPromise => {
    const { input, timeout = observer.timeout, nothrow = false, quiet = false, cwd } = options
    const { signal } = observer
    const spawn = (line: string) => {
      const remote = connection.spawn(line, { signal, timeout, once: true })
      remote.once('gap', (gap: UnknownOutcomeError) => tellOfGap(started, remote, gap))
      // zx decodes each chunk by itself, which breaks a character that is split between two.
      remote.stdout.setEncoding('utf8')
      remote.stderr.setEncoding('utf8')
      if (observer.output && !quiet) {
        remote.stdout.on('data', (text: string) => observer.output?.('stdout', text))
        remote.stderr.on('data', (text: string) => observer.output?.('stderr', text))
      }
      // A command that reads its stdin must not wait for ever when nobody writes to it. Whether somebody does is known
      // only after the current turn, when pipes have been laid.
      if (input === undefined) setImmediate(() => !isFed(started) && remote.stdin.end())
      return remote
    }
    const zxOptions = {
      spawn,
      ...(input === undefined ? {} : { input: input instanceof Secret ? input.reveal() : input }),
      quote: (text: string) => text,
      prefix: cwd === undefined ? '' : `cd ${quote(cwd)} || exit\n`,
      postfix: '',
      shell: '/bin/sh',
      detached: false,
      verbose: false,
      quiet: true,
      nothrow,
      log: () => {},
    }
    const line = values.some(isPromise)
      ? Promise.all(values).then(known => commandLine(pieces, known))
      : commandLine(pieces, values)
    const started = zx(zxOptions as unknown as Partial<ZxOptions>)`${line}`
    return started
  }
  return make({})
}

/** Whether another process is piped into this one, or its stdin was written to. zx keeps both to itself. */
function isFed(started: ProcessPromise): boolean {
  const { bus } = ProcessPromise as unknown as { bus: { sources(to: ProcessPromise): unknown[] } }
  const { _stdin: stdin } = started as unknown as { _stdin: { readableLength: number; writableEnded: boolean } }
  return bus.sources(started).length > 0 || stdin.readableLength > 0 || stdin.writableEnded
}

/**
 * How it ended is known, what it printed is not: the one may be relied on, and who reads the other is told. In a pipe somebody reads it
 * already.
 */
function tellOfGap(started: ProcessPromise, remote: RemoteProcess, gap: Error): void {
  if ((started as unknown as { _piped: boolean })._piped) return void remote.emit('error', gap)
  let kept: ProcessOutput | null = null
  Object.defineProperty(started, '_output', {
    get: () => kept,
    set: (output: ProcessOutput) => {
      kept = output
      const { _dto: result } = output as unknown as { _dto: object }
      const refuse = () => {
        throw gap
      }
      // What a failed command said is quoted, whole or not.
      if (output.ok || started.isNothrow()) Object.defineProperty(result, 'store', { get: refuse })
    },
  })
}

function commandLine(pieces: TemplateStringsArray, values: unknown[]): string {
  let line = pieces[0] ?? ''
  for (const [index, value] of values.entries()) {
    line += (Array.isArray(value) ? value.map(word).join(' ') : word(value)) + (pieces[index + 1] ?? '')
  }
  return line
}

function isPromise(value: unknown): boolean {
  return typeof (value as { then?: unknown } | undefined)?.then === 'function'
}

function word(value: unknown): string {
  if (value instanceof Raw) return value.text
  if (value instanceof Secret) {
    throw new RekeyError('a secret can’t be part of a command line, where everybody on the host can read it', {
      code: 'command.secret-in-argv',
      hint: 'Give it to the command on stdin: $({ input: secret(…) })`…`.',
    })
  }
  if (value === undefined || value === null) {
    throw new RekeyError(`a command line holds ${value} where a value was meant`, { code: 'command.undefined-value' })
  }
  const stdout = (value as { stdout?: unknown }).stdout
  return quote(typeof stdout === 'string' ? stdout.replace(/\n$/, '') : String(value))
}
