// Options that are a time.
import { InvalidArgumentError } from 'commander'
import { parseDuration } from '../../playbook/duration.ts'

/** A duration on the command line, in milliseconds. Throws commander's error where it is none. */
export function readDuration(value: string): number {
  const read = parseDuration(value)
  if (read === undefined) throw new InvalidArgumentError('It must be a time like 30d, 12h or 90m.')
  return read
}

/** The age of what is to be removed, in milliseconds. Throws commander's error where it is none, or so short that something new may be meant. */
export function readAge(value: string): number {
  const age = readDuration(value)
  if (age < 60_000) throw new InvalidArgumentError('It must be a minute or more.')
  return age
}
