// A run as a story: each time that it was begun, gone on with or undone, with its plays, steps and hosts, and when what was done. Made from
// events as any version of rekey wrote them; what one does not say is left open.
import { z } from 'zod'
import { mostPieces } from '../../../playbook/shape.ts'
import type { EventSection, PlannedPlay, RunEvent } from '../../../run/events.ts'
import type { Progress, RunFinished, RunStarted } from '../../../run/journal/history.ts'
import type { Part, PlayStory, Span, StepStory } from './model.ts'
import { waitingIn } from './waiting.ts'

type Growing<T> = { -readonly [Key in keyof T]: T[Key] }

const text = z.string()
const list = z.array(z.number().finite())
/** Of events that say nothing of how far a run came, nobody else has looked at what they hold. */
const shapes = {
  sections: z.array(
    z.object({ title: text, rows: z.array(z.tuple([text, text])), curves: z.array(z.unknown()).optional() }),
  ),
  curve: z.object({
    ...{ label: text, from: z.number().finite(), every: z.number().finite().positive() },
    ...{ asked: list.max(mostPieces), failed: list.max(mostPieces), slowest: list.max(mostPieces).optional() },
    gaps: z.array(z.object({ from: z.number(), to: z.number(), failed: z.number(), reason: text })).max(mostPieces),
  }),
}

/** An event of which all that is told can be used; nothing where it can't. */
export function usable(event: RunEvent): RunEvent[] {
  if (event.kind === 'run.report') {
    const read = shapes.sections.safeParse(event.sections)
    if (!read.success || !Number.isFinite(event.at)) return []
    const sections = read.data.map(({ curves, ...section }): EventSection => {
      const drawn = curves?.flatMap(one => shapes.curve.safeParse(one).data ?? [])
      return { ...section, ...(drawn && { curves: drawn }) }
    })
    return [{ ...event, sections }]
  }
  if (event.kind === 'notice') return typeof event.text === 'string' && Number.isFinite(event.at) ? [event] : []
  if (event.kind === 'play.started' || event.kind === 'play.finished')
    return Number.isInteger(event.play) && event.play >= 0 && Number.isFinite(event.at) ? [event] : []
  // Who failed, the steps say.
  if (event.kind === 'run.finished') return [{ ...event, failures: [] }]
  if (event.kind !== 'step.finished') return [event]
  const { would, delegate, tries, ...rest } = event
  const isTexts = Array.isArray(would) && would.every(line => typeof line === 'string')
  return [
    {
      ...rest,
      ...(isTexts && { would }),
      ...(typeof delegate === 'string' && { delegate }),
      ...(typeof tries === 'number' && { tries }),
    },
  ]
}

/** Plays of a part: an index beyond is none. */
const mostPlays = 10_000

/** The parts of a run, in their order, made from events that are usable. */
export function partsOf(events: Iterable<RunEvent>): Part[] {
  const parts: Part[] = []
  let reading: Reader | undefined
  for (const event of events) {
    if (event.kind === 'run.started') {
      if (reading) parts.push(reading.done())
      reading = openPart(event)
    } else reading?.take(event)
  }
  if (reading) parts.push(reading.done())
  return parts
}

interface Reader {
  take(event: RunEvent): void
  done(): Part
}

function openPart(started: RunStarted): Reader {
  const plays = started.plays.map((play, index) => openPlay(play, index))
  const notices: Growing<Part['notices'][number]>[] = []
  const milestones: Growing<Part['milestones'][number]>[] = []
  let finished: RunFinished | undefined
  let sections: EventSection[] = []
  let last = started.at
  /** A play that was not announced, in a journal that has lost its beginning. */
  const playOf = (index: number) => {
    plays[index] ??= openPlay({ title: `Play ${index}`, hosts: [], steps: [] }, index)
    return plays[index]
  }
  const open = new Map<string, number>()
  const take = (event: RunEvent) => {
    last = Math.max(last, event.at)
    switch (event.kind) {
      case 'notice':
        notices.push({ at: event.at, text: event.text })
        return
      case 'milestone':
        milestones.push({ at: event.at, name: event.name })
        return
      case 'run.report':
        sections = [...sections, ...event.sections]
        return
      case 'run.finished':
        finished = event
        return
      case 'play.started':
      case 'play.finished':
        if (event.play < mostPlays) playOf(event.play)[event.kind === 'play.started' ? 'from' : 'to'] = event.at
        return
      case 'step.started':
        if (event.play < mostPlays) open.set(JSON.stringify([event.play, event.step, event.host]), event.at)
        return
      case 'step.finished': {
        if (event.play >= mostPlays) return
        const key = JSON.stringify([event.play, event.step, event.host])
        const begun = open.get(key)
        open.delete(key)
        const step = stepOf(playOf(event.play), event.step)
        if (event.earlier) step.earlier.push(event.host)
        else step.spans.push(spanOf(event, begun))
      }
    }
  }
  const done = (): Part => {
    const to = finished?.at ?? last
    for (const [key, from] of open) {
      const [play, step, host] = JSON.parse(key) as [number, string, string]
      stepOf(playOf(play), step).spans.push({ step, host, from, to: Math.max(from, to), outcome: 'begun' })
    }
    const known = plays.filter(one => one !== undefined)
    const from = started.at
    const part = { started, finished, from, to: Math.max(from, to), plays: known, notices, milestones, sections }
    return { ...part, ...waitingIn(known) }
  }
  return { take, done }
}

function openPlay({ title, hosts, steps, tags = [] }: PlannedPlay, index: number) {
  const own = steps.map((step): StepStory => ({ ...step, spans: [], earlier: [] }))
  const play: Growing<Omit<PlayStory, 'steps'>> & { steps: StepStory[] } = { index, title, hosts, tags, steps: own }
  return play
}

function stepOf(play: { steps: StepStory[] }, id: string): StepStory {
  let step = play.steps.find(one => one.id === id)
  if (!step) {
    step = { id, title: id, runOnce: false, spans: [], earlier: [] }
    play.steps.push(step)
  }
  return step
}

function spanOf(event: Extract<RunEvent, { kind: 'step.finished' }>, begun: number | undefined): Span {
  const {
    step,
    host,
    at,
    milliseconds,
    outcome,
    handled,
    declined,
    predicted,
    error,
    delegate,
    tries,
    would,
    returned,
  } = event
  const said: Progress = declined
    ? 'declined'
    : predicted === undefined || predicted === 'unknown'
      ? (handled ?? outcome)
      : `would ${predicted}`
  const from = begun ?? at - Math.max(0, milliseconds)
  return { step, host, from: Math.min(from, at), to: at, outcome: said, error, delegate, tries, would, returned }
}

/** All hosts of a part, in the inventory's order. */
export function hostsOf({ started }: Part): string[] {
  return [...new Set(started.plays.flatMap(({ hosts }) => hosts))]
}

/** When a step was done, over all of its hosts; `undefined` where it was not. */
export function extentOf({ spans }: StepStory): { readonly from: number; readonly to: number } | undefined {
  if (spans.length === 0) return undefined
  let [from, to] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const one of spans) [from, to] = [Math.min(from, one.from), Math.max(to, one.to)]
  return { from, to }
}
