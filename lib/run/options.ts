// What runPlaybook takes and gives.
import type { FileChange } from '../connection/files.ts'
import type { Host, HostSource } from '../playbook/host.ts'
import type { EventError, RunEventBody, RunSelection } from './events.ts'
import type { Progress } from './journal/history.ts'
import type { Provenance } from './journal/provenance.ts'
import type { Registered } from './registered/registered.ts'

/** How a playbook is to be run. */
export interface RunOptions {
  readonly run: string
  readonly folder: string
  readonly inventory: HostSource
  /** The playbook's variables, checked by its schema already. */
  readonly vars: unknown
  /** Hosts that `--limit` leaves; all where nothing is said. */
  readonly limit?: ReadonlySet<string>
  readonly operator: string
  readonly provenance: Provenance
  readonly selection: RunSelection
  readonly check?: boolean
  /** What to show of a file that changes, secrets left out; nothing where no lines come back. */
  diff?(change: FileChange): string[]
  /** Take the lock of the cluster from a run that is dead. */
  readonly takeLock?: boolean
  /** How many hosts work at the same time. */
  readonly forks?: number
  readonly tags?: readonly string[]
  readonly skipTags?: readonly string[]
  /** Leaves out the steps before the one with this id. */
  readonly startAtStep?: string
  /** Runs notified handlers also after a failure, whatever the plays say. */
  readonly forceHandlers?: boolean
  /** Aborted to stop the run: commands are ended, and it says what state things are in. */
  readonly signal: AbortSignal
  /** Asked before each step whether to do it; where it is not there, every step is done. */
  confirm?(title: string, hosts: readonly Host[]): Promise<boolean>
  /** Takes every event, redacted by the caller where that is needed. */
  emit(event: RunEventBody): void
  /** Resolves once the journal is on the disk. */
  flush(): Promise<void>
  /** What steps returned, before and in this run. */
  readonly registered: Registered
  /** A text as it may stand in an event: where it is long, it is cut, and names the file that has the whole. */
  shorten(text: string, of?: { readonly play: number; readonly step: string; readonly host: string }): string
  /** What was done before, where a run is gone on with or undone. */
  readonly earlier?: Earlier
}

/** What a run that is gone on with knows of what was done before. */
export interface Earlier {
  readonly mode: 'resume' | 'rollback'
  /** The names of the hosts that it had to do with: on them may lie what commands of it left, whatever is done there now. */
  readonly hosts: ReadonlySet<string>
  /** Whether a step came to a good end on a host. */
  done(step: string, host: string): boolean
  /** How far a step came on a host, where it was begun at all, or a handler notified. */
  progress?(step: string, host: string): Progress | undefined
  /** What a step failed with on a host. */
  failure?(step: string, host: string): EventError | undefined
  /** When milestones came, milliseconds since 1970. */
  readonly milestones: ReadonlyMap<string, number>
}

/** How a run ended. */
export interface RunResult {
  readonly outcome: 'done' | 'failed' | 'interrupted'
  readonly exitCode: number
}
