// What every connection can do, whichever way it reaches its host.
import type { EventEmitter } from 'node:events'
import type { Duplex, Readable, Writable } from 'node:stream'

/**
 * A command running on a host: the part of a ChildProcess that zx needs, and deliberately no `pid`: zx would take it for a
 * process of this machine and kill that one.
 *
 * Emits `exit` and then `close`, both with `(code, signal)`. When the connection is lost first it emits `error` with an
 * `UnknownOutcomeError` and then `close` with `(null, null)`.
 */
export interface RemoteProcess extends EventEmitter {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
}

/** How to run one command. */
export interface SpawnOptions {
  /** Aborting it ends the remote process group: TERM, and after a grace period KILL. */
  readonly signal?: AbortSignal
  /** Milliseconds until the command is ended as if aborted, and fails saying so. */
  readonly timeout?: number
}

/** An open connection to one host. */
export interface Connection {
  /** The inventory name, for messages. */
  readonly name: string
  /** Starts a command under `/bin/sh`, as the user that `become` names, if any. */
  spawn(command: string, options?: SpawnOptions): RemoteProcess
  /** A TCP stream from the host to `address:port` as that host sees it. Rejects with `HostFailedError`. */
  forward(address: string, port: number): Promise<Duplex>
  /** Set as soon as the connection is known to be lost. */
  readonly lost: Error | undefined
  /** Ends the connection; commands still running get an unknown outcome. */
  close(): void
}
