// What a step returns as JSON, and back. What JSON has no word for is written as a mark: an object with one key that begins with `$`.
// Data that looks like one is written by a mark, too: what is read as a mark is what was written as one, whatever a host answered.
import { ProcessOutput } from 'zx/core'
import { Secret } from '../../connection/shell.ts'
import { RekeyError, UnknownOutcomeError } from '../../errors.ts'
import { formatSize } from '../../playbook/size.ts'

/** What a step may return at most, in bytes: all of it is in the memory at once. */
export const longestValue = 16 * 1024 * 1024
const deepest = 1_000
/** What a value counts for beside its text. */
const perValue = 8

/** Where the texts of a value go that must not stand in its JSON. */
export interface SecretTexts {
  /** Whether a text must not stand in the JSON. */
  isSecret(text: string): boolean
  /**
   * Keeps a text, and returns the name that stands for it.
   * @param parts what of it is secret by itself, where somebody said so
   */
  keep(text: string, parts?: readonly string[]): string
}

/** Gives what a name stands for. Throws where that is lost. */
export type Reveal = (name: string) => Secret

/** Why something can't be kept: thrown with where it stands in the value. */
class NoPlainData extends Error {}

/**
 * Makes JSON of a value; `undefined` of one that is none, like a function. What is neither plain data nor a `Secret`, a `Map`, a `Set`, a `Date`, bytes, or the output of a command becomes plain data.
 * @throws RekeyError where it can't be: cyclic, too deep, too long, a BigInt, a getter that throws
 */
export function toJson(value: unknown, texts: SecretTexts): string | undefined {
  const place: (string | number)[] = []
  const within = new Set<object>()
  let left = longestValue
  const spend = (bytes: number) => {
    left -= bytes + perValue
    if (left < 0) throw new NoPlainData(`is more than ${formatSize(longestValue)}`)
  }
  const text = (one: string): unknown => {
    spend(one.length)
    return texts.isSecret(one) ? { $text: texts.keep(one) } : one
  }
  const inside = <T>(key: string | number, work: () => T): T => {
    place.push(key)
    const result = work()
    place.pop()
    return result
  }
  const list = (items: Iterable<unknown>) => {
    const all: unknown[] = []
    for (const one of items) all.push(inside(all.length, () => encode(one)) ?? null)
    return all
  }
  const entries = (one: object): [string, unknown][] => {
    const all: [string, unknown][] = []
    for (const key of Object.keys(one)) {
      const member = inside(key, () => encode((one as Record<string, unknown>)[key]))
      if (member === undefined) continue
      spend(key.length)
      all.push([key, member])
    }
    return all
  }
  const object = (one: object): unknown => {
    const all = entries(one)
    const isPlain = all.every(([key]) => !key.startsWith('$') && !texts.isSecret(key))
    // A key of that name is a member like others.
    return isPlain ? Object.fromEntries(all) : { $object: all.map(([key, member]) => [text(key), member]) }
  }
  const encode = (one: unknown): unknown => {
    spend(0)
    if (typeof one === 'string') return text(one)
    if (typeof one === 'number') {
      return Number.isFinite(one) && !Object.is(one, -0) ? one : { $number: Object.is(one, -0) ? '-0' : String(one) }
    }
    if (typeof one === 'bigint') throw new NoPlainData('is a BigInt')
    if (typeof one === 'function' || typeof one === 'symbol' || one === undefined) return undefined
    if (one === null || typeof one !== 'object') return one
    if (one instanceof Secret) return { $secret: texts.keep(one.reveal(), one.parts()) }
    if (one instanceof Date) return { $date: one.toISOString() }
    if (one instanceof ProcessOutput) return output(one)
    if (one instanceof Uint8Array) {
      spend(one.byteLength)
      return { $bytes: Buffer.from(one).toString('base64') }
    }
    if (within.has(one)) throw new NoPlainData('is what it is in')
    if (within.size === deepest) throw new NoPlainData(`is nested more than ${deepest} deep`)
    within.add(one)
    const encoded =
      one instanceof Map
        ? { $map: list([...one].map(([key, member]) => [key, member])) }
        : one instanceof Set
          ? { $set: list(one) }
          : Array.isArray(one)
            ? list(one)
            : object(one)
    within.delete(one)
    return encoded
  }
  const output = (one: ProcessOutput): unknown => {
    const { exitCode } = one
    const cut = (why: string) => ({ $cut: [why, exitCode] })
    try {
      const { stdout, stderr } = one
      // Steps often return a command for whose output nobody cares.
      if (stdout.length + stderr.length > longestValue / 2)
        return cut(
          `a command printed more than ${formatSize(longestValue / 2)}, and a step that returns it keeps none of it`,
        )
      return { $output: [text(stdout), text(stderr), exitCode] }
    } catch (error) {
      if (error instanceof RekeyError) return cut(error.message)
      throw error
    }
  }
  try {
    return JSON.stringify(encode(value))
  } catch (error) {
    if (error instanceof RekeyError) throw error
    const where = place.length > 12 ? [...place.slice(0, 6), '…', ...place.slice(-6)] : place
    throw new RekeyError(`${['value', ...where].join('.')} ${reasonOf(error)}`, {
      code: 'run.registered',
      hint: 'Return plain data, and only what later steps need: a resumed run reads it from a file. What is long belongs in a file of `folder`.',
    })
  }
}

function reasonOf(thrown: unknown): string {
  if (thrown instanceof NoPlainData) return thrown.message
  const message = thrown instanceof Error ? thrown.message : undefined
  return `can't be read: ${typeof message === 'string' ? message : 'what it threw is no error'}`
}

/** Thrown where something is read that was not written by `toJson`. */
class NotWritten extends Error {}

type Decode = (value: unknown) => unknown

/** What stands behind each mark. */
const marks: Readonly<Record<string, (value: unknown, decode: Decode, reveal: Reveal) => unknown>> = {
  $secret: (value, _decode, reveal) => reveal(must(value, isText)),
  $text: (value, _decode, reveal) => reveal(must(value, isText)).reveal(),
  $date: value => new Date(must(value, isDate)),
  $number: value => Number(must(value, one => ['-0', 'NaN', 'Infinity', '-Infinity'].includes(one as string))),
  $bytes: value => Buffer.from(must<string>(value, isText), 'base64'),
  $set: (value, decode) => new Set(must<unknown[]>(value, Array.isArray).map(decode)),
  $map: (value, decode) => new Map(pairs(value).map(([key, member]) => [decode(key), decode(member)])),
  $object: (value, decode) =>
    Object.fromEntries(pairs(value).map(([key, member]) => [must<string>(decode(key), isText), decode(member)])),
  $output: (value, decode) => {
    const [stdout, stderr, exitCode] = must<unknown[]>(value, Array.isArray)
    const said = [stdout, stderr].map(one => must<string>(decode(one), isText)) as [string, string]
    return new ProcessOutput(must<number | null>(exitCode, isExitCode), null, ...said, said.join(''))
  },
  $cut: value => {
    const [message, exitCode] = must<unknown[]>(value, Array.isArray)
    return cutOutput(must(message, isText), must(exitCode, isExitCode))
  },
}

/**
 * The value of which `toJson` made a JSON, parsed.
 * @throws Error where it was not made by `toJson`, or where a secret is not there any more
 */
export function fromJson(written: unknown, reveal: Reveal): unknown {
  const decode = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(decode)
    if (value === null || typeof value !== 'object') return value
    const entries = Object.entries(value)
    const marked = entries.find(([key]) => key.startsWith('$'))
    if (!marked) return Object.fromEntries(entries.map(([key, member]) => [key, decode(member)]))
    const [key, member] = marked
    const mark = Object.hasOwn(marks, key) ? marks[key] : undefined
    if (!mark || entries.length > 1) throw new NotWritten(`there is no mark ${JSON.stringify(key)}`)
    return mark(member, decode, reveal)
  }
  return decode(written)
}

/**
 * The same for what was written before data that looks like a mark was told from one: only what can't be anything else is one.
 * @param isName whether a text is a name that the file of a secret had
 */
export function fromOldJson(written: unknown, reveal: Reveal, isName: (text: string) => boolean): unknown {
  const decode = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(decode)
    if (value === null || typeof value !== 'object') return value
    const entries = Object.entries(value)
    const plain = () => Object.fromEntries(entries.map(([key, member]) => [key, decode(member)]))
    const { $cut, exitCode } = value as { $cut?: unknown; exitCode?: unknown }
    if (entries.length === 2 && isText($cut) && isExitCode(exitCode))
      return cutOutput($cut as string, exitCode as number)
    const [[key, member] = []] = entries
    if (entries.length !== 1 || key === undefined) return plain()
    if ((key === '$secret' || key === '$text') && isText(member) && isName(member as string)) {
      const secret = reveal(member as string)
      return key === '$text' ? secret.reveal() : secret
    }
    if (key === '$date' && isDate(member)) return new Date(member as string)
    if (key === '$map' && isPairs(member))
      return new Map((member as unknown[][]).map(pair => pair.map(decode) as [unknown, unknown]))
    return plain()
  }
  return decode(written)
}

const isText = (value: unknown) => typeof value === 'string'
const isExitCode = (value: unknown) => value === null || Number.isInteger(value)
const isPairs = (value: unknown) => Array.isArray(value) && value.every(one => Array.isArray(one) && one.length === 2)
const isDate = (value: unknown) => {
  const date = new Date(typeof value === 'string' ? value : Number.NaN)
  return !Number.isNaN(date.getTime()) && date.toISOString() === value
}

function pairs(value: unknown): [unknown, unknown][] {
  return must(value, isPairs)
}

function must<T>(value: unknown, isRight: (value: unknown) => boolean): T {
  if (!isRight(value)) throw new NotWritten('a mark holds what was not written there')
  return value as T
}

/** The output of a command that is not there: whoever reads it is told, also in a resumed run. */
function cutOutput(message: string, exitCode: number | null): ProcessOutput {
  const refuse = () => {
    throw new UnknownOutcomeError(message, {
      code: 'connection.output-cut',
      hint: 'Have the step return what is needed of it, and run it once more.',
    })
  }
  const result = { code: exitCode, signal: null, duration: 0, error: null, from: '' }
  return new ProcessOutput(Object.defineProperty(result, 'store', { get: refuse }) as never)
}
