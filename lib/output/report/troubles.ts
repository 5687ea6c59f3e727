// What did not end well: each step with its hosts, what it said, what it printed last, and whether it was mended later.
import { names } from '../../playbook/host.ts'
import { isDone } from '../../run/journal/history.ts'
import { type Content, html } from './html.ts'
import { folded } from './page.ts'
import type { RunStory } from './story/folder.ts'
import type { PlayStory, Span, StepStory } from './story/model.ts'
import { clockOf, count, mark, rankOf, tookOf } from './words.ts'

/** Kinds of failures that are told, and hosts of one of which the output is shown. */
const [mostKinds, mostOutputs] = [40, 3]
/** Letters of output on the whole page: it must stay light. */
const roomForOutput = 400_000

interface Trouble {
  readonly play: PlayStory
  readonly step: StepStory
  readonly undoing: boolean
  readonly spans: readonly Span[]
}

/** What it is called: what was overcome later is not left to be done. */
export const troublesTitle = ({ history }: RunStory) =>
  history.finished?.outcome === 'done' ? 'What went wrong on the way' : 'What did not end well'

/** What did not end well; nothing where all did. Failures that were ignored or rescued come last. */
export function troubles(story: RunStory): Content {
  const all = story.parts.flatMap(({ plays, started }) =>
    plays.flatMap(play =>
      play.steps.flatMap(step => {
        const bad = step.spans.filter(({ outcome }) => rankOf(outcome) < 2)
        const alike = Map.groupBy(bad, ({ host, outcome, error }) =>
          JSON.stringify([outcome, error?.message.replaceAll(host, '*')]),
        )
        return [...alike.values()].map(
          (spans): Trouble => ({ play, step, undoing: started.mode === 'rollback', spans }),
        )
      }),
    ),
  )
  if (all.length === 0) return ''
  const room = { left: roomForOutput }
  const isHandled = ({ spans }: Trouble) => spans[0]!.outcome === 'ignored' || spans[0]!.outcome === 'rescued'
  const [handled, open] = [all.filter(isHandled), all.filter(one => !isHandled(one))]
  return html`${open.slice(0, mostKinds).map(one => trouble(one, story, room))}${open.length > mostKinds && html`<p>And ${open.length - mostKinds} more of other steps: the journal has them.</p>`}
${
  handled.length > 0 &&
  folded(
    `${count(handled.length, 'failure')} that ${handled.length === 1 ? 'was' : 'were'} ignored or rescued`,
    handled.slice(0, mostKinds).map(one => trouble(one, story, room)),
  )
}`
}

function trouble({ play, step, undoing, spans }: Trouble, story: RunStory, room: { left: number }): Content {
  const [first] = spans as [Span]
  const hosts = spans.map(({ host }) => host)
  const { history } = story
  const known = (undoing ? history.undone : history.progress).get(step.id)
  const mended = hosts.filter(host => isDone(known?.get(host)))
  const outputs = spans.slice(0, mostOutputs).flatMap(span => {
    const text = room.left > 0 ? story.printed(play, span) : undefined
    if (text === undefined) return []
    room.left -= text.length
    return html`<p class="soft small">What it printed last on ${span.host}</p><pre>${text.trimEnd()}</pre>`
  })
  const { error } = first
  return html`<article><h3>${mark(first.outcome)} ${step.title} <span class="soft">on ${names(hosts, 8)}</span></h3>
<p class="soft small">${undoing && 'On the way back, in '}${play.title} · ${clockOf(first.from)}, after ${tookOf(first.to - first.from)}${error?.code !== undefined && html` · <code>${error.code}</code>`}</p>
${error && html`<pre>${error.message}</pre>`}${error?.hint !== undefined && html`<p>${error.hint}</p>`}
${mended.length > 0 && html`<p>${mark('ok', mended.length === hosts.length ? 'done later' : `done later on ${names(mended)}`)}</p>`}
${outputs}</article>`
}
