// What every layout is held to beside its rotation: `rekey certs` and `rekey run backup` against openssl, kubectl and etcdutl.
import type { ExecutionContext } from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { eventOf, eventsOf, rekey, saidBy } from '../_lab.ts'
import { censusDifferences } from './_census.ts'
import { backupDifferences } from './_kept.ts'

/**
 * Fails a test where `rekey certs` lists more or less of a lab than others find, or a backup lacks anything of what lies on its machines.
 * @param kubeconfig the administrator's, on m1
 */
export async function assertReadAsItIs(t: ExecutionContext, shape: lab.Shape, kubeconfig: string): Promise<void> {
  t.deepEqual(await censusDifferences(shape, kubeconfig), [])
  const called = await rekey(['run', 'backup', '-i', lab.inventoryPath(shape.name), '--output', 'json'])
  t.is(called.code, 0, saidBy(called))
  t.deepEqual(await backupDifferences(shape, eventOf(eventsOf(called), 'run.started').folder), [])
}
