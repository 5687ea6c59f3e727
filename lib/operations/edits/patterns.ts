// Regular expressions of operations: Python's, as an Ansible user writes them, or JavaScript's own.
import { RekeyError } from '../../errors.ts'
import type { Kind } from '../options.ts'

/** A place where a pattern was found, and what each group holds, the whole first. */
export interface Place {
  readonly start: number
  readonly end: number
  readonly groups: readonly (string | undefined)[]
  readonly names: Readonly<Record<string, number>>
}

/** A pattern that can be looked for. */
export interface Pattern {
  search(text: string): Place | undefined
  findAll(text: string, most: number): Place[]
}

/** What knows Python's regular expressions: the door brings it, since this room does not look into the one that has them. */
export interface PythonPatterns {
  /** Throws `SyntaxError` for what can't be read. */
  pattern(source: string, flags?: { readonly multiline?: boolean }): Pattern
  /** A replacement with `\1` and `\g<name>`, filled in. Throws `SyntaxError` for a group that is not there. */
  expand(replacement: string, place: Place): string
}

/** A text is Python's; what RE2 has not (lookaround, references back) takes one of JavaScript's. */
export type Expression = string | RegExp

export const expressionKind: Kind = {
  words: 'a regular expression: a text as in Ansible, or one of JavaScript’s',
  fits: value => (typeof value === 'string' && value !== '') || value instanceof RegExp,
}

/** Matches of one pattern in one file that are looked at. */
export const mostMatches = 100_000

/**
 * A pattern as a playbook gives it.
 * @throws RekeyError for one that can't be read, which names the option
 */
export function compilePattern(
  python: PythonPatterns,
  option: string,
  given: Expression,
  flags: { readonly multiline?: boolean } = {},
): Pattern {
  if (given instanceof RegExp) return ofJavaScript(given, flags.multiline ?? false)
  const told = <T>(task: () => T): T => {
    try {
      return task()
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
      throw new RekeyError(`${option}: ${JSON.stringify(given)} can't be used: ${error.message}`, {
        code: 'operation.expression',
        hint: 'Give it as an expression of JavaScript’s: regexp: /…/.',
        cause: error,
      })
    }
  }
  const pattern = told(() => python.pattern(given, flags))
  return {
    search: text => told(() => pattern.search(text)),
    findAll: (text, most) => told(() => pattern.findAll(text, most)),
  }
}

function ofJavaScript(given: RegExp, multiline: boolean): Pattern {
  const flags = given.flags.replace(/[gym]/g, '')
  const regex = new RegExp(given.source, `${flags}g${multiline || given.multiline ? 'm' : ''}`)
  const placeOf = (match: RegExpExecArray): Place => {
    const names = Object.keys(match.groups ?? {})
    // The groups with names are among the others, in their order.
    const numbers = names.map(name => match.findIndex((group, index) => index > 0 && group === match.groups![name]))
    return {
      start: match.index,
      end: match.index + match[0].length,
      groups: [...match],
      names: Object.fromEntries(names.map((name, index) => [name, numbers[index]!])),
    }
  }
  const findAll = (text: string, most: number): Place[] => {
    const all: Place[] = []
    for (const match of text.matchAll(regex)) {
      if (all.length >= most) break
      all.push(placeOf(match))
    }
    return all
  }
  return { search: text => findAll(text, 1)[0], findAll }
}
