// Options of scripts that are a count.

/** Reads a whole number, 1 or more; ends the script where it is none, before anything is done. */
export function counted(option: string, value: string): number {
  const number = Number(value)
  if (/^\d+$/.test(value) && Number.isSafeInteger(number) && number >= 1) return number
  console.error(`--${option} must be a whole number, 1 or more, not '${value}'`)
  process.exit(1)
}
