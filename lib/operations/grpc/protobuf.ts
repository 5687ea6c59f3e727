// As much of protobuf as API servers, KMS plugins and container runtimes speak: fields that have a length.

/**
 * Goes through the fields of a message that have a length (texts, bytes, messages), in their order. Numbers are passed over.
 * @returns false where the message is cut off or damaged; what was found before that was told
 */
export function eachField(message: Uint8Array, tell: (field: number, bytes: Uint8Array) => void): boolean {
  let at = 0
  const varint = (): number | undefined => {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = message[at++]
      if (byte === undefined) return undefined
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    return undefined
  }
  while (at < message.length) {
    const tag = varint()
    const wire = tag === undefined ? -1 : tag & 7
    if (wire === 0) {
      if (varint() === undefined) return false
      continue
    }
    const length = wire === 2 ? varint() : undefined
    if (length === undefined || at + length > message.length) return false
    tell(tag! >>> 3, message.subarray(at, at + length))
    at += length
  }
  return true
}

/** A message of fields that have a length, each by its number. */
export function messageOf(fields: readonly (readonly [number, Uint8Array | string])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([field, content]) => {
      const bytes = Buffer.from(content)
      return [varintOf(field * 8 + 2), varintOf(bytes.length), bytes]
    }),
  )
}

function varintOf(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80)
  return Buffer.from([...bytes, rest])
}
