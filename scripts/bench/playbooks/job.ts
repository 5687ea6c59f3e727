// What the bench asks of its playbooks.
import type { Job } from '../jobs.ts'

/** The job of the kind that a playbook is for. */
export function jobOf<Kind extends Job['kind']>(_kind: Kind): Extract<Job, { kind: Kind }> & { log: string } {
  return JSON.parse(process.env['REKEY_BENCH_JOB'] ?? '')
}
