// What a step returned, in lines that people read: for what gates and checks found.
import { Secret } from '../../../connection/shell.ts'
import { certificatesIn, nameOf } from './certificates.ts'

/** Entries of a list, or an object, that are told. */
const most = 40
const deepest = 5

/** A value in lines; `nothing` where it is an empty list or the like. */
export function toldValue(value: unknown): string {
  return lines(value, 0).join('\n')
}

function lines(value: unknown, depth: number): string[] {
  const plain = inOne(value)
  if (plain !== undefined) return plain.split('\n')
  if (depth === deepest) return ['…']
  if (value instanceof Map)
    return entries(
      [...value].map(([key, one]) => [inOne(key) ?? '…', one]),
      depth,
    )
  if (Array.isArray(value) || value instanceof Set) {
    const all = [...value]
    const told = all.slice(0, most).flatMap(one => {
      const [first = '', ...rest] = lines(one, depth + 1)
      return [`- ${first}`, ...rest.map(line => `  ${line}`)]
    })
    return all.length > most ? [...told, `… and ${all.length - most} more`] : told
  }
  return entries(Object.entries(value as object), depth)
}

function entries(all: readonly (readonly [string, unknown])[], depth: number): string[] {
  const told = all.slice(0, most).flatMap(([key, one]) => {
    const own = lines(one, depth + 1)
    return own.length === 1 ? [`${key}: ${own[0]}`] : [`${key}:`, ...own.map(line => `  ${line}`)]
  })
  return all.length > most ? [...told, `… and ${all.length - most} more`] : told
}

/** What fits on a line, or is text; `undefined` of lists and objects that have something in them. */
function inOne(value: unknown): string | undefined {
  if (value instanceof Secret) return '«redacted»'
  if (typeof value === 'string') {
    const found = certificatesIn(value)
    if (found.length > 0) return found.map(nameOf).join('\n')
    return value === '' ? 'nothing' : value
  }
  if (typeof value !== 'object' || value === null) return String(value)
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`
  const size = value instanceof Map || value instanceof Set ? value.size : Object.keys(value).length
  if (size === 0) return 'nothing'
  return undefined
}
