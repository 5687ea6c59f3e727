// Durations as people write them.
import { z } from 'zod'
import { shown } from '../errors.ts'

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Reads `90s`, `2m`, `1h30m`, `500ms`; a bare number is seconds. Returns milliseconds, or `undefined` where it is none of these. */
export function parseDuration(text: string | number): number | undefined {
  if (typeof text === 'number' || /^\d+(\.\d+)?$/.test(text)) return Number(text) * units.s
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * units[unit as keyof typeof units]
  }
  return total
}

/** A playbook variable that is a duration: given as `2m` or a number of seconds, read as milliseconds. */
export const duration = z.unknown().transform((value, context) => {
  const milliseconds = typeof value === 'string' || typeof value === 'number' ? parseDuration(value) : undefined
  if (milliseconds !== undefined) return milliseconds
  context.addIssue({ code: 'custom', message: `${shown(value)} is not a duration such as 90s, 2m or 1h30m` })
  return z.NEVER
})

/** Milliseconds as people read them: `340 ms`, `4.2 s`, `2 m 05 s`, `3 h 20 m`, `2 d 04 h`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < units.s) return `${Math.round(milliseconds)} ms`
  if (milliseconds < units.m) return `${(milliseconds / units.s).toFixed(1)} s`
  const two = (small: number) => String(small).padStart(2, '0')
  const seconds = Math.round(milliseconds / units.s)
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} m ${two(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours} h ${two(minutes % 60)} m` : `${Math.floor(hours / 24)} d ${two(hours % 24)} h`
}
