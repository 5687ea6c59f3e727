// When what was done: plays and their steps as rows below one axis of time, in each a lane for every host, and what waited for what.
import { names } from '../../playbook/host.ts'
import { type Content, Html, html } from './html.ts'
import { folded, table } from './page.ts'
import type { Part, Pause, PlayStory, Span, StepStory } from './story/model.ts'
import { extentOf, hostsOf } from './story/parts.ts'
import { afterOf, clockOf, count, countsOf, kindOf, mark, rankOf, tookOf, wordOf, worstOf } from './words.ts'

/** Hosts up to which each is named, and each bar says what it is. */
const mostNamed = 24
/** Of more hosts, so many of the slowest are named, and so many that did not end well. */
const [mostSlow, mostBad] = [8, 40]
const mostWaits = 8

/** The timeline of a part. */
export function timeline(part: Part): Content {
  const scale = scaleOf(part)
  const isBegun = (play: PlayStory) => play.from !== undefined || play.steps.some(({ spans }) => spans.length > 0)
  const groups: Content[] = []
  let left: PlayStory[] = []
  const tellLeft = () => {
    if (left.length > 0) groups.push(notBegun(left))
    left = []
  }
  for (const play of part.plays) {
    const isDone = !play.steps.some(({ spans }) => spans.length > 0) && play.steps.some(({ earlier }) => earlier.length)
    if (isBegun(play) && !isDone) {
      tellLeft()
      groups.push(playRows(play, part, scale))
    } else left.push(play)
  }
  tellLeft()
  return html`<div class="part">${axis(part, scale)}${gapRow(part, scale)}${groups}</div>${waits(part)}`
}

/** When somebody who asked got no answer, above what was done then. */
function gapRow({ sections }: Part, scale: Scale): Content {
  const gaps = sections.flatMap(({ curves = [] }) => curves.flatMap(one => one.gaps))
  if (gaps.length === 0) return ''
  const longest = Math.max(...gaps.map(({ from, to }) => to - from))
  const bars = gaps.map(
    ({ from, to }) =>
      html`<rect class="bad" x="${percent(scale(from))}" y="1" width="${widthOf(scale(from), scale(to))}" height="8"/>`,
  )
  return html`<div class="row"><span class="mark bad"><b aria-hidden="true">✖</b></span><span class="title">No answer to probes</span><span class="num">≤ ${tookOf(longest)}</span><svg class="bar" height="10" role="img" aria-label="${count(gaps.length, 'gap')}">${bars}</svg></div>`
}

/** What the bars mean: once a page. */
export const legend = (): Content => html`<ul class="legend">
${(['ok', 'changed', 'skipped', 'failed', 'unknown'] as const).map(one => html`<li>${mark(one)}</li>`)}
<li class="soft"><i></i> waiting for another host</li></ul>`

/** Where a moment lies, in hundredths. */
type Scale = (at: number) => number

function scaleOf({ from, to }: Part): Scale {
  const length = Math.max(1, to - from)
  return at => Math.min(100, Math.max(0, ((at - from) / length) * 100))
}

/** What takes no time at all is still there to be seen. */
const widthOf = (from: number, to: number) => percent(Math.max(0.12, to - from))

const percent = (value: number) => new Html(`${Number(value.toFixed(2))}%`)

/** Milliseconds between two marks of an axis. */
const [second, minute, hour, day] = [1_000, 60_000, 3_600_000, 86_400_000]
const steps = [
  ...[100, 200, 500, second, 2 * second, 5 * second, 10 * second, 15 * second, 30 * second],
  ...[minute, 2 * minute, 5 * minute, 10 * minute, 15 * minute, 30 * minute],
  ...[hour, 2 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 30 * day, 365 * day],
]

function axis(part: Part, scale: Scale): Content {
  const length = part.to - part.from
  const every = steps.find(one => length / one <= 5) ?? length
  const marks = Array.from({ length: Math.floor(length / every) + 1 }, (_, index) => index * every)
  const shown = marks.filter(one => scale(part.from + one) <= 94)
  const miles = part.milestones.filter(({ at }) => at >= part.from && at <= part.to)
  const svg = html`<svg class="axis" height="22" role="img" aria-label="${count(marks.length, 'mark')} of time, from the beginning on">
${shown.map(one => {
  const x = percent(scale(part.from + one))
  return html`<line class="grid" x1="${x}" x2="${x}" y1="14" y2="22"/><text x="${x}" y="11"${one > 0 && html` text-anchor="middle"`}>${short(one, every)}</text>`
})}${miles.map(({ at, name }) => {
  const x = percent(scale(at))
  return html`<line class="mile" x1="${x}" x2="${x}" y1="0" y2="22"><title>${name}</title></line>`
})}</svg>`
  const told = miles.map(({ at, name }) => html`<li><span class="num">${afterOf(at - part.from)}</span> ${name}</li>`)
  return html`<div class="row axis-row">${svg}</div>${told.length > 0 && html`<ul class="legend">${told}</ul>`}`
}

/** A time as an axis has room for it: `2:30`, `1:05:00`, `0.5 s`. */
function short(milliseconds: number, every: number): string {
  if (every < second) return `${milliseconds / second} s`
  if (every >= day) return `${Math.round(milliseconds / day)} d`
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const [hours, minutes] = [Math.floor(milliseconds / hour), (milliseconds % hour) / minute]
  const seconds = two((milliseconds % minute) / second)
  return hours > 0 ? `${hours}:${two(minutes)}:${seconds}` : `${Math.floor(minutes)}:${seconds}`
}

function notBegun(plays: readonly PlayStory[]): Content {
  const before = plays.filter(({ steps }) => steps.some(({ earlier }) => earlier.length > 0))
  const others = plays.filter(one => !before.includes(one))
  const list = (all: readonly PlayStory[]) => all.map(({ title }) => title).join(' · ')
  return html`${before.length > 0 && html`<p class="quiet">Done before: ${list(before)}</p>`}${others.length > 0 && html`<p class="quiet">Not begun: ${list(others)}</p>`}`
}

function playRows(play: PlayStory, part: Part, scale: Scale): Content {
  const spans = play.steps.flatMap(one => one.spans)
  const [from = part.from, to = part.to] = [
    play.from ?? Math.min(...spans.map(one => one.from)),
    play.to ?? spans.reduce((latest, one) => Math.max(latest, one.to), 0),
  ].map(at => (at !== undefined && Number.isFinite(at) && at > 0 ? at : undefined))
  const worst = worstOf(spans)
  const [sign, name] = worst ? [kindOf(worst).sign, kindOf(worst).name] : ['', 'skipped']
  const [x, width] = [scale(from), scale(to) - scale(from)]
  const bar = html`<svg class="bar" height="6" aria-hidden="true"><rect class="${name}" x="${percent(x)}" y="1" width="${widthOf(0, width)}" height="4" rx="2"/></svg>`
  // What has nothing to tell on any host is left out of sight.
  const isTold = ({ spans: own }: StepStory) => own.some(({ outcome }) => outcome !== 'skipped')
  const [told, rest] = [play.steps.filter(isTold), play.steps.filter(one => !isTold(one))]
  return html`<div class="play"><div class="row"><span class="mark ${name}" aria-label="${worst ?? 'nothing done'}"><b>${sign}</b></span><span class="title">${play.title}</span><span class="num">${tookOf(to - from)}</span>${bar}</div>
${told.map(step => stepRow(step, part, scale))}${rest.length > 0 && html`<p class="quiet">${restOf(rest)}</p>`}</div>`
}

function restOf(steps: readonly StepStory[]): string {
  const titles = (all: readonly StepStory[]) => all.map(({ title }) => title).join(' · ')
  const skipped = steps.filter(({ spans }) => spans.length > 0)
  const earlier = steps.filter(({ spans, earlier: before }) => spans.length === 0 && before.length > 0)
  const others = steps.filter(one => !skipped.includes(one) && !earlier.includes(one))
  return [
    skipped.length > 0 ? `Nothing to do: ${titles(skipped)}` : '',
    earlier.length > 0 ? `Done before: ${titles(earlier)}` : '',
    others.length > 0 ? `Not begun: ${titles(others)}` : '',
  ]
    .filter(Boolean)
    .join('. ')
}

function stepRow(step: StepStory, part: Part, scale: Scale): Content {
  const worst = worstOf(step.spans) ?? 'skipped'
  const { from, to } = extentOf(step) ?? { from: part.from, to: part.from }
  const lanes = laneOrder(step.spans, part)
  const svg = lanes.length <= mostNamed ? namedLanes(step, lanes, part, scale) : manyLanes(step, lanes, part, scale)
  const { name, sign } = kindOf(worst)
  const where = [step.block, step.section].filter(Boolean).join(': ')
  return html`<details class="step"><summary class="row"><span class="mark ${name}" aria-label="${countsOf(step.spans)}"><b>${sign}</b></span><span class="title">${step.title}${where !== '' && html` <span class="soft">(${where})</span>`}${rankOf(worst) < 2 && html` <span class="mark ${name}">${countsOf(step.spans)}</span>`}</span><span class="num">${tookOf(to - from)}</span>${svg}</summary>
<div class="inner">${hostRows(step, part)}</div></details>
`
}

/** The hosts of a step: in the inventory's order, and of many by when they ended, so that it shows how it went on. */
function laneOrder(spans: readonly Span[], part: Part): string[] {
  const inOrder = hostsOf(part)
  const hosts = [...new Set(spans.map(({ host }) => host))]
  if (hosts.length <= mostNamed) {
    const places = new Map(inOrder.map((host, index) => [host, index]))
    return hosts.sort((a, b) => (places.get(a) ?? 0) - (places.get(b) ?? 0))
  }
  const ends = new Map(spans.map(({ host, to }) => [host, to]))
  return hosts.sort((a, b) => ends.get(a)! - ends.get(b)!)
}

/** Spans by the inventory's order of hosts, as the lanes beside them. */
function inOrder(spans: readonly Span[], part: Part): Span[] {
  const lanes = laneOrder(spans, part)
  return spans.toSorted((a, b) => lanes.indexOf(a.host) - lanes.indexOf(b.host))
}

function namedLanes({ spans }: StepStory, hosts: readonly string[], part: Part, scale: Scale): Content {
  const lane = hosts.length === 1 ? 12 : hosts.length <= 6 ? 7 : 4
  const height = lane - (lane > 4 ? 2 : 1)
  const drawn = spans.map(span => {
    const y = hosts.indexOf(span.host) * lane + 1
    const pause = part.pauses.get(span)
    const [x, end] = [scale(span.from), scale(span.to)]
    return html`<rect class="${kindOf(span.outcome).name}" x="${percent(x)}" y="${y}" width="${widthOf(x, end)}" height="${height}"><title>${toldOf(span, pause)}</title></rect>${pause && html`<rect class="wait" x="${percent(end)}" y="${y + height / 2 - 0.5}" width="${percent(scale(pause.until) - end)}" height="1"/>`}`
  })
  return html`<svg class="bar" height="${hosts.length * lane + 1}" role="img" aria-label="${countsOf(spans)}">${drawn}</svg>`
}

const toldOf = ({ host, outcome, from, to }: Span, pause: Pause | undefined) =>
  `${host}: ${wordOf(outcome)}, ${tookOf(to - from)}${pause ? `; then waited ${tookOf(pause.until - to)} for ${pause.of.host}` : ''}`

/** One path for all hosts that ended alike: thousands of bars are a few kilobytes, and drawn at once. */
function manyLanes({ spans }: StepStory, hosts: readonly string[], part: Part, scale: Scale): Content {
  const places = new Map(hosts.map((host, index) => [host, index]))
  const groups = Map.groupBy(spans, ({ outcome }) => kindOf(outcome).name)
  const line = (host: string, from: number, to: number, least: number) => {
    const [x, end] = [scale(from) * 10, scale(to) * 10]
    return `M${x.toFixed(1)} ${places.get(host)! + 0.5}h${Math.max(least, end - x).toFixed(1)}`
  }
  const paths = [...groups]
    .sort(([, a], [, b]) => rankOf(b[0]!.outcome) - rankOf(a[0]!.outcome))
    .map(([name, all]) => {
      const isRare = rankOf(all[0]!.outcome) < 2
      const d = all.map(({ host, from, to }) => line(host, from, to, isRare ? 7 : 1)).join('')
      // A lane is thinner than a pixel: of what matters, more than that must be seen.
      return html`<path class="${name}" stroke-width="${isRare ? Math.ceil(hosts.length / 12) : 1}" d="${new Html(d)}"/>`
    })
  const waiting = spans.flatMap(span => {
    const pause = part.pauses.get(span)
    return pause && pause.of.step === span.step ? line(span.host, span.to, pause.until, 0) : []
  })
  const idle = waiting.length > 0 && html`<path class="wait" d="${new Html(waiting.join(''))}"/>`
  return html`<svg class="bar" height="44" viewBox="0 0 1000 ${hosts.length}" preserveAspectRatio="none" role="img" aria-label="${countsOf(spans)}">${idle}${paths}</svg>`
}

function hostRows(step: StepStory, part: Part): Content {
  const sorted = step.spans.toSorted((a, b) => rankOf(a.outcome) - rankOf(b.outcome) || b.to - b.from - (a.to - a.from))
  const isBad = ({ outcome }: Span) => rankOf(outcome) < 2
  const bad = sorted.filter(isBad)
  const shown =
    sorted.length <= mostNamed
      ? inOrder(step.spans, part)
      : [...bad.slice(0, mostBad), ...sorted.filter(one => !isBad(one)).slice(0, mostSlow)]
  const rest = sorted.filter(one => !shown.includes(one))
  const rows = shown.map(span => {
    const { host, delegate, outcome, from, to, tries } = span
    const pause = part.pauses.get(span)
    return [
      delegate === undefined ? host : `${host} → ${delegate}`,
      mark(outcome),
      html`<span class="num">${clockOf(from)}</span>`,
      html`<span class="num">${tookOf(to - from)}</span>${tries !== undefined && tries > 1 && ` in ${tries} tries`}`,
      pause ? html`<span class="num">${tookOf(pause.until - to)}</span> for ${pause.of.host}` : '',
      messageOf(span),
    ]
  })
  const heads = ['Host', 'Outcome', 'Begun', 'Took', 'Then waited', '']
  return html`${table(heads, rows)}${rest.length > 0 && html`<p class="soft small">${restLine(rest)}</p>`}${step.earlier.length > 0 && html`<p class="soft small">Done before on ${names(step.earlier)}.</p>`}`
}

/** A line of what went wrong: the whole stands where that is told. */
function messageOf({ error, would }: Span): Content {
  const message = error?.message ?? would?.join('; ') ?? ''
  const [first = ''] = message.split('\n')
  return first.length > 160 ? `${first.slice(0, 160)} …` : first
}

function restLine(rest: readonly Span[]): string {
  const took = rest.map(({ from, to }) => to - from).sort((a, b) => a - b)
  const [least, middle, most] = [took[0]!, took[took.length >> 1]!, took.at(-1)!]
  return `And ${count(rest.length, 'more host')}: ${countsOf(rest)}; from ${tookOf(least)} to ${tookOf(most)}, half of them within ${tookOf(middle)}.`
}

/** Who was waited for, and what that cost the others. */
function waits({ waits: all, plays }: Part): Content {
  if (all.length === 0) return ''
  const titles = new Map(plays.flatMap(({ steps }) => steps.map(({ id, title }) => [id, title] as const)))
  const rows = all.map(({ of, play, hosts, longest, total }) => [
    html`<b>${of.host}</b> ${titles.get(of.step) ?? of.step} <span class="soft">in ${play.title}</span>`,
    html`<span class="num">${tookOf(of.to - of.from)}</span>`,
    count(hosts, 'host'),
    html`<span class="num">${tookOf(longest)}</span>`,
    html`<span class="num">${tookOf(total)}</span>`,
  ])
  const heads = ['What the others waited for', 'It took', 'Waited', 'At most', 'Together']
  const more = rows.slice(mostWaits, 60)
  return html`<h3>What waited for what</h3>${table(heads, rows.slice(0, mostWaits))}${more.length > 0 && folded(`${more.length} shorter waits`, table(heads, more))}`
}
