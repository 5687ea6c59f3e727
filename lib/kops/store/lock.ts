// One rotation a cluster: a lock object in the state store, which kOps does not have, with a heartbeat; and a line for each run.
import { HostFailedError } from '../../errors.ts'
import { operatorName } from '../../operator.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { isAlive, type ProcessIdentity, thisProcess } from '../../process-identity.ts'
import type { StateStore } from './store.ts'

/** Who holds a lock, or held it. */
interface Holder {
  readonly run: string
  readonly operator: string
  readonly process: ProcessIdentity
  readonly since: string
  /** When it was last heard of, by its own clock. */
  readonly beat: string
}

/** A lock that is held. */
export interface KopsLock {
  /** Why it is not held any more. */
  readonly lost: Error | undefined
  release(): Promise<void>
}

const heartbeatEvery = 20_000
/** A holder that was not heard of for so long is taken for dead. */
const silence = 120_000

// Beside the cluster's own folder, and not in it: kops refuses to delete a cluster whose folder holds what it does not know.
const folderOf = (cluster: string) => `rekey/${cluster}`

/** What it takes to lock. */
interface LockRequest {
  readonly cluster: string
  readonly run: string
  /** Whether it may be taken from another run that is dead. */
  readonly take: boolean
  /** Is told whose lock is taken. */
  notice(text: string): void
  /** Milliseconds between two heartbeats. */
  readonly every?: number
}

/**
 * Takes the lock of a cluster. Who holds it already under this run keeps it; a holder that is dead is told of, and the lock taken when that is said.
 * @throws HostFailedError where another run holds it: who, and since when
 */
export async function lockCluster(
  store: StateStore,
  { cluster, run, take, notice, every = heartbeatEvery }: LockRequest,
): Promise<KopsLock> {
  const path = `${folderOf(cluster)}/lock.json`
  const now = () => new Date().toISOString()
  const since = now()
  const mine = () =>
    JSON.stringify({ run, operator: operatorName(), process: thisProcess(), since, beat: now() } satisfies Holder)
  let tag = await store.create(path, mine())
  for (let tries = 0; tag === undefined && tries < 5; tries++) {
    const found = await store.get(path)
    if (!found) tag = await store.create(path, mine())
    else {
      requireDead(found.text, { cluster, run, take, notice })
      tag = await store.replace(path, mine(), found.tag)
    }
  }
  if (tag === undefined) throw new HostFailedError(`the lock of ${cluster} comes and goes`, { code: 'kops.locked' })
  let [held, lost, beating]: [string, Error | undefined, Promise<void>] = [tag, undefined, Promise.resolve()]
  const beat = async () => {
    const next = await store.replace(path, mine(), held)
    if (next !== undefined) held = next
    else {
      lost = new HostFailedError(`the lock of ${cluster} was taken by somebody else`, {
        code: 'kops.lock-lost',
        hint: 'Find out who, and look at the cluster together before anybody goes on.',
      })
    }
  }
  const timer = setInterval(() => {
    // A store that does not answer now may do so for the next one.
    beating = beating.then(() => (lost ? undefined : beat())).catch(() => {})
  }, every)
  timer.unref()
  return {
    get lost() {
      return lost
    },
    release: async () => {
      clearInterval(timer)
      await beating
      if (!lost) await store.remove(path, held)
    },
  }
}

function requireDead(
  text: string,
  { cluster, run, take, notice }: { cluster: string; run: string; take: boolean; notice(text: string): void },
): void {
  const other = holderOf(text)
  const silent = other ? Date.now() - Date.parse(other.beat) : Number.POSITIVE_INFINITY
  const alive = other ? isAlive(other.process) : undefined
  const dead = alive === false || (alive === undefined && !(Math.abs(silent) <= silence))
  const who = other
    ? `run ${other.run} of ${other.operator} on ${other.process.machine}, since ${other.since}`
    : 'somebody who left no name'
  if (dead && other?.run === run) return
  if (dead && take) {
    notice(`the lock of ${who} is taken: it is dead`)
    return
  }
  const heard = Number.isFinite(silent) ? `, last heard of ${formatDuration(Math.max(0, silent))} ago` : ''
  throw new HostFailedError(`${cluster} is locked in its state store by ${who}${heard}${dead ? ': it is dead' : ''}`, {
    code: 'kops.locked',
    hint: dead
      ? 'See how far it came, and go on with it (rekey resume) or back (rekey rollback); or take the lock from it with --take-lock.'
      : `Wait until it has ended; or, where its machine is gone, until it was not heard of for ${formatDuration(silence)}.`,
  })
}

function holderOf(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Holder
    return typeof holder.run === 'string' && holder.process ? holder : undefined
  } catch {
    return undefined
  }
}

/** Leaves a line about a run in the state store. */
export async function leaveLine(
  store: StateStore,
  { cluster, run, what }: { cluster: string; run: string; what: string },
): Promise<void> {
  const at = new Date().toISOString()
  const line = `${at} run=${run} operator=${operatorName()} from=${thisProcess().machine} ${what}\n`
  await store.create(`${folderOf(cluster)}/audit/${at.replaceAll(':', '')}-${run}-${what.replace(/\W+/g, '-')}`, line)
}
