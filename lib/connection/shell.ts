// Text that becomes part of a command line on a host: POSIX quoting, and the two kinds of values that aren't plain text.
import { requireSecret, tellSecret } from '../secrets/index.ts'

/** A value that must never be seen: refused in command lines, shown as `«secret»` wherever it is printed, and replaced in what others print. */
export class Secret {
  readonly #value: string
  readonly #parts: readonly string[]
  /** @param parts what of it is secret by itself, where that is not all of it */
  constructor(value: string, parts: readonly string[] = [value]) {
    this.#value = value
    this.#parts = parts
    for (const part of parts) tellSecret(part)
  }
  /** The value itself. Only for stdin, a 0600 file, or a TLS connection. */
  reveal(): string {
    return this.#value
  }
  /** What of it is secret by itself, for whoever keeps it. */
  parts(): readonly string[] {
    return this.#parts
  }
  toString(): string {
    return '«secret»'
  }
  toJSON(): string {
    return '«secret»'
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '«secret»'
  }
}

/**
 * Marks a value as secret: it may be given to a command as `input`, never inside the command line; from now on it is replaced wherever it is
 * shown or kept, in each line of it and in its usual encodings.
 * @param parts of a text that holds secrets, such as a kubeconfig: these. The rest of it may be seen elsewhere
 * @throws RekeyError for fewer than three characters: they are part of too many words
 */
export function secret(value: string, { parts }: { parts?: readonly (string | Secret)[] } = {}): Secret {
  const told = parts?.map(part => (part instanceof Secret ? part.reveal() : part))
  for (const one of told ?? [value]) requireSecret(one)
  return new Secret(value, told)
}

/** Text that goes into a command line as it stands. */
export class Raw {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** Marks text as shell source: it is not quoted. For constants of the playbook, never for data. */
export function raw(text: string): Raw {
  return new Raw(text)
}

/**
 * Quotes one word for any POSIX shell (dash reads bash's `$'…'` as literal text, so only single quotes will do).
 * Throws `TypeError` for a NUL, which no argument can hold.
 */
export function quote(word: string): string {
  if (word.includes('\0')) throw new TypeError('a command line cannot hold a NUL byte')
  if (/^[A-Za-z0-9_%+=:,./@-]+$/.test(word)) return word
  return `'${word.replaceAll("'", `'\\''`)}'`
}
