// What a YAML or JSON file says, with the line of everything.
import { Dict, isKey, type Key, type Mapping, type Value } from '../values.ts'

/** A node of a YAML document, with the line on which it starts. An alias is the very node that it stands for. */
export type YamlNode = ScalarNode | MappingNode | SequenceNode
interface NodeBase {
  readonly line: number
  /** How many values it would be if every alias in it were written out. */
  weight: number
}
export interface ScalarNode extends NodeBase {
  readonly kind: 'scalar'
  readonly value: Value
}
export interface MappingNode extends NodeBase {
  readonly kind: 'mapping'
  /** By the identity of their keys, in order, merges (`<<`) resolved, a key that occurs twice at its first place with its last value. */
  readonly entries: Map<unknown, MappingEntry>
  converted?: Mapping
}
export interface MappingEntry {
  readonly key: ScalarNode
  readonly value: YamlNode
}
export interface SequenceNode extends NodeBase {
  readonly kind: 'sequence'
  readonly items: YamlNode[]
  converted?: Value[]
}

/** The value of a node. Aliased nodes give the same object each time, so that sharing costs nothing. */
export function toValue(node: YamlNode): Value {
  if (node.kind === 'scalar') return node.value
  if (node.kind === 'sequence') {
    node.converted ??= node.items.map(toValue)
    return node.converted
  }
  if (!node.converted) {
    node.converted = Dict.of([...node.entries.values()].map(({ key, value }) => [keyOf(key), toValue(value)]))
  }
  return node.converted
}

/** The key of an entry of a map. */
export function keyOf({ value }: ScalarNode): Key {
  if (isKey(value)) return value
  throw new TypeError('a list or map as a key is refused when it is read')
}
