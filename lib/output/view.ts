// What a run is shown to: the tree, plain lines, JSON lines, a JUnit report, metrics.
import type { RunEvent } from '../run/events.ts'

/** Shows a run while it happens. */
export interface View {
  event(event: RunEvent): void
  /** Resolves when everything has been written. */
  close(): Promise<void>
}
