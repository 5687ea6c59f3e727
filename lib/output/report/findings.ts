// What the run found and told: the playbook's own report, gates and checks, certificates before and after, notices.
import { names } from '../../playbook/host.ts'
import type { EventSection } from '../../run/events.ts'
import type { Progress, RunHistory } from '../../run/journal/history.ts'
import { curves } from './curves.ts'
import { type Content, html } from './html.ts'
import { facts, folded, table } from './page.ts'
import { changesIn, type Facts, type Placed } from './story/certificates.ts'
import type { RunStory } from './story/folder.ts'
import type { Part, PlayStory, Span, StepStory } from './story/model.ts'
import { clockOf, count, countsOf, mark, rankOf, tookOf, worstOf } from './words.ts'

const [mostRows, mostHosts] = [60, 3]
/** Bytes of what a gate printed. */
const mostPrinted = 1_500

const modes = { run: '', resume: ', once it was gone on with', rollback: ', of the way back' } as const

/** What the playbook told at the end of each part; its curves. */
export function reports(parts: readonly Part[]): Content {
  const told = parts.filter(({ sections }) => sections.length > 0)
  return told.map(part => {
    const { sections, started } = part
    const suffix = told.length > 1 ? modes[started.mode] : ''
    return sections
      .filter(one => !isTimes(one, part))
      .map(section => html`<h3>${section.title}${suffix}</h3>${facts(section.rows)}${curves(section, part)}`)
  })
}

/** Whether a section of a report says how long plays took: the timeline shows that, and the table of steps. */
export function isTimes({ rows }: EventSection, { plays }: Part): boolean {
  return rows.length > 0 && rows.every(([label]) => plays.some(({ title }) => title === label))
}

/** Whether a play decides whether something may begin, or looks whether it is as it should: by its tags, or by its title: plays need no tags, and older runs have none. */
export function isGate({ title, tags }: PlayStory): boolean {
  return (
    /\?$/.test(title) ||
    /\b(preflight|verify)\b/i.test(title) ||
    ['gate', 'preflight', 'verify'].some(tag => tags.includes(tag))
  )
}

/** Gates and checks, with what each step of them found. */
export function gates(story: RunStory): Content {
  const all = story.parts.flatMap(({ plays, started }) =>
    plays
      .filter(play => isGate(play) && play.steps.some(({ spans }) => spans.length > 0))
      .map(play => ({ play, started })),
  )
  return all.map(({ play, started }) => {
    const own = play.steps.filter(step => step.spans.length > 0 || isDue(step))
    const rows = own.map(step => [step.title, howItWent(step), found(step, play, story)])
    return html`<h3>${play.title}${modes[started.mode]} ${verdictOf(play, story.history)}</h3><div class="gates">${table(['What was looked at', 'Outcome', 'What it found'], rows)}</div>`
  })
}

/** Whether a step comes by itself, on every host of its play. */
const isDue = ({ section }: StepStory) => section === undefined || section === 'always'

function howItWent({ spans, earlier }: StepStory): Content {
  const worst = worstOf(spans)
  if (worst !== undefined) return mark(worst, countsOf(spans))
  return html`<span class="soft">${earlier.length > 0 ? 'done before' : 'not begun'}</span>`
}

/** A gate is passed by nothing but what each step of it saw on every server that it was to look at. */
function verdictOf({ steps, hosts }: PlayStory, { progress }: RunHistory): Content {
  const outcomes = steps.flatMap(({ spans }) => spans.map(({ outcome }) => outcome))
  const bad = outcomes.filter(one => rankOf(one) < 2 && !notEnded.includes(one)).sort((a, b) => rankOf(a) - rankOf(b))
  if (bad[0] !== undefined) return mark(bad[0], 'not passed')
  if (outcomes.some(one => notEnded.includes(one))) return mark('begun', 'not ended')
  if (outcomes.some(one => notAsked.includes(one))) return mark('unknown', 'not asked')
  let asked = 0
  for (const step of steps.filter(isDue)) {
    const went = new Map(step.earlier.map(host => [host, progress.get(step.id)?.get(host)]))
    for (const { host, outcome } of step.spans) went.set(host, outcome)
    asked += [...went.values()].filter(one => one === 'ok' || one === 'changed').length
    if (step.runOnce ? went.size === 0 : hosts.some(host => !went.has(host))) return mark('begun', 'not ended')
  }
  return asked > 0 ? mark('ok', 'passed') : mark('unknown', 'not asked')
}

const notEnded: readonly Progress[] = ['begun', 'unknown', 'cancelled']
const notAsked: readonly Progress[] = ['would change', 'would run', 'declined', 'waiting']

/** What a step said, printed and returned: the same on several hosts once. */
function found(step: StepStory, play: PlayStory, story: RunStory): Content {
  const alike = Map.groupBy(step.spans.slice(0, 40), span => foundOn(span, play, story))
  const told = [...alike].filter(([text]) => text !== '')
  if (step.spans.length === 0) return ''
  if (told.length === 0) return html`<span class="soft">nothing</span>`
  const shown = told.slice(0, mostHosts).map(([text, spans]) => said(text, spans, told.length === 1 && step.runOnce))
  const rest = told.slice(mostHosts)
  return html`${shown}${
    rest.length > 0 &&
    folded(
      `of ${count(rest.length, 'more host')}`,
      rest.slice(0, 20).map(([text, spans]) => said(text, spans, false)),
    )
  }`
}

function said(text: string, spans: readonly Span[], isOfAll: boolean): Content {
  const who = isOfAll
    ? ''
    : names(
        spans.map(({ host }) => host),
        4,
      )
  const lines = text.split('\n')
  if (lines.length === 1 && text.length < 120)
    return html`<div>${who !== '' && html`<span class="soft">${who}:</span> `}${text}</div>`
  const short = lines.length <= 6
  const own = html`<pre>${text}</pre>`
  return short
    ? html`<div><span class="soft">${who}</span>${own}</div>`
    : folded(`${who === '' ? '' : `${who}: `}${count(lines.length, 'line')}`, own)
}

/** What a step said, printed and returned on a host at one of the times that it was done. */
export function foundOn(span: Span, play: PlayStory, story: RunStory): string {
  const parts = [
    span.error?.message,
    span.error?.hint,
    story.printed(play, span, mostPrinted)?.trimEnd(),
    story.returned(span),
  ]
  return parts.filter(one => one !== undefined && one !== '' && one !== 'nothing').join('\n')
}

/** Certificates of files as they were found, and as they are after it. */
export function certificates({ sightings, history, parts }: RunStory): Content {
  const changes = changesIn(sightings, (steps, host) => placedOf(history, steps, host))
  if (changes.length === 0) return ''
  const titles = new Map(
    parts.flatMap(({ plays }) => plays.flatMap(({ steps }) => steps.map(one => [one.id, one.title]))),
  )
  const [replaced, same] = [changes.filter(isReplaced), changes.filter(one => !isReplaced(one))]
  const rows = replaced.map(({ name, hosts, before, after, afterStep = '', came = 'placed' }) => [
    html`<span class="mono">${name}</span>\n<span class="soft small">${names(hosts)}</span>`,
    before.length > 0 ? before.map(one => factsOf(one, hosts)) : html`<span class="soft">not there</span>`,
    html`${after.map(one => factsOf(one, hosts))}<span class="soft small">by ‘${titles.get(afterStep) ?? afterStep}’</span>${came !== 'placed' && html`\n${mark('unknown', notPlaced[came])}`}`,
  ])
  const sameRows = same.map(({ name, hosts, before }) => [
    html`<span class="mono">${name}</span>\n<span class="soft small">${names(hosts)}</span>`,
    before.length > 0 ? before.map(one => factsOf(one, hosts)) : html`<span class="soft">not there</span>`,
  ])
  const undone = history.latest.mode === 'rollback'
  const told =
    undone && rows.length > 0
      ? 'The run was undone: what stands under “after” was put back to what stands under “before”, as far as the way back went.'
      : ''
  return html`<div class="files">${told !== '' && html`<p>${told}</p>`}
${rows.length > 0 ? table(['File', 'Before', 'After'], rows.slice(0, mostRows)) : html`<p class="soft">No step told of other certificates in place of those that were found.</p>`}
${rows.length > mostRows && folded(`${rows.length - mostRows} more`, table(['File', 'Before', 'After'], rows.slice(mostRows, 500)))}
${sameRows.length > 0 && folded(`${count(sameRows.length, 'file')} of which nothing else was told`, table(['File', 'Found'], sameRows.slice(0, 300)))}</div>`
}

const notPlaced = {
  staged: 'staged, not put in place',
  unknown: 'staged: whether it is in place is not known',
} as const

/** Whether one of some steps has put in place what lay ready on a host. */
function placedOf({ progress }: RunHistory, steps: readonly string[], host: string): Placed {
  const went = steps.flatMap(step => progress.get(step)?.get(host) ?? [])
  if (went.some(one => one === 'changed' || one === 'ok')) return 'placed'
  return went.every(one => notBegun.includes(one)) ? 'staged' : 'unknown'
}

const notBegun: readonly Progress[] = ['skipped', 'declined', 'waiting', 'would change', 'would run']

const isReplaced = ({ before, after }: { readonly before: readonly Facts[]; readonly after: readonly Facts[] }) =>
  after.length > 0 && JSON.stringify(before) !== JSON.stringify(after)

/** A certificate; that of several hosts stands for all of them, by what they have in common. */
function factsOf(
  { subject, issuer, serial, until, fingerprint, isAuthority }: Facts,
  hosts: readonly string[],
): Content {
  const isOne = hosts.length === 1
  const by = isAuthority && issuer === subject ? 'CA' : `by ${issuer}`
  // Whose of them it is, is not told.
  const own =
    isAuthority || isOne
      ? undefined
      : hosts.filter(host => subject.includes(host)).sort((a, b) => b.length - a.length)[0]
  const name = own === undefined ? subject : subject.replaceAll(own, 'HOST')
  const id = isAuthority ? `SHA-256 ${fingerprint.slice(0, 16)}…` : isOne ? `serial ${serial.slice(0, 20)}` : ''
  return html`<div>${name || 'no subject'} <span class="soft">${by}</span>, until <span class="num">${until.slice(0, 10)}</span>${id !== '' && html` <span class="soft small mono">${id}</span>`}</div>`
}

/** What was told on the way. */
export function notices(parts: readonly Part[]): Content {
  const all = parts.flatMap(one => one.notices)
  if (all.length === 0) return ''
  const rows = all.map(({ at, text }) => [html`<span class="num">${clockOf(at)}</span>`, text])
  const heads = ['Time', 'Notice']
  return html`${table(heads, rows.slice(0, mostRows))}${rows.length > mostRows && folded(`${rows.length - mostRows} more`, table(heads, rows.slice(mostRows, 1_000)))}`
}

/** How long each host was at work, and how its steps went. */
export function hostTable(parts: readonly Part[]): Content {
  const spans = parts.flatMap(({ plays }) => plays.flatMap(({ steps }) => steps.flatMap(one => one.spans)))
  const waited = new Map<string, number>()
  for (const { pauses } of parts)
    for (const [span, { until }] of pauses) waited.set(span.host, (waited.get(span.host) ?? 0) + until - span.to)
  const rows = [...Map.groupBy(spans, ({ host }) => host)]
    .map(([host, own]) => ({ host, own, worst: worstOf(own) ?? 'skipped' }) as const)
    .sort((a, b) => Math.min(2, rankOf(a.worst)) - Math.min(2, rankOf(b.worst)))
    .map(({ host, own, worst }) => [
      html`<b>${host}</b>`,
      mark(worst, countsOf(own)),
      html`<span class="num">${tookOf(own.reduce((sum, { from, to }) => sum + to - from, 0))}</span>`,
      html`<span class="num">${tookOf(waited.get(host) ?? 0)}</span>`,
    ])
  const heads = ['Host', 'Outcomes of its steps', 'At work', 'Waited for others']
  const [most, rest] = [rows.slice(0, mostRows), rows.slice(mostRows)]
  return html`${table(heads, most)}${rest.length > 0 && folded(`${rest.length} more hosts`, table(heads, rest))}`
}
