// How a fleet is, as one HTML page in the style of reports: it loads nothing, runs nothing and has no way to change anything.
import { type Content, html } from '../../output/report/html.ts'
import { facts, page, type Section, table } from '../../output/report/page.ts'
import { mark, momentOf, tookOf } from '../../output/report/words.ts'
import { oneLine } from '../../output/text.ts'
import { rekeyVersion } from '../../version.ts'
import { type ClusterRow, type ClusterState, isHalfDone, isUnderWay, isUnwell } from '../store/fleets.ts'
import { countsOf, type FleetStatus, sentence, stepOf, waitsOf } from './status.ts'

/** Colours by what they mean in a report. */
const marks: Readonly<Record<ClusterState, Parameters<typeof mark>[0]>> = {
  waiting: 'waiting',
  queued: 'waiting',
  running: 'changed',
  unknown: 'unknown',
  done: 'ok',
  failed: 'failed',
  undone: 'failed',
}
const verdicts = { running: 'unsure', halted: 'bad', done: 'ok', 'given-up': 'unsure' } as const

/** Events that are shown: all of them has the export. */
const lastShown = 30

/** The page, as text. */
export function fleetPage(status: FleetStatus): string {
  const { fleet, at, clusters, workers, events, untold } = status
  const head = html`<p class="eyebrow">rekey · fleet</p>
<h1>${fleet.name}</h1>
<p class="soft"><span class="mono">${fleet.playbook}</span> · begun ${momentOf(fleet.begun)} by ${fleet.operator}</p>
<div class="verdict ${verdicts[fleet.state]}"><p>${fleet.state[0]?.toUpperCase()}${fleet.state.slice(1)}</p>${fleet.why !== null && html`<p>${fleet.why}</p>`}</div>`
  const sections: Section[] = [
    { id: 'waves', title: 'Waves', content: waveTable(status) },
    ...some(
      'waits',
      'Waited for',
      ['What'],
      waitsOf(status, at).map(text => [sentence(text)]),
    ),
    ...some(
      'under-way',
      'Under way',
      ['Cluster', 'State', 'For', 'Step', 'Worker', 'Run'],
      clusters.filter(one => isUnderWay(one) || isHalfDone(one)).map(underWay(at)),
    ),
    ...some(
      'unwell',
      'Did not come through',
      ['Cluster', 'State', 'Since', 'What went wrong'],
      clusters
        .filter(isUnwell)
        .map(({ name, state, since, error }) => [
          ...[name, mark(marks[state], state), momentOf(since)],
          oneLine(error ?? ''),
        ]),
    ),
    ...some(
      'untold',
      'Not told',
      ['Who', 'Times', 'Why'],
      untold.map(({ title, why, left }) => [title, String(left), oneLine(why ?? '')]),
    ),
    {
      id: 'workers',
      title: 'Workers',
      content: table(
        ['Worker', 'Operator', 'Heard of'],
        workers.map(({ id, operator, silent }) => [id, operator, `${tookOf(Math.max(0, silent))} ago`]),
      ),
    },
    ...some(
      'events',
      'What happened last',
      ['When', 'What'],
      events.slice(0, lastShown).map(one => [momentOf(one.at), oneLine(one.text)]),
    ),
    { id: 'clusters', title: 'Clusters', content: all(status) },
    {
      id: 'origin',
      title: 'Which fleet this is',
      content: facts([
        ['Fleet', html`<span class="mono">${fleet.id}</span>`],
        ['SHA-256 of the playbook', html`<span class="mono">${fleet.playbookHash}</span>`],
        ['SHA-256 of fleet.yml', html`<span class="mono">${fleet.hash}</span>`],
        ['rekey', fleet.rekey],
      ]),
    },
  ]
  return page(`${fleet.name} · fleet`, head, sections, html`Seen on ${momentOf(at)} by rekey ${rekeyVersion()}.`)
}

function waveTable({ at, waves, clusters }: FleetStatus): Content {
  const rows = waves.map(({ number, name, state, began, ended }) => [
    name,
    state,
    began === null ? '' : tookOf((ended ?? at) - began),
    countsOf(clusters, number),
  ])
  return table(['Wave', 'State', 'For', 'Clusters'], rows)
}

function some(id: string, title: string, heads: readonly string[], rows: readonly (readonly Content[])[]): Section[] {
  return rows.length === 0 ? [] : [{ id, title, content: table(heads, rows) }]
}

const underWay =
  (at: number) =>
  (one: ClusterRow): Content[] => {
    const { name, state, since, worker, run } = one
    const step = state === 'queued' ? '' : stepOf(one)
    return [name, mark(marks[state], state), tookOf(Math.max(0, at - since)), step, worker ?? '', run ?? '']
  }

function all({ waves, clusters }: FleetStatus): Content {
  const rows = clusters.map(({ name, wave, state, run, attempt }) => [
    name,
    waves[wave]?.name ?? '',
    mark(marks[state], state),
    run ?? '',
    attempt > 1 ? `${attempt} times begun` : '',
  ])
  return table(['Cluster', 'Wave', 'State', 'Run', ''], rows)
}
