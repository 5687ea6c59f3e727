// How durations, outcomes and tallies read, the same in every view.
import type { Tally } from '../run/events.ts'

/** `ok=3 changed=2`, in Ansible's order, zeros left out. */
export function tallied(tally: Tally): string {
  const order = ['ok', 'changed', 'skipped', 'failed', 'unreachable', 'unknown', 'cancelled'] as const
  return order
    .filter(outcome => tally[outcome])
    .map(outcome => `${outcome}=${tally[outcome]}`)
    .join(' ')
}

/** Names joined for a line: `m1, m2, m3`, or `m1, m2 and 98 more`. */
export function names(hosts: readonly string[], most = 6): string {
  if (hosts.length <= most) return hosts.join(', ')
  return `${hosts.slice(0, most - 1).join(', ')} and ${hosts.length - most + 1} more`
}

/** Rows of two columns, the first padded to its widest. */
export function columns(rows: readonly (readonly [string, string])[], indent = '  '): string[] {
  const width = Math.max(0, ...rows.map(([label]) => label.length))
  return rows.flatMap(([label, value]) =>
    value.split('\n').map((line, index) => `${indent}${(index === 0 ? label : '').padEnd(width)}  ${line}`.trimEnd()),
  )
}
