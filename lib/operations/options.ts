// Options of operations, checked by name and kind: one that nobody knows, or of the wrong kind, is one clear error, when the playbook is loaded
// where they are given as they are.
import { isAbsolute } from 'node:path'
import { Secret } from '../connection/shell.ts'
import { RekeyError, shown } from '../errors.ts'
import { tellSecret } from '../secrets/index.ts'
import { didYouMean } from '../suggestion.ts'

/** What an option may be: in words, and as a test. */
export interface Kind {
  readonly words: string
  readonly fits: (value: unknown) => boolean
  readonly required?: true
  /** What is given is not shown, also where it is wrong. */
  readonly secret?: true
}

/** The kinds of all options of an operation. */
export type Kinds<Options> = { readonly [Name in keyof Required<Options>]: Kind }

const isText = (value: unknown) => typeof value === 'string'

export const anyText: Kind = { words: 'a text', fits: isText }
export const text: Kind = { words: 'a text that is not empty', fits: value => isText(value) && value !== '' }
export const truth: Kind = { words: 'true or false', fits: value => typeof value === 'boolean' }
export const absolutePath: Kind = { words: 'an absolute path, of one line', fits: isPath }
export const textOrSecret: Kind = {
  words: 'a text or a secret()',
  fits: value => isText(value) || value instanceof Secret,
}
export const wholeNumber: Kind = {
  words: 'a whole number, not less than 0',
  fits: value => Number.isSafeInteger(value) && (value as number) >= 0,
}
export const userName: Kind = {
  words: 'the name or the number of one user or group',
  fits: value => (isText(value) && /^[^:\s]+$/.test(value as string)) || wholeNumber.fits(value),
}
export const texts: Kind = {
  words: 'a text, or a list of texts',
  fits: value => isText(value) || (Array.isArray(value) && value.length > 0 && value.every(isText)),
}

/** One of a few words. */
export function oneOf(...words: readonly string[]): Kind {
  return { words: `one of ${words.join(', ')}`, fits: value => isText(value) && words.includes(value as string) }
}

/** The same, and it must be given. */
export function required(kind: Kind): Kind {
  return { ...kind, required: true }
}

function isPath(value: unknown): boolean {
  return isText(value) && isAbsolute(value as string) && !/[\n\0]/.test(value as string)
}

/** `insertAfter` of `insertafter` and `insert_after`: how people know an option from elsewhere. */
const bare = (name: string) => name.toLowerCase().replaceAll('_', '')

/**
 * Options as a playbook gives them.
 * @throws RekeyError for one that there is not, that is missing, or of the wrong kind
 */
export function checkedOptions<Options extends object>(
  operation: string,
  given: unknown,
  kinds: Kinds<Options>,
): Options {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw wrongOptions(`${operation}() takes options, not ${shown(given)}`)
  const names = Object.keys(kinds)
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(kinds, name)) {
      const near = names.find(known => bare(known) === bare(name)) ?? didYouMean(name, names)
      throw wrongOptions(
        `${operation}({ ${name} }): there is no such option${near === undefined ? '' : `; did you mean '${near}'?`}`,
        `It takes ${names.join(', ')}.`,
      )
    }
    const { fits, words, secret } = kinds[name as keyof Options]
    // What is not given is what a function of the context left open.
    if (value !== undefined && !fits(value)) {
      if (secret && isText(value)) tellSecret(value as string)
      const told = value instanceof Secret ? 'a secret()' : secret ? 'what was given' : shown(value)
      throw wrongOptions(`${operation}({ ${name} }): it must be ${words}, not ${told}`)
    }
  }
  const missing = names.filter(
    name => kinds[name as keyof Options].required && (given as Record<string, unknown>)[name] === undefined,
  )
  if (missing.length > 0) throw wrongOptions(`${operation}() needs ${missing.join(', ')}`)
  return given as Options
}

/** An error of somebody who wrote a playbook. */
export function wrongOptions(message: string, hint?: string): RekeyError {
  return new RekeyError(message, { code: 'operation.options', ...(hint === undefined ? {} : { hint }) })
}
