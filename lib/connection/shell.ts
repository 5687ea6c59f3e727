// Text that becomes part of a command line on a host: POSIX quoting, and the two kinds of values that aren't plain text.

/** A value that must never be seen: refused in command lines, shown as `«secret»` wherever it is printed. */
export class Secret {
  readonly #value: string
  constructor(value: string) {
    this.#value = value
  }
  /** The value itself. Only for stdin, a 0600 file, or a TLS connection. */
  reveal(): string {
    return this.#value
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

/** Marks a value as secret: it may be given to a command as `input`, never inside the command line. */
export function secret(value: string): Secret {
  return new Secret(value)
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
