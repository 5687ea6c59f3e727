// What waited for what: a host that stands still between two steps goes on because something else has ended, most often the same step on the
// slowest host.
import type { Pause, PlayStory, Span, Waits } from './model.ts'

/** Shorter pauses are rekey's own work, and say nothing. */
const least = 100
/** Milliseconds by which what ends a wait may be written down later than what comes of it. */
const near = 5
/** Ends that are looked at for a pause: of thousands of hosts, not all. */
const mostLookedAt = 2_000

/** What was waited for in a part, the longest first; and after which step a host stood still, until when. */
export function waitingIn(plays: readonly PlayStory[]): { waits: Waits[]; pauses: Map<Span, Pause> } {
  const pauses = new Map<Span, Pause>()
  const found = new Map<Span, { hosts: Set<string>; total: number; longest: number }>()
  const playOf = new Map(
    plays.flatMap(play => play.steps.flatMap(({ spans }) => spans.map(one => [one, play] as const))),
  )
  const spans = [...playOf.keys()]
  const ends = spans.toSorted((a, b) => a.to - b.to)
  const begun = spans.reduce((first, { from }) => Math.min(first, from), Number.POSITIVE_INFINITY)
  for (const [host, own] of Map.groupBy(spans, one => one.host)) {
    let free = begun
    let last: Span | undefined
    for (const span of own.toSorted((a, b) => a.from - b.from)) {
      const cause = span.from - free >= least ? causeOf(ends, host, free, span.from + near) : undefined
      if (cause) {
        const length = span.from - free
        const one = found.get(cause) ?? { hosts: new Set(), total: 0, longest: 0 }
        one.hosts.add(host)
        one.total += length
        one.longest = Math.max(one.longest, length)
        found.set(cause, one)
        if (last) pauses.set(last, { until: span.from, of: cause })
      }
      if (span.to >= free) [free, last] = [span.to, span]
    }
  }
  const waits = [...found].map(
    ([of, { hosts, ...rest }]): Waits => ({ of, play: playOf.get(of)!, hosts: hosts.size, ...rest }),
  )
  return { waits: waits.sort((a, b) => b.longest - a.longest || b.total - a.total), pauses }
}

/** Of a host that was at work right before a moment, the step that took the most of the time since another one. */
function causeOf(ends: readonly Span[], host: string, since: number, until: number): Span | undefined {
  let [low, high] = [0, ends.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (ends[middle]!.to <= until) low = middle + 1
    else high = middle
  }
  const last = ends[low - 1]
  if (!last || last.host === host || last.to <= since) return undefined
  let [most, cause] = [0, last]
  for (let index = low - 1; index >= Math.max(0, low - mostLookedAt) && ends[index]!.to > since; index--) {
    const one = ends[index]!
    const share = one.to - Math.max(one.from, since)
    if (one.host === last.host && share > most) [most, cause] = [share, one]
  }
  return cause
}
