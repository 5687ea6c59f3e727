// One rotation a cluster: a lock object in the state store, which kOps does not have, with a heartbeat; and a line for each run.
import { HostFailedError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import { operatorName } from '../../operator.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { isAlive, type ProcessIdentity, thisProcess } from '../../process-identity.ts'
import type { StateStore, Stored } from './store.ts'

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
/** A holder on another machine that writes nothing for so long, by our own clock, is taken for dead. */
const longEnough = 120_000

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
  /** Milliseconds for which a holder that can't be seen from here must write nothing. */
  readonly silence?: number
  readonly signal?: AbortSignal
}

/**
 * Takes the lock of a cluster. Who holds it already under this run keeps it; a holder that is dead is told of, and the lock taken when that is said.
 * @throws HostFailedError where another run holds it: who, and since when
 */
export async function lockCluster(
  store: StateStore,
  { cluster, run, take, notice, every = heartbeatEvery, silence = longEnough, signal }: LockRequest,
): Promise<KopsLock> {
  const path = `${folderOf(cluster)}/lock.json`
  const now = () => new Date().toISOString()
  const since = now()
  const own = { run, operator: operatorName(), process: thisProcess(), since }
  const mine = () => JSON.stringify({ ...own, beat: now() } satisfies Holder)
  /** What was written by us, where the answer was lost: a second try finds it there. */
  const found = async (): Promise<Stored | undefined> => {
    const there = await store.get(path)
    const { beat: _, ...who } = (there && holderOf(there.text)) ?? { beat: '' }
    return JSON.stringify(who) === JSON.stringify(own) ? there : undefined
  }
  let tag = await store.create(path, mine())
  for (let tries = 0; tag === undefined && tries < 5; tries++) {
    tag = (await found())?.tag
    const there = tag === undefined ? await store.get(path) : undefined
    if (there) {
      await requireDead(store, path, there, { cluster, run, take, notice, silence, ...(signal && { signal }) })
      tag = await store.replace(path, mine(), there.tag)
    } else tag ??= await store.create(path, mine())
  }
  if (tag === undefined) throw new HostFailedError(`the lock of ${cluster} comes and goes`, { code: 'kops.locked' })
  let [held, lost, beating]: [string, Error | undefined, Promise<void>] = [tag, undefined, Promise.resolve()]
  const beat = async () => {
    const next = (await store.replace(path, mine(), held)) ?? (await found())?.tag
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
      if (lost || (await store.remove(path, held))) return
      const left = await found()
      if (left) await store.remove(path, left.tag)
    },
  }
}

/** Throws where whoever holds a lock lives, or may live; notes it where it is dead and its lock is to be taken. */
async function requireDead(
  store: StateStore,
  path: string,
  { text, tag }: Stored,
  {
    cluster,
    run,
    take,
    notice,
    silence,
    signal,
  }: Required<Pick<LockRequest, 'cluster' | 'run' | 'take' | 'notice' | 'silence'>> & { signal?: AbortSignal },
): Promise<void> {
  const other = holderOf(text)
  const isOwn = other?.run === run
  const who = other
    ? `run ${other.run} of ${other.operator} on ${other.process.machine}, since ${other.since}`
    : 'somebody who left no name'
  let alive = other ? isAlive(other.process) : undefined
  // Clocks differ: what tells is whether it writes, while we look.
  if (alive === undefined && (take || isOwn)) {
    notice(`the lock is that of ${who}: it is watched for ${formatDuration(silence)}, for a sign of life`)
    const until = Date.now() + silence
    await waitFor(
      'the holder of the lock to be silent for long enough',
      { within: silence + 60_000, every: Math.min(5_000, silence / 10), ...(signal && { signal }) },
      async () => {
        alive = (await store.get(path))?.tag !== tag
        return alive || Date.now() >= until
      },
    )
  }
  const dead = alive === false
  if (dead && isOwn) return
  if (dead && take) {
    notice(`the lock of ${who} is taken: it is dead`)
    return
  }
  const heard = other ? `, last heard of at ${other.beat} by its own clock` : ''
  throw new HostFailedError(`${cluster} is locked in its state store by ${who}${heard}${dead ? ': it is dead' : ''}`, {
    code: 'kops.locked',
    hint: dead
      ? 'See how far it came, and go on with it (rekey resume) or back (rekey rollback); or take the lock from it with --take-lock.'
      : `Wait until it has ended; or, where its machine is gone, --take-lock: it is taken once it has written nothing for ${formatDuration(silence)}.`,
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
