// Durations as people write them.
import { z } from 'zod'

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
export const duration = z.union([z.string(), z.number()]).transform((value, context) => {
  const milliseconds = parseDuration(value)
  if (milliseconds !== undefined) return milliseconds
  context.addIssue({ code: 'custom', message: `'${value}' is not a duration such as 90s, 2m or 1h30m` })
  return z.NEVER
})

/** Milliseconds as people read them: `340 ms`, `4.2 s`, `2 m 05 s`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < units.s) return `${Math.round(milliseconds)} ms`
  if (milliseconds < units.m) return `${(milliseconds / units.s).toFixed(1)} s`
  const whole = Math.round(milliseconds / units.s)
  return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, '0')} s`
}
