// The variables of a host as playbooks read them: each resolved when it is read, and only then.
import type { HostEntry } from './groups.ts'
import type { Layers } from './layers.ts'
import { EncryptedText, isMapping, setKey, Timestamp, UnsafeText, type Value, WholeFloat } from './values.ts'

/** Reads variables of hosts. */
export interface VariableResolver {
  /** One variable; undefined when nothing sets it. Throws `RekeyError` when it can't be resolved. */
  read(host: HostEntry, name: string): unknown
  /** All of them as an object that resolves a variable when it is read. */
  vars(host: HostEntry): Readonly<Record<string, unknown>>
}

export function createResolver(layers: Layers): VariableResolver {
  const mergedOf = new Map<HostEntry, ReturnType<Layers['merged']>>()
  const merged = (host: HostEntry): ReturnType<Layers['merged']> => {
    let found = mergedOf.get(host)
    if (!found) {
      found = layers.merged(host)
      mergedOf.set(host, found)
    }
    return found
  }
  const resolver: VariableResolver = {
    read(host, name) {
      const assignment = merged(host).get(name)
      return assignment && plain(assignment.value)
    },
    vars(host) {
      const object: Record<string, unknown> = {}
      for (const name of merged(host).keys()) {
        Object.defineProperty(object, name, {
          enumerable: true,
          configurable: true,
          get: () => resolver.read(host, name),
        })
      }
      return object
    },
  }
  return resolver
}

/** A value as JavaScript has it. */
function plain(value: Value): unknown {
  if (value instanceof WholeFloat) return value.value
  if (value instanceof Timestamp) return value.iso
  if (value instanceof UnsafeText) return value.text
  if (value instanceof EncryptedText) return value.decrypt()
  if (Array.isArray(value)) return value.map(plain)
  if (!isMapping(value)) return value
  const object: { [key: string]: unknown } = {}
  for (const [key, entry] of Object.entries(value)) setKey(object, key, plain(entry))
  return object
}
