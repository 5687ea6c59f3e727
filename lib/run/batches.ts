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
 * Without `serial` there is one batch of all.
 */
export function batches<T>(hosts: readonly T[], serial?: Serial | readonly Serial[]): T[][] {
  if (serial === undefined) return hosts.length === 0 ? [] : [[...hosts]]
  const sizes = [serial].flat() as Serial[]
  const result: T[][] = []
  let taken = 0
  for (let index = 0; taken < hosts.length; index++) {
    const size = batchSize(sizes[Math.min(index, sizes.length - 1)], hosts.length)
    result.push(hosts.slice(taken, taken + size))
    taken += size
  }
  return result
}

function batchSize(serial: Serial | undefined, total: number): number {
  const number = typeof serial === 'string' ? Number(/^(\d+(?:\.\d+)?)%$/.exec(serial)?.[1]) : serial
  if (number === undefined || !Number.isFinite(number) || number <= 0) {
    throw new RekeyError(`serial: ${JSON.stringify(serial)} is not a number of hosts or a percentage`, {
      code: 'playbook.serial',
      hint: "Write 1, '30%', or a list such as [1, '30%'].",
    })
  }
  return typeof serial === 'string' ? Math.max(1, Math.floor((total * number) / 100)) : Math.floor(number)
}
