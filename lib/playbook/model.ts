// The model: a playbook is plays, a play is steps over hosts. Types and constructors only: `shape.ts` checks them, lib/run executes them.
import type { Duplex } from 'node:stream'
import type { z } from 'zod'
import type { RemoteFiles } from '../connection/files.ts'
import type { Remote } from '../connection/remote.ts'
import type { Secret } from '../connection/shell.ts'
import { RekeyError, thrownAt } from '../errors.ts'
import type { Host } from './host.ts'

/** How a step ended on a host. `unknown`: the connection dropped while a command ran; it passes for nothing else. */
export type Outcome = 'ok' | 'changed' | 'skipped' | 'failed' | 'unreachable' | 'unknown' | 'cancelled'

/** A host that can be worked on: what `on()` gives. */
export interface HostSession {
  readonly host: Host
  readonly $: Remote
  readonly files: RemoteFiles
  /** A TCP stream from the host to `address:port`, as that host sees it. */
  forward(address: string, port: number): Promise<Duplex>
}

/** The times of a run, in milliseconds. */
export interface Timeline {
  /** When it began, or this part of it, since 1970. */
  readonly began: number
  /** The plays that ended, in order. */
  readonly plays: readonly { readonly title: string; readonly milliseconds: number }[]
  /** When each milestone came, since then: before it, where an earlier part of the run came to it. */
  readonly milestones: ReadonlyMap<string, number>
}

/** A run from its beginning, one that is gone on with, or one that is undone. */
export type RunMode = 'run' | 'resume' | 'rollback'

/** What a run knows, whatever the host. */
export interface RunContext<Vars = Record<string, unknown>> {
  /** The id of the run, which is also the name of its folder. */
  readonly run: string
  /** The run's folder (0700): backups, the journal, whatever a step wants to keep. */
  readonly folder: string
  /** The playbook's variables, checked by its schema. */
  readonly vars: Vars
  /** Whether it is done, gone on with, or undone. */
  readonly mode: RunMode
  /** In `--check` nothing may be changed. */
  readonly check: boolean
  /** Whether a lock may be taken from a run that is dead (`--take-lock`): for what a playbook itself locks. */
  readonly takeLock?: boolean
  /** Aborted when the run is being stopped. */
  readonly signal: AbortSignal
  /** The hosts of a pattern, within `--limit`, in inventory order. */
  hosts(pattern: string): Host[]
  /** Connects to a host (once a run) and gives what it takes to work on it. */
  on(host: Host | string): Promise<HostSession>
  /** A line for the people who watch. */
  log(text: string): void
  /** Marks a moment of the run that its report measures from or to; only the first time that it comes. */
  milestone(name: string): void
  /** How long what was done took, so far. */
  readonly timeline: Timeline
  /** Has a value replaced wherever it is shown or kept from now on, as `secret()` does. Throws for fewer than three characters. */
  redact(value: string): void
  /** What a step's `run` returned on a host; without a host, on the first one that has it. `undefined` where it did not run. */
  registered<T = unknown>(step: string, host?: string): T | undefined
  /**
   * The folder of another run, for what lies in it: by its id, a part of it, or the path of its folder. Throws `RekeyError` where there is none, or
   * where others may have written what lies there.
   */
  otherRun(reference: string): string
  /** The folders of all other runs on this machine, the oldest first. Throws `RekeyError` where others may have written what lies in one of them. */
  otherRuns(): string[]
  /**
   * Destroys secrets that steps of runs on this machine returned, in the folders of those runs: nobody can go on with them where a step asks for one.
   * @param isMeant is told each of them
   * @returns the ids of the runs that had one
   */
  destroySecrets(isMeant: (text: string) => boolean): string[]
}

/** What a step gets. */
export interface StepContext<Vars = Record<string, unknown>> extends RunContext<Vars>, HostSession {
  /** The id of the step; in its `rollback`, too. */
  readonly step: string
  /** In the `rescue` and `always` of a block: why the host did not come through its steps. */
  readonly failure?: CaughtFailure
}

/** What went wrong on a host in a block. */
export interface CaughtFailure {
  /** The id of the step. */
  readonly step: string
  readonly message: string
  readonly code?: string
  readonly hint?: string
}

/** Returned by a step's `run` that had nothing to change: its outcome is `ok`, its value is registered. */
export class Unchanged<T = unknown> {
  readonly value: T
  constructor(value: T) {
    this.value = value
  }
}

/** Says that a step found everything as it should be. */
export function unchanged<T>(value?: T): Unchanged<T | undefined> {
  return new Unchanged(value)
}

/** What failures count for. A play hands it to its blocks and steps, a block to those in it; each may say otherwise. */
export interface FailureRules {
  /** A step that fails on a host is told, and the host goes on as if it had not. */
  readonly ignoreErrors?: boolean
  /** The same where the host can't be reached. Its next step tries once more. */
  readonly ignoreUnreachable?: boolean
  /** One host that does not come through ends the run for all, whatever the play's `maxFailPercentage`. */
  readonly anyErrorsFatal?: boolean
}

/** What a step would write to a file, in its `plan`. */
export class PlannedWrite {
  readonly path: string
  readonly content: string | Buffer | Secret
  constructor(path: string, content: string | Buffer | Secret) {
    this.path = path
    this.content = content
  }
}

/** For a `plan`: a file with what would be written to it. Where that is what it holds, nothing would be done. */
export function wouldWrite(path: string, content: string | Buffer | Secret): PlannedWrite {
  return new PlannedWrite(path, content)
}

/** A part of a `plan`. */
export type Planned = string | PlannedWrite

/** One thing that is done on each host of a play. */
export interface Step<in Context = StepContext> extends FailureRules {
  /** Stable across versions of the playbook: the journal, `--start-at-step` and `registered` know it by this. */
  readonly id: string
  readonly title: string
  /** Only looks: its outcome is `ok`, and `--check` runs it for real. */
  readonly readOnly?: boolean
  /**
   * For what only looks, and finds what will not be there any more once things have changed: a resumed run takes it from the
   * journal. Without it, a resumed run looks again.
   */
  readonly remember?: boolean
  /** A resumed run does it on every host again where one has not done it: for what must be made together. */
  readonly together?: boolean
  /** Run on the first host of the batch only; what it registers holds for all, and so does its failure. */
  readonly runOnce?: boolean
  /** The name of the host that `$`, `files` and `forward` work on instead. The outcome is that of the host it is done for. */
  readonly delegateTo?: string | Delegate<Context>
  readonly tags?: readonly string[]
  /** Left out on hosts where it is false. */
  when?(context: Context): boolean | Promise<boolean>
  /** Is it done already? Then `run` is left out. Must only look. */
  check?(context: Context): boolean | Promise<boolean>
  /** What `run` would do on this host, for `--check`: a line each, or files with `wouldWrite`; none where nothing. Must only look. */
  plan?(context: Context): Planned | Planned[] | Promise<Planned | Planned[]>
  /**
   * Does it. May come twice, where a run was killed in the middle: a resumed run does it again. What it returns is plain data and
   * `secret()`s, kept in the run's folder for those who resume or undo it.
   */
  run(context: Context): unknown
  /** Proves the effect; throws where it can't. */
  verify?(context: Context): unknown
  /** How many times it is tried again where it fails: `run` and `verify` anew. None where nothing is said; 3 with `until`. */
  readonly retries?: number
  /** Milliseconds between two tries; 5000 where nothing is said. */
  readonly delay?: number
  /** Has what `run` returned come to what is waited for? Where not, the try has failed. */
  until?(returned: unknown, context: Context): boolean | Promise<boolean>
  /** The ids of the play's handlers that a change calls for: they are run once, at the end of the play. */
  readonly notify?: string | readonly string[]
  /**
   * Undoes it, and proves that it is undone: throws where it can't. It is asked also where the step was cut off in the middle, and
   * may be asked twice.
   */
  rollback?(context: Context): unknown
  /** Why it can't be undone. */
  readonly irreversible?: string
  /** The id of an earlier step whose play, when it is undone, undoes this one too. */
  readonly undoneWith?: string
  /** For what only looks: `rekey rollback` begins with it, too, as `undo-ID`. Where it fails then, that is told, and the way back goes on. */
  readonly beginsRollback?: boolean
}

/** Finds the host that a step is delegated to. */
export type Delegate<Context> = { of(context: Context): string }['of']

/** What a step does, before a playbook gives it its title; without an `id` it is made from that. */
export type StepDefinition<Context = StepContext> = Omit<Step<Context>, 'id' | 'title'> & { readonly id?: string }

/** Steps that belong together: what one of them fails at on a host, the others may put right. */
export interface Block<in Context = StepContext> extends FailureRules {
  readonly title: string
  readonly tags?: readonly string[]
  /** Each step in it is left out on hosts where this is false when the step comes. */
  when?(context: Context): boolean | Promise<boolean>
  readonly steps: readonly PlayItem<Context>[]
  /** For the hosts on which a step failed: a host that comes through goes on after the block as if nothing had failed. */
  readonly rescue?: readonly PlayItem<Context>[]
  /** For all hosts of the block that can still be reached, however they fared. */
  readonly always?: readonly PlayItem<Context>[]
}

/** What plays and blocks are made of. */
export type PlayItem<Context = StepContext> = Step<Context> | Block<Context>

/** Steps over the hosts of a pattern. */
export interface Play<in Context = StepContext> extends FailureRules {
  readonly title: string
  readonly hosts: string
  /** How many hosts go through the play together: a number, a percentage, or a list of them. All where nothing is said. */
  readonly serial?: Serial | readonly Serial[]
  /** `linear`: a step begins when the one before has ended on every host of the batch. `free`: no host waits for another. */
  readonly strategy?: Strategy
  /** In which order the hosts come; that of the inventory where nothing is said. */
  readonly order?: Order
  /**
   * How many hosts of a batch, in percent, may fail or be unreachable before the run ends for all. Those that do leave the run, and
   * the others go on. 0 where nothing is said: the first failure ends the run once the other hosts have ended their step.
   */
  readonly maxFailPercentage?: number
  readonly tags?: readonly string[]
  readonly steps: readonly PlayItem<Context>[]
  /** Steps that run only where a step that changed something has notified them; in this order, at the end of each batch. */
  readonly handlers?: readonly Step<Context>[]
  /** Runs notified handlers also after a failure, and on hosts that failed. Otherwise they wait for `rekey resume`. */
  readonly forceHandlers?: boolean
  /**
   * What undoes the play as a whole, in this order, where its steps one by one in reverse would not. It is asked on all hosts
   * of the play, also where the play was cut off before it reached them, and may be asked twice.
   */
  readonly rollback?: readonly Step<Context>[]
}

export type Serial = number | `${number}%`

export type Strategy = 'linear' | 'free'

/** Ansible's words. `shuffle` gives another order to every run, and the same to a run that is gone on with. */
export type Order = 'inventory' | 'reverse_inventory' | 'sorted' | 'reverse_sorted' | 'shuffle'

/** A titled part of a run's final report. */
export interface ReportSection {
  readonly title: string
  readonly rows: readonly (readonly [label: string, value: string])[]
  /** How something went over time: for `rekey report`, which draws it; views of a run leave it out. */
  readonly curves?: readonly ReportCurve[]
  /** Figures for whoever watches over it: for `--metrics`; views of a run leave them out. */
  readonly metrics?: readonly ReportMetric[]
}

/** A figure as Prometheus takes it, a gauge: of one name and help as many as there are labels to tell them apart. */
export interface ReportMetric {
  /** As Prometheus has names, with the unit at its end: `rekey_certificate_end_timestamp_seconds`. Points of time (`…_timestamp_seconds`) outlast runs that have none. */
  readonly name: string
  /** What it counts, in a line; the same for all of its name. */
  readonly help: string
  readonly value: number
  readonly labels?: Readonly<Record<string, string>>
}

/** How often something was asked, and what was not answered, in pieces of time of equal length, 5,000 at most. Times are milliseconds since 1970. */
export interface ReportCurve {
  readonly label: string
  readonly from: number
  /** Milliseconds of a piece. */
  readonly every: number
  readonly asked: readonly number[]
  /** Of those that were asked in a piece. */
  readonly failed: readonly number[]
  /** Milliseconds of the slowest answer of a piece, where that was measured. */
  readonly slowest?: readonly number[]
  /** Times without an answer: from the last one before to the first one after. */
  readonly gaps: readonly {
    readonly from: number
    readonly to: number
    readonly failed: number
    readonly reason: string
  }[]
}

/** Services, and what is to be done with them at the end. */
export type Opened<Services extends object> = Services & { close?(): void | Promise<void> }

/** A whole procedure. */
export interface Playbook<Schema extends z.ZodType = z.ZodType, Services extends object = object> {
  readonly name: string
  /** One sentence for `rekey playbooks`. */
  readonly summary: string
  /** The variables that it takes, from the inventory and `-e`. Unknown names in `-e` are refused. */
  readonly vars: Schema
  /** Made once a run; their members stand in every step's context. `close` is called at the end, however it comes. */
  services?(run: RunContext<z.output<Schema>>): Opened<Services> | Promise<Opened<Services>>
  readonly plays: readonly Play<StepContext<z.output<Schema>> & NoInfer<Services>>[]
  /** What to tell at the end, also of a run that failed. */
  report?(
    run: RunContext<z.output<Schema>> & NoInfer<Services> & { outcome: 'done' | 'failed' | 'interrupted' },
  ): ReportSection[] | Promise<ReportSection[]>
}

/** Declares a playbook; `export default playbook({…})`. */
export function playbook<Schema extends z.ZodType, Services extends object = object>(
  definition: Playbook<Schema, Services>,
): Playbook<Schema, Services> {
  return made(definition)
}

/** Declares a play: a title, the hosts and how they go through it, the steps. */
export function play<Context = StepContext>(
  title: string,
  definition: Omit<Play<Context>, 'title' | 'steps'>,
  steps: readonly PlayItem<Context>[],
): Play<Context> {
  return made({ ...withoutArguments(definition, 'play', 'title', 'steps'), title, steps })
}

/** Declares a block: a title, what happens around its steps, the steps. */
export function block<Context = StepContext>(
  title: string,
  definition: Omit<Block<Context>, 'title' | 'steps'>,
  steps: readonly PlayItem<Context>[],
): Block<Context> {
  return made({ ...withoutArguments(definition, 'block', 'title', 'steps'), title, steps })
}

/**
 * Declares a step.
 * Without an `id` it is made from the title: `Restart kubelet` is `restart-kubelet`.
 */
export function step<Context = StepContext>(title: string, definition: StepDefinition<Context>): Step<Context> {
  return made({ ...withoutArguments(definition, 'step', 'title'), id: definition?.id ?? slug(title), title })
}

/** Errors that nobody throws: their stacks say where each was made, and are written out only when somebody asks. */
const places = new WeakMap<object, Error>()

function made<T>(part: T): T {
  if (typeof part === 'object' && part !== null) places.set(part, new Error())
  return part
}

/** Where a playbook, play, block or step was made by its function, as `file:line`; `undefined` where it was not. */
export function whereMade(part: unknown): string | undefined {
  const error = typeof part === 'object' && part !== null ? places.get(part) : undefined
  return error && thrownAt(error)
}

/** What is said twice would be lost in silence once; everything else that is wrong is found when the playbook is loaded. */
function withoutArguments<T>(definition: T, what: string, ...names: readonly string[]): T {
  const twice = names.find(name => definition && Object.hasOwn(definition, name))
  if (twice === undefined) return definition
  throw new RekeyError(`${what}() takes its ${twice} as an argument, and no option '${twice}'`, {
    code: 'playbook.shape',
  })
}

function slug(title: string): string {
  return String(title)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
}
