// What names in a template stand for, and what is not there.
import { PythonObject, TemplateError, UndefinedError } from '../python/python-values.ts'
import { Dict, isMapping, type Key } from '../values.ts'
import type { CallArguments, Limits, Machine } from './jinja-call.ts'
import type { TemplateOptions } from './jinja-lexer.ts'

/** Where names in a template come from. */
export interface Scope {
  /** The value of a name; `undefined` when nothing has it. May throw `UndefinedError` from a template within. */
  lookup(name: string): unknown
  /** Why a name that is not there isn't, if more can be said than that. */
  explain?(name: string): string | undefined
  /** Whether there is a variable of a name, whatever its template needs. */
  has(name: string): boolean
  readonly machine: Machine
}

/** A template within another one. */
export interface Nested {
  readonly options?: TemplateOptions
  /** Names of its own, beside the variables. */
  readonly names?: ReadonlyMap<string, unknown>
  /** Whether backslashes mean something also in the texts of `{{ }}`, as in files. */
  readonly decode?: boolean
}

/** One evaluation of a template. */
export interface Run {
  readonly scope: Scope
  readonly limits: Limits
  /** Whether the template has lists and maps of its own, as those must that call methods which change them. */
  readonly own: boolean
  readonly copies: Map<string, unknown>
  /** What a template within this one comes to. Throws as `evaluateTemplate` does. */
  readonly render: (source: string, nested?: Nested) => unknown
}

/** Something that is not there. It becomes an error when it is used for anything but `default` and `defined`. */
export class Missing {
  readonly error: UndefinedError
  constructor(error: UndefinedError) {
    this.error = error
  }
}

export const missing = (why: string): Missing => new Missing(new UndefinedError(why))

/** What `x if false` without an `else` gives: empty within a text, an error on its own. */
export const nothing = missing('the condition is false and there is no "else"')

/** Something that is computed, or what is not there in its place. */
export function orMissing(compute: () => unknown): unknown {
  try {
    return compute()
  } catch (error) {
    if (error instanceof UndefinedError) return new Missing(error)
    throw error
  }
}

/** A list in which something may be missing: an error when it is read. */
export function listOf(items: unknown[]): unknown[] {
  for (const [index, item] of items.entries()) {
    if (!(item instanceof Missing)) continue
    const get = () => {
      throw item.error
    }
    Object.defineProperty(items, index, { enumerable: true, configurable: true, get })
  }
  return items
}

/** The members of a list, with what is missing in its place. */
export const readMembers = (members: readonly unknown[]): unknown[] =>
  Array.from({ length: members.length }, (_, index) => orMissing(() => members[index]))

/** A list or map as it is now, whatever becomes of it; other values as they are. */
export function snapshot(value: unknown): unknown {
  if (Array.isArray(value)) return listOf(readMembers(value))
  if (!isMapping(value)) return value
  const copy = new Dict<unknown>()
  for (const key of value.keys())
    setMember(
      copy,
      key,
      orMissing(() => value.get(key)),
    )
  return copy
}

/** Sets a key to a value, which may be missing: an error when it is read. */
export function setMember(target: Dict, key: Key, item: unknown): void {
  if (item instanceof Missing) {
    target.setLazy(key, () => {
      throw item.error
    })
  } else target.set(key, item)
}

/** Something that can be called. */
export class Callable extends PythonObject {
  readonly call: (args: CallArguments) => unknown
  /** Whether it takes what is missing, as macros do; lookups take texts that are templates, too. */
  readonly takes: 'values' | 'missing' | 'templates'
  constructor(call: (args: CallArguments) => unknown, takes: Callable['takes'] = 'values') {
    super('function')
    this.call = call
    this.takes = takes
  }
}

/** Something with attributes of its own, e.g. `loop`. */
export class Attributed extends PythonObject {
  readonly get: (name: string) => unknown
  /** What it does when it is called itself. */
  readonly call?: (args: CallArguments) => unknown
  constructor(type: string, get: (name: string) => unknown, call?: (args: CallArguments) => unknown) {
    super(type)
    this.get = get
    this.call = call
  }
}

/** What `namespace()` gives: names that a loop may set for what is behind it. */
export class Namespace extends Attributed {
  readonly names: Map<string, unknown>
  constructor(names: Map<string, unknown>) {
    super('Namespace', name => names.get(name))
    this.names = names
  }
}

/** Names that a template set itself, over those of its scope. */
export class Frame {
  readonly run: Run
  readonly #outer?: Frame
  readonly #names = new Map<string, unknown>()

  constructor(run: Run, outer?: Frame) {
    this.run = run
    this.#outer = outer
  }

  set(name: string, value: unknown): void {
    this.#names.set(name, value)
  }

  /** What a name was set to; `undefined` where it wasn't. */
  get(name: string): unknown {
    return this.#names.get(name) ?? (this.#names.has(name) ? null : this.#outer?.get(name))
  }
}

/** What a name stands for; something missing when nothing has it. */
export function lookupName(name: string, { run }: Frame): unknown {
  const copied = run.copies.get(name)
  if (copied !== undefined) return copied
  const found = orMissing(() => run.scope.lookup(name))
  if (found !== undefined) {
    if (!run.own || found instanceof Missing) return found
    const copy = ownCopy(found)
    // Ansible makes what lies below hostvars anew each time.
    if (name !== 'hostvars') run.copies.set(name, copy)
    return copy
  }
  const refused = Object.hasOwn(refusedNames, name) ? refusedNames[name] : undefined
  if (refused !== undefined) throw new TemplateError(`"${name}" can't be used: ${refused}`)
  const more = run.scope.explain?.(name)
  return missing(`"${name}" is undefined${more ? `: ${more}` : ''}`)
}

const refusedNames: Readonly<Record<string, string>> = {
  omit: 'there are no module arguments to omit here',
  now: 'a time of day would differ from run to run',
  lipsum: 'its text would differ from run to run',
  vars: "name the variable itself, or lookup('vars', …)",
  ansible_facts: 'no facts are gathered',
}

/** A value that a template may change: the same to look at, and nobody else's. What is in it is read when it is needed. */
function ownCopy(value: unknown): unknown {
  if (Array.isArray(value)) {
    const copy: unknown[] = []
    for (let index = 0; index < value.length; index++) {
      const get = () => {
        const own = ownCopy(value[index])
        Object.defineProperty(copy, index, { value: own, enumerable: true, configurable: true, writable: true })
        return own
      }
      Object.defineProperty(copy, index, { enumerable: true, configurable: true, get })
    }
    return copy
  }
  if (!isMapping(value)) return value
  const copy = new Dict<unknown>()
  for (const key of value.keys()) copy.setLazy(key, () => ownCopy(value.get(key)))
  return copy
}
