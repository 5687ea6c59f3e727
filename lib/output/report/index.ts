// The report of a run: one HTML file that says to operators and auditors what was done, asks nobody for anything and has no script.
import { rekeyVersion } from '../../version.ts'
import { beside } from './beside.ts'
import { certificates, gates, hostTable, isGate, notices, reports } from './findings.ts'
import { evidence, headOf, origin } from './head.ts'
import { type Content, Html, html } from './html.ts'
import { page, type Section } from './page.ts'
import { type RunStory, readStories } from './story/folder.ts'
import { legend, timeline } from './timeline.ts'
import { troubles, troublesTitle } from './troubles.ts'
import { modeWords, momentOf } from './words.ts'

/** What a report is made of. */
export interface ReportOrders {
  /** The folder of the run. */
  readonly folder: string
  /** That of one to set beside it. */
  readonly against?: string
  /** Milliseconds since 1970. */
  readonly now: number
}

/**
 * The page, as text.
 * @throws RekeyError where a folder holds no run
 */
export async function htmlReport({ folder, against, now }: ReportOrders): Promise<string> {
  const folders = against === undefined ? [folder] : [folder, against]
  const [story, other] = (await readStories(folders, isGate)) as [RunStory, RunStory?]
  const { history, parts } = story
  const several = parts.length > 1
  const sections: (readonly [string, string, Content])[] = [
    ['beside', `Beside ${other?.history.run ?? ''}`, other ? beside(story, other) : ''],
    ['troubles', troublesTitle(story), troubles(story)],
    ['origin', 'What was run, by whom, on what', origin(story)],
    ['told', 'What the playbook told at its end', reports(parts)],
    [
      'timeline',
      'Timeline',
      html`${legend()}${parts.map(part => html`${several && html`<h3>${capital(modeWords[part.started.mode])}, ${momentOf(part.from)}</h3>`}${timeline(part)}`)}`,
    ],
    ['gates', 'Gates and checks: what they found', gates(story)],
    ['certificates', 'Certificates before and after', certificates(story)],
    ['hosts', 'Hosts', hostTable(parts)],
    ['notices', 'Notices', notices(parts)],
    ['evidence', 'Where this comes from', evidence(story)],
  ]
  const told = sections
    .map(([id, title, content]): Section => ({ id, title, content }))
    .filter(one => !isEmpty(one.content))
  const foot = html`Written by rekey ${rekeyVersion()} on ${momentOf(now)}. This file loads nothing and runs nothing.`
  return page(`${history.first.playbook} · ${history.run}`, headOf(story), told, foot)
}

const capital = (words: string) => words.slice(0, 1).toUpperCase() + words.slice(1)

const isEmpty = (content: Content): boolean =>
  content instanceof Html
    ? content.text.trim() === ''
    : Array.isArray(content)
      ? content.every(isEmpty)
      : content === undefined || content === '' || content === false
