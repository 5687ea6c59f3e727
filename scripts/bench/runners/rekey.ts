// rekey, as an operator runs it: the command line, its journal and its view.
import { join } from 'node:path'
import type { Runner } from '../jobs.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const playbook = (name: string) => join(import.meta.dirname, '..', 'playbooks', `${name}.ts`)

export const rekey: Runner = {
  id: 'rekey',
  title: 'rekey',
  settings: 'forks = hosts; journal, lock, audit lines and the plain view on',
  tellsOfItself: true,
  command: ({ job, reach, bench, inventory, folder }) => {
    const argv = [process.execPath, join(root, 'bin', 'rekey')]
    if (job.kind === 'inventory') return { argv: [...argv, 'inventory', '-i', job.file, '--list'] }
    return {
      argv: [...argv, 'run', playbook(job.kind), '-i', inventory, '--forks', String(reach.hosts.length)],
      environment: {
        XDG_STATE_HOME: join(folder, 'state'),
        REKEY_BENCH_JOB: JSON.stringify({ ...job, log: bench.log }),
      },
    }
  },
}
