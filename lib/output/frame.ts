// One picture of a run for a screen of any size: never taller, never wider. What there is no room for is folded into counts, and
// what failed is the last to be folded.
import { formatDuration } from '../playbook/duration.ts'
import {
  drawn,
  folding,
  grant,
  type Line,
  type Piece,
  type Screen,
  type Section,
  wholeSeconds,
} from './pictures/folding.ts'
import type { PlayProgress, RunningHost, RunProgress, StepProgress } from './progress.ts'
import type { Signs, Terminal } from './terminal.ts'
import { tallied } from './words.ts'

/** What a picture is made with beside the run itself. */
export interface FrameOptions extends Screen {
  readonly terminal: Terminal
  /** Milliseconds since 1970. */
  readonly now: number
  /** Counts the pictures: which of its signs the spinner shows. */
  readonly tick: number
}

/** Running steps that are shown each by itself. */
const mostSteps = 5
/** Hosts at work that are named, whatever they do. */
const mostNamed = 6
/** Milliseconds after which a host is named that says nothing. */
const slow = 3_000
/** Hosts by name, in what stays on the screen when the run is over. */
const mostFailed = 20

/** The lines of a run that goes on. */
export function liveFrame(run: RunProgress, options: FrameOptions): string[] {
  const { rows } = options
  const index = Math.max(
    0,
    run.plays.findLastIndex(({ state }) => state !== 'waiting'),
  )
  const play = run.plays[index]
  if (!play || rows < 2) return []
  const draw = drawer(options, run.left)
  const signs = draw.signs
  const busy = play.steps.filter(({ running }) => running.size > 0)
  const first = busy[0] ?? play.steps.find(one => !isOver(one, run.left))
  const split = first ? play.steps.indexOf(first) : play.steps.length

  const before = folding(run.plays.slice(0, index).map(draw.play), 'before', signs, 'plays')
  const after = folding(run.plays.slice(index + 1).map(draw.play), 'after', signs, 'plays')
  const done = folding(play.steps.slice(0, split).map(draw.step), 'before', signs, 'steps', '  ')
  const rest = play.steps.slice(split).filter(({ running }) => running.size === 0)
  const next = folding(rest.map(draw.step), 'after', signs, 'steps', '  ')
  const shown = busy.slice(0, mostSteps)
  const titles = shown.map(one => folding([draw.step(one)], 'after', signs, 'steps', '  '))
  const hosts = shown.map(one => hostSection(one, options.now, draw))
  const others = busy.length - shown.length
  const more = folding(
    others > 0 ? [[['quiet', `  ${signs.ellipsis} ${others} more steps run`]]] : [],
    'after',
    signs,
    'steps',
    '  ',
  )
  const heading = folding([draw.play(play)], 'after', signs, 'plays')
  const footer = folding([footerLine(run, index, options)], 'after', signs, 'plays')

  const order = [
    before,
    heading,
    done,
    ...titles.flatMap((title, at) => [title, hosts[at] ?? nothing]),
    more,
    next,
    after,
    footer,
  ]
  const few = (count: number) => (section: Section) => Math.min(count, section.all)
  const failedAnd = (count: number) => (section: Section) => {
    const step = shown[hosts.indexOf(section)]
    return Math.min(section.all, (step?.failed.length ?? 0) + count)
  }
  const all = (section: Section) => section.all
  const granted = grant(rows - 1, [
    [[heading, ...titles, footer, more], all],
    [hosts, few(1)],
    [[done, next, after, before], few(1)],
    [hosts, failedAnd(6)],
    [[done], few(4)],
    [[next, after, before], few(3)],
    [hosts, all],
    [[done, next, after, before], all],
  ])
  return order.flatMap(section => section.lines(granted.get(section) ?? 0)).map(draw.line)
}

/** The lines that stay when a run is over: its plays, and the steps of those that did not end well. */
export function finalFrame(run: RunProgress, options: FrameOptions): string[] {
  const draw = drawer(options, run.left)
  const begun = run.plays.filter(({ started }) => started !== undefined)
  const lines = begun.flatMap(play => {
    const steps = play.steps.filter(step => play.state !== 'done' || step.failed.length > 0)
    const told = steps.filter(({ started, earlier }) => started !== undefined || earlier > 0)
    return [
      draw.play(play),
      ...told.flatMap(step => [draw.step(step), ...hostSection(step, options.now, draw).lines(mostFailed)]),
      ...notBegun(steps.filter(step => step.always && !told.includes(step)).length, 'step', '  ', draw.signs),
    ]
  })
  return [...lines, ...notBegun(run.plays.length - begun.length, 'play', '', draw.signs)].map(draw.line)
}

function notBegun(count: number, what: string, indent: string, signs: Signs): Line[] {
  return count === 0
    ? []
    : [[['quiet', `${indent}${signs.waiting} ${count} ${what}${count === 1 ? '' : 's'} not begun`]]]
}

const nothing: Section = { all: 0, lines: () => [] }

/** The hosts of a step by name: those that failed, then those at work that take long or have something to say. */
function hostSection({ failed, running }: StepProgress, now: number, draw: Drawer): Section {
  const isWorthIt = ({ since, last }: RunningHost) =>
    last !== undefined || now - since >= slow || running.size <= mostNamed
  const busy = [...running.values()].filter(isWorthIt)
  const silent = running.size - busy.length
  const all = failed.length + busy.length
  return {
    all: all + (silent > 0 ? 1 : 0),
    lines: room => {
      if (room <= 0) return []
      const isWhole = room >= all + (silent > 0 ? 1 : 0)
      const named = isWhole ? all : room - 1
      // One that works is shown beside any number that failed: it says what is being waited for.
      const bad = Math.min(failed.length, named > 1 && busy.length > 0 && !isWhole ? named - 1 : named)
      const lines = [...failed.slice(0, bad).map(draw.failed), ...busy.slice(0, named - bad).map(draw.host)]
      const left = { failed: failed.length - bad, busy: running.size - (named - bad) }
      const words = [
        left.failed > 0 ? `${left.failed} more failed` : '',
        left.busy > 0 ? atWork(left.busy, named > bad) : '',
      ]
      const folded = words.filter(Boolean).join(', ')
      return folded === '' ? lines : [...lines, [['quiet', `      ${draw.signs.ellipsis} ${folded}`]]]
    },
  }
}

function atWork(count: number, isMore: boolean): string {
  return `${count}${isMore ? ' more' : ''} at work`
}

interface Drawer {
  readonly signs: Signs
  play(play: PlayProgress): Line
  step(step: StepProgress): Line
  failed(host: StepProgress['failed'][number]): Line
  host(host: RunningHost): Line
  line(line: Line): string
}

function drawer({ terminal, columns, now, tick }: FrameOptions, left: number): Drawer {
  const { signs } = terminal
  const spinner = signs.spinner[tick % signs.spinner.length] ?? ''
  const since = (at: number | undefined) => (at === undefined ? '' : wholeSeconds(now - at))
  const details = (...parts: string[]): Piece => {
    const said = parts.filter(Boolean)
    return ['quiet', said.length > 0 ? `  ${said.join(` ${signs.dot} `)}` : '']
  }
  return {
    signs,
    play: ({ title, hosts, state, started, milliseconds }) => {
      const count = `${hosts} ${hosts === 1 ? 'host' : 'hosts'}`
      if (state === 'waiting') return [['quiet', `${signs.waiting} ${title}`]]
      if (state === 'running') return [['strong', `${signs.current} ${title}`], details(count, since(started))]
      const took = milliseconds === undefined ? '' : formatDuration(milliseconds)
      if (state === 'done') return [['good', signs.done], ['plain', ` ${title}`], details(count, took)]
      return [['bad', state === 'failed' ? signs.failed : signs.stopped], ['plain', ` ${title}`], details(count, took)]
    },
    step: step => {
      const { title, running, failed, outcomes, earlier, ended, started, spent } = step
      if (started === undefined && earlier === 0) return [['quiet', `  ${signs.waiting} ${title}`]]
      const whole = expected(step, left)
      const count = whole > 1 && ended < whole ? `${ended}/${whole}` : ''
      const tally = [tallied(outcomes), earlier > 0 ? `done before=${earlier}` : ''].filter(Boolean).join(' ')
      if (running.size > 0) {
        return [['changed', `  ${spinner}`], ['plain', ` ${title}`], details(count, tally, since(started))]
      }
      const took = started === undefined ? '' : formatDuration(spent)
      const sign: Piece =
        failed.length > 0
          ? ['bad', signs.failed]
          : outcomes.cancelled
            ? ['bad', signs.stopped]
            : isOver(step, left)
              ? ['good', signs.done]
              : ['quiet', signs.waiting]
      return [['plain', '  '], sign, ['plain', ` ${title}`], details(count, tally, took)]
    },
    failed: ({ host, outcome, message }) => [
      ['bad', `      ${signs.failed} ${host}`],
      [
        'plain',
        ` ${outcome}: ${message
          .split('\n')
          .filter(line => line.trim() !== '')
          .join(' ')}`,
      ],
    ],
    host: ({ host, since: at, last = '' }) => [
      ['plain', `      ${signs.dot} ${host}`],
      ['quiet', `  ${[since(at), last].filter(Boolean).join('  ')}`],
    ],
    line: line => drawn(line, columns, terminal),
  }
}

function footerLine({ started, plays }: RunProgress, index: number, { now, terminal }: FrameOptions): Line {
  const dot = ` ${terminal.signs.dot} `
  const parts = [`Play ${index + 1} of ${plays.length}`, started === undefined ? '' : wholeSeconds(now - started)]
  return [['quiet', parts.concat('Ctrl-C ends it in good order').filter(Boolean).join(dot)]]
}

function isOver(step: StepProgress, left: number): boolean {
  return step.running.size === 0 && step.ended >= expected(step, left)
}

/** The hosts that come to a step: without those that did not get there. */
function expected({ always, hosts, ended, running, failed, outcomes }: StepProgress, left: number): number {
  const before = left - failed.length - (outcomes.cancelled ?? 0)
  return Math.max(ended + running.size, always ? hosts - Math.max(0, before) : 0)
}
