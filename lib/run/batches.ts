// Which hosts of a play go through it together, and in which order: Ansible's `serial` and `order`.
import { createHash } from 'node:crypto'
import { RekeyError } from '../errors.ts'
import type { Host } from '../playbook/host.ts'
import type { Order, Serial } from '../playbook/model.ts'

/**
 * Hosts in the order of a play.
 * @param seed what a shuffled order is made from: the same order for the same seed
 */
export function ordered(hosts: readonly Host[], order: Order = 'inventory', seed = ''): Host[] {
  const by = (key: (name: string) => string) => hosts.toSorted((a, b) => (key(a.name) < key(b.name) ? -1 : 1))
  switch (order) {
    case 'inventory':
      return [...hosts]
    case 'reverse_inventory':
      return hosts.toReversed()
    case 'sorted':
      return by(name => name)
    case 'reverse_sorted':
      return by(name => name).reverse()
    case 'shuffle':
      return by(name => createHash('sha256').update(`${seed} ${name}`).digest('hex'))
    default:
      throw new RekeyError(`order: '${order satisfies never}' is not one that hosts can come in`, {
        code: 'playbook.order',
        hint: 'Write inventory, reverse_inventory, sorted, reverse_sorted or shuffle.',
      })
  }
}

/**
 * Splits hosts into batches. The last size of a list repeats; a percentage is of all hosts, rounded down, at least one.
 * Without `serial`, or with an empty list, there is one batch of all. That sizes are sizes, `checkPlaybook` has seen.
 */
export function batches<T>(hosts: readonly T[], serial: Serial | readonly Serial[] = []): T[][] {
  const sizes = [serial].flat() as Serial[]
  const result: T[][] = []
  let taken = 0
  for (let index = 0; taken < hosts.length; index++) {
    const size = batchSize(sizes[Math.min(index, sizes.length - 1)] ?? hosts.length, hosts.length)
    result.push(hosts.slice(taken, taken + size))
    taken += size
  }
  return result
}

function batchSize(serial: Serial, total: number): number {
  if (typeof serial === 'number') return serial
  return Math.max(1, Math.floor((total * Number.parseFloat(serial)) / 100))
}
