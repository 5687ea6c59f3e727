// The journal of a run that goes on, read as it is written.
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { setTimeout as delay } from 'node:timers/promises'
import { isAlive } from '../../process-identity.ts'
import type { RunEvent } from '../events.ts'
import { checkEvent } from './event-check.ts'

const pollEvery = 200
const chunkSize = 256 * 1024
/** Letters of a line that are read: longer ones are passed over, as a reader of the whole does. */
const longestLine = 16 * 1024 * 1024

/**
 * The events of the latest part of a run, those to come among them, without what steps print, which is not in its journal. Ends with the one that
 * ends the run, when `signal` is aborted, and where the process of the run is gone. Lines that are no events are passed over.
 * @throws Error where the journal can't be read
 */
export async function* followRun(folder: string, signal: AbortSignal): AsyncGenerator<RunEvent, void> {
  const next = openTail(join(folder, 'events.jsonl'))
  let events = next.all()
  events = events.slice(events.findLastIndex(({ kind }) => kind === 'run.started'))
  let process: Extract<RunEvent, { kind: 'run.started' }>['process'] | undefined
  let wasGone = false
  while (!signal.aborted) {
    for (const event of events) {
      yield event
      if (event.kind === 'run.started') process = event.process
      if (event.kind === 'run.finished') return
    }
    // What it wrote last is read once more after it is seen to be gone.
    if (wasGone && events.length === 0) return
    wasGone = process !== undefined && isAlive(process) === false
    if (!wasGone) await delay(pollEvery, undefined, { signal }).catch(() => {})
    events = next.all()
  }
}

/** Reads what was added to a file since it was read last. */
function openTail(path: string) {
  const decoder = new StringDecoder('utf8')
  const chunk = Buffer.allocUnsafe(chunkSize)
  let position = 0
  let begun = ''
  let isTooLong = false
  const added = (text: string): RunEvent[] => {
    const lines = (begun + text).split('\n')
    begun = lines.pop()!
    const whole = isTooLong ? lines.slice(1) : lines
    if (lines.length > 0) isTooLong = false
    if (begun.length > longestLine) [begun, isTooLong] = ['', true]
    return whole.filter(Boolean).flatMap(line => {
      const checked = checkEvent(line)
      return 'event' in checked ? [checked.event] : []
    })
  }
  return {
    all: (): RunEvent[] => {
      const events: RunEvent[] = []
      const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        for (;;) {
          const size = readSync(file, chunk, 0, chunk.length, position)
          if (size === 0) return events
          position += size
          events.push(...added(decoder.write(chunk.subarray(0, size))))
        }
      } finally {
        closeSync(file)
      }
    },
  }
}
