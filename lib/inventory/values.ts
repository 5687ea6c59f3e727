// The values that variables hold before templates in them are resolved: JSON's, and the few that Ansible adds.
import { tellSecret } from '../secrets/index.ts'
import type { Vault } from './vault/vault.ts'

/** A float without a fraction. Python keeps `1.0` apart from `1`, and prints and templates it so. */
export class WholeFloat {
  readonly value: number
  constructor(value: number) {
    this.value = value
  }
  toString(): string {
    return floatText(this.value)
  }
}

/** A YAML date or time. Ansible hands it to JSON in ISO form and to templates as Python prints it. */
export class Timestamp {
  /** As `isoformat()` gives it: `2001-12-14` or `2001-12-14T21:59:43`. */
  readonly iso: string
  constructor(iso: string) {
    this.iso = iso
  }
  /** As Python's `str()` gives it: a space in place of the T. */
  toString(): string {
    return this.iso.replace('T', ' ')
  }
}

/** A string marked `!unsafe`: braces in it are text, never a template. */
export class UnsafeText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  toString(): string {
    return this.text
  }
}

/** An encrypted string (`!vault`); nothing decrypts it before it is read. */
export class EncryptedText {
  readonly ciphertext: string
  /** Where it stands, `file:line`, for the error when no password opens it. */
  readonly where: string
  readonly #vault: Vault
  constructor(ciphertext: string, where: string, vault: Vault) {
    this.ciphertext = ciphertext
    this.where = where
    this.#vault = vault
  }
  /** The plain text. Throws `RekeyError` when no password opens it. */
  decrypt(): string {
    const plain = this.#vault.decrypt(this.ciphertext, this.where)
    tellSecret(plain, `what is encrypted in ${this.where}`)
    return plain
  }
}

export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | WholeFloat
  | Timestamp
  | UnsafeText
  | EncryptedText
  | Value[]
  | Mapping
export type Mapping = Dict<Value>

/** What may be the key of a map. */
export type Key = null | boolean | number | bigint | string | WholeFloat | Timestamp | UnsafeText | EncryptedText

/**
 * A map as Python has it: keys keep their types and their order, 1, 1.0 and True are the same key, and "1" is another one. A value may be
 * left to be computed when it is first read.
 */
export class Dict<V = unknown> {
  readonly #entries = new Map<unknown, { readonly key: Key; value: V; compute?: () => V }>()

  /** A map with these entries. */
  static of<V>(entries: Iterable<readonly [Key, V]>): Dict<V> {
    const dict = new Dict<V>()
    for (const [key, value] of entries) dict.set(key, value)
    return dict
  }

  get size(): number {
    return this.#entries.size
  }

  has(key: Key): boolean {
    return this.#entries.has(identity(key))
  }

  /** The value of a key, undefined where there is none. */
  get(key: Key): V | undefined {
    const entry = this.#entries.get(identity(key))
    return entry && read(entry)
  }

  /** Sets a key; one that is there keeps its place. */
  set(key: Key, value: V): this {
    const known = this.#entries.get(identity(key))
    this.#entries.set(identity(key), { key: known ? known.key : key, value })
    return this
  }

  /** Takes a key away, with its value. */
  delete(key: Key): void {
    this.#entries.delete(identity(key))
  }

  /** Sets a key to what is computed when it is first read. */
  setLazy(key: Key, compute: () => V): this {
    const known = this.#entries.get(identity(key))
    this.#entries.set(identity(key), { key: known ? known.key : key, value: undefined as V, compute })
    return this
  }

  /** The keys, in order. */
  keys(): Key[] {
    return [...this.#entries.values()].map(({ key }) => key)
  }

  /** The values, in order. */
  values(): V[] {
    return [...this.#entries.values()].map(read)
  }

  /** Keys with their values, in order. */
  entries(): [Key, V][] {
    return [...this.#entries.values()].map(entry => [entry.key, read(entry)])
  }
}

function read<V>(entry: { value: V; compute?: () => V }): V {
  if (entry.compute) {
    entry.value = entry.compute()
    entry.compute = undefined
  }
  return entry.value
}

/** By what two keys are the same one to Python. */
export function identity(key: Key): unknown {
  if (typeof key === 'string' || typeof key === 'number' || key === null) return key
  if (typeof key === 'boolean') return Number(key)
  if (typeof key === 'bigint') return integer(key)
  if (key instanceof WholeFloat) return key.value
  return key instanceof Timestamp ? Symbol.for(key.iso) : keyText(key)
}

/** True for a mapping of variables (and not for a list or one of the special scalars). */
export function isMapping(value: unknown): value is Mapping {
  return value instanceof Dict
}

/** True for what may be the key of a map. */
export function isKey(value: unknown): value is Key {
  return (
    value === null || (!Array.isArray(value) && !isMapping(value) && typeof value !== 'function' && value !== undefined)
  )
}

/** Sets a key of an object of JavaScript's, also one called `__proto__`, which plain assignment would swallow. */
export function setProperty<T>(object: { [key: string]: T }, key: string, value: T): void {
  if (key === '__proto__') {
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true })
  } else {
    object[key] = value
  }
}

/** A number as a value: one that Python would keep as a float stays one. */
export function float(value: number): number | WholeFloat {
  return Number.isInteger(value) ? new WholeFloat(value) : value
}

/** An integer as a value: exact, also beyond what a JavaScript number holds. */
export function integer(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

/** A float as Python's `repr()` prints it. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
  if (Object.is(value, -0)) return '-0.0'
  const [mantissa = '', exponentText = '0'] = value.toExponential().split('e')
  const exponent = Number(exponentText)
  if (exponent >= 16 || exponent < -4) {
    const digits = String(Math.abs(exponent)).padStart(2, '0')
    return `${mantissa}e${exponent < 0 ? '-' : '+'}${digits}`
  }
  if (exponent < 0) return value.toFixed(Math.max(0, mantissa.replace(/^-?\d\.?/, '').length - exponent))
  const text = value.toString()
  return text.includes('.') ? text : `${text}.0`
}

/** A key as text: what JSON makes of keys that aren't strings. */
export function keyText(value: Key): string {
  if (typeof value === 'string') return value
  if (value === null) return 'null'
  if (value instanceof WholeFloat) return floatText(value.value)
  if (value instanceof EncryptedText) return value.ciphertext
  return typeof value === 'number' && !Number.isInteger(value) ? floatText(value) : String(value)
}

/** What Ansible calls the type of a value, for error messages. */
export function typeName(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof WholeFloat) return 'a number'
  if (value instanceof Timestamp) return 'a date'
  if (value instanceof UnsafeText || value instanceof EncryptedText || typeof value === 'string') return 'a string'
  if (typeof value === 'boolean') return 'a boolean'
  if (typeof value === 'number' || typeof value === 'bigint') return 'a number'
  return 'a map'
}
