// A loop over node-ssh with neither journal nor view nor lock: what the library alone costs.
import { join } from 'node:path'
import type { Runner } from '../jobs.ts'

export const bare: Runner = {
  id: 'node-ssh',
  title: 'node-ssh, bare',
  settings: 'a loop over the library, Nagle off, every host at once; no journal, no view, no host key check',
  command: ({ job, reach, bench }) => {
    if (job.kind !== 'steps') return undefined
    const { user, privateKey, hosts } = reach
    return {
      argv: [process.execPath, join(import.meta.dirname, '..', 'bare-loop.ts')],
      environment: { REKEY_BENCH_JOB: JSON.stringify({ ...job, log: bench.log, user, privateKey, hosts }) },
    }
  },
}
