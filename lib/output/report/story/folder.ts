// What a run's folder has for its report: the events, what steps printed and returned, certificates among that. All of it without secrets: those
// that the folder keeps are told of first, so that none is shown that was printed before anybody knew it for one.
import { createHash } from 'node:crypto'
import { createReadStream, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { RunEvent } from '../../../run/events.ts'
import { searched } from '../../../run/journal/event-text.ts'
import { journalEvents, type RunHistory, readHistory } from '../../../run/journal/history.ts'
import { keyOf, lastPrinted, type Printed, printedInJournal } from '../../../run/printed/kept-lines.ts'
import { type Returned, registeredIn } from '../../../run/registered/registered.ts'
import { type Redactor, redactor } from '../../redaction.ts'
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
  /** Of the journal as far as it was read, and how many bytes that are. */
  readonly sha256: string
  readonly bytes: number
  /** The last lines that a step printed on a host, at all times that it was done; `undefined` where nothing is kept. */
  printed(play: PlayStory, span: Span, most?: number): string | undefined
  /** What a step returned on a host that time, in lines; `undefined` where that is not known. */
  returned(span: Span): string | undefined
}

/** Bytes of what a step printed on a host that are shown where it failed. */
const mostPrinted = 16 * 1024
/** Letters of what a step returned. */
const mostReturned = 1_200

/** What a folder holds, with whatever is secret in it. */
interface Read {
  readonly folder: string
  readonly history: RunHistory
  readonly events: readonly RunEvent[]
  readonly bytes: number
  readonly sightings: readonly Sighting[]
  /** What steps returned in lines, by `placeOf`, one time after the other. */
  readonly values: ReadonlyMap<string, readonly string[]>
  readonly lost: readonly string[]
}

/**
 * Reads runs that are told of together: what is secret in one of them is so in all.
 * @param wanted steps of which it is asked later what they returned
 * @throws RekeyError where a folder holds none
 */
export async function readStories(
  folders: readonly string[],
  wanted: (play: PlayStory) => boolean,
): Promise<RunStory[]> {
  const read = folders.map(folder => readFolder(folder, wanted))
  // Only now is every secret known that these folders keep.
  const redaction = redactor()
  return Promise.all(read.map(one => storyOf(one, redaction)))
}

function readFolder(folder: string, wanted: (play: PlayStory) => boolean): Read {
  const history = readHistory(folder)
  // What a run that goes on writes from now on is none of the page.
  const bytes = statSync(join(folder, 'events.jsonl')).size
  const parsed = [...journalEvents(folder, bytes)].map(event => [event, usable(event)] as const)
  const events = parsed.flatMap(([, own]) => own)
  const useless = parsed.flatMap(([event, own]) => (own.length === 0 ? `'${event.kind}'` : uselessCurves(event, own)))
  const asked = new Set(partsOf(events).flatMap(({ plays }) => plays.filter(wanted).flatMap(idsOf)))
  const { sightings, values, lost } = readReturned(folder, asked)
  const unread = [...Map.groupBy(useless, what => what)].map(
    ([what, all]) => `of the journal ${all.length} ${what} can't be used`,
  )
  return { folder, history, events, bytes, sightings, values, lost: [...unread, ...lost] }
}

/** Of a report all but the curves may be of use. */
function uselessCurves(event: RunEvent, own: readonly RunEvent[]): string[] {
  const count = (one: RunEvent | undefined) =>
    one?.kind === 'run.report' ? one.sections.reduce((sum, { curves }) => sum + (curves?.length ?? 0), 0) : 0
  return new Array<string>(Math.max(0, count(event) - count(own[0]))).fill('curves')
}

async function storyOf(
  { folder, history, events, bytes, sightings, values, lost }: Read,
  { text, line, ended }: Redactor,
): Promise<RunStory> {
  const parts = partsOf(events.map(event => searched(event, { text, line, ended }) as RunEvent))
  const all = parts.flatMap(({ plays }) =>
    plays.flatMap(play => play.steps.flatMap(({ spans }) => spans.map(span => ({ play, span })))),
  )
  const times = Map.groupBy(all, ({ play, span }) => keyOf(play.index, span))
  const spansOf = Map.groupBy(
    all.map(({ span }) => span),
    placeOf,
  )
  const kept = new Map<string, string>()
  let older: Map<string, Printed> | undefined
  const printed: RunStory['printed'] = ({ index, title }, span, most = mostPrinted) => {
    const of = keyOf(index, span)
    const key = `${of} ${most}`
    const known = kept.get(key)
    if (known !== undefined) return known || undefined
    const own = lastPrinted({ folder, play: index, title }, span, most)
    older ??= own ? undefined : printedInJournal(join(folder, 'events.jsonl'), new Set(times.keys()), mostPrinted)
    const found = own ?? older?.get(of)
    const shown = found && found.text !== '' ? cutTo(most, { ...found, text: text(found.text) }) : ''
    const many = times.get(of)?.length ?? 1
    // One file has it all; where one time ends, it does not say.
    kept.set(key, shown && many > 1 ? `[at the ${many} times that it was done]\n${shown}` : shown)
    return kept.get(key) || undefined
  }
  return {
    ...{ history: redacted(history, text), parts, sightings, printed, bytes },
    lost: lost.map(text),
    sha256: await hashOf(join(folder, 'events.jsonl'), bytes),
    returned: span => {
      const told = returnedAt(span, spansOf.get(placeOf(span)) ?? [], values.get(placeOf(span)) ?? [])
      if (told === undefined) return undefined
      const whole = text(told)
      return whole.length > mostReturned ? `${whole.slice(0, mostReturned)} …` : whole
    },
  }
}

const placeOf = ({ step, host }: { readonly step: string; readonly host: string }) => JSON.stringify([step, host])

/**
 * What was returned at one of the times that a step was done on a host. Of what was tried several times, or did not end well, nobody knows how
 * many values it left.
 */
function returnedAt(span: Span, all: readonly Span[], values: readonly string[]): string | undefined {
  const leavesOne = ({ outcome, tries, delegate }: Span) =>
    (outcome === 'ok' || outcome === 'changed') && tries === undefined && delegate === undefined
  if (span.delegate !== undefined && span.delegate !== span.host) return undefined
  if (all.length === 1) return values.at(-1)
  if (all.every(one => leavesOne(one) || (one.outcome === 'skipped' && !one.returned))) {
    const index = all.filter(one => one.returned).indexOf(span)
    return index < 0 ? undefined : values[index]
  }
  return span === all.at(-1) && leavesOne(span) && span.returned ? values.at(-1) : undefined
}

/** Letters at the beginning of a piece of a line that may be the rest of a secret. */
const longestRest = 8 * 1024

/** The last of what was printed and is without secrets: whole lines, or the end of one. */
function cutTo(most: number, { text, before, isInLine }: Printed): string {
  const least = Math.max(text.length - most, isInLine ? longestRest : 0)
  // A line that begins there is whole.
  const line = text.lastIndexOf('\n', text.length - 2) < least ? least : text.indexOf('\n', Math.max(0, least - 1)) + 1
  const start = least > 0 ? line : 0
  const left = before + Buffer.byteLength(text.slice(0, start))
  return `${left > 0 ? `[${left} bytes before that are left out]\n` : ''}${text.slice(start)}`
}

const idsOf = ({ steps }: PlayStory) => steps.map(({ id }) => id)

function readReturned(folder: string, asked: ReadonlySet<string>) {
  const sightings: Sighting[] = []
  const values = new Map<string, string[]>()
  const lost: string[] = []
  const take = (one: Returned) => {
    if ('lost' in one) lost.push(`what '${one.step}' returned on ${one.host}: ${one.lost}`)
    else sightings.push(...sightingsIn(one))
    if (!asked.has(one.step)) return
    const told = 'lost' in one ? 'it is lost' : toldValue(one.value)
    values.set(placeOf(one), [...(values.get(placeOf(one)) ?? []), told])
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

async function hashOf(path: string, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  if (bytes > 0) await pipeline(createReadStream(path, { end: bytes - 1 }), hash)
  return hash.digest('hex')
}
