// The top of the page: how it ended and what can be done now, in figures what it was, and what was run, by whom, on what.
import { names } from '../../playbook/host.ts'
import { endingOf, isDone, type RunHistory } from '../../run/journal/history.ts'
import { chosenOptions, nextOf, unfinished, waiting } from '../history.ts'
import { type Content, html } from './html.ts'
import { facts, table } from './page.ts'
import type { RunStory } from './story/folder.ts'
import type { Part } from './story/model.ts'
import { hostsOf } from './story/parts.ts'
import { clockOf, count, isoOf, mark, modeWords, momentOf, rankOf, tookOf } from './words.ts'

/** Name, verdict and figures. */
export function headOf(story: RunStory): Content {
  const { history } = story
  const { first } = history
  return html`<p class="eyebrow">rekey · report of a ${first.check ? 'check: nothing was changed' : 'run'}</p>
<h1>${first.playbook}</h1>
<p>${first.summary}</p>
<p class="soft"><span class="mono">${history.run}</span> · <time datetime="${isoOf(first.at)}">${momentOf(first.at)}</time> · by ${first.operator}</p>
${verdict(story)}
${tiles(story)}`
}

/** What colour and sign a way to end has. */
function signOf(history: RunHistory, ending: string): readonly ['ok' | 'bad' | 'unsure', string] {
  if (history.finished?.outcome === 'done') return ending.startsWith('undone') ? ['ok', '↺'] : ['ok', '✔']
  return history.finished?.outcome === 'failed' ? ['bad', '✖'] : ['unsure', ending.endsWith('running') ? '…' : '?']
}

function verdict({ history, parts }: RunStory): Content {
  const { finished } = history
  const ending = endingOf(history)
  const [kind, sign] = signOf(history, ending)
  const last = parts.at(-1)
  const took = last ? ` after ${tookOf(last.to - last.from)}` : ''
  const error = finished?.error
  const state = finished?.state ?? []
  const stopped = finished ? [] : [...unfinished(history), ...waiting(history)]
  const next = nextOf(history)
  return html`<div class="verdict ${kind}"><p><span aria-hidden="true">${sign}</span> ${ending[0]?.toUpperCase()}${ending.slice(1)}${took}</p>
${error && html`<p><b>${error.message}</b></p>`}${error?.hint !== undefined && html`<p>${error.hint}</p>`}
${state.length > 0 && html`<p class="soft small">Where things stand</p><pre>${state.join('\n')}</pre>`}
${stopped.length > 0 && html`<p class="soft small">Where it stopped</p><pre>${stopped.join('\n')}</pre>`}
${next !== undefined && html`<p>${next}</p>`}
${history.damage.length > 0 && html`<p><b>The journal is damaged: this page lacks what it lost.</b></p>`}</div>`
}

function tiles({ history, parts }: RunStory): Content {
  const spans = parts.flatMap(({ plays }) => plays.flatMap(({ steps }) => steps.flatMap(one => one.spans)))
  const hosts = new Set(parts.flatMap(part => hostsOf(part)))
  const changes = spans.filter(({ outcome }) => outcome === 'changed').length
  const bad = [...history.progress.values()].flatMap(all => [...all.values()]).filter(one => rankOf(one) < 2).length
  const done = [...history.progress.values()].filter(all => [...all.values()].some(isDone)).length
  const probes = parts.flatMap(({ sections }) => sections.flatMap(({ curves = [] }) => curves))
  // What was so before it, the run is not to be blamed for.
  const changed = parts.flatMap(one => one.milestones).filter(({ name }) => name.endsWith('first change'))
  const since = changed.reduce((first, { at }) => Math.min(first, at), Number.POSITIVE_INFINITY)
  const lengths = probes
    .flatMap(one => one.gaps)
    .map(({ from, to }) => to - (Number.isFinite(since) ? Math.max(from, since) : from))
  const longest = lengths.reduce((most, one) => Math.max(most, one), 0)
  const gap = `longest gap of a probe${Number.isFinite(since) ? ' from the first change on' : ''}`
  const worked = parts.reduce((sum, { from, to }) => sum + to - from, 0)
  const all: readonly (readonly [string | number, string] | undefined)[] = [
    [tookOf(worked), parts.length > 1 ? `at work, in ${parts.length} parts` : 'took'],
    [hosts.size, hosts.size === 1 ? 'host' : 'hosts'],
    [done, 'steps done'],
    [changes, history.first.check ? 'changed' : 'changes made'],
    [bad, bad === 0 ? 'failed' : 'did not end well'],
    probes.length > 0 ? [longest === 0 ? 'none' : tookOf(longest), gap] : undefined,
  ]
  return html`<ul class="tiles">${all.map(one => one && html`<li><b>${one[0]}</b><span>${one[1]}</span></li>`)}</ul>`
}

/** What was run, by whom, on what. */
export function origin({ history, parts }: RunStory): Content {
  const { first, folder, run } = history
  const hosts = [...new Set(parts.flatMap(part => hostsOf(part)))]
  const options = [...(first.check ? ['--check'] : []), ...chosenOptions(first)]
  const rows: (readonly [string, Content])[] = [
    [
      'Playbook',
      html`${first.playbook}${first.playbookFile !== '' && html` <span class="soft mono">${first.playbookFile}</span>`}`,
    ],
    ['Its SHA-256', html`<span class="mono">${first.playbookHash || 'not known'}</span>`],
    ['rekey', html`<span class="mono">${first.commit}</span>`],
    ['Inventory', first.inventory.join('\n') || 'none'],
    ['Hosts', `${hosts.length}: ${names(hosts, 12)}`],
    ...(options.length > 0 ? [['Options', html`<code>${options.join(' ')}</code>`] as const] : []),
    ['Run', html`<span class="mono">${run}</span>`],
    ['Folder', html`<span class="mono">${folder}</span>`],
  ]
  return html`${facts(rows)}${partRows(parts, history)}`
}

function partRows(parts: readonly Part[], history: RunHistory): Content {
  const rows = parts.map(({ started, finished, from, to }, index) => {
    const { operator, mode, process, selection } = started
    const isLast = index === parts.length - 1
    const back = mode === 'rollback' && selection.to !== undefined ? ` back to ${selection.to}` : ''
    const ended = finished
      ? mark(
          finished.outcome === 'done' ? 'ok' : finished.outcome === 'failed' ? 'failed' : 'unknown',
          finished.outcome,
        )
      : mark('begun', isLast ? endingOf(history) : 'did not end')
    return [
      `${modeWords[mode]}${back}`,
      html`<span class="num">${momentOf(from)}</span>`,
      html`<span class="num">${clockOf(to)}</span>`,
      html`<span class="num">${tookOf(to - from)}</span>`,
      ended,
      `${operator} on ${process.machine || 'an unknown machine'}${process.pid > 0 ? `, process ${process.pid}` : ''}`,
    ]
  })
  return table(['', 'Begun', 'Until', 'Took', 'Ended', 'By'], rows)
}

/** Where all this comes from, for whoever has to show that it is so. */
export function evidence({ history, lost, sha256, bytes }: RunStory): Content {
  const missing = [...history.damage, ...lost]
  return html`<p>Made from the folder of the run: its journal, what steps printed, what they returned. Times are by the clock of the machine that ran it, in UTC.</p>
${facts([
  ['Journal', html`<span class="mono">${history.folder}/events.jsonl</span>`],
  ['Its SHA-256', html`<span class="mono">${sha256}</span>, of the ${bytes} bytes that were read`],
  ['Damage', missing.length > 0 ? missing.join('\n') : 'none: all of it was read'],
])}${missing.length > 0 && html`<p class="soft">${count(missing.length, 'line')} of what it lacks.</p>`}`
}
