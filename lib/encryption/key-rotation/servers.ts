// Which API servers the cluster has, by the leases that they keep up in etcd: a rotation that knows of less than all of them writes what others can't read.
import type { StepDefinition } from '../../playbook/model.ts'
import { etcdValues } from '../etcd-values.ts'
import { apiServerOn, type Context, etcdOf } from './given.ts'
import { refused } from './prepare.ts'

/** Every API server of the cluster is one of a master of this run: `--limit`, or a master that the inventory lacks, leaves some out. */
export const everyServer: StepDefinition<Context> = {
  id: 'look-for-all-api-servers',
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const { session, access, prefix } = await etcdOf(ctx)
    const leases: string[] = []
    const below = `${prefix}masterleases/`
    // What most members have agreed on: one that lags might not have a lease yet.
    for await (const page of etcdValues(session, access, below, { signal: ctx.signal, serializable: false }))
      for (const { key } of page) leases.push(key.slice(below.length))
    const known = ctx.hosts('masters')
    const names = known.map(({ name }) => name).join(', ')
    if (leases.length === 0)
      throw refused(
        'no API server has a lease in etcd: how many there are is not known',
        'unknown-servers',
        'A rotation must know all of them: what one writes another one may not read. They keep leases up with --endpoint-reconciler-type=lease, which is the default.',
      )
    // Of IPv6 one address is written in several ways.
    const addresses = known.map(({ name }) => apiServerOn(ctx, name).flags['advertise-address']?.at(-1))
    const strange = addresses.every(one => one !== undefined && !one.includes(':'))
      ? leases.filter(one => !addresses.includes(one))
      : []
    if (leases.length <= known.length && strange.length === 0) return { servers: leases }
    throw refused(
      `the cluster has ${leases.length} API servers (${leases.join(', ')}), and this run knows those of ${names}`,
      'unknown-servers',
      'All masters must be in the inventory, and in the run (no --limit): one that is left out could not read what the others write. Of one that is gone its lease ends within a minute.',
    )
  },
}
