// Fleets at a moment, made up: what is shown of them is tried without a store.
import type { ClusterRow, EventRow, WaveRow } from '../../../lib/fleet/store/fleets.ts'
import type { FleetStatus } from '../../../lib/fleet/told/status.ts'

/** The moment: 2026-11-30T12:00:00Z. */
export const noon = Date.UTC(2026, 10, 30, 12)
const minute = 60_000

/** What is different from a fleet of sixty, of which ten have failed, eight are under way and the last wave waits. */
export type Different = Partial<Omit<FleetStatus, 'fleet'>> & { readonly fleet?: Partial<FleetStatus['fleet']> }

/** A fleet of sixty clusters in three waves. */
export function sixty({ fleet, ...different }: Different = {}): FleetStatus {
  return {
    ...{ at: noon, waves: [wave(0, 'lab'), wave(1, 'canary'), wave(2, 'rest', { state: 'running', ended: null })] },
    clusters: Array.from({ length: 60 }, (_, at) =>
      cluster(at, at < 10 ? doneOf(at) : at < 20 ? failedOf(at) : at < 28 ? busyOf(at) : {}),
    ),
    workers: ['worker-a-1-aaaaaa', 'worker-b-2-bbbbbb'].map((id, at) => ({
      ...{ id, machine: id.slice(0, 8), pid: at, operator: 'ada', silent: 1_200, skew: 0 },
    })),
    events: Array.from({ length: 50 }, (_, at) => event(50 - at, `c${at}: begun by worker-a-1-aaaaaa`)),
    closed: [],
    untold: [],
    ...different,
    fleet: {
      ...{
        id: '20261130-080000-production-abcd',
        name: 'production',
        playbook: 'rotate-keysets',
        playbookHash: 'a'.repeat(64),
      },
      ...{ hash: 'b'.repeat(64), rekey: '1.0.0', recipient: 'age1', operator: 'ada', state: 'running', why: null },
      ...{ begun: noon - 240 * minute, ended: null, pruned: null, prunedBy: null, ...fleet },
    },
  }
}

export const wave = (number: number, name: string, different: Partial<WaveRow> = {}): WaveRow => ({
  ...{
    number,
    name,
    state: 'passed',
    began: noon - 200 * minute,
    ended: noon - 100 * minute,
    soakUntil: null,
    approvedBy: null,
  },
  ...different,
})

/** A cluster that waits: the first two in the first wave, the next in the second, all others in the last one. */
export const cluster = (at: number, different: Partial<ClusterRow> = {}): ClusterRow => ({
  ...{
    name: `cluster-${at + 1}.example.com`,
    wave: at < 2 ? 0 : at < 3 ? 1 : 2,
    task: 'run',
    state: 'waiting',
    attempt: 0,
    worker: null,
  },
  ...{
    job: null,
    run: null,
    step: null,
    since: noon - 30 * minute,
    began: null,
    ended: null,
    error: null,
    asked: false,
    leftFailed: false,
    takeOvers: 0,
    words: [],
  },
  ...different,
})

const runOf = (at: number) => `20261130-1000${at}-rotate-keysets-ab12`
const doneOf = (at: number): Partial<ClusterRow> => ({ state: 'done', attempt: 1, run: runOf(at) })
const failedOf = (at: number): Partial<ClusterRow> => ({
  ...{ state: 'failed', attempt: 1, run: runOf(at), since: noon - at * minute },
  error: `step "Start the API server anew" failed on master-1.cluster-${at + 1}.example.com: it does not answer on port 6443 after 5 m: connect ECONNREFUSED 10.0.0.${at}:6443`,
})
const busyOf = (at: number): Partial<ClusterRow> => ({
  ...{
    state: at === 20 ? 'unknown' : at > 25 ? 'queued' : 'running',
    attempt: 1,
    run: runOf(at),
    since: noon - at * 1_000,
  },
  ...{ worker: 'worker-a-1-aaaaaa', step: 'restart-what-holds-the-old-bundle' },
})

export const event = (id: number, text: string): EventRow => ({
  id,
  at: noon - (100 - id) * 1_000,
  kind: 'started',
  text,
})
