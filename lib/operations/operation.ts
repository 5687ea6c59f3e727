// What all operations have in common: each is what a step does, or is called within one; it looks before it does anything, notes in the run's
// folder what there was, and can be undone by that.
import type { z } from 'zod'
import { RekeyError } from '../errors.ts'
import { type HostSession, type StepContext, type StepDefinition, Unchanged, unchanged } from '../playbook/model.ts'
import { beginNotes, type Note, note, notesToUndo, putAway } from './notes.ts'

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

/** What an operation does, by its parts. */
interface Doing<Options, Result> {
  readonly name: string
  /** Options as a playbook gives them. Throws `RekeyError` for what can't be: it is told when the playbook is loaded. */
  check(options: unknown): Options
  /** Compares a host with what is asked, in one round trip. Must only look. */
  look(context: StepContext, wanted: readonly Options[]): Promise<Found<Result>>
  /**
   * Options that are looked at and done together; each list after the one before it was done. For an operation whose options may be about each
   * other's. Default: all together.
   */
  batches?(wanted: readonly Options[]): readonly (readonly Options[])[]
  /** One result of those of the batches. */
  joined?(results: readonly Result[]): Result
}

/** How it is undone. */
interface Undoing<Options> {
  /**
   * Undoes what was done, by what `keep` gave. May be asked twice, and where it was cut off in the middle.
   * @param asked what the step asks for, where its playbook says that as it is
   */
  undo(session: HostSession, kept: never, asked?: readonly Options[]): Promise<void>
  /**
   * What `keep` gives, as a schema. A run's folder may come from anywhere: what is not that is not undone. Commands are made of it, so each number
   * must be one, each path absolute.
   */
  readonly kept: z.ZodType
  readonly irreversible?: undefined
}

/** Why it can't be undone. */
interface NoUndoing {
  readonly undo?: undefined
  readonly irreversible: string
}

/** An operation, by its parts. */
export type OperationDefinition<Options, Result> = Doing<Options, Result> & (Undoing<Options> | NoUndoing)

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

const undoings = new Map<string, Undoing<never>>()

/** Makes an operation of its parts. */
export function operation<Options extends object, Result>(
  definition: OperationDefinition<Options, Result>,
): Operation<Options, Result> {
  const { name, check, look, undo, irreversible, batches = (wanted: readonly Options[]) => [wanted] } = definition
  if (definition.undo) undoings.set(name, definition)
  const checked = (given: unknown): readonly Options[] => (Array.isArray(given) ? given.map(check) : [check(given)])
  const find = async (context: StepContext, wanted: readonly Options[]) => {
    const found = await look(context, wanted)
    await found.announce?.()
    return found
  }
  const perform = async (context: StepContext, given: unknown) => {
    if (undo) beginNotes(context)
    const results: Result[] = []
    let isChanged = false
    for (const wanted of batches(checked(given))) {
      const { would, result, keep, apply } = await find(context, wanted)
      if (would.length > 0) isChanged = true
      if (would.length > 0 && undo && keep) note(context, name, await keep())
      results.push(would.length > 0 ? await apply() : result)
    }
    const result = results.length === 1 ? results[0]! : definition.joined!(results)
    return isChanged ? result : unchanged(result)
  }
  const plan = async (context: StepContext, given: unknown) => {
    const lines: string[] = []
    for (const wanted of batches(checked(given))) {
      try {
        lines.push(...(await find(context, wanted)).would)
      } catch (error) {
        // What is asked first is not done yet, and it may need that.
        if (lines.length === 0) throw error
        lines.push(`then, as it stands without that: ${(error as Error).message}`)
      }
    }
    return [...new Set(lines)]
  }
  const stepOf = (asked: Asked<Options, StepContext>): StepDefinition => {
    const said = typeof asked === 'function' ? undefined : checked(asked)
    const given = (context: StepContext) => (typeof asked === 'function' ? asked(context) : asked)
    return {
      plan: async context => await plan(context, await given(context)),
      run: async context => await perform(context, await given(context)),
      ...(undo
        ? { rollback: async (context: StepContext) => await undoNotes(context, { operation: name, asked: said }) }
        : { irreversible }),
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

/** Undoes all that operations did in a step on a host, the last first. A step that calls them within its `run` has this as its `rollback`. */
export async function undoOperations(context: StepContext): Promise<void> {
  await undoNotes(context)
}

/** An operation that a step is, and what it asks for. */
interface OnlyOne {
  readonly operation: string
  readonly asked: readonly unknown[] | undefined
}

/** @param only the operation that the step is: notes of others are none of its */
async function undoNotes(context: StepContext, only?: OnlyOne): Promise<void> {
  const notes = notesToUndo(context, only !== undefined && hasReturned(context))
  // Before anything is undone.
  const undoings = notes.map(one => ({ one, undo: undoingOf(one, only) }))
  for (const { one, undo } of undoings) {
    await undo(context)
    putAway(one)
  }
}

/** Whether the step's operation came to its end, as far as that is known. */
function hasReturned({ registered, step, host }: StepContext): boolean {
  try {
    return registered(step, host.name) !== undefined
  } catch {
    return true
  }
}

function undoingOf({ file, operation, kept }: Note, only: OnlyOne | undefined) {
  const known = undoings.get(operation)
  if (!known) {
    throw new RekeyError(`${file}: rekey has no operation '${operation}' to undo`, { code: 'operation.unknown' })
  }
  const { undo, kept: shape } = known
  const hint = 'It is not undone: nothing that rekey wrote is like that. Did somebody change it?'
  if (only !== undefined && operation !== only.operation)
    throw new RekeyError(`${file} is of '${operation}', and the step of '${only.operation}'`, {
      code: 'operation.note',
      hint,
    })
  const { success, error } = shape.safeParse(kept)
  const issue = error?.issues[0]
  if (!success)
    throw new RekeyError(
      `${file} is no note of '${operation}': ${['kept', ...(issue?.path ?? [])].join('.')}: ${issue?.message}`,
      { code: 'operation.note', hint },
    )
  return async (context: StepContext) => await undo(context, kept as never, only?.asked as never)
}
