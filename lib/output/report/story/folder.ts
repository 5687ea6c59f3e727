// What a run's folder has for its report: the events, what steps printed and returned, certificates among that. All of it without secrets: those
// that the folder keeps are told of first, so that none is shown that was printed before anybody knew it for one.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { RunEvent } from '../../../run/events.ts'
import { searched } from '../../../run/journal/event-text.ts'
import { journalEvents, type RunHistory, readHistory } from '../../../run/journal/history.ts'
import { keyOf, lastPrinted, printedInJournal } from '../../../run/printed/kept-lines.ts'
import { type Returned, registeredIn } from '../../../run/registered/registered.ts'
import { redactor } from '../../redaction.ts'
import { type Sighting, sightingsIn } from './certificates.ts'
import type { Part, PlayStory, Span } from './model.ts'
import { partsOf, usable } from './parts.ts'
import { toldValue } from './values.ts'

/** A run, and what its folder has beside its journal. */
export interface RunStory {
  readonly history: RunHistory
  readonly parts: readonly Part[]
  /** Certificates, in the order in which steps handed them on. */
  readonly sightings: readonly Sighting[]
  /** Why something of what steps returned can't be told, a line each. */
  readonly lost: readonly string[]
  /** Of the journal as it was read. */
  readonly sha256: string
  /** The last lines that a step printed on a host; `undefined` where nothing is kept. */
  printed(play: PlayStory, span: Span, most?: number): string | undefined
  /** What a step returned on a host last, in lines. */
  returned(step: string, host: string): string | undefined
}

/** Bytes of what a step printed on a host that are shown where it failed. */
const mostPrinted = 16 * 1024
/** Letters of what a step returned. */
const mostReturned = 1_200

/**
 * Reads a run.
 * @param wanted steps of which it is asked later what they returned
 * @throws RekeyError where the folder holds none
 */
export async function readStory(folder: string, wanted: (play: PlayStory) => boolean): Promise<RunStory> {
  const history = readHistory(folder)
  const events = [...journalEvents(folder)].flatMap(usable)
  const asked = new Set(partsOf(events).flatMap(({ plays }) => plays.filter(wanted).flatMap(idsOf)))
  const { sightings, values, lost } = readReturned(folder, asked)
  // Only now is every secret known that this folder keeps.
  const { text, line, ended } = redactor()
  const parts = partsOf(events.map(event => searched(event, { text, line, ended }) as RunEvent))
  const kept = new Map<string, string>()
  const failed = new Set(
    parts.flatMap(({ plays }) =>
      plays.flatMap(({ index, steps }) => steps.flatMap(({ spans }) => spans.map(span => keyOf(index, span)))),
    ),
  )
  let older: Map<string, string> | undefined
  const printed: RunStory['printed'] = ({ index, title }, span, most = mostPrinted) => {
    const key = `${keyOf(index, span)} ${most}`
    const known = kept.get(key)
    if (known !== undefined) return known || undefined
    const found = lastPrinted({ folder, play: index, title }, span, most)
    older ??= found ? undefined : printedInJournal(join(folder, 'events.jsonl'), failed, most)
    const before = found && found.before > 0 ? `[${found.before} bytes before that are left out]\n` : ''
    const shown = found ? before + text(found.text) : text(older?.get(keyOf(index, span)) ?? '')
    kept.set(key, shown)
    return shown || undefined
  }
  return {
    ...{ history: redacted(history, text), parts, sightings, printed },
    lost: lost.map(text),
    sha256: await hashOf(join(folder, 'events.jsonl')),
    returned: (step, host) => {
      const told = values.get(JSON.stringify([step, host]))
      if (told === undefined) return undefined
      const whole = text(told)
      return whole.length > mostReturned ? `${whole.slice(0, mostReturned)} …` : whole
    },
  }
}

const idsOf = ({ steps }: PlayStory) => steps.map(({ id }) => id)

function readReturned(folder: string, asked: ReadonlySet<string>) {
  const sightings: Sighting[] = []
  const values = new Map<string, string>()
  const lost: string[] = []
  const take = (one: Returned) => {
    if ('lost' in one) {
      lost.push(`what '${one.step}' returned on ${one.host}: ${one.lost}`)
      return
    }
    sightings.push(...sightingsIn(one))
    if (asked.has(one.step)) values.set(JSON.stringify([one.step, one.host]), toldValue(one.value))
  }
  try {
    for (const one of registeredIn(folder)) take(one)
  } catch (error) {
    lost.push(`what steps returned: ${(error as Error).message}`)
  }
  return { sightings, values, lost }
}

/** What the history has of events, as others may see it. */
function redacted(history: RunHistory, text: (text: string) => string): RunHistory {
  const search = { text, line: (_stream: string, line: string) => text(line), ended: () => {} }
  const { first, latest, finished, damage } = history
  const own = searched(first, search)
  return {
    ...history,
    first: own,
    latest: latest === first ? own : searched(latest, search),
    finished: finished && searched({ ...finished, failures: [] }, search),
    damage: damage.map(text),
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
