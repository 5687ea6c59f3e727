// What probes saw: how often each address answered and how long that took, on the run's own axis of time, and every gap with what was done then.
import type { EventCurve, EventSection } from '../../run/events.ts'
import { type Content, Html, html } from './html.ts'
import { folded, table } from './page.ts'
import type { Part, Span } from './story/model.ts'
import { clockOf, count, tookOf } from './words.ts'

/** Gaps that are told one by one, and steps that are named for one. */
const [mostGaps, mostSteps] = [12, 3]
const height = 40

/** The curves of a section, one below the other. */
export function curves({ curves: all = [] }: EventSection, part: Part): Content {
  if (all.length === 0) return ''
  const gaps = all
    .flatMap(curve => curve.gaps.map(gap => ({ curve, gap })))
    .sort((a, b) => b.gap.to - b.gap.from - (a.gap.to - a.gap.from))
  const rows = gaps.map(({ curve, gap: { from, to, failed, reason } }) => [
    html`<span class="num">${clockOf(from)}</span>`,
    curve.label,
    html`<b class="num">${tookOf(to - from)}</b>`,
    String(failed),
    reason,
    duringOf(part, from, to),
  ])
  const heads = ['From', 'Who', 'No answer for', 'Calls failed', 'Why', 'What was done then']
  return html`<p class="soft small">The curves have the axis of the timeline: how long the slowest answer of each piece of time took, and in red when there was none, also before the first change.</p>${all.map(curve => curveOf(curve, part))}
<h3>${gaps.length === 0 ? 'No gap: every call was answered' : `Every gap: ${gaps.length}, the longest first`}</h3>
${rows.length > 0 && table(heads, rows.slice(0, mostGaps))}${rows.length > mostGaps && folded(`${rows.length - mostGaps} more`, table(heads, rows.slice(mostGaps, 1_000)))}`
}

function curveOf(curve: EventCurve, part: Part): Content {
  const { label, from, every, asked, failed, slowest = [], gaps } = curve
  const sum = (list: readonly number[]) => list.reduce((all, one) => all + one, 0)
  const [start, length] = [part.from, Math.max(1, part.to - part.from)]
  const xOf = (at: number) => Math.min(1_000, Math.max(0, ((at - start) / length) * 1_000))
  const most = slowest.length > 0 ? Math.max(1, ...slowest) : Math.max(1, ...asked)
  const drawn = slowest.length > 0 ? slowest : asked.map((all, index) => all - (failed[index] ?? 0))
  const points = drawn.map((value, index) => {
    const y = height - (Math.max(0, value) / most) * (height - 4)
    return `L${xOf(from + index * every).toFixed(1)} ${y.toFixed(1)}H${xOf(from + (index + 1) * every).toFixed(1)}`
  })
  const end = xOf(from + drawn.length * every).toFixed(1)
  const area = `M${xOf(from).toFixed(1)} ${height}${points.join('')}L${end} ${height}Z`
  const blocks = gaps.map(gap => {
    const x = xOf(gap.from)
    return `M${x.toFixed(1)} 0h${Math.max(2, xOf(gap.to) - x).toFixed(1)}v${height}H${x.toFixed(1)}Z`
  })
  const worst = gaps.reduce((longest, gap) => Math.max(longest, gap.to - gap.from), 0)
  const told = gaps.length === 0 ? 'no gap' : `${count(gaps.length, 'gap')}, the longest ${tookOf(worst)}`
  const slow = slowest.length > 0 ? `, slowest answer ${tookOf(Math.max(...slowest))}` : ''
  return html`<div class="curve"><h4>${label} <span class="${gaps.length > 0 ? 'mark bad' : 'soft'}">${gaps.length > 0 && '✖ '}${told}</span> <span class="soft small">${sum(failed)} of ${count(sum(asked), 'call')} failed${slow}</span></h4>
<svg class="plot" height="${height}" viewBox="0 0 1000 ${height}" preserveAspectRatio="none" role="img" aria-label="${label}: ${told}"><path class="area" d="${new Html(area)}"/>${blocks.length > 0 && html`<path class="bad area" d="${new Html(blocks.join(''))}"/>`}</svg></div>`
}

/** The steps that were being done in a time: those first that changed something, and of which the most was done then, and little else. */
function duringOf({ plays }: Part, from: number, to: number): Content {
  const weightOf = (span: Span) => {
    const both = Math.min(span.to, to) - Math.max(span.from, from)
    return both ** 2 / Math.max(1, span.to - span.from)
  }
  const during = plays.flatMap(({ steps }) =>
    steps.flatMap(({ title, spans }) => {
      const own = spans.filter(one => one.from < to && one.to > from)
      const [weight, isChange] = [Math.max(...own.map(weightOf)), own.some(({ outcome }) => outcome === 'changed')]
      return own.length > 0 ? { title, weight, isChange, hosts: own.map(({ host }) => host) } : []
    }),
  )
  const found = during
    .sort((a, b) => Number(b.isChange) - Number(a.isChange) || b.weight - a.weight)
    .map(
      ({ title, hosts }) => `${title} (${hosts.length > mostSteps ? count(hosts.length, 'host') : hosts.join(', ')})`,
    )
  const more = found.length - mostSteps
  return more > 0 ? `${found.slice(0, mostSteps).join('\n')}\nand ${more} more` : found.join('\n')
}
