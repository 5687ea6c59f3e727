// Names of files for what has a name that somebody else chose: a host, a step, a play.
import { createHash } from 'node:crypto'

/** Bytes that a name may have; file systems bear 255, and something stands behind it. */
const longest = 160

/**
 * A file's name for any text: the text itself where it can be one. It is never a path, and two texts never have the same.
 */
export function fileNameOf(text: string): string {
  const name = text
    .toWellFormed()
    .replace(/[^\p{L}\p{N}._@+=,:~ -]|^[.~ ]|[ ]$/gu, sign => `%${Buffer.from(sign).toString('hex').toUpperCase()}`)
  if (name === '') return '%'
  if (name === text && Buffer.byteLength(name) <= longest) return name
  const digest = createHash('sha256').update(JSON.stringify(text)).digest('hex').slice(0, 12)
  return `${Buffer.from(name)
    .subarray(0, longest)
    .toString('utf8')
    .replace(/\ufffd+$/, '')}%${digest}`
}
