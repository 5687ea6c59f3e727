// A run that is a job of a fleet: whoever started this process keeps its folder elsewhere as well, before each step, and says whether the job is
// still this process's. Where it is not, somebody else may be at work on the same hosts, and nothing more is done on any.
import { HostFailedError } from '../../errors.ts'
import { inTurns } from './turns.ts'

/** Set for processes whose parent keeps the folder of their run. */
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
  readonly refused?: string
}

/** Has the folder of a run kept. */
export interface Keeper {
  /** Is told which step is begun. */
  begins(step: string): void
  /** Resolves once everything that is on the disk now is kept. Calls that come together share one. */
  keep(): Promise<void>
  close(): void
}

/** The exit code of a run whose keeper refused. */
const refusedCode = 75

/** How often this process looks whether it was stopped, in milliseconds. */
const lookEvery = 500

/**
 * Has the folder of a run kept, where this process was started for that.
 * @returns what keeps it; `undefined` where nobody does. Where that is refused, or this process was stopped for longer than its lease, the process
 * ends at once and leaves everything on the hosts as it is. It rejects with `HostFailedError` where nobody is there any more to keep it.
 */
export function openKeeper(run: string, folder: string): Keeper | undefined {
  if (!process.env[keeperVariable]) return undefined
  if (!process.send)
    throw new HostFailedError(`${keeperVariable} is set, and nobody is there to keep the run`, {
      code: 'run.keeper',
      hint: 'It is set by rekey fleet for the runs that it begins: take it out of the environment.',
    })
  /** The question that was asked last, and who waits for its answer. */
  let number = 0
  let waiting: ((answer: KeepAnswer) => void) | undefined
  const hear = (message: unknown) => {
    if ((message as Partial<KeepAnswer> | null)?.kept === number) waiting?.(message as KeepAnswer)
  }
  // bin/rekey ends the run in good order then: no step is begun any more.
  const gone = () => waiting?.({ kept: number })
  process.on('message', hear)
  process.on('disconnect', gone)
  let lease = Number.POSITIVE_INFINITY
  let seen = performance.now()
  // Whoever was stopped does not know how long it was.
  const watch = setInterval(() => {
    const now = performance.now()
    if (now - seen > lease) end()
    seen = now
  }, lookEvery)
  watch.unref()
  let step: string | undefined
  const ask = async (): Promise<void> => {
    for (;;) {
      const keep = ++number
      const asked = performance.now()
      watch.ref()
      const answer = await new Promise<KeepAnswer>(resolve => {
        waiting = resolve
        if (!process.connected) gone()
        else process.send!({ keep, run, folder, step } satisfies KeepRequest, undefined, {}, () => {})
      })
      watch.unref()
      if (!process.connected)
        throw new HostFailedError('whoever began this run is gone: it ends here', {
          code: 'run.keeper',
          hint: 'The fleet goes on with it as soon as another worker has looked.',
        })
      if (answer.refused !== undefined) end()
      if (answer.lease !== undefined) lease = answer.lease
      // What was said so long ago may not hold any more.
      if (performance.now() - asked < lease) return
    }
  }
  return {
    begins: id => {
      step = id
    },
    keep: inTurns(ask),
    close: () => {
      clearInterval(watch)
      process.off('message', hear)
      process.off('disconnect', gone)
    },
  }
}

/** The lock, the marks of commands and the audit log on the hosts are somebody else's by now, who goes on with this very run. */
function end(): never {
  process.exit(refusedCode)
}
