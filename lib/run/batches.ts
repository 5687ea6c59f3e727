// Which hosts of a play go through it together: Ansible's `serial`.
import { RekeyError } from '../errors.ts'
import type { Serial } from '../playbook/model.ts'

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
