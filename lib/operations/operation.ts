// What all operations have in common: each is what a step does, or is called within one; it looks before it does anything, notes in the run's
// folder what there was, and can be undone by that.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { type HostSession, type StepContext, type StepDefinition, Unchanged, unchanged } from '../playbook/model.ts'

/** What an operation found on a host. */
export interface Found<Result> {
  /** What it would do, a line each; none where all is as it shall be. */
  readonly would: readonly string[]
  /** What comes of it where it does nothing. */
  readonly result: Result
  /** Tells whoever watches which files will hold what. */
  announce?(): Promise<void>
  /** What it takes to undo it, as JSON has it: asked for before `apply`, noted before anything is done. Not there: nothing to undo. */
  keep?(): unknown
  /** Does it, for all that was asked in as few round trips as it can. */
  apply(): Promise<Result>
}

/** An operation, by its parts. */
export interface OperationDefinition<Options, Result> {
  readonly name: string
  /** Options as a playbook gives them. Throws `RekeyError` for what can't be: it is told when the playbook is loaded. */
  check(options: unknown): Options
  /** Compares a host with what is asked, in one round trip. Must only look. */
  look(context: StepContext, wanted: readonly Options[]): Promise<Found<Result>>
  /** Undoes what was done, by what `keep` gave. May be asked twice, and where it was cut off in the middle. */
  undo?(session: HostSession, kept: never): Promise<void>
  /** Why it can't be undone, where it has no `undo`. */
  readonly irreversible?: string
}

/** What is asked of an operation: options, a list of them, or a function of the context that gives either. */
export type Asked<Options, Context> =
  | Options
  | readonly Options[]
  | ((context: Context) => Options | readonly Options[] | Promise<Options | readonly Options[]>)

/**
 * `file({…})` is what a step does: `step('Make the folder', file({ path: '/etc/app', state: 'directory' }))`, with `--check`, `--diff` and a way
 * back. `file(ctx, {…})` does the same within a step's own `run`, and `undoOperations` is that step's `rollback`.
 */
export interface Operation<Options, Result> {
  <Context = StepContext>(asked: Asked<Options, Context>): StepDefinition<Context>
  (context: StepContext<unknown>, wanted: Options | readonly Options[]): Promise<Result>
}

const undoings = new Map<string, (session: HostSession, kept: never) => Promise<void>>()

/** Makes an operation of its parts. */
export function operation<Options extends object, Result>(
  definition: OperationDefinition<Options, Result>,
): Operation<Options, Result> {
  const { name, check, look, undo, irreversible } = definition
  if (undo) undoings.set(name, undo)
  const checked = (given: unknown): readonly Options[] => (Array.isArray(given) ? given.map(check) : [check(given)])
  const find = async (context: StepContext, given: unknown) => {
    const found = await look(context, checked(given))
    await found.announce?.()
    return found
  }
  const perform = async (context: StepContext, given: unknown) => {
    const { would, result, keep, apply } = await find(context, given)
    if (would.length === 0) return unchanged(result)
    if (undo && keep) note(context, name, await keep())
    return await apply()
  }
  const stepOf = (asked: Asked<Options, StepContext>): StepDefinition => {
    if (typeof asked !== 'function') checked(asked)
    const given = (context: StepContext) => (typeof asked === 'function' ? asked(context) : asked)
    return {
      plan: async context => [...(await find(context, await given(context))).would],
      run: async context => await perform(context, await given(context)),
      ...(undo ? { rollback: undoOperations } : { irreversible: irreversible ?? `${name} has no way back` }),
    }
  }
  const either = async (context: StepContext, wanted: unknown) => {
    const done = await perform(context, wanted)
    return done instanceof Unchanged ? done.value : done
  }
  return ((...words: readonly unknown[]) =>
    words.length > 1
      ? either(words[0] as StepContext, words[1])
      : stepOf(words[0] as Asked<Options, StepContext>)) as Operation<Options, Result>
}

/** What an operation noted before it did something. */
interface Note {
  readonly operation: string
  readonly kept: unknown
}

/** Where the notes of a step on a host are, in the run's folder. */
function notesOf({ folder, host, step }: StepContext): string {
  // No name is a path: an id has no `/`, whatever else stands in it.
  return join(folder, 'before', ...[host.name, step].map(name => `=${encodeURIComponent(name)}`))
}

function notesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}

/** Is on the disk before anything is done. What files held is among it: nobody else may read it. */
function note(context: StepContext, operation: string, kept: unknown): void {
  const folder = notesOf(context)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const next = String(Number.parseInt(notesIn(folder).at(-1) ?? '0', 10) + 1).padStart(6, '0')
  const text = JSON.stringify({ operation, kept } satisfies Note)
  writeFileSync(join(folder, `${next}.json`), text, { mode: 0o600, flag: 'wx', flush: true })
}

/** Undoes all that operations did in a step on a host, the last first. A step that calls them within its `run` has this as its `rollback`. */
export async function undoOperations(context: StepContext): Promise<void> {
  const folder = notesOf(context)
  for (const name of notesIn(folder).toReversed()) {
    const file = join(folder, name)
    const { operation, kept } = JSON.parse(readFileSync(file, 'utf8')) as Note
    const undo = undoings.get(operation)
    if (!undo) {
      throw new RekeyError(`${file}: rekey has no operation '${operation}' to undo`, { code: 'operation.unknown' })
    }
    await undo(context, kept as never)
    rmSync(file)
  }
}
