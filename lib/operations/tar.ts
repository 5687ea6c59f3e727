// The tar format, as much of it as sending files to a host takes: whatever tar the host has reads it.

/** Above this the name goes into an entry of its own, before the file's. */
const longestName = 100
const block = 512
const zeros = Buffer.alloc(block)

/** What an entry is: a file, a folder, or (GNU's extension) the name of the entry behind it. */
const types = { file: '0', folder: '5', name: 'L' } as const

/** The header of a file; its content follows, and then `tarPadding` of its size. */
export function tarFile(path: string, size: number, mode: number): Buffer {
  return entry('file', path, size, mode)
}

/** A folder. */
export function tarFolder(path: string, mode: number): Buffer {
  return entry('folder', path, 0, mode)
}

/** What fills up the last block of a content. */
export function tarPadding(size: number): Buffer {
  return zeros.subarray(0, (block - (size % block)) % block)
}

/** What an archive ends with. */
export const tarEnd = Buffer.alloc(2 * block)

function entry(type: 'file' | 'folder', path: string, size: number, mode: number): Buffer {
  // Extracted below `/`.
  const name = Buffer.from(path.replace(/^\/+/, ''))
  if (name.length <= longestName) return header(types[type], name, size, mode)
  const whole = Buffer.concat([name, Buffer.alloc(1)])
  return Buffer.concat([
    header(types.name, Buffer.from('././@LongLink'), whole.length, 0o644),
    whole,
    tarPadding(whole.length),
    header(types[type], name.subarray(0, longestName), size, mode),
  ])
}

function header(type: string, name: Buffer, size: number, mode: number): Buffer {
  const bytes = Buffer.alloc(block)
  name.copy(bytes)
  const put = (offset: number, length: number, value: number) =>
    bytes.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, 'latin1')
  put(100, 8, mode)
  put(108, 8, 0)
  put(116, 8, 0)
  // Eleven octal digits hold 8 GiB; beyond that GNU writes the number itself, its first bit set.
  if (size < 8 ** 11) put(124, 12, size)
  else {
    bytes.writeBigUInt64BE(BigInt(size), 128)
    bytes[124] = 0x80
  }
  put(136, 12, 0)
  bytes.write(type, 156, 'latin1')
  bytes.write('ustar  \0', 257, 'latin1')
  // The sum is taken with blanks in its own place.
  bytes.fill(' ', 148, 156)
  let sum = 0
  for (let at = 0; at < block; at++) sum += bytes[at]!
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return bytes
}
