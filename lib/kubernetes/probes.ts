// What the users of a cluster would have noticed: API servers asked many times a second, and the counts of canaries in pods.
import { request } from 'node:https'
import type { Host } from '../playbook/host.ts'
import type { HostSession } from '../playbook/model.ts'

/** How long, and how often, something did not answer. Milliseconds. */
export interface GapReport {
  readonly calls: number
  readonly failures: number
  readonly longest: number
  readonly total: number
}

/** A probe that is running. */
export interface Probe {
  /** Ends it and tells what it saw. */
  stop(): GapReport
}

const interval = 100
const patience = 1_000

/**
 * Asks `/version` of an API server ten times a second, each time over a new connection. Whatever it presents is accepted: its
 * certificate changes while this runs, and only answers count.
 * @param address `https://host:port`
 */
export function probeApi(address: string): Probe {
  const { hostname, port } = new URL(address)
  const asked: { at: number; answered: boolean }[] = []
  const ask = () => {
    const question = { at: performance.now(), answered: false }
    asked.push(question)
    const outgoing = request(
      {
        hostname,
        port,
        path: '/version',
        agent: false,
        rejectUnauthorized: false,
        timeout: patience,
        servername: 'kubernetes',
      },
      answer => {
        answer.resume()
        // 401 and 403 are answers: who may ask what is not this probe's question.
        question.answered = (answer.statusCode ?? 500) < 500
      },
    )
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')))
    outgoing.on('error', () => {})
    outgoing.end()
  }
  const timer = setInterval(ask, interval)
  return {
    stop: () => {
      clearInterval(timer)
      // The last ones may still be under way.
      const settled = asked.filter(({ at }) => at < performance.now() - patience)
      return gapsOf(settled)
    },
  }
}

/** How long nothing answered: from the last question before a failure that was answered to the first one after it. */
export function gapsOf(asked: readonly { readonly at: number; readonly answered: boolean }[]): GapReport {
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
export function apiServerOf(master: Host, port = 6443): string {
  const { address } = master.connection
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`
}
