// What is open for a run over a kOps cluster: its state store, with the lock and the audit line there.
import { RekeyError } from '../errors.ts'
import type { RunContext } from '../playbook/model.ts'
import type { KopsServices, Variables } from './context.ts'
import { type KopsLock, leaveLine, lockCluster } from './store/lock.ts'
import { openStore } from './store/open.ts'

/**
 * Takes the lock of the cluster, and leaves the line that a run began; a check does neither.
 * @throws RekeyError where the state store is one that rekey can't write, and nobody said that it goes without
 */
export async function openServices(run: RunContext<Variables>): Promise<KopsServices & { close(): Promise<void> }> {
  const { cluster, state, without_lock: unlocked } = run.vars
  const store = openStore(state)
  if (!store && !unlocked && !run.check) {
    throw new RekeyError(`rekey can't put a lock into ${state}`, {
      code: 'kops.state-store',
      hint: 'It knows s3:// and file://. Where you have seen to it that nobody else works on this cluster: -e without_lock=true.',
    })
  }
  const isLocked = store !== undefined && !unlocked && !run.check
  const leave = async (what: string) => {
    if (!isLocked) return
    await leaveLine(store, { cluster, run: run.run, what: `${run.mode} ${what}` }).catch((error: Error) =>
      run.log(`the audit line could not be written: ${error.message}`),
    )
  }
  let lock: KopsLock | undefined
  if (isLocked) {
    const take = run.takeLock ?? false
    lock = await lockCluster(store, { cluster, run: run.run, take, notice: text => run.log(text), signal: run.signal })
    await leave('started')
  }
  let outcome = 'ended'
  return {
    kops: {
      store,
      stillLocked: () => {
        if (lock?.lost) throw lock.lost
      },
      ended: how => {
        outcome = how
      },
    },
    close: async () => {
      await leave(outcome)
      await lock?.release()
    },
  }
}
