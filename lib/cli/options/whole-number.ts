// Options that are a count.
import { InvalidArgumentError } from 'commander'

/** A whole number, 1 or more. Throws `InvalidArgumentError` for anything else. */
export function positiveInteger(value: string): number {
  const number = Number(value)
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError('It must be a whole number, 1 or more.')
  return number
}
