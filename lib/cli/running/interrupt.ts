// Ctrl-C: the first ends the run in good order, the second ends rekey at once.
import { exitCodes } from '../../errors.ts'
import { tell } from '../../output/print.ts'

const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** A signal that is aborted by one of them without a word: for whoever only looks on. `release` puts the defaults back. */
export function untilInterrupted(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  const end = () => controller.abort()
  for (const name of names) process.once(name, end)
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, end)
    },
  }
}

/**
 * A signal that is aborted by the first SIGINT, SIGTERM or SIGHUP. `release` puts the defaults back.
 * A process that started this one hands on what it was sent (bin/rekey). Most who send signals send them to both: then it is one.
 */
export function interruptible(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  const counts = { own: 0, handedOn: 0 }
  const onSignal = (name: NodeJS.Signals, from: keyof typeof counts) => {
    counts[from]++
    const times = Math.max(counts.own, counts.handedOn)
    if (times > 1) process.exit(exitCodes.interrupted)
    if (controller.signal.aborted) return
    if (name !== 'SIGHUP') tell('\nStopping: the current commands are being ended. Once more to leave at once.')
    controller.abort(new Error(`interrupted by ${name}`))
  }
  const listeners = names.flatMap(name => [
    [name, () => onSignal(name, 'own')] as const,
    [`handed on: ${name}`, () => onSignal(name, 'handedOn')] as const,
  ])
  for (const [event, listener] of listeners) process.on(event, listener)
  return {
    signal: controller.signal,
    release: () => {
      for (const [event, listener] of listeners) process.off(event, listener)
    },
  }
}
