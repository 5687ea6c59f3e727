// What the users of a cluster would have noticed: API servers asked many times a second, and the counts of canaries in pods.
import { Worker } from 'node:worker_threads'
import type { Host } from '../../playbook/host.ts'
import type { HostSession } from '../../playbook/model.ts'
import { apiServerPort } from '../layout/kubeadm/index.ts'
import type { Question } from './api-prober.ts'

/** How long, and how often, something did not answer. Milliseconds. */
export interface GapReport {
  readonly calls: number
  readonly failures: number
  readonly longest: number
  readonly total: number
}

/** Probes that are running. */
export interface Probes {
  /** Ends them, and tells by address what they saw. Called again, it tells the same. */
  stop(): Promise<ReadonlyMap<string, GapReport>>
}

/**
 * Asks `/version` of API servers more than ten times a second, each time over a new connection, from a thread of its own.
 * @param addresses `https://host:port`
 */
export function probeApis(addresses: readonly string[]): Probes {
  const worker = new Worker(new URL('./api-prober.ts', import.meta.url), { workerData: addresses })
  const { promise, resolve, reject } = Promise.withResolvers<ReadonlyMap<string, readonly Question[]>>()
  worker.once('message', resolve)
  worker.once('error', reject)
  // Nobody may be listening yet when it fails.
  promise.catch(() => {})
  worker.unref()
  let stopped = false
  return {
    stop: async () => {
      if (!stopped) {
        worker.ref()
        worker.postMessage('stop')
      }
      stopped = true
      return new Map([...(await promise)].map(([address, asked]) => [address, gapsOf(asked)]))
    },
  }
}

/** How long nothing answered: from the last question before a failure that was answered to the first one after it. */
export function gapsOf(asked: readonly Question[]): GapReport {
  let [longest, total, failures] = [0, 0, 0]
  let last = asked[0]?.at ?? 0
  let failing = false
  const close = (at: number) => {
    longest = Math.max(longest, at - last)
    total += at - last
  }
  for (const { at, answered } of asked) {
    if (!answered) failures++
    else if (failing) close(at)
    if (answered) last = at
    failing = !answered
  }
  if (failing) close(asked.at(-1)?.at ?? last)
  return { calls: asked.length, failures, longest: Math.round(longest), total: Math.round(total) }
}

/** What a canary in a pod has counted so far. `refused` are answers 401 and 403, which are among the failures. */
export interface CanaryCounts {
  readonly kind: string
  readonly pod: string
  readonly node: string
  readonly calls: number
  readonly failures: number
  readonly refused: number
  readonly longestGapMs: number
  readonly lastError?: string
}

/** Reads what the canaries on a host have written, one JSON file each, into a folder. An empty list where there are none. */
export async function readCanaries({ $ }: HostSession, folder: string): Promise<CanaryCounts[]> {
  const { stdout } = await $({
    nothrow: true,
  })`cd ${folder} 2>/dev/null && for f in *.json; do [ -f "$f" ] && tr -d '\\n' <"$f" && echo; done`
  return stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as CanaryCounts)
}

/** Sums of what canaries counted between two readings, by kind. */
export interface CanaryReport {
  readonly calls: number
  readonly failures: number
  readonly refused: number
  readonly lastError?: string
}

/** What happened between two readings of all hosts. A pod that is new in the second began at zero. */
export function canaryReport(
  before: readonly CanaryCounts[],
  after: readonly CanaryCounts[],
): Map<string, CanaryReport> {
  const start = new Map(before.map(one => [`${one.kind} ${one.node} ${one.pod}`, one]))
  const report = new Map<string, CanaryReport>()
  for (const one of after) {
    const from = start.get(`${one.kind} ${one.node} ${one.pod}`)
    const sum = report.get(one.kind) ?? { calls: 0, failures: 0, refused: 0 }
    const failures = one.failures - (from?.failures ?? 0)
    report.set(one.kind, {
      calls: sum.calls + one.calls - (from?.calls ?? 0),
      failures: sum.failures + failures,
      refused: sum.refused + one.refused - (from?.refused ?? 0),
      lastError: failures > 0 ? one.lastError : sum.lastError,
    })
  }
  return report
}

/** The address of a master's own API server. */
export function apiServerOf(master: Host, port = apiServerPort): string {
  const { address } = master.connection
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`
}
