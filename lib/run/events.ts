// Everything that happens in a run, as one union. The view, the journal, the JSON lines and the report are all made of it.
import type { Outcome, ReportCurve, ReportMetric, RunMode } from '../playbook/model.ts'
import type { Provenance } from './journal/provenance.ts'

/**
 * Free text: what hosts, programs and people say. It is searched for secrets before anybody sees it. Every other string in an event is an
 * identity, a name, an id or a path: those who resume a run or undo it read it back, and it stays as it is whatever it looks like.
 */
export type Text = string & { readonly [free]?: 'text' }
declare const free: unique symbol

/** A play as `run.started` announces it. */
export interface PlannedPlay {
  readonly title: string
  /** Of the play itself; of runs of earlier versions, none. */
  readonly tags?: readonly string[]
  readonly hosts: readonly string[]
  readonly steps: readonly PlannedStep[]
}

/** A step as `run.started` announces it. */
export interface PlannedStep {
  readonly id: string
  readonly title: string
  readonly runOnce: boolean
  /** Where it is one that does not come by itself, or not on every host. */
  readonly section?: 'rescue' | 'always' | 'handler'
  /** The title of the block that it is in. */
  readonly block?: string
}

/** What of the command line a resumed run needs, secrets left out. */
export interface RunSelection {
  readonly limit?: readonly string[]
  readonly tags?: readonly string[]
  readonly skipTags?: readonly string[]
  readonly startAtStep?: string
  readonly forceHandlers?: boolean
  readonly forks?: number
  /** The step that a rollback goes back to. */
  readonly to?: string
  /** The names that `-e` sets. */
  readonly extraVars?: readonly string[]
  /** Why it goes on hosts that ask for a rehearsal which was not seen; the audit log of each keeps it. */
  readonly unrehearsed?: string
}

/** What becomes of a failure that does not count: the host goes on, or goes into the rescue of its block. */
export type Handled = 'ignored' | 'rescued'

/**
 * What a check knows of a step. `change`: its plan says what it would do. `run`: it has no plan, and would be run. `unknown`: whether it
 * would depends on what steps before it would have done.
 */
export type Prediction = 'change' | 'run' | 'unknown'

/** How many of each outcome a host had. Failures that were handled are counted as such. */
export type Tally = Partial<Record<Outcome | Handled, number>>

/** An error as events carry it. */
export interface EventError {
  readonly message: Text
  readonly code?: string
  readonly hint?: Text
}

/** A part of the report that a playbook makes at the end. */
export interface EventSection {
  readonly title: Text
  readonly rows: readonly (readonly [label: Text, value: Text])[]
  /** What views of lines leave out: how something went over time. */
  readonly curves?: readonly EventCurve[]
  /** The same of figures that somebody watches over it by. */
  readonly metrics?: readonly EventMetric[]
}

/** A metric as events carry it. */
export interface EventMetric extends Omit<ReportMetric, 'help' | 'labels'> {
  readonly help: Text
  readonly labels?: Readonly<Record<string, Text>>
}

/** A curve as events carry it. */
export interface EventCurve extends Omit<ReportCurve, 'label' | 'gaps'> {
  readonly label: Text
  readonly gaps: readonly (Omit<ReportCurve['gaps'][number], 'reason'> & { readonly reason: Text })[]
}

/** A step that did not end well on a host. */
export interface Failure {
  readonly host: string
  readonly step: string
  readonly outcome: Outcome
  readonly error: EventError
}

/** What happened, without when. */
export type RunEventBody =
  | ({
      readonly kind: 'run.started'
      readonly mode: RunMode
      readonly run: string
      readonly folder: string
      readonly playbook: string
      readonly summary: Text
      readonly inventory: readonly string[]
      readonly operator: string
      readonly check: boolean
      readonly selection: RunSelection
      readonly plays: readonly PlannedPlay[]
    } & Provenance)
  | { readonly kind: 'play.started'; readonly play: number }
  | {
      readonly kind: 'step.started'
      readonly play: number
      readonly step: string
      readonly host: string
      /** It was done before the run was gone on with, and is looked at once more. */
      readonly again?: true
    }
  | {
      readonly kind: 'step.output'
      readonly play: number
      readonly step: string
      readonly host: string
      readonly stream: 'stdout' | 'stderr' | 'log'
      readonly line: Text
      /** It is a piece of a longer line: what this stream prints next goes on with it. */
      readonly goesOn?: true
    }
  | {
      /** With `--diff`: what a step writes, or in `--check` would write, to a file. */
      readonly kind: 'step.diff'
      readonly play: number
      readonly step: string
      readonly host: string
      readonly path: string
      /** A unified diff, secrets as fingerprints; one line where it is not text. */
      readonly diff: readonly Text[]
    }
  | {
      readonly kind: 'step.finished'
      readonly play: number
      readonly step: string
      readonly host: string
      readonly outcome: Outcome
      readonly milliseconds: number
      /** It was done before the run was gone on with, and is left out now. */
      readonly earlier?: true
      /** With `--step`: the operator said no to it. */
      readonly declined?: true
      /** The host that it was delegated to. */
      readonly delegate?: string
      /** How many tries it took, where it was more than one. */
      readonly tries?: number
      /** Why its failure does not count. */
      readonly handled?: Handled
      /** What it returned is kept for a run that is gone on with. */
      readonly returned?: true
      /** The handlers that it called for, and on which hosts. */
      readonly notified?: { readonly handlers: readonly string[]; readonly hosts: readonly string[] }
      /** In `--check`: what it would do, and how much is known of that. */
      readonly would?: readonly Text[]
      readonly predicted?: Prediction
      readonly error?: EventError
    }
  | { readonly kind: 'play.finished'; readonly play: number; readonly milliseconds: number }
  | { readonly kind: 'milestone'; readonly name: string }
  | { readonly kind: 'notice'; readonly text: Text }
  | { readonly kind: 'run.report'; readonly sections: readonly EventSection[] }
  | {
      readonly kind: 'run.finished'
      readonly outcome: 'done' | 'failed' | 'interrupted'
      readonly exitCode: number
      readonly milliseconds: number
      readonly tally: Readonly<Record<string, Tally>>
      /** Every host on which a step did not end well, worst first; without what was ignored or rescued. */
      readonly failures: readonly Failure[]
      /** What state things are in, where the run did not end well. */
      readonly state?: readonly string[]
      readonly error?: EventError
    }

/** Something that happened, and when: by `eventTime`. */
export type RunEvent = RunEventBody & { readonly at: number }

/**
 * Milliseconds since 1970 by the clock of this machine when rekey was started, counted on from there: a clock that is set in the middle
 * of a run makes nothing last longer, and no event come before its cause.
 */
export function eventTime(): number {
  return Math.round(performance.timeOrigin + performance.now())
}
