// How far a run is, kept up to date from its events: each costs the same, however many hosts and lines there are.
import type { Outcome } from '../playbook/model.ts'
import type { PlannedStep, RunEvent, Tally } from '../run/events.ts'
import { placed } from './words.ts'

/** A host that works on a step. */
export interface RunningHost {
  readonly host: string
  readonly since: number
  /** The last line that it printed. */
  last?: string
}

/** A host on which a step did not end well; where it was only ended, with everything else, the host is counted and not named. */
export interface FailedHost {
  readonly host: string
  readonly outcome: Outcome
  readonly message: string
}

/** A step of a play, over all its hosts. */
export interface StepProgress {
  readonly title: string
  /** Whether it comes by itself: a rescue or a handler may come on some hosts, or on none. */
  readonly always: boolean
  /** The hosts that it will run on; more where it is run once in each batch. */
  readonly hosts: number
  /** By host, the longest running first. */
  readonly running: ReadonlyMap<string, RunningHost>
  readonly failed: readonly FailedHost[]
  readonly outcomes: Readonly<Tally>
  /** Hosts on which it was done before the run was gone on with. */
  readonly earlier: number
  readonly ended: number
  readonly started?: number
  /** How long some host worked on it; what lies between two batches does not count. */
  readonly spent: number
}

/** A play, and where it stands. */
export interface PlayProgress {
  readonly title: string
  readonly hosts: number
  readonly steps: readonly StepProgress[]
  readonly state: 'waiting' | 'running' | 'done' | 'failed' | 'stopped'
  readonly started?: number
  readonly milliseconds?: number
}

/** A run, and where it stands. */
export interface RunProgress {
  readonly plays: readonly PlayProgress[]
  readonly started?: number
  /** Hosts that did not come through a step, and go no further. */
  readonly left: number
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

interface Step extends Omit<Mutable<StepProgress>, 'running' | 'failed' | 'outcomes'> {
  /** Since when hosts are at work on it. */
  busySince: number
  readonly running: Map<string, RunningHost>
  readonly failed: FailedHost[]
  readonly outcomes: Mutable<Tally>
}

interface Play extends Omit<Mutable<PlayProgress>, 'steps'> {
  readonly steps: Step[]
  readonly byId: Map<string, Step>
}

/** Follows a run. `take` is given every event, in order. */
export function followRun(): { readonly progress: RunProgress; take(event: RunEvent): void } {
  const progress: { plays: Play[]; started?: number; left: number } = {
    ...{ plays: [], left: 0 },
  }
  const left = new Set<string>()
  const stepOf = (event: { play: number; step: string }) => progress.plays[event.play]?.byId.get(event.step)
  return {
    progress,
    take: event => {
      switch (event.kind) {
        case 'run.started':
          progress.started = event.at
          progress.plays = event.plays.map(({ title, hosts, steps }) => {
            const byId = new Map(steps.map(one => [one.id, newStep(one, hosts.length)]))
            return { title, hosts: hosts.length, state: 'waiting', byId, steps: [...byId.values()] }
          })
          break
        case 'play.started': {
          const play = progress.plays[event.play]
          if (play) Object.assign(play, { state: 'running', started: event.at })
          break
        }
        case 'step.started': {
          const step = stepOf(event)
          if (!step) break
          if (step.running.size === 0) step.busySince = event.at
          step.running.set(event.host, { host: event.host, since: event.at })
          step.started ??= event.at
          break
        }
        case 'step.output': {
          const host = stepOf(event)?.running.get(event.host)
          if (host && event.line.trim() !== '') host.last = event.line
          break
        }
        case 'step.finished': {
          const step = stepOf(event)
          if (!step) break
          const { host, outcome, handled, error } = event
          if (step.running.delete(host) && step.running.size === 0) step.spent += event.at - step.busySince
          step.ended++
          if (event.earlier) step.earlier++
          else step.outcomes[handled ?? outcome] = (step.outcomes[handled ?? outcome] ?? 0) + 1
          if (!error || handled) break
          if (outcome !== 'cancelled') step.failed.push({ host, outcome, message: error.message })
          left.add(host)
          progress.left = left.size
          break
        }
        case 'play.finished': {
          const play = progress.plays[event.play]
          if (!play) break
          const failed = play.steps.some(step => step.failed.length > 0)
          const stopped = play.steps.some(step => step.outcomes.cancelled)
          const state = failed ? 'failed' : stopped ? 'stopped' : 'done'
          Object.assign(play, { state, milliseconds: event.milliseconds })
          break
        }
        case 'run.finished':
          if (event.outcome === 'done') break
          for (const play of progress.plays) {
            if (play.state === 'waiting' || play.state === 'running') play.state = 'stopped'
          }
          if (event.outcome === 'interrupted')
            stopInTheMiddle(progress.plays.findLast(({ started }) => started !== undefined))
          break
        case 'step.diff':
        case 'notice':
        case 'milestone':
        case 'run.report':
          break
        default:
          event satisfies never
      }
    },
  }
}

/** A play that was ended between two steps has no step that says so. */
function stopInTheMiddle(play: Play | undefined): void {
  if (play?.state === 'done' && play.steps.some(({ always, ended, hosts }) => always && ended < hosts))
    play.state = 'stopped'
}

function newStep(step: PlannedStep, hosts: number): Step {
  const always = step.section === undefined
  return {
    title: placed(step),
    always,
    hosts: step.runOnce ? 1 : hosts,
    running: new Map(),
    failed: [],
    outcomes: {},
    earlier: 0,
    ended: 0,
    spent: 0,
    busySince: 0,
  }
}
