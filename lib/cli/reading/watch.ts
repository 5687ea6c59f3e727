// `--watch`: a run that goes on elsewhere on this machine, as its own view shows it.
import { basename } from 'node:path'
import { exitCodes, RekeyError } from '../../errors.ts'
import { openView } from '../../output/open-view.ts'
import { tell } from '../../output/print.ts'
import { isAlive } from '../../process-identity.ts'
import { followRun } from '../../run/journal/follow.ts'
import { readHistory } from '../../run/journal/history.ts'
import { untilInterrupted } from '../running/interrupt.ts'

/**
 * Shows a run until it ends.
 * @returns its exit code; 130 where the watching was ended by Ctrl-C, which leaves the run alone
 */
export async function watchRun(folder: string): Promise<number> {
  // Where there is none, this says so.
  readHistory(folder)
  const { signal, release } = untilInterrupted()
  const view = await openView({ output: 'auto' }, process.stdout)
  let code: number | undefined
  for await (const event of followRun(folder, signal)) {
    view.event(event)
    if (event.kind === 'run.finished') code = event.exitCode
  }
  await view.close()
  release()
  if (code !== undefined) return code
  if (signal.aborted) return exitCodes.interrupted
  tell(`The process of the run is gone, and did not end it. Go on with it: rekey resume ${basename(folder)}`)
  return exitCodes.hostFailed
}

/** The run that goes on now. Throws `RekeyError` where none does, and where several do. */
export function runningNow(folders: readonly string[]): string {
  const running = folders.filter(isRunning)
  if (running.length === 1) return running[0]!
  throw new RekeyError(
    running.length === 0
      ? 'no run goes on here'
      : `${running.length} runs go on: ${running.map(one => basename(one)).join(', ')}`,
    {
      code: 'run.none-or-several',
      hint: running.length === 0 ? "See those that ended with 'rekey runs'." : "Say which: 'rekey show RUN --watch'.",
    },
  )
}

function isRunning(folder: string): boolean {
  try {
    const { finished, latest } = readHistory(folder)
    return finished === undefined && isAlive(latest.process) === true
  } catch {
    return false
  }
}
