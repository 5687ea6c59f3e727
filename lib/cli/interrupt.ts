// Ctrl-C: the first ends the run in good order, the second ends rekey at once.
import { exitCodes } from '../errors.ts'
import { tell } from '../output/print.ts'

/** A signal that is aborted by the first SIGINT, SIGTERM or SIGHUP. `release` puts the defaults back. */
export function interruptible(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted)
    if (name !== 'SIGHUP') tell('\nStopping: the current commands are being ended. Once more to leave at once.')
    controller.abort(new Error(`interrupted by ${name}`))
  }
  for (const name of names) process.on(name, onSignal)
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, onSignal)
    },
  }
}
