// Every value that must show nowhere, whoever made it: told here when it comes into being, looked for in all that leaves rekey.
import { RekeyError } from '../errors.ts'
import { needlesOf, shortestNeedle } from './needles.ts'
import { openSearch, type Search } from './search.ts'

export { shortestNeedle as shortestSecret } from './needles.ts'
export type { Found, Left } from './search.ts'

/** The secrets that somebody told of. */
export interface Secrets {
  /**
   * Has a value replaced from now on, in each of its usual encodings; of a text of several lines also each line.
   * @param what names it, for the notice where it is too short to be looked for
   */
  tell(value: string, what?: string): void
  /** What could not be taken, by name: so short a text stands in too many words. */
  readonly tooShort: ReadonlySet<string>
  readonly search: Pick<Search, 'find'>
}

/** Makes a place for secrets. Tests have their own; all else shares that of the process. */
export function openSecrets(): Secrets {
  const told = new Set<string>()
  const tooShort = new Set<string>()
  const search = openSearch()
  return {
    tell: (value, what) => {
      if (told.has(value)) return
      if (isTooShort(value)) {
        if (what !== undefined) tooShort.add(what)
        return
      }
      told.add(value)
      for (const needle of needlesOf(value)) search.add(needle)
    },
    tooShort,
    search,
  }
}

/**
 * Those of this process. `secret()` is called where no run is known, also while a playbook is being loaded: whatever is a secret for one
 * part of rekey is one for all (docs/decisions/0014-secrets-of-the-process.md).
 */
export const processSecrets: Secrets = openSecrets()

/** Tells of a secret that comes from outside and is what it is: it is replaced where it is long enough, and named in a notice where not. */
export function tellSecret(value: string, what?: string): void {
  processSecrets.tell(value, what)
}

/**
 * Tells of a secret that a playbook names.
 * @throws RekeyError where it is too short to be looked for, or no text
 */
export function requireSecret(value: string): void {
  if (typeof value !== 'string') {
    throw new RekeyError(`a secret must be a text, not ${typeof value}`, { code: 'secret.no-text' })
  }
  if (isTooShort(value)) {
    throw new RekeyError(`a secret of fewer than ${shortestNeedle} characters can't be kept from being shown`, {
      code: 'secret.too-short',
      hint: 'So short a text is part of many words: take a longer one, or leave it unmarked.',
    })
  }
  processSecrets.tell(value)
}

/** Nothing at all hides nothing; anything else must have a few characters. */
function isTooShort(value: string): boolean {
  const { length } = value.trim()
  return length > 0 && length < shortestNeedle
}
