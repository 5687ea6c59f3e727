// JSON as Python's `json.dumps` writes it: `1.0`, `Infinity`, whole numbers of any size.
import { compareText } from '../groups.ts'
import {
  Dict,
  EncryptedText,
  floatText,
  isMapping,
  keyText,
  Timestamp,
  UnsafeText,
  type Value,
  WholeFloat,
} from '../values.ts'
import { TemplateError } from './python-values.ts'

export interface JsonOptions {
  /** Spaces a level; without, all is on one line. */
  readonly indent?: number
  readonly sortKeys?: boolean
  /** Whether strings that must not be templated are marked so (`__ansible_unsafe`). */
  readonly markUnsafe?: boolean
  /** Whether other letters than ASCII's are escaped. */
  readonly ascii?: boolean
  /** What stands between members, and between a key and its value. */
  readonly separators?: readonly [string, string]
  /** How long it may become; more is an error. */
  readonly most?: number
  /** What stands before the value on its line, for a value within others. */
  readonly margin?: string
}

/** Writes a value. Encrypted strings stay encrypted (`__ansible_vault`). */
export function jsonText(value: Value, options: JsonOptions = {}): string {
  const { indent, sortKeys = false, markUnsafe = false, ascii = false } = options
  const [comma, colon] = options.separators ?? [indent === undefined ? ', ' : ',', ': ']
  const most = options.most ?? Number.POSITIVE_INFINITY
  const step = indent === undefined ? '' : ' '.repeat(indent)
  let written = ''
  const string = (text: string): void => {
    const quoted = JSON.stringify(text)
    written += ascii ? quoted.replace(/[\u007f-\uffff]/g, escapeUnit) : quoted
  }
  const write = (one: Value, margin: string): void => {
    if (written.length > most) throw new TemplateError(`it makes JSON of more than ${most} characters`)
    if (typeof one === 'string') string(one)
    else if (one === null || typeof one === 'boolean' || typeof one === 'bigint') written += String(one)
    else if (typeof one === 'number') written += number(one)
    else if (Array.isArray(one)) {
      const inner = indent === undefined ? '' : `\n${margin}${step}`
      let before = inner
      written += '['
      for (const member of one) {
        written += before
        write(member, margin + step)
        before = comma + inner
      }
      written += indent === undefined || one.length === 0 ? ']' : `\n${margin}]`
    } else if (isMapping(one)) {
      const inner = indent === undefined ? '' : `\n${margin}${step}`
      let before = inner
      const entries = one.entries().map(([key, item]): [string, Value] => [keyText(key), item])
      written += '{'
      for (const [key, item] of sortKeys ? sortedByKey(entries) : entries) {
        written += before
        string(key)
        written += colon
        write(item, margin + step)
        before = comma + inner
      }
      written += indent === undefined || entries.length === 0 ? '}' : `\n${margin}}`
    } else if (one instanceof WholeFloat) written += number(one.value, true)
    else if (one instanceof Timestamp) string(one.iso)
    else if (one instanceof EncryptedText) write(Dict.of<Value>([['__ansible_vault', one.ciphertext]]), margin)
    else if (!(one instanceof UnsafeText)) throw new TemplateError('it holds something that is no data')
    else if (markUnsafe) write(Dict.of<Value>([['__ansible_unsafe', one.text]]), margin)
    else string(one.text)
  }
  write(value, options.margin ?? '')
  return written
}

const escapeUnit = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

/** Entries in Python's order of their keys: JavaScript's own but for letters beyond U+FFFF. */
function sortedByKey(entries: [string, Value][]): [string, Value][] {
  return entries.some(([key]) => /[\ud800-\udbff]/.test(key))
    ? entries.sort(([one], [other]) => compareText(one, other))
    : entries.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0))
}

function number(value: number, asFloat = !Number.isInteger(value)): string {
  if (!asFloat) return String(value)
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  return floatText(value)
}
