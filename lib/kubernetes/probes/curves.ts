// What probes saw, over time: how often something was asked in each piece of it, what was not answered, how long the slowest answer took, and
// every gap. For the report that draws it.
import type { ReportCurve } from '../../playbook/model.ts'
import type { Asked } from './standing-prober.ts'

/** Pieces of a curve: a page is not much wider. */
const mostPieces = 300
const shortestPiece = 1_000
/** Gaps of a curve that are kept, the longest. */
const mostGaps = 100

type Gap = ReportCurve['gaps'][number]

/**
 * The curve of what was asked, in the order in which it was; `undefined` of nothing. What this machine was too busy to hear of is left out.
 * @param origin milliseconds since 1970 from which the questions are counted
 */
export function curveOf(label: string, all: readonly Asked[], origin: number): ReportCurve | undefined {
  const asked = all.filter(one => !isUnknown(one))
  const [first, last] = [asked[0], asked.at(-1)]
  if (!first || !last) return undefined
  const length = last.at - first.at
  const every = Math.max(shortestPiece, Math.ceil(length / mostPieces / shortestPiece) * shortestPiece)
  const pieces = Math.floor(length / every) + 1
  const zeros = () => new Array<number>(pieces).fill(0)
  const [count, failed, slowest] = [zeros(), zeros(), zeros()]
  for (const { at, answered, took = 0 } of asked) {
    // A watch that told of an error has the time of that, and may stand before its like.
    const piece = Math.min(pieces - 1, Math.max(0, Math.floor((at - first.at) / every)))
    count[piece]!++
    if (!answered) failed[piece]!++
    else slowest[piece] = Math.max(slowest[piece]!, Math.round(took))
  }
  return {
    ...{ label, from: Math.round(origin + first.at), every, asked: count, failed },
    ...(slowest.some(one => one > 0) && { slowest }),
    gaps: longestGaps(all, origin),
  }
}

/** A time without an answer, by the clock of the questions: why each of them was not answered. */
export interface Unanswered {
  readonly from: number
  readonly to: number
  readonly reasons: readonly string[]
}

/** What this machine was too busy to hear of: whether there was an answer in time, nobody knows. */
export const isUnknown = ({ answered, unheard }: Asked): boolean => !answered && unheard === true

/** For how long a gap goes on over questions of which nothing is known. Milliseconds. */
const bridged = 1_000

/**
 * Every gap among questions, in their order: from the last one before a failure that was answered to the first one after it. It ends where nothing is
 * known for more than a second, and begins anew behind that: else two failures of a busy machine would be one gap of minutes.
 */
export function gapsAmong(asked: readonly Asked[]): Unanswered[] {
  const gaps: Unanswered[] = []
  let from = asked.find(one => !isUnknown(one))?.at ?? 0
  let last = from
  let reasons: string[] = []
  const close = (to: number) => {
    if (reasons.length > 0) gaps.push({ from, to, reasons })
    reasons = []
  }
  /** Since when nothing is known. */
  let unknown: number | undefined
  for (const one of asked) {
    const { at, answered, reason = 'no answer' } = one
    if (isUnknown(one)) {
      unknown ??= at
      continue
    }
    if (unknown !== undefined && at - unknown > bridged) {
      close(unknown)
      from = at
    }
    unknown = undefined
    last = at
    if (!answered) reasons.push(reason)
    else {
      close(at)
      from = at
    }
  }
  close(last)
  return gaps
}

/** The longest gaps, as the report has them. */
function longestGaps(asked: readonly Asked[], origin: number): Gap[] {
  return gapsAmong(asked)
    .map(({ from, to, reasons }): Gap => {
      const [start, end] = [Math.round(origin + from), Math.round(origin + to)]
      return { from: start, to: end, failed: reasons.length, reason: mostFrequent(reasons) }
    })
    .sort((a, b) => b.to - b.from - (a.to - a.from))
    .slice(0, mostGaps)
    .sort((a, b) => a.from - b.from)
}

/** What is said most often, and how many other things are. */
function mostFrequent(reasons: readonly string[]): string {
  const counts = [...Map.groupBy(reasons, one => one)].sort(([, a], [, b]) => b.length - a.length)
  return counts.map(([reason, all]) => `${all.length} ${reason}`).join(', ')
}
