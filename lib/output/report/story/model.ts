// What a run is told as in its report: parts, plays, steps, hosts, and who waited for whom.
import type { EventError, EventSection, PlannedStep } from '../../../run/events.ts'
import type { Progress, RunFinished, RunStarted } from '../../../run/journal/history.ts'

/** A step on a host, from its beginning to its end. */
export interface Span {
  readonly step: string
  readonly host: string
  /** Milliseconds since 1970. */
  readonly from: number
  /** Where its end is not known, that of its part. */
  readonly to: number
  readonly outcome: Progress
  readonly error?: EventError
  readonly delegate?: string
  readonly tries?: number
  readonly would?: readonly string[]
  /** What it returned was kept, now or at another time before. */
  readonly returned?: true
}

/** A step in a part: what was done of it now, and on which hosts it was done before. */
export interface StepStory extends PlannedStep {
  readonly spans: Span[]
  readonly earlier: string[]
}

/** A play in a part. */
export interface PlayStory {
  readonly index: number
  readonly title: string
  readonly tags: readonly string[]
  readonly hosts: readonly string[]
  readonly steps: readonly StepStory[]
  /** When it was begun and ended, where it was. */
  readonly from?: number
  readonly to?: number
}

/** Why a host stood still: what ended right before it went on. */
export interface Waits {
  /** What was waited for. */
  readonly of: Span
  readonly play: PlayStory
  /** Hosts that waited, and milliseconds that they did so together and at most. */
  readonly hosts: number
  readonly total: number
  readonly longest: number
}

/** How long a host stood still after a step, and what it waited for. */
export interface Pause {
  readonly until: number
  readonly of: Span
}

/** A time that a run was begun, gone on with, or undone. */
export interface Part {
  readonly started: RunStarted
  readonly finished?: RunFinished
  readonly from: number
  readonly to: number
  readonly plays: readonly PlayStory[]
  readonly notices: readonly { readonly at: number; readonly text: string }[]
  readonly milestones: readonly { readonly at: number; readonly name: string }[]
  readonly sections: readonly EventSection[]
  /** Those that were waited for the longest first. */
  readonly waits: readonly Waits[]
  /** By the span after which a host stood still. */
  readonly pauses: ReadonlyMap<Span, Pause>
}
