// Secrets out of everything that is shown or kept: by value where a step said which, by shape as the last net.

/** Replaces secrets in text. */
export interface Redactor {
  /** Registers a value, and its base64, to be replaced from now on. Values under 8 characters are left alone. */
  add(value: string): void
  text(text: string): string
  /** Replaces in every string of a JSON-like value. */
  deep<T>(value: T): T
}

const mark = '«redacted»'
const shortestValue = 8

const shapes: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, mark],
  // The same in base64, as kubeconfigs and Secrets carry it.
  [/LS0tLS1CRUdJTi[A-Za-z0-9+/]*(?:UFJJVkFURS|BSSVZBVE|QUklWQVRF)[A-Za-z0-9+/=]*/g, mark],
  [/\b(client-key-data|token|password|secret_id)(["']?\s*[:=]\s*["']?)[^\s"',}]{8,}/g, `$1$2${mark}`],
  // JSON web tokens, and Vault's own.
  [/\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+/g, mark],
  [/\bhv[sbr]\.[\w-]{20,}/g, mark],
]

/** Makes a redactor. */
export function redactor(): Redactor {
  const values = new Set<string>()
  let ordered: string[] = []
  const add = (value: string) => {
    // Keys are seen line by line: each line is a secret of its own.
    for (const part of [value, ...value.split('\n')]) {
      const known = part.trim()
      if (known.length < shortestValue || known.startsWith('-----')) continue
      values.add(known)
      values.add(Buffer.from(part).toString('base64'))
    }
    ordered = [...values].sort((a, b) => b.length - a.length)
  }
  const text = (input: string): string => {
    let result = input
    for (const value of ordered) if (result.includes(value)) result = result.replaceAll(value, mark)
    if (result.length < shortestValue) return result
    for (const [shape, replacement] of shapes) result = result.replace(shape, replacement)
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
  return { add, text, deep }
}
