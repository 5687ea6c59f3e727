// Secrets out of everything that is shown or kept: by value where a step said which, by shape as the last net.
import { createHmac, randomBytes } from 'node:crypto'

/** Replaces secrets in text. */
export interface Redactor {
  /** Registers a value, and its base64, to be replaced from now on. Values under 8 characters are left alone. */
  add(value: string): void
  text(text: string): string
  /** Replaces in every string of a JSON-like value. */
  deep<T>(value: T): T
  /** Replaces as `text` does, short values too, each by its fingerprint: so that it shows whether one changed. */
  marked(text: string): string
  /** Stands for a value: the same for the same value, in this run only, and of no use to those who guess. */
  fingerprint(value: string): string
}

const mark = '«redacted»'
const shortestValue = 8
/** In a diff, where little else is lost. */
const shortestMarked = 3

/** What looks like a secret: what stands before it is kept. */
const shapes: readonly RegExp[] = [
  /()-----BEGIN (?:[A-Z ]*)PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  // The same in base64, as kubeconfigs and Secrets carry it.
  /()LS0tLS1CRUdJTi[A-Za-z0-9+/]*(?:UFJJVkFURS|BSSVZBVE|QUklWQVRF)[A-Za-z0-9+/=]*/g,
  /(\b(?:client-key-data|token|password|secret_id)["']?\s*[:=]\s*["']?)(?![«\0])[^\s"',}]{8,}/g,
  // JSON web tokens, and Vault's own.
  /()\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+/g,
  /()\bhv[sbr]\.[\w-]{20,}/g,
]
/** In files alone: the keys of an encryption configuration, and passwords of any length. */
const shapesInFiles: readonly RegExp[] = [
  ...shapes,
  /(\b(?:secret|password|passwd|token|key-data)["']?\s*[:=]\s*["']?)(?![«\0])[^\s"',}]+/gi,
]

const longestName = 64
const mostNames = 1_000

/** Makes a redactor. */
export function redactor(): Redactor {
  const values = new Set<string>()
  const short = new Set<string>()
  const key = randomBytes(32)
  const occurring = finder(values)
  /** What short texts became, while no more values are known: the names of hosts and steps come back with each line of output. */
  const names = new Map<string, string>()
  const add = (value: string) => {
    names.clear()
    // Keys are seen line by line: each line is a secret of its own.
    for (const part of [value, ...value.split('\n')]) {
      const known = part.trim()
      if (known.startsWith('-----')) continue
      if (known.length < shortestValue) {
        if (known.length >= shortestMarked) short.add(known)
        continue
      }
      values.add(known)
      values.add(Buffer.from(part).toString('base64'))
    }
  }
  const text = (input: string): string => {
    if (input.length > longestName) return replaced(input)
    let result = names.get(input)
    if (result !== undefined) return result
    result = replaced(input)
    if (names.size === mostNames) names.clear()
    names.set(input, result)
    return result
  }
  const replaced = (input: string): string => {
    let result = input
    for (const value of occurring(input)) result = result.replaceAll(value, mark)
    if (result.length < shortestValue) return result
    for (const shape of shapes) result = result.replace(shape, `$1${mark}`)
    return result
  }
  const deep = <T>(value: T): T => {
    if (typeof value === 'string') return text(value) as T
    if (Array.isArray(value)) return value.map(deep) as T
    if (value !== null && typeof value === 'object') {
      return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, deep(member)])) as T
    }
    return value
  }
  const fingerprint = (value: string) => `«${createHmac('sha256', key).update(value).digest('hex').slice(0, 12)}»`
  const marked = (input: string): string => {
    let result = input
    for (const value of occurring(input)) result = result.replaceAll(value, fingerprint(value))
    // A short one may be part of a word that means nothing.
    if (short.size > 0)
      result = result.replace(/[^\s"'=:,;()[\]{}<>]+/g, word => (short.has(word) ? fingerprint(word) : word))
    for (const shape of shapesInFiles) {
      result = result.replace(shape, (found, before: string) => before + fingerprint(found.slice(before.length)))
    }
    return result
  }
  return { add, text, deep, marked, fingerprint }
}

/** With this many values a search for each of them takes longer than a look at each place of a text. */
const fewValues = 64

/** Finds which of the values, to which more may be added, occur in a text: the longest first, since it may hold others. */
function finder(values: ReadonlySet<string>): (text: string) => string[] {
  /** By how they begin. */
  const index = new Map<string, string[]>()
  let known: string[] = []
  const learn = () => {
    if (known.length === values.size) return
    const all = [...values]
    for (const value of all.slice(known.length)) {
      const start = value.slice(0, shortestValue)
      const alike = index.get(start)
      if (alike) alike.push(value)
      else index.set(start, [value])
    }
    known = all
  }
  const foundAt = (text: string) => {
    const found = new Set<string>()
    for (let at = 0; at + shortestValue <= text.length; at++) {
      for (const value of index.get(text.slice(at, at + shortestValue)) ?? []) {
        if (text.startsWith(value, at)) found.add(value)
      }
    }
    return found
  }
  return text => {
    learn()
    const found = known.length > fewValues ? [...foundAt(text)] : known.filter(value => text.includes(value))
    return found.sort((a, b) => b.length - a.length)
  }
}
