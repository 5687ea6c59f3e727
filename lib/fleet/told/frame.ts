// A fleet as one picture for a screen of any size, drawn anew while it goes on.
import {
  drawn,
  folding,
  grant,
  type Line,
  type Screen,
  type Section,
  wholeSeconds,
} from '../../output/pictures/folding.ts'
import type { Signs, Terminal } from '../../output/terminal.ts'
import { cut, oneLine, widthOf } from '../../output/text.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { type ClusterRow, isHalfDone, isUnderWay, isUnwell, type WaveRow } from '../store/fleets.ts'
import { countsOf, type FleetStatus, stepOf, waitsOf, workerLines } from './status.ts'

/** What a picture is made with beside the fleet itself. */
export interface FleetFrameOptions extends Screen {
  readonly terminal: Terminal
  /** By the database's clock, milliseconds since 1970. */
  readonly now: number
  /** Counts the pictures: which of its signs the spinner shows. */
  readonly tick: number
  /** Why it could not be asked how the fleet is since. */
  readonly trouble?: string
}

/** Columns that a name or a step may take at most: what stands behind it is to be seen, too. */
const widest = 28

/** The lines of a fleet that goes on. */
export function fleetFrame(status: FleetStatus, options: FleetFrameOptions): string[] {
  const { rows, columns, terminal, now, tick, trouble } = options
  if (rows < 2) return []
  const { signs } = terminal
  const { fleet, waves, clusters, at } = status
  const spinner = signs.spinner[tick % signs.spinner.length] ?? ''
  const took = (since: number) => wholeSeconds(now - since)

  const dot = ` ${signs.dot} `
  const head: Line[] = [
    [
      ['strong', fleet.name],
      ['plain', `${dot}${fleet.playbook}${dot}`],
      [fleet.state === 'halted' ? 'bad' : 'plain', fleet.state],
      [
        'quiet',
        [took(fleet.begun), `begun by ${fleet.operator}`].flatMap(one => (one === '' ? [] : [dot, one])).join(''),
      ],
    ],
    ...(fleet.why === null ? [] : [[['bad', `${signs.stopped} ${oneLine(fleet.why)}`]] satisfies Line]),
  ]
  const waveLine = padded(
    signs,
    waves.map((wave): Cells => {
      const { number, name, state, began, ended } = wave
      const spent = began === null ? '' : ended === null ? took(began) : formatDuration(ended - began)
      return [signOf(wave, signs, spinner), [name, state, spent], countsOf(clusters, number)]
    }),
  )
  const split = Math.max(
    0,
    waves.findIndex(({ state }) => state !== 'passed'),
  )
  const current = waves.every(({ state }) => state === 'passed') ? waves.length : split
  const [passed, going, later] = [
    folding(waveLine.slice(0, current), 'before', signs, 'waves'),
    folding(waveLine.slice(current, current + 1), 'after', signs, 'waves'),
    folding(waveLine.slice(current + 1), 'after', signs, 'waves'),
  ]
  // What was not heard of first, then what was begun first; those that wait for a worker last.
  const order = ['unknown', 'running', 'waiting', 'queued']
  const under = clusters
    .filter(one => isUnderWay(one) || isHalfDone(one))
    .toSorted((one, other) => order.indexOf(one.state) - order.indexOf(other.state) || one.since - other.since)
  const work = padded(
    signs,
    under.map((one): Cells => {
      const step = one.state === 'unknown' || one.state === 'queued' ? one.state : stepOf(one)
      return [
        markOf(one, signs, spinner),
        [one.name, took(one.since), step],
        one.state === 'queued' || one.state === 'waiting' ? '' : (one.worker ?? ''),
      ]
    }),
  )
  const failed = clusters
    .filter(isUnwell)
    .toSorted((one, other) => other.since - one.since)
    .map(({ name, state, since, error }): Line => {
      const ago = took(since) === '' ? '' : ` ${took(since)} ago`
      return [
        ['bad', `${signs.failed} ${name}`],
        ['plain', ` ${state}${ago}${error === null ? '' : `: ${oneLine(error)}`}`],
      ]
    })
  const waits = waitsOf(status, now).map((text): Line => [['changed', `${signs.current} ${text}`]])
  const away = trouble === undefined ? [] : [`as it was ${wholeSeconds(now - at)} ago: ${oneLine(trouble)}`]
  const foot = [
    ...away.map((text): Line => [['bad', text]]),
    ...workerLines(status).map((text): Line => [['quiet', text]]),
  ]

  const [heading, footer, wait, busy, bad] = [
    folding(head, 'after', signs, 'lines'),
    folding(foot, 'after', signs, 'lines'),
    folding(waits, 'after', signs, 'waits'),
    folding(work, 'after', signs, 'under way'),
    folding(failed, 'after', signs, 'that did not come through'),
  ]
  const last: Section = folding([[['quiet', 'Ctrl-C ends the watching, and not the fleet']]], 'after', signs, 'lines')
  const few = (count: number) => (section: Section) => Math.min(count, section.all)
  const all = (section: Section) => section.all
  // A line stays free: below the last one the terminal would go on by a line.
  const granted = grant(rows - 1, [
    [[heading], all],
    [[going], all],
    [[bad, busy], few(1)],
    [[wait], all],
    [[footer, last], few(1)],
    [[bad, busy], few(4)],
    [[passed, later], few(3)],
    [[footer], all],
    [[bad, busy], all],
    [[passed, later], all],
  ])
  const blocks = [[heading], [passed, going, later], [busy], [bad], [wait], [footer, last]].map(block =>
    block.flatMap(section => section.lines(granted.get(section) ?? 0)),
  )
  const told = blocks.filter(lines => lines.length > 0)
  const isAiry = told.reduce((sum, lines) => sum + lines.length + 1, -1) < rows
  return told
    .flatMap((lines, index) => (isAiry && index > 0 ? [[], ...lines] : lines))
    .map(line => drawn(line, columns, terminal))
}

/** A sign, cells that stand below each other, and what is said behind them. */
type Cells = readonly [sign: Line[number], cells: readonly string[], rest: string]

/** Lines whose cells stand below each other. */
function padded({ ellipsis }: Signs, rows: readonly Cells[]): Line[] {
  const shown = rows.map(([sign, cells, rest]) => [sign, cells.map(cell => cut(cell, widest, ellipsis)), rest] as const)
  const widths = (shown[0]?.[1] ?? []).map((_, at) => Math.max(...shown.map(([, cells]) => widthOf(cells[at] ?? ''))))
  return shown.map(([sign, cells, rest]) => {
    const text = cells.map((cell, at) => cell + ' '.repeat((widths[at] ?? 0) - widthOf(cell))).join('  ')
    return rest === '' ? [sign, ['plain', ` ${text.trimEnd()}`]] : [sign, ['plain', ` ${text}`], ['quiet', `  ${rest}`]]
  })
}

function signOf({ state }: WaveRow, signs: Signs, spinner: string): Line[number] {
  if (state === 'passed') return ['good', signs.done]
  if (state === 'waiting') return ['quiet', signs.waiting]
  return ['changed', state === 'running' || state === 'gating' ? spinner : signs.current]
}

function markOf({ state }: ClusterRow, signs: Signs, spinner: string): Line[number] {
  if (state === 'running') return ['changed', spinner]
  return state === 'unknown' ? ['bad', '?'] : ['quiet', signs.waiting]
}
