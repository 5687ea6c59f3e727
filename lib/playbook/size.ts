// Sizes as people write them. A unit is 1024 of the one before.

const units = ['B', 'KB', 'MB', 'GB', 'TB'] as const

/** Reads `64MB`, `64 MiB`, `1.5G`, `512k`; a bare number is bytes. Returns bytes, or `undefined` where it is none of these. */
export function parseSize(text: string): number | undefined {
  const [, amount, unit = ''] = /^(\d{1,15}(?:\.\d{1,15})?) ?([kmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? []
  if (amount === undefined) return undefined
  return Math.round(Number(amount) * 1024 ** ['', 'k', 'm', 'g', 't'].indexOf(unit.toLowerCase()))
}

/** Bytes as people read them: `12 B`, `4.5 KB`, `64 MB`. */
export function formatSize(bytes: number): string {
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10))
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${units[power]}`
}
