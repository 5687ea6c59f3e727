// Durations as Vault writes them.
import { RekeyError } from '../../errors.ts'

/**
 * Seconds of a duration as Vault takes it: `90`, `90s`, `30m`, `1h30m`, `1.5h`, `30d`; a part of a second counts as a whole one.
 * Throws `RekeyError` for others.
 */
export function durationSeconds(duration: string): number {
  const seconds: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 }
  if (/^\d+$/.test(duration)) return Number(duration)
  if (!isDuration(duration)) {
    throw new RekeyError(`"${duration}" is not a duration`, {
      code: 'vault.bad-duration',
      hint: 'Write it like 17520h, 30m or 1h30m.',
    })
  }
  const parts = [...duration.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)]
  return Math.ceil(parts.reduce((sum, [, n, unit]) => sum + Number(n) * seconds[unit!]!, 0))
}

/** Whether a text is a duration as Vault takes it. */
export const isDuration = (text: string) => /^(\d+|(\d+(\.\d+)?(ms|[smhd]))+)$/.test(text)
