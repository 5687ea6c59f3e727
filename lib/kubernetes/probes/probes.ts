// What the users of a cluster would have noticed: API servers asked many times a second, and the counts of canaries in pods.
import { connect } from 'node:net'
import { Worker } from 'node:worker_threads'
import { ownModule } from '../../package.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, ReportCurve } from '../../playbook/model.ts'
import type { KubernetesApi } from '../api/api.ts'
import { apiServerPort } from '../layout/kubeadm/index.ts'
import type { Asked, ProbeIdentity, ProberAnswer, ProberMessage, ProberOrders, Question } from './api-prober.ts'
import { curveOf, gapsAmong, isUnknown } from './curves.ts'
import type { StandingKind, StandingQuestion } from './standing-prober.ts'

/** How long, and how often, something did not answer. Milliseconds. */
export interface GapReport {
  readonly calls: number
  readonly failures: number
  readonly longest: number
  readonly total: number
  /** Why calls failed, and how many of them for that, the most frequent first. */
  readonly reasons: readonly (readonly [reason: string, calls: number])[]
  /** What was asked before what is looked at began, and is not among the others; undefined where nothing was. */
  readonly earlier?: { readonly calls: number; readonly failures: number }
  /** How often this machine was too busy to know whether there was an answer in time: they are not among the calls. */
  readonly unheard?: number
}

/** What was seen of one address: reads of an object, and writes of it. Both go through etcd. */
export interface ServerGaps {
  readonly read: GapReport
  readonly write: GapReport
  /** The same over connections that stand, where it was asked over such. */
  readonly standing?: Readonly<Record<StandingKind, StandingReport>>
}

/** What clients see whose connection stands. */
export interface StandingReport extends GapReport {
  /** Asked again over a new connection, since the one before was closed as they asked; of a watch, taken up again. */
  readonly again: number
  /** Told to come later, which is no failure. */
  readonly later: number
}

/** What all of it was. */
export interface ProbeReport {
  readonly servers: ReadonlyMap<string, ServerGaps>
  /** What somebody saw who asks several of them, and takes whichever answers. */
  anyOf(addresses: readonly string[]): ServerGaps
  /** How it went over time at an address, under the name that it is given. */
  curvesOf(name: string, address: string): ReportCurve[]
}

/** Probes that are running. */
export interface Probes {
  /** Has them ask as somebody else, too, where those whom they asked as before are refused. */
  also(identity: ProbeIdentity): void
  /**
   * Ends them, and tells what they saw. Called again, it tells the same.
   * @param since milliseconds since 1970: what was asked before is told apart
   */
  stop(since?: number): Promise<ProbeReport>
}

/** Milliseconds that a question may take: where a gap is measured, and where no call may fail, on a busy machine neither. */
const patience = { gap: 1_000, graceful: 5_000 }

const probeFolder = '/api/v1/namespaces/kube-system/configmaps'

/** The ConfigMap that probes read and write; they make it where it is not there. */
export const probeObject = 'rekey-probe'

/** Removes it, once nobody asks for it any more. */
export async function removeProbeObject(api: Pick<KubernetesApi, 'delete'>): Promise<void> {
  await api.delete(`${probeFolder}/${probeObject}`).catch((error: Error & { status?: number }) => {
    if (error.status !== 404) throw error
  })
}

/**
 * Asks API servers more than five times a second for an object, and to write it, each time over a new connection, from a thread of
 * its own.
 * @param addresses `https://host:port`
 * @param identities whom to ask as; the first one that is not refused
 * @param standing whether to ask over connections that stand, too: kept alive, HTTP/2, a watch
 */
export function probeApis(
  addresses: readonly string[],
  identities: readonly ProbeIdentity[],
  { standing = false }: { standing?: boolean } = {},
): Probes {
  const orders: ProberOrders = {
    ...{ addresses, identities, standing, folder: probeFolder, name: probeObject },
    patience: standing ? patience.graceful : patience.gap,
  }
  const worker = new Worker(ownModule('lib/kubernetes/probes/api-prober.ts'), { workerData: orders })
  const { promise, resolve, reject } = Promise.withResolvers<ProberAnswer>()
  worker.once('message', resolve)
  worker.once('error', reject)
  // Nobody may be listening yet when it fails.
  promise.catch(() => {})
  worker.unref()
  const tell = (message: ProberMessage) => worker.postMessage(message)
  let stopped = false
  return {
    also: identity => tell({ also: identity }),
    stop: async since => {
      if (!stopped) {
        worker.ref()
        tell({ stop: true })
      }
      stopped = true
      const { asked, standing, origin } = await promise
      return probeReport(asked, { standing, origin, since: since === undefined ? undefined : since - origin })
    },
  }
}

/**
 * @param asked by address, what was asked at the same moments of all
 * @param more what was asked over connections that stand, if anything; the moment before which all is told apart; the one, in milliseconds since
 * 1970, from which all of them are counted
 */
export function probeReport(
  asked: ReadonlyMap<string, readonly Question[]>,
  {
    standing,
    since,
    origin = 0,
  }: { standing?: ReadonlyMap<string, readonly StandingQuestion[]>; since?: number; origin?: number } = {},
): ProbeReport {
  const ofAddress = (address: string, questions: readonly Question[]): ServerGaps => {
    const stood = standing?.get(address)
    return { ...serverGaps(questions, since), ...(stood && { standing: standingGaps(stood, since) }) }
  }
  return {
    servers: new Map([...asked].map(([address, questions]) => [address, ofAddress(address, questions)])),
    curvesOf: (name, address) => {
      const all = [...(asked.get(address) ?? []), ...(standing?.get(address) ?? [])]
      return curveKinds.flatMap(([kind, what]) => {
        const own = all.filter(one => one.kind === kind)
        return curveOf(`${name}: ${what}`, own, origin) ?? []
      })
    },
    anyOf: addresses => {
      const [first = [], ...others] = addresses.map(address => asked.get(address) ?? [])
      return serverGaps(
        first.map((question, index) => others.map(one => one[index]).find(one => one?.answered) ?? question),
        since,
      )
    },
  }
}

/** What curves are drawn of, and what it is called; a watch is asked too seldom for one. */
const curveKinds = [
  ['read', 'reads'],
  ['write', 'writes'],
  ['kept', 'kept alive'],
  ['http2', 'HTTP/2'],
] as const

function serverGaps(asked: readonly Question[], since?: number): ServerGaps {
  const of = (kind: Question['kind']) =>
    gapsOf(
      asked.filter(question => question.kind === kind),
      since,
    )
  return { read: of('read'), write: of('write') }
}

function standingGaps(asked: readonly StandingQuestion[], since?: number): Record<StandingKind, StandingReport> {
  const of = (kind: StandingKind): StandingReport => {
    const own = asked.filter(question => question.kind === kind)
    const again = kind === 'watch' ? Math.max(0, own.length - 1) : own.filter(one => one.again).length
    return { ...gapsOf(own, since), again, later: own.filter(one => one.later).length }
  }
  return { kept: of('kept'), http2: of('http2'), watch: of('watch') }
}

/**
 * How long nothing answered: from the last question before a failure that was answered to the first one after it.
 * @param since of what was asked before, nothing but how often it failed is told, and apart
 */
export function gapsOf(all: readonly Asked[], since = Number.NEGATIVE_INFINITY): GapReport {
  const asked = all.filter(one => !isUnknown(one))
  const [before, after] = [asked.filter(({ at }) => at < since), asked.filter(({ at }) => at >= since)]
  const gaps = gapsAmong(all.filter(({ at }) => at >= since))
  const lengths = gaps.map(({ from, to }) => to - from)
  const reasons = Map.groupBy(
    gaps.flatMap(one => one.reasons),
    one => one,
  )
  return {
    calls: after.length,
    failures: gaps.reduce((sum, one) => sum + one.reasons.length, 0),
    longest: Math.round(lengths.reduce((most, one) => Math.max(most, one), 0)),
    total: Math.round(lengths.reduce((sum, one) => sum + one, 0)),
    reasons: [...reasons].map(([reason, all]) => [reason, all.length] as const).sort(([, a], [, b]) => b - a),
    ...(asked.length < all.length && { unheard: all.length - asked.length }),
    ...(before.length > 0 && {
      earlier: { calls: before.length, failures: before.filter(({ answered }) => !answered).length },
    }),
  }
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

/** Milliseconds that an address has to take a connection. */
const reachedWithin = 3_000

/** Why nobody is reached at an address from this machine: `ENOTFOUND`, `no answer within 3 s`; undefined where somebody is. */
export async function unreachable(address: string): Promise<string | undefined> {
  const { hostname, port } = new URL(address)
  const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 443), timeout: reachedWithin })
  try {
    return await new Promise(resolve => {
      socket.once('connect', () => resolve(undefined))
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      socket.once('timeout', () => resolve(`no answer within ${reachedWithin / 1_000} s`))
    })
  } finally {
    socket.destroy()
  }
}

/** The address of a master's own API server. */
export function apiServerOf(master: Host, port = apiServerPort): string {
  const { address } = master.connection
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`
}
