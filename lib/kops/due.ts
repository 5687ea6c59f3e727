// Which instances a stage must replace, in the run's folder: where kops sees none behind, it is asked again what became of those, and nobody goes on
// because they were forgotten.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HostFailedError } from '../errors.ts'
import { named, readInstances } from './asked/instances.ts'
import { readPending } from './asked/pending.ts'
import type { Context, End } from './context.ts'

/** A stage, on the way there or back. */
export type Way = End | `back-${End}` | 'back-recreated'

/** Instances by id: where any of them is there still, the stage has not come to it. */
const fileOf = ({ folder }: Pick<Context, 'folder'>, way: Way) => join(folder, 'to-be-replaced', `${way}.json`)

/** Those that were noted for a stage; undefined where nobody has. */
export async function noted(ctx: Context, way: Way): Promise<string[] | undefined> {
  try {
    return JSON.parse(await readFile(fileOf(ctx, way), 'utf8')) as string[]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Notes which instances a stage must replace. */
export async function note(ctx: Context, way: Way, ids: readonly string[]): Promise<void> {
  await mkdir(join(ctx.folder, 'to-be-replaced'), { recursive: true, mode: 0o700 })
  await writeFile(fileOf(ctx, way), JSON.stringify(ids), { flush: true })
}

/**
 * Before key pairs are changed back: notes who runs with what is taken back, as kops will not say so where it sees no change. What was never
 * applied nobody runs with.
 */
export async function noteWhoHasIt(ctx: Context, way: Way): Promise<void> {
  if (await noted(ctx, way)) return
  const isApplied = (await readPending(ctx)).length === 0
  const have = isApplied ? (await readInstances(ctx)).filter(({ needsUpdate }) => !needsUpdate) : []
  await note(
    ctx,
    way,
    have.map(({ id }) => id),
  )
}

const whatToRoll =
  'Look at kops get instances, and at what the instances run with. Going on to distrust from here has ended clusters: where they are behind all the same, kops rolling-update cluster --cloudonly --force --yes replaces them; then go on: rekey'

/**
 * After an update: sees that somebody is behind, or that whoever was to be replaced is gone.
 * @param due who is behind, by kops
 * @param all who is to be replaced where nothing was noted and nobody is behind
 * @throws HostFailedError where some are there still, and kops calls none of them behind
 */
export async function requireDue(
  ctx: Context,
  way: Way,
  { due, all, what }: { due: readonly string[]; all: readonly string[]; what: string },
): Promise<void> {
  const before = await noted(ctx, way)
  if (due.length > 0) {
    if (before) await note(ctx, way, due)
    return
  }
  const now = await readInstances(ctx)
  const left = now.filter(({ id }) => (before ?? all).includes(id))
  if (left.length === 0) return
  if (!before) await note(ctx, way, all)
  throw new HostFailedError(`no instance needs an update after ${what}: ${named(left)} had to`, {
    code: 'kops.nothing-due',
    hint: `${whatToRoll} ${ctx.mode === 'rollback' ? 'rollback' : 'resume'}.`,
  })
}
