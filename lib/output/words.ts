// How durations, outcomes and tallies read, the same in every view.
import type { PlannedStep, Prediction, Tally } from '../run/events.ts'

/** `ok=3 changed=2`, in Ansible's order, zeros left out. */
export function tallied(tally: Tally): string {
  const order = [
    ...(['ok', 'changed', 'skipped', 'failed', 'rescued', 'ignored'] as const),
    ...(['unreachable', 'unknown', 'cancelled'] as const),
  ]
  return order
    .filter(outcome => tally[outcome])
    .map(outcome => `${outcome}=${tally[outcome]}`)
    .join(' ')
}

/** What a check says of a step in place of an outcome. */
export const predictions: Readonly<Record<Prediction, string>> = {
  change: 'would change',
  run: 'would run',
  unknown: 'unknown',
}

/** A step's title, and where it stands if not straight in its play: `Undo (Try it: rescue)`, `Restart (handler)`. */
export function placed({ title, block, section }: Pick<PlannedStep, 'title' | 'block' | 'section'>): string {
  const place = [block, section].filter(Boolean).join(': ')
  return place ? `${title} (${place})` : title
}

/** Where a step was done, as Ansible writes it: `h1`, or `h1 -> h2` where it was delegated. */
export function placeOf({ host, delegate }: { readonly host: string; readonly delegate?: string }): string {
  return delegate === undefined ? host : `${host} -> ${delegate}`
}

/** Lines of cells, each but the last of a line padded to the widest of its column. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  )
}

/** Rows of two columns, the first padded to its widest. */
export function columns(rows: readonly (readonly [string, string])[], indent = '  '): string[] {
  const width = Math.max(0, ...rows.map(([label]) => label.length))
  return rows.flatMap(([label, value]) =>
    value.split('\n').map((line, index) => `${indent}${(index === 0 ? label : '').padEnd(width)}  ${line}`.trimEnd()),
  )
}
