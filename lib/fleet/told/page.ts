// How a fleet is, as one HTML page in the style of reports: it loads nothing, runs nothing and has no way to change anything.
import { type Content, html } from '../../output/report/html.ts'
import { facts, page, type Section, table } from '../../output/report/page.ts'
import { mark, momentOf, tookOf } from '../../output/report/words.ts'
import { rekeyVersion } from '../../version.ts'
import { type ClusterRow, type ClusterState, isUnderWay, isUnwell } from '../store/fleets.ts'
import { countsOf, type FleetStatus } from './status.ts'

/** Colours by what they mean in a report. */
const marks: Readonly<Record<ClusterState, Parameters<typeof mark>[0]>> = {
  waiting: 'waiting',
  queued: 'waiting',
  running: 'begun',
  unknown: 'unknown',
  done: 'ok',
  failed: 'failed',
  undone: 'failed',
}
const verdicts = { running: 'unsure', halted: 'bad', done: 'ok', 'given-up': 'unsure' } as const

/** The page, as text. */
export function fleetPage(status: FleetStatus): string {
  const { fleet, at, clusters, workers, events } = status
  const head = html`<p class="eyebrow">rekey · fleet</p>
<h1>${fleet.name}</h1>
<p class="soft"><span class="mono">${fleet.playbook}</span> · begun ${momentOf(fleet.begun)} by ${fleet.operator}</p>
<div class="verdict ${verdicts[fleet.state]}"><p>${fleet.state[0]?.toUpperCase()}${fleet.state.slice(1)}</p>${fleet.why !== null && html`<p>${fleet.why}</p>`}</div>`
  const sections: Section[] = [
    { id: 'waves', title: 'Waves', content: waveTable(status) },
    ...some('under-way', 'Under way', clusters.filter(isUnderWay), at),
    ...some('unwell', 'Did not come through', clusters.filter(isUnwell), at),
    {
      id: 'workers',
      title: 'Workers',
      content: table(
        ['Worker', 'Operator', 'Heard of'],
        workers.map(({ id, operator, silent }) => [id, operator, `${tookOf(Math.max(0, silent))} ago`]),
      ),
    },
    ...(events.length > 0
      ? [
          {
            id: 'events',
            title: 'What happened last',
            content: table(
              ['When', 'What'],
              events.map(one => [momentOf(one.at), one.text]),
            ),
          },
        ]
      : []),
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

function some(id: string, title: string, rows: readonly ClusterRow[], at: number): Section[] {
  if (rows.length === 0) return []
  const cells = rows.map(({ name, state, since, step, worker, error, run }) => [
    name,
    mark(marks[state], state),
    tookOf(Math.max(0, at - since)),
    step ?? '',
    worker ?? '',
    error ?? run ?? '',
  ])
  return [{ id, title, content: table(['Cluster', 'State', 'For', 'Step', 'Worker', 'Run or error'], cells) }]
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
