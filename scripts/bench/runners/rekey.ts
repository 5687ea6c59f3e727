// rekey, as an operator runs it: the installed package's command line, its journal and its view.
import { join } from 'node:path'
import type { Runner } from '../jobs.ts'

const playbook = (name: string) => join(import.meta.dirname, '..', 'playbooks', `${name}.ts`)

/** @param program where the package has `bin/rekey` */
export const rekey = (program: string): Runner => ({
  id: 'rekey',
  title: 'rekey',
  settings: 'the package that npm pack makes; forks = hosts; journal, lock, audit lines and the plain view on',
  tellsOfItself: true,
  command: ({ job, reach, bench, inventory, folder }) => {
    const argv = [process.execPath, program]
    if (job.kind === 'words') return { argv: [...argv, ...job.words] }
    if (job.kind === 'inventory') return { argv: [...argv, 'inventory', '-i', job.file, '--list'] }
    return {
      argv: [...argv, 'run', playbook(job.kind), '-i', inventory, '--forks', String(reach.hosts.length)],
      environment: {
        XDG_STATE_HOME: join(folder, 'state'),
        REKEY_BENCH_JOB: JSON.stringify({ ...job, log: bench.log }),
      },
    }
  },
})
