// A run that is a job of a fleet: whoever started this process keeps its folder elsewhere as well, before each step, and says whether the job is
// still this process's. Where it is not, somebody else may be at work on the same hosts, and nothing more is done on any.
import { killLocalCommands } from '../../connection/local.ts'
import { HostFailedError } from '../../errors.ts'
import { inTurns } from './turns.ts'

/** Set for processes whose parent keeps the folder of their run: to the milliseconds for which it may be silent. */
export const keeperVariable = 'REKEY_RUN_KEEPER'

/** What a run asks its keeper: to keep the folder as it is on the disk now. */
export interface KeepRequest {
  readonly keep: number
  readonly run: string
  readonly folder: string
  /** The id of the step that was begun last. */
  readonly step?: string
}

/** What the keeper answers: that it is kept, and for how many milliseconds from the question on the hosts may be taken for ours; or why not. */
export interface KeepAnswer {
  readonly kept: number
  readonly lease?: number
  /** The hosts are somebody else's. Said without being asked as well. */
  readonly refused?: string
  /** It can't be kept, and that does not go by. */
  readonly failed?: string
}

/** Has the folder of a run kept. */
export interface Keeper {
  /** Aborted where no answer holds any more: then the run ends what it does, and gives back its lock. */
  readonly over: AbortSignal
  /** Is told which step is begun. */
  begins(step: string): void
  /** Resolves once everything that is on the disk now is kept. Calls that come together share one. */
  keep(): Promise<void>
  close(): void
}

/** The exit code of a run whose keeper refused. */
const refusedCode = 75

/** How often this process looks whether it was stopped, and how often it has the folder kept while a step takes its time, in milliseconds. */
const [lookEvery, renewEvery] = [500, 2_000]

/**
 * Has the folder of a run kept, where this process was started for that.
 * @returns what keeps it; `undefined` where nobody does. Where that is refused, or this process was stopped for longer than its lease, the process
 * ends at once and leaves everything on the hosts as it is. Keeping rejects with `HostFailedError` where nobody is there any more who does it.
 */
export function openKeeper(run: string, folder: string): Keeper | undefined {
  const given = process.env[keeperVariable]
  if (!given) return undefined
  let lease = Number(given)
  if (!process.send || !(lease > 0))
    throw new HostFailedError(`${keeperVariable} is set, and nobody is there to keep the run`, {
      code: 'run.keeper',
      hint: 'It is set by rekey fleet for the runs that it begins: take it out of the environment.',
    })
  /** The question that was asked last, and who waits for its answer. */
  let number = 0
  let waiting: ((answer: KeepAnswer) => void) | undefined
  const hear = (message: unknown) => {
    const answer = message as Partial<KeepAnswer> | null
    if (answer?.refused !== undefined) end()
    if (answer?.kept === number) waiting?.(message as KeepAnswer)
  }
  // bin/rekey ends the run in good order then: no step is begun any more.
  const gone = () => waiting?.({ kept: number })
  const over = new AbortController()
  over.signal.addEventListener('abort', gone)
  process.on('message', hear)
  process.on('disconnect', gone)
  let seen = performance.now()
  let [asked, until] = [Number.POSITIVE_INFINITY, seen + lease]
  // Whoever was stopped does not know how long it was.
  const watch = setInterval(() => {
    const now = performance.now()
    if (now - seen > lease) end()
    seen = now
    if (now > until) over.abort(silent())
    else if (!waiting && now - asked > renewEvery) keep().catch(() => {})
  }, lookEvery)
  watch.unref()
  let step: string | undefined
  const ask = async (): Promise<void> => {
    for (;;) {
      if (over.signal.aborted) throw silent()
      const keep = ++number
      asked = performance.now()
      watch.ref()
      const answer = await new Promise<KeepAnswer>(resolve => {
        waiting = resolve
        if (!process.connected) gone()
        else process.send!({ keep, run, folder, step } satisfies KeepRequest, undefined, {}, () => {})
      })
      waiting = undefined
      watch.unref()
      if (over.signal.aborted) throw silent()
      if (!process.connected)
        throw new HostFailedError('whoever began this run is gone: it ends here', {
          code: 'run.keeper',
          hint: 'The fleet goes on with it as soon as another worker has looked.',
        })
      if (answer.failed !== undefined)
        throw new HostFailedError(`the folder of this run can't be kept: ${answer.failed}`, { code: 'run.keeper' })
      if (answer.lease !== undefined) lease = answer.lease
      until = asked + lease
      // What was said so long ago may not hold any more.
      if (performance.now() - asked < lease) return
    }
  }
  const keep = inTurns(ask)
  return {
    over: over.signal,
    begins: id => {
      step = id
    },
    keep,
    close: () => {
      clearInterval(watch)
      process.off('message', hear)
      process.off('disconnect', gone)
    },
  }
}

const silent = () =>
  new HostFailedError('whoever began this run does not answer any more: it ends here', {
    code: 'run.keeper',
    hint: 'The fleet goes on with it as soon as its database or another worker answers.',
  })

/** The lock, the marks of commands and the audit log on the hosts are somebody else's by now, who goes on with this very run. */
function end(): never {
  // What it does here would go on without it, and whoever goes on with the run on another machine can't wait for that.
  killLocalCommands()
  process.exit(refusedCode)
}
