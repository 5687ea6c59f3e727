// The remote `$`: zx's own, its commands run on a host.
import type { Readable, Writable } from 'node:stream'
import { type ProcessOutput, ProcessPromise, type Options as ZxOptions, $ as zx } from 'zx/core'
import { RekeyError, thrownAt, type UnknownOutcomeError } from '../errors.ts'
import { KeptOutput, tooMuchToKeep } from './commands/kept-output.ts'
import { checkedOptions, type RemoteOptions } from './commands/remote-options.ts'
import type { Connection, RemoteProcess } from './connection.ts'
import { quote, Raw, Secret } from './shell.ts'

/** zx's `$` on a host: `` await $`systemctl restart ${unit}` ``. */
export interface Remote {
  (pieces: TemplateStringsArray, ...values: unknown[]): ProcessPromise
  (options: RemoteOptions): Remote
}

/** What the remote `$` tells its step about. */
export interface RemoteObserver {
  /** A command began; the promise resolves once it ended, however that was. */
  began?(ended: Promise<void>): void
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
      if (!Array.isArray(first)) return make({ ...options, ...checkedOptions(first) })
      return start(first as unknown as TemplateStringsArray, values, options)
    }
    return remote as Remote
  }

  const start = (pieces: TemplateStringsArray, values: unknown[], options: RemoteOptions): ProcessPromise => {
    const { input, timeout = observer.timeout, nothrow = false, quiet = false, cwd, environment } = options
    const left = new AbortController()
    if (environment && !connection.local) throw notThere(connection, environment)
    const spawn = (line: string) => {
      // AbortSignal.any would be held by the signal of the run for each of its commands.
      const stop = () => left.abort(observer.signal?.reason)
      if (observer.signal?.aborted) stop()
      const remote = connection.spawn(line, { signal: left.signal, timeout, environment, once: true })
      observer.signal?.addEventListener('abort', stop, { once: true })
      const { promise: ended, resolve } = Promise.withResolvers<void>()
      for (const event of ['close', 'error'] as const) remote.once(event, () => resolve())
      void ended.then(() => observer.signal?.removeEventListener('abort', stop))
      observer.began?.(ended)
      remote.once('gap', (gap: UnknownOutcomeError) => tellOfGap(started, remote, gap))
      // zx decodes each chunk by itself, which breaks a character that is split between two.
      remote.stdout.setEncoding('utf8')
      remote.stderr.setEncoding('utf8')
      for (const stream of [remote.stdout, remote.stderr]) waitForReaders(stream, () => started)
      if (observer.output && !quiet) {
        remote.stdout.on('data', (text: string) => observer.output?.('stdout', text))
        remote.stderr.on('data', (text: string) => observer.output?.('stderr', text))
      }
      // A command that reads its stdin must not wait for ever when nobody writes to it. Whether somebody does is known
      // only after the current turn, when pipes have been laid.
      if (input === undefined) setImmediate(() => !isFed(started) && remote.stdin.end())
      return remote
    }
    const kept = (kind: Kind) =>
      new KeptOutput(() => {
        const tooMuch = tooMuchToKeep(connection.name)
        refuse(started, tooMuch, [kind])
        return tooMuch
      })
    const store = { stdout: kept('stdout'), stderr: kept('stderr'), stdall: kept('stdall') }
    begun.set(store, new Error('a command'))
    const zxOptions = {
      spawn,
      store,
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
    pipeOnHost(started, make({}))
    endWhenLeft(started, left)
    return started
  }
  return make({})
}

/** Where each command was begun, by what its output is kept in. */
const begun = new WeakMap<object, Error>()

/** Where the playbook begins the command of this result, as `file:line`; undefined where rekey itself does, or nobody knows. */
export function commandPlace(output: ProcessOutput): string | undefined {
  const error = begun.get((output as unknown as { _dto: { store: object } })._dto.store)
  return error && thrownAt(error)
}

/** Whether another process is piped into this one, or its stdin was written to. zx keeps both to itself. */
function isFed(started: ProcessPromise): boolean {
  const { _stdin: stdin } = started as unknown as { _stdin: { readableLength: number; writableEnded: boolean } }
  return bus.sources(started).length > 0 || stdin.readableLength > 0 || stdin.writableEnded
}

type Pipe = (to: unknown, ...values: unknown[]) => unknown
const { get: zxPipe } = Object.getOwnPropertyDescriptor(ProcessPromise.prototype, 'pipe')!

/** Has a command that another one is piped into, as a template, run where that one does: zx would run it on this machine. */
function pipeOnHost(started: ProcessPromise, $: Remote): void {
  const here = zxPipe!.call(started) as Pipe & Record<Kind, Pipe>
  const onHost =
    (pipe: Pipe): Pipe =>
    (to, ...values) =>
      Array.isArray(to) ? pipe($(to as unknown as TemplateStringsArray, ...values)) : pipe(to)
  const [stdout, stderr, stdall] = [here.stdout, here.stderr, here.stdall].map(onHost)
  const value = Object.assign(onHost(here), { stdout, stderr, stdall })
  Object.defineProperty(started, 'pipe', { configurable: true, value })
}

/** Ends a command whose lines somebody began to read and then left (`break`): it may print for ever, and nobody hears of it any more. */
function endWhenLeft(started: ProcessPromise, left: AbortController): void {
  const lines = started[Symbol.asyncIterator].bind(started)
  const value = (): AsyncIterableIterator<string> => {
    const inner = lines()
    return {
      next: () => inner.next(),
      return: async () => {
        // How it ends is nobody's business then.
        started.catch(() => {})
        left.abort()
        return inner.return?.() ?? { done: true, value: undefined }
      },
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }
  Object.defineProperty(started, Symbol.asyncIterator, { configurable: true, value })
}

/** What is piped into what, as zx notes it. */
const { bus } = ProcessPromise as unknown as {
  bus: { sources(to: ProcessPromise): unknown[]; refs: Map<ProcessPromise, Set<ProcessPromise | Writable>> }
}

/** zx hands on what comes to whatever it is piped to, whether that has room or not. Here it waits. */
function waitForReaders(stream: Readable, started: () => ProcessPromise): void {
  stream.on('data', () => {
    for (const reader of bus.refs.get(started()) ?? []) {
      const to = reader instanceof ProcessPromise ? reader.child?.stdin : reader
      if (!to?.writableNeedDrain) continue
      stream.pause()
      const goOn = () => {
        for (const event of roomEvents) to.off(event, goOn)
        stream.resume()
      }
      for (const event of roomEvents) to.once(event, goOn)
      return
    }
  })
}

const roomEvents = ['drain', 'close', 'error'] as const

/**
 * How it ended is known, what it printed is not: the one may be relied on, and who reads the other is told. In a pipe somebody reads it
 * already.
 */
function tellOfGap(started: ProcessPromise, remote: RemoteProcess, gap: Error): void {
  if ((started as unknown as { _piped: boolean })._piped) return void remote.emit('error', gap)
  refuse(started, gap, ['stdout', 'stderr', 'stdall'])
}

type Kind = 'stdout' | 'stderr' | 'stdall'

/** What of its output is refused to whoever reads it, and why. */
const refusals = new WeakMap<ProcessPromise, Map<Kind, Error>>()

/** Tells whoever reads from now on what a command printed why that is not to be had. */
function refuse(started: ProcessPromise, why: Error, kinds: readonly Kind[]): void {
  const refusal = thrower(why)
  Object.defineProperty(started, 'pipe', refusal)
  if (kinds.includes('stdout')) Object.defineProperty(started, Symbol.asyncIterator, refusal)
  const known = refusals.get(started)
  const refused = known ?? new Map<Kind, Error>()
  for (const kind of kinds) if (!refused.has(kind)) refused.set(kind, why)
  if (known) return
  refusals.set(started, refused)
  const inner = started as unknown as { _output: ProcessOutput | null; _resolve(output: ProcessOutput): void }
  const resolve = inner._resolve
  let output: ProcessOutput | null = null
  const set = (whole: ProcessOutput) => {
    // What a failed command said is quoted, whole or not.
    output = whole.ok || started.isNothrow() ? withoutOutput(whole, refused) : whole
  }
  Object.defineProperty(inner, '_output', { get: () => output, set })
  inner._resolve = () => resolve(output!)
}

/** A result that throws wherever a part of it is read that is refused. zx's own would throw once, and then say `undefined`. */
function withoutOutput(output: ProcessOutput, refused: ReadonlyMap<Kind, Error>): ProcessOutput {
  const refusing = Object.fromEntries([...refused].map(([kind, why]) => [kind, thrower(why)]))
  Object.defineProperties((output as unknown as { _dto: { store: object } })._dto.store, refusing)
  return Object.create(output, refusing) as ProcessOutput
}

const thrower = (why: Error) => ({
  configurable: true,
  get: () => {
    throw why
  },
})

function notThere({ name }: Connection, environment: readonly string[]): RekeyError {
  return new RekeyError(
    `${environment.join(', ')}: ${name} is another machine, and has nothing of rekey's environment`,
    {
      code: 'command.environment',
      host: name,
      hint: 'Hand it over on stdin: $({ input: secret(…) })`…`.',
    },
  )
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
