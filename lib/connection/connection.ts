// What every connection can do, whichever way it reaches its host.
import type { EventEmitter } from 'node:events'
import type { Duplex, Readable, Writable } from 'node:stream'
import type { UnknownOutcomeError } from '../errors.ts'

/**
 * A command running on a host: the part of a ChildProcess that zx needs, and deliberately no `pid`: zx would take it for a
 * process of this machine and kill that one.
 *
 * Emits `exit` and then `close`, both with `(code, signal)`. When the connection is lost first it emits `error` with an
 * `UnknownOutcomeError` and then `close` with `(null, null)`. `gap`, before `exit`, says with such an error that the end is known and part of the
 * output may be missing.
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
  /** As the user who logs in, whoever `become` names. */
  readonly asLogin?: boolean
  /** Must not be run twice by mistake: where a connection can be asked later, it is asked what became of it. */
  readonly once?: boolean
  /** Names of secrets in rekey's own environment that the command gets, too. Only on this machine. */
  readonly environment?: readonly string[]
  /** How that is asked; a connection without it leaves the outcome unknown. */
  readonly recovery?: Recovery
}

/** A command whose connection was lost before it was heard to end. */
export interface LostCommand {
  readonly command: string
  /** The name of its marker on the host, and of all its processes. */
  readonly id: string
  readonly folder: string
  /** What is written here is not yet passed on, unless it was fed. */
  readonly stdin: Readable
  /** Something was passed on to its stdin, and how much of it arrived nobody knows. */
  readonly fed: boolean
  readonly stdout: Writable
  readonly stderr: Writable
  /** Why it is lost. */
  readonly cause: UnknownOutcomeError
  /** Aborted, with the reason, when it is to be ended. */
  readonly signal: AbortSignal
}

/** How a lost command ended after all. */
export interface Ending {
  readonly code: number | null
  readonly killedBy: string | null
  /** Nothing of its output can be missing. */
  readonly whole: boolean
}

/** Finds out what became of commands whose connection was lost. */
export interface Recovery {
  /** Where commands leave their markers on the host, as a word for its shell. */
  readonly folder: string
  /** Rejects with the reason where that can't be found out, or where the command was to be ended. */
  recover(lost: LostCommand): Promise<Ending>
}

/** An open connection to one host. */
export interface Connection {
  /** The inventory name, for messages. */
  readonly name: string
  /** It leads to this very machine: commands have rekey's own environment, without its secrets. */
  readonly local?: boolean
  /** Starts a command under `/bin/sh`, as the user that `become` names, if any. */
  spawn(command: string, options?: SpawnOptions): RemoteProcess
  /** A TCP stream from the host to `address:port` as that host sees it. Rejects with `HostFailedError`. */
  forward(address: string, port: number): Promise<Duplex>
  /** Set as soon as the connection is known to be lost. */
  readonly lost: Error | undefined
  /** Ends the connection; commands still running get an unknown outcome. */
  close(): void
}
