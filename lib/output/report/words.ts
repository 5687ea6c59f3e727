// What outcomes and times are called on the page, and the signs that stand for them: no meaning is told by colour alone.
import { formatDuration } from '../../playbook/duration.ts'
import type { RunMode } from '../../playbook/model.ts'
import type { Progress } from '../../run/journal/history.ts'
import { type Content, html } from './html.ts'
import type { Span } from './story/model.ts'

/** A kind of outcome: the class of what is drawn in its colour, and its sign. */
interface Kind {
  readonly name: 'ok' | 'changed' | 'skipped' | 'bad' | 'unsure' | 'would'
  readonly sign: string
}

const kinds: Readonly<Record<Progress, Kind>> = {
  ok: { name: 'ok', sign: '✔' },
  changed: { name: 'changed', sign: '●' },
  skipped: { name: 'skipped', sign: '–' },
  declined: { name: 'skipped', sign: '–' },
  waiting: { name: 'skipped', sign: '…' },
  failed: { name: 'bad', sign: '✖' },
  unreachable: { name: 'bad', sign: '✖' },
  rescued: { name: 'unsure', sign: '↺' },
  ignored: { name: 'unsure', sign: '!' },
  unknown: { name: 'unsure', sign: '?' },
  begun: { name: 'unsure', sign: '?' },
  cancelled: { name: 'unsure', sign: '■' },
  'would change': { name: 'would', sign: '○' },
  'would run': { name: 'would', sign: '○' },
}

/** The worst first: what is drawn last lies above, and what is told first is seen. */
const order: readonly Kind['name'][] = ['bad', 'unsure', 'would', 'changed', 'ok', 'skipped']

/** The kind of an outcome. */
export const kindOf = (outcome: Progress): Kind => kinds[outcome] ?? kinds.unknown

/** How bad an outcome is: 0 is the worst. */
export const rankOf = (outcome: Progress): number => order.indexOf(kindOf(outcome).name)

/** The outcome of those spans that is worst; `undefined` where there are none. */
export function worstOf(spans: readonly Span[]): Progress | undefined {
  let worst: Progress | undefined
  for (const { outcome } of spans) if (worst === undefined || rankOf(outcome) < rankOf(worst)) worst = outcome
  return worst
}

/** An outcome in words. */
export function wordOf(outcome: Progress): string {
  return outcome === 'begun' ? 'its end is not known' : outcome
}

/** Sign and word of an outcome. */
export function mark(outcome: Progress, word: string = wordOf(outcome)): Content {
  const { name, sign } = kindOf(outcome)
  return html`<span class="mark ${name}"><b aria-hidden="true">${sign}</b> ${word}</span>`
}

/** `3 ok, 2 changed`, the worst first. */
export function countsOf(spans: readonly Span[]): string {
  const groups = Map.groupBy(spans, ({ outcome }) => outcome)
  return [...groups]
    .sort(([a], [b]) => rankOf(a) - rankOf(b))
    .map(([outcome, all]) => `${all.length} ${wordOf(outcome)}`)
    .join(', ')
}

/** What a part of a run is. */
export const modeWords: Readonly<Record<RunMode, string>> = {
  run: 'run',
  resume: 'gone on with',
  rollback: 'undone',
}

/** `1 host`, `3 hosts`. */
export const count = (many: number, what: string) => `${many} ${what}${many === 1 ? '' : 's'}`

/** A moment as everybody reads it: `2026-11-29 16:52:14 UTC`. */
export const momentOf = (at: number) => `${isoOf(at).slice(0, 19).replace('T', ' ')} UTC`

/** The time of day of a moment: `16:52:14`. */
export const clockOf = (at: number) => isoOf(at).slice(11, 19)

/** A moment as machines read it. */
export const isoOf = (at: number) => (Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : 'unknown')

/** How long something took; clocks that were set back in between make nothing shorter than nothing. */
export const tookOf = (milliseconds: number) => formatDuration(Math.max(0, milliseconds))

/** How long after the beginning: `+1 m 05 s`. */
export const afterOf = (milliseconds: number) => `+${tookOf(milliseconds)}`
