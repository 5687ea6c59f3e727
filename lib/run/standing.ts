// How a run stands while it goes on: who is still in it, what failed, which handlers wait, whether another step may begin.
import { type Host, names } from '../playbook/host.ts'
import type { Outcome } from '../playbook/model.ts'
import type { Failure, Handled, Tally } from './events.ts'
import { isDone } from './journal/history.ts'
import type { Earlier } from './options.ts'
import type { AnyPlay, Selected, SelectedStep } from './select.ts'

export interface Standing {
  readonly tally: Record<string, Tally>
  /** What did not end well, and was neither ignored nor rescued. */
  readonly failures: Failure[]
  /** Hosts that take no further part, by the outcome that they left with. */
  readonly left: Map<string, Outcome>
  /** The hosts on which a handler was notified and has not run, by its id. */
  readonly waiting: Map<string, Set<string>>
  /** Hosts on which a step was not begun when the run was told to stop, by its title. */
  readonly notBegun: Map<string, string[]>
  /** No further step may begin, but for the rescue and always of blocks that were entered. */
  stopped: boolean
  /** The titles of the steps that were finished on all hosts of their play, in order. */
  readonly finished: string[]
}

/** How a run stands at its beginning: handlers wait where they waited before it was gone on with. */
export function openStanding(selected: readonly Selected[], earlier?: Earlier): Standing {
  const standing: Standing = {
    tally: {},
    failures: [],
    left: new Map(),
    waiting: new Map(),
    notBegun: new Map(),
    stopped: false,
    finished: [],
  }
  for (const { handlers, hosts } of selected) {
    for (const { id } of handlers) {
      const waiting = hosts.filter(({ name }) => {
        const progress = earlier?.progress?.(id, name)
        return progress !== undefined && progress !== 'ignored' && !isDone(progress)
      })
      notify(
        standing,
        [id],
        waiting.map(({ name }) => name),
      )
    }
  }
  return standing
}

/** Has handlers wait on hosts. */
export function notify({ waiting }: Standing, handlers: readonly string[], hosts: readonly string[]): void {
  for (const id of handlers) {
    const known = waiting.get(id) ?? new Set()
    for (const host of hosts) known.add(host)
    waiting.set(id, known)
  }
}

/** The handlers that wait, as `Restart the kubelet on h1, h2`. */
export function waitingHandlers({ waiting }: Standing, selected: readonly Selected[]): string[] {
  return selected.flatMap(({ handlers, hosts }) =>
    handlers.flatMap(({ id, title }) => {
      const on = hosts.map(({ name }) => name).filter(name => waiting.get(id)?.has(name))
      return on.length > 0 ? `${title} on ${names(on, 12)}` : []
    }),
  )
}

/** Counts an outcome for a host. */
export function count({ tally }: Standing, host: string, outcome: Outcome | Handled): void {
  const counts = tally[host] ?? {}
  tally[host] = { ...counts, [outcome]: (counts[outcome] ?? 0) + 1 }
}

/** Whether nothing can be done on a host any more; on one that only failed, rescue and always still can. */
export function isGone({ left }: Standing, { name }: Host): boolean {
  const outcome = left.get(name)
  return outcome !== undefined && outcome !== 'failed'
}

/** Whether more hosts left than a play bears with: more than its percentage, or all of them. */
export function isOverBudget({ left }: Standing, { maxFailPercentage = 0 }: AnyPlay, hosts: readonly Host[]): boolean {
  const gone = hosts.filter(({ name }) => left.has(name)).length
  return gone > 0 && (gone === hosts.length || gone * 100 > maxFailPercentage * hosts.length)
}

/** What becomes of a failure, by Ansible's rules: ignored, or taken up by the rescue of a block, or neither. */
export function handlingOf(one: SelectedStep, outcome: Outcome): Handled | undefined {
  if (outcome === 'unreachable') return one.ignoreUnreachable ? 'ignored' : undefined
  if (outcome !== 'failed') return undefined
  if (one.ignoreErrors) return 'ignored'
  return one.caughtBy ? 'rescued' : undefined
}
