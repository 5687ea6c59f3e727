// Options that are one of a few words.
import { Option } from 'commander'

/** An option whose value is one of `choices`; the command line with any other is refused. */
export const oneOf = (flags: string, description: string, choices: readonly string[]): Option =>
  new Option(flags, description).choices(choices)
