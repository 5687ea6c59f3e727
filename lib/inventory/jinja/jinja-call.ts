// How filters, tests and methods of templates are called, and how much a template may do.
import { pythonType, TemplateError, toNumber } from '../python/python-values.ts'
import { type Dict, isMapping } from '../values.ts'

/** Arguments of a filter, test or method, evaluated. */
export interface CallArguments {
  readonly positional: readonly unknown[]
  readonly named: ReadonlyMap<string, unknown>
}

/** What a filter or test may call back. */
export interface CallContext {
  filter(name: string, value: unknown, args: CallArguments): unknown
  test(name: string, value: unknown, args: CallArguments): boolean
  /** Whether there is such a filter or test. */
  has(kind: 'filter' | 'test', name: string): boolean
  /** An attribute or element, `undefined` when there is none. */
  item(target: unknown, key: unknown): unknown
  readonly limits: Limits
  readonly machine: Machine
}

/** What of this machine templates may see. */
export interface Machine {
  /** The folder of the playbook: from there lookups read paths. */
  readonly folder: string
  /** Where rekey was started: from there filters read paths. */
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  /** Whether `lookup('pipe', …)` may run commands. */
  readonly pipe: boolean
  /** Opens what ansible-vault encrypted. Throws `RekeyError` naming where it stands. */
  decrypt(ciphertext: string, where: string): string
}

/** The longest text that a template makes. */
export const mostText = 8 * 1024 * 1024
const mostTexts = 256 * 1024 * 1024
/** The most members of a list that a template makes. */
export const mostMembers = 1_000_000
const mostSteps = 10_000_000
const mostLevels = 100

/** What a value takes to be read, and the variables that it needs: bounded, whatever its templates ask for. */
export class Limits {
  #steps = 0
  #texts = 0
  #levels = 0

  /** Counts something that is done. Throws `TemplateError` when it was too much. */
  step(count = 1): void {
    this.#steps += count
    if (this.#steps > mostSteps) throw new TemplateError('it takes more than ten million steps')
  }

  /** Counts a text that is about to be made, by its length. Throws `TemplateError` when it is too long. */
  text(length: number): void {
    if (length > mostText) throw new TemplateError('it makes a text of more than eight million characters')
    this.#texts += Math.max(0, length)
    if (this.#texts > mostTexts) throw new TemplateError('it makes texts of more than 256 million characters')
  }

  /** Counts a list that is about to be made, by its length. Throws `TemplateError` when it is too long. */
  members(length: number): void {
    if (length > mostMembers) throw new TemplateError('it makes a list of more than a million members')
    this.step(Math.max(0, length))
  }

  /** Does what may lead to itself. Throws `TemplateError` when it does so too often. */
  within<Result>(what: string, act: () => Result): Result {
    if (++this.#levels > mostLevels) throw new TemplateError(`more than ${mostLevels} ${what} are within each other`)
    try {
      return act()
    } finally {
      this.#levels--
    }
  }
}

/** Arguments by the names of their parameters, in order. Throws for more of them, or for others. */
export function bind<Name extends string>(
  { positional, named }: CallArguments,
  ...names: Name[]
): Partial<Record<Name, unknown>> {
  const bound: Partial<Record<string, unknown>> = {}
  if (positional.length > names.length)
    throw new TemplateError(`takes at most ${names.length} arguments here, not ${positional.length}`)
  for (const [index, argument] of positional.entries()) bound[names[index]!] = argument
  for (const [name, argument] of named) {
    if (!names.includes(name as Name)) throw new TemplateError(`the argument "${name}" is not one that rekey has`)
    bound[name] = argument
  }
  return bound as Partial<Record<Name, unknown>>
}

/** A text. Throws `TemplateError` for anything else. */
export function string(value: unknown): string {
  if (typeof value === 'string') return value
  throw new TemplateError(`expected a text, not a ${pythonType(value)}`)
}

/** A list. Throws `TemplateError` for anything else. */
export function list(value: unknown): unknown[] {
  if (Array.isArray(value)) return value
  throw new TemplateError(`expected a list, not a ${pythonType(value)}`)
}

/** A map. Throws `TemplateError` for anything else. */
export function map(value: unknown): Dict {
  if (isMapping(value)) return value
  throw new TemplateError(`expected a map, not a ${pythonType(value)}`)
}

/** A whole number. Throws `TemplateError` for anything else. */
export function whole(value: unknown): number {
  const number = toNumber(value)
  if (number !== undefined && Number.isInteger(number)) return number
  throw new TemplateError(`expected a whole number, not a ${pythonType(value)}`)
}

/** A number. Throws `TemplateError` for anything else. */
export function numeric(value: unknown): number {
  const number = toNumber(value)
  if (number !== undefined) return number
  throw new TemplateError(`expected a number, not a ${pythonType(value)}`)
}

/** A value that is not given: left out, or none. */
export const absent = (value: unknown): value is null | undefined => value === undefined || value === null
