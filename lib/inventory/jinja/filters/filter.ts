// What a filter is, and what many of them need: attributes of members, members that are equal.
import {
  compare,
  equal,
  isNumber,
  iterate,
  pythonType,
  TemplateError,
  text,
  truthy,
  UndefinedError,
} from '../../python/python-values.ts'
import { identity, Timestamp } from '../../values.ts'
import type { CallArguments, CallContext, Limits } from '../jinja-call.ts'

export type Filter = (value: unknown, args: CallArguments, context: CallContext) => unknown
export type Filters = Readonly<Record<string, Filter>>

/** `attribute='a.b'`: what lies below a member. Throws `UndefinedError` where nothing does. */
export function attribute(member: unknown, path: unknown, context: CallContext, otherwise?: unknown): unknown {
  let found = member
  for (const step of typeof path === 'string' ? path.split('.') : [path]) {
    const next = context.item(found, typeof step === 'string' && /^\d+$/.test(step) ? Number(step) : step)
    if (next === undefined) {
      if (otherwise !== undefined) return otherwise
      throw new UndefinedError(`a ${pythonType(found)} has no attribute "${text(step)}"`)
    }
    found = next
  }
  return found
}

/** A text as it counts where case does not. */
export const fold = (value: unknown, caseSensitive: unknown): unknown =>
  typeof value === 'string' && !truthy(caseSensitive ?? false) ? value.toLowerCase() : value

/** Knows values that are equal to Python: texts and numbers at once, lists and maps by looking at each. */
export class Seen {
  readonly #limits: Limits
  readonly #simple = new Set<unknown>()
  readonly #others: unknown[] = []

  constructor(limits: Limits, values: readonly unknown[] = []) {
    this.#limits = limits
    for (const value of values) this.add(value)
  }

  has(value: unknown): boolean {
    const key = simple(value)
    if (key !== undefined) return this.#simple.has(key)
    this.#limits.step(this.#others.length)
    return this.#others.some(other => equal(other, value))
  }

  /** True when the value was not there before. */
  add(value: unknown): boolean {
    if (this.has(value)) return false
    const key = simple(value)
    if (key === undefined) this.#others.push(value)
    else this.#simple.add(key)
    return true
  }
}

function simple(value: unknown): unknown {
  if (typeof value === 'string' || value === null) return value
  return isNumber(value) || typeof value === 'boolean' || value instanceof Timestamp ? identity(value) : undefined
}

/** Members that are there once, in the order of appearance. */
export function distinct(members: readonly unknown[], limits: Limits): unknown[] {
  const seen = new Seen(limits)
  return members.filter(member => seen.add(member))
}

/** Members by the keys of each, as Python sorts: stable, also where it is reversed. */
export function sortedBy<Member>(
  members: readonly Member[],
  keys: (member: Member) => unknown,
  reverse: unknown,
): Member[] {
  const sign = truthy(reverse ?? false) ? -1 : 1
  return members
    .map(member => ({ member, key: keys(member) }))
    .sort((one, other) => sign * compare(one.key, other.key))
    .map(({ member }) => member)
}

/** Members of what is no text. Throws `TemplateError` for a text, whose letters nobody means. */
export function sequence(value: unknown): unknown[] {
  if (typeof value === 'string') throw new TemplateError('expected a list, not a str')
  return iterate(value)
}

/** A filter that is refused by name. */
export function refuse(why: string): Filter {
  return () => {
    throw new TemplateError(why)
  }
}
