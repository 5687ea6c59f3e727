// Who sets a variable: every place that gives it a value for a host, and the one that won.
import { at, RekeyError } from '../errors.ts'
import { didYouMean } from '../suggestion.ts'
import type { Assignment, HostEntry } from './groups.ts'
import { jsonText } from './python/python-json.ts'
import { EncryptedText, type Value } from './values.ts'
import type { Layers } from './variables/layers.ts'

/** One place that sets a variable. */
export interface Place {
  /** What kind of place, e.g. `group_vars/all beside the inventory`. */
  readonly layer: string
  /** `file:line` as far as known. */
  readonly where: string
  /** The value as written, as JSON; encrypted ones stay closed. */
  readonly value: string
  readonly won: boolean
}

export interface Explanation {
  readonly host: string
  readonly variable: string
  /** Lowest first: each is overridden by those behind it. */
  readonly places: readonly Place[]
}

/** Explains a variable of a host. Throws `RekeyError` with the nearest name when nothing sets it. */
export function explainVariable(layers: Layers, host: HostEntry, variable: string): Explanation {
  const found: Omit<Place, 'won'>[] = []
  for (const { title, read } of layers.of(host)) {
    const history: Assignment[] = []
    for (let one = read().get(variable); one; one = one.replaced) history.unshift(one)
    for (const { value, origin } of history) {
      found.push({ layer: title, where: at(origin.file, origin.line), value: shown(value) })
    }
  }
  if (found.length === 0) {
    const guess = didYouMean(variable, layers.merged(host).keys())
    throw new RekeyError(`nothing sets "${variable}" for ${host.name}`, {
      code: 'inventory.unset',
      hint: guess ? `Did you mean "${guess}"?` : `rekey inventory --host ${host.name} lists what is set.`,
      host: host.name,
    })
  }
  // A folder that is the inventory's and the playbook's is read twice; once is enough to be told.
  const places = found.filter(
    ({ where, value }, index) => !found.slice(index + 1).some(later => later.where === where && later.value === value),
  )
  return {
    host: host.name,
    variable,
    places: places.map((place, index) => ({ ...place, won: index === places.length - 1 })),
  }
}

function shown(value: Value): string {
  return value instanceof EncryptedText ? '(encrypted)' : jsonText(value)
}
