// Runs a script on a host, however long it is.

import type { RemoteOptions } from '../connection/commands/remote-options.ts'
import type { Remote } from '../connection/remote.ts'
import { quote } from '../connection/shell.ts'

/** Linux takes no single argument of 128 KiB or more. */
const longestArgument = 100_000

/**
 * Runs a script by `sh`: as its argument, so that its end is found out after a lost connection; or over stdin where it is too long for
 * that, as for a set of hundreds of files.
 */
export function runLongScript($: Remote, script: string, options: Omit<RemoteOptions, 'input'> = {}) {
  // It is quoted once more on its way, or twice where another user runs it.
  if (quote(quote(script)).length < longestArgument) return $(options)`sh -c ${script}`
  return $({ ...options, input: script })`sh -s`
}
