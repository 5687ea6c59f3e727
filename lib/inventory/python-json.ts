// JSON as Python's `json.dumps` writes it: `1.0`, `Infinity`, whole numbers of any size.
import { compareText } from './groups.ts'
import { EncryptedText, floatText, isMapping, Timestamp, UnsafeText, type Value, WholeFloat } from './values.ts'

export interface JsonOptions {
  /** Spaces a level; without, all is on one line. */
  readonly indent?: number
  readonly sortKeys?: boolean
  /** Whether strings that must not be templated are marked so (`__ansible_unsafe`). */
  readonly markUnsafe?: boolean
  /** Whether other letters than ASCII's are escaped. */
  readonly ascii?: boolean
}

/** Writes a value. Encrypted strings stay encrypted (`__ansible_vault`). */
export function jsonText(
  value: Value,
  { indent, sortKeys = false, markUnsafe = false, ascii = false }: JsonOptions = {},
): string {
  const separator = indent === undefined ? ', ' : ','
  const quoted = (text: string): string => {
    const written = JSON.stringify(text)
    return ascii
      ? written.replace(/[\u007f-\uffff]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      : written
  }
  const write = (one: Value, margin: string): string => {
    if (typeof one === 'string') return quoted(one)
    if (one === null || typeof one === 'boolean') return String(one)
    if (typeof one === 'bigint') return String(one)
    if (typeof one === 'number') return number(one)
    if (one instanceof WholeFloat) return number(one.value, true)
    if (one instanceof Timestamp) return JSON.stringify(one.iso)
    if (one instanceof UnsafeText) return markUnsafe ? write({ __ansible_unsafe: one.text }, margin) : quoted(one.text)
    if (one instanceof EncryptedText) return write({ __ansible_vault: one.ciphertext }, margin)
    const deeper = indent === undefined ? '' : `${margin}${' '.repeat(indent)}`
    const wrap = (open: string, parts: readonly string[], close: string): string => {
      if (parts.length === 0) return open + close
      if (indent === undefined) return open + parts.join(separator) + close
      return `${open}\n${deeper}${parts.join(`${separator}\n${deeper}`)}\n${margin}${close}`
    }
    if (Array.isArray(one))
      return wrap(
        '[',
        one.map(member => write(member, deeper)),
        ']',
      )
    if (!isMapping(one)) throw new TypeError(`${String(one)} can't be written as JSON`)
    const keys = Object.keys(one)
    if (sortKeys) keys.sort(compareText)
    return wrap(
      '{',
      keys.map(key => `${quoted(key)}: ${write(one[key]!, deeper)}`),
      '}',
    )
  }
  return write(value, '')
}

function number(value: number, asFloat = !Number.isInteger(value)): string {
  if (!asFloat) return String(value)
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  return floatText(value)
}
