// A run beside another one, a rehearsal beside production: the same steps by their ids, what took how long, and what was found differently.
import { names } from '../../playbook/host.ts'
import { endingOf } from '../../run/journal/history.ts'
import { foundOn, isGate, isTimes } from './findings.ts'
import { type Content, html } from './html.ts'
import { folded, table } from './page.ts'
import type { RunStory } from './story/folder.ts'
import type { PlayStory, Span, StepStory } from './story/model.ts'
import { extentOf, hostsOf } from './story/parts.ts'
import { count, countsOf, kindOf, mark, momentOf, tookOf, worstOf } from './words.ts'

/** A step over all parts of a run that were no way back: as it went when it was done last. */
interface Done {
  readonly step: StepStory
  readonly play: PlayStory
  readonly spans: readonly Span[]
  readonly took: number
}

const mostRows = 400

/** The two runs beside each other. */
export function beside(story: RunStory, other: RunStory): Content {
  const labels = labelsOf(story, other)
  return html`${origins(story, other, labels)}
<h3>Steps</h3>${steps(doneIn(story), doneIn(other), labels)}
<h3>What was found differently</h3>${differences(story, other, labels)}`
}

type Labels = readonly [string, string]

/** By the playbook they are the same, most often: the inventory tells them apart, or else the moment. */
function labelsOf(story: RunStory, other: RunStory): Labels {
  const nameOf = ({ history }: RunStory) =>
    history.first.inventory.map(path => path.split('/').filter(Boolean).at(-1)).join(', ')
  const [own, its] = [nameOf(story), nameOf(other)]
  return own !== '' && its !== '' && own !== its ? [`This run: ${own}`, `The other: ${its}`] : ['This run', 'The other']
}

function origins(story: RunStory, other: RunStory, labels: Labels): Content {
  const of = ({ history, parts }: RunStory): readonly (readonly [string, string])[] => {
    const { first, run } = history
    const hosts = [...new Set(parts.flatMap(part => hostsOf(part)))]
    return [
      ['Run', run],
      ['Begun', momentOf(first.at)],
      ['By', first.operator],
      ['Ended', endingOf(history)],
      [
        'At work',
        tookOf(
          parts.filter(({ started }) => started.mode !== 'rollback').reduce((sum, { from, to }) => sum + to - from, 0),
        ),
      ],
      ['Hosts', `${hosts.length}: ${names(hosts, 8)}`],
      ['Inventory', first.inventory.join('\n')],
      ['Playbook', `${first.playbook}, SHA-256 ${first.playbookHash.slice(0, 16) || 'not known'}`],
      ['rekey', first.commit],
    ]
  }
  const its = of(other)
  // Of these it matters that they are the same.
  const mustBe = ['Playbook', 'rekey', 'Ended']
  const rows = of(story).map(([label, value], index) => {
    const beside = its[index]![1]
    const differs = mustBe.includes(label) && value !== beside
    return { cells: [label, value, beside, differs ? mark('unknown', 'differs') : ''], differs }
  })
  return sideBySide(['', ...labels, ''], rows)
}

interface Row {
  readonly cells: readonly Content[]
  readonly differs: boolean
}

const sideBySide = (heads: readonly string[], rows: readonly Row[]) =>
  table(
    heads,
    rows.map(({ cells }) => cells),
    rows.map(({ differs }) => (differs ? 'differs' : '')),
  )

function doneIn({ parts }: RunStory): Map<string, Done> {
  const found = new Map<string, Done>()
  for (const { plays, started } of parts) {
    if (started.mode === 'rollback') continue
    for (const play of plays)
      for (const step of play.steps) {
        const before = found.get(step.id)
        const again = new Set(step.spans.map(({ host }) => host))
        const spans = [...(before?.spans.filter(({ host }) => !again.has(host)) ?? []), ...step.spans]
        const { from, to } = extentOf(step) ?? { from: 0, to: before?.took ?? 0 }
        found.set(step.id, { step, play, spans, took: to - from })
      }
  }
  return found
}

function steps(own: ReadonlyMap<string, Done>, its: ReadonlyMap<string, Done>, labels: Labels): Content {
  const ids = [...new Set([...own.keys(), ...its.keys()])]
  const most = Math.max(1, ...[...own.values(), ...its.values()].map(({ took }) => took))
  const rows = ids.map((id): Row & { readonly took: number } => {
    const [one, two] = [own.get(id), its.get(id)]
    const [first, second] = [one, two].map(done => worstOf(done?.spans ?? []))
    const differs = first !== second
    const cells = [
      html`${(one ?? two)!.step.title} <span class="soft small">${(one ?? two)!.play.title}</span>${differs && html` ${mark('unknown', 'differs')}`}`,
      outcomeOf(one),
      outcomeOf(two),
      html`<div class="two">${bar(one, most)}${bar(two, most)}</div>`,
    ]
    return { cells, differs, took: Math.max(one?.took ?? 0, two?.took ?? 0) }
  })
  const heads = ['Step', ...labels, 'How long, this one above']
  const isDull = ({ differs, took }: (typeof rows)[number]) => !differs && took < 1_000
  const [told, dull] = [rows.filter(one => !isDull(one)), rows.filter(isDull)]
  return html`<div class="beside">${told.length > 0 ? sideBySide(heads, told.slice(0, mostRows)) : ''}${dull.length > 0 && folded(`${dull.length} steps that ended alike, in less than a second`, sideBySide(heads, dull.slice(0, mostRows)))}</div>`
}

function outcomeOf(done: Done | undefined): Content {
  if (!done) return html`<span class="soft">no such step</span>`
  const worst = worstOf(done.spans)
  if (worst === undefined) return html`<span class="soft">not begun</span>`
  return html`${mark(worst, countsOf(done.spans))} <span class="num soft">${tookOf(done.took)}</span>`
}

function bar(done: Done | undefined, most: number): Content {
  const worst = worstOf(done?.spans ?? [])
  if (!done || worst === undefined) return html`<svg height="8" aria-hidden="true"></svg>`
  const width = Math.max(0.4, (done.took / most) * 100)
  return html`<svg height="8" aria-hidden="true"><rect class="${kindOf(worst).name}" x="0" y="1" width="${width.toFixed(2)}%" height="6"/></svg>`
}

/** Names of hosts are others each time. */
function withoutHosts(text: string, hosts: readonly string[]): string {
  return hosts.reduce((plain, host) => plain.replaceAll(host, '*'), text)
}

/** So are figures, hashes and times: what is left must be the same. That there is none of something is no figure. */
function sense(text: string, hosts: readonly string[]): string {
  return withoutHosts(text, hosts).replace(/[0-9a-f]{8,}(-[0-9a-f]{4,})*|\d+([.:-]\d+)*( ?(ms|[smhd])\b)?/gi, figure =>
    figure === '0' ? '0' : '#',
  )
}

interface Finding {
  readonly place: string
  readonly text: string
}

/** What was found, by where: rows of the report, notices, what gates said. */
function findingsOf(story: RunStory): Map<string, Finding> {
  const found = new Map<string, Finding>()
  const put = (place: string, text: string) => {
    const before = found.get(place)
    found.set(place, { place, text: before && before.text !== text ? `${before.text}\n${text}` : text })
  }
  for (const part of story.parts) {
    const { plays, sections, started } = part
    if (started.mode === 'rollback') continue
    for (const { title, rows } of sections.filter(one => !isTimes(one, part)))
      for (const [label, value] of rows) found.set(`${title} · ${label}`, { place: `${title} · ${label}`, text: value })
    for (const play of plays.filter(isGate))
      for (const { title, spans } of play.steps)
        for (const span of spans.slice(0, 40)) put(`${play.title} · ${title}`, foundOn(span, play, story))
  }
  return found
}

function differences(story: RunStory, other: RunStory, labels: Labels): Content {
  const [own, its] = [findingsOf(story), findingsOf(other)]
  const [ownHosts, itsHosts] = [story, other].map(({ parts }) =>
    [...new Set(parts.flatMap(part => hostsOf(part)))].sort((a, b) => b.length - a.length),
  ) as [string[], string[]]
  const places = [...new Set([...own.keys(), ...its.keys()])]
  const lines = (text: string) => [...new Set(text.split('\n'))].sort().join('\n')
  const differingBy = (plain: typeof sense) => (place: string) => {
    const [one, two] = [own.get(place), its.get(place)]
    return !one || !two || lines(plain(one.text, ownHosts)) !== lines(plain(two.text, itsHosts))
  }
  const differing = places.filter(differingBy(sense))
  const others = places.filter(place => !differing.includes(place))
  // Whether it matters, whoever knows the figure sees.
  const figures = others.filter(differingBy(withoutHosts))
  const noticed = ({ parts }: RunStory, hosts: readonly string[]) =>
    new Map(parts.flatMap(({ notices }) => notices.map(({ text }) => [sense(text, hosts), text] as const)))
  const [ownNotices, itsNotices] = [noticed(story, ownHosts), noticed(other, itsHosts)]
  const only = (some: ReadonlyMap<string, string>, others: ReadonlyMap<string, string>) =>
    [...some].filter(([key]) => !others.has(key)).map(([, text]) => text)
  const cell = (finding: Finding | undefined) => {
    if (!finding) return html`<span class="soft">not there</span>`
    const { text } = finding
    return text.length > 600 ? `${text.slice(0, 600)} …` : text || html`<span class="soft">nothing</span>`
  }
  const rowOf = (place: string, differs: boolean): Row => ({
    cells: [place, cell(own.get(place)), cell(its.get(place))],
    differs,
  })
  const rows: Row[] = [
    ...differing.map(place => rowOf(place, true)),
    ...only(ownNotices, itsNotices).map(text => ({ cells: ['Notice', text, ''], differs: true })),
    ...only(itsNotices, ownNotices).map(text => ({ cells: ['Notice', '', text], differs: true })),
  ]
  const heads = ['Where', ...labels]
  const but = 'but for figures, hashes and times'
  const told = figures.slice(0, mostRows).map(place => rowOf(place, false))
  return html`${rows.length > 0 ? sideBySide(heads, rows.slice(0, mostRows)) : html`<p>${mark('ok', figures.length > 0 ? `Nothing ${but}` : 'Nothing')}</p>`}
${told.length > 0 && folded(`${count(figures.length, 'finding')} alike ${but}`, sideBySide(heads, told))}
<p class="soft small">${others.length - figures.length} findings are the same, but for names of hosts.</p>`
}
