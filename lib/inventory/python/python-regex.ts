// Python's regular expressions on RE2: a search takes time in proportion to the text, whatever the pattern, as both may come from people
// who would like rekey to stand still. What RE2 has not (lookaround, references back), or would read differently, is an error.
import { RE2JS } from 're2js'
import { translate } from './regex-syntax.ts'

/** Where a pattern was found, and what each group holds, the whole first. */
export interface Found {
  readonly start: number
  readonly end: number
  readonly groups: readonly (string | undefined)[]
  readonly names: Readonly<Record<string, number>>
}

export interface RegexFlags {
  readonly ignoreCase?: boolean
  readonly multiline?: boolean
}

/** Stands for the line breaks within a text whose last one `$` may stand before; no text of Unicode has it. */
const innerBreak = '\ufdd0'

/** A pattern of Python's `re`. Each search throws `SyntaxError` where RE2 would find something else than Python. */
export interface PythonRegex {
  /** How much work it is for each character. */
  readonly size: number
  readonly groupCount: number
  readonly names: Readonly<Record<string, number>>
  /** The first place where it is found. */
  search(text: string): Found | undefined
  /** Whether it is found where the text begins. */
  match(text: string): boolean
  /** All places where it is found, at most so many. */
  findAll(text: string, most: number): Found[]
}

const known = new Map<string, PythonRegex>()

/** A pattern of Python's `re`. Throws `SyntaxError` for what Python refuses, and for what RE2 has no equal of. */
export function pythonRegex(source: string, flags: RegexFlags = {}): PythonRegex {
  const key = `${flags.ignoreCase ? 'i' : ''}${flags.multiline ? 'm' : ''}/${source}`
  let regex = known.get(key)
  if (!regex) {
    // Patterns may be made by loops: no more is kept than inventories have.
    if (known.size >= 1000) known.clear()
    regex = createRegex(source, flags)
    known.set(key, regex)
  }
  return regex
}

function createRegex(source: string, flags: RegexFlags): PythonRegex {
  const translated = translate(source, flags, false)
  const plain = compile(translated.pattern, translated.flags)
  let atLastBreak: RE2JS | undefined
  let longest: RE2JS | undefined
  const names = plain.namedGroups()
  /** `$` also stands before a line break that ends the text: there the breaks within it are hidden. */
  const prepare = (text: string): { regex: RE2JS; hidden: string; broken: boolean } => {
    if (translated.boundary && /[^\x00-\x7f]/.test(text) && /(?![\x00-\x7f])[\p{L}\p{N}]/u.test(text))
      throw new SyntaxError('"\\b" and "\\B" beside letters beyond ASCII mean something else to RE2')
    if (!translated.dollar || !text.endsWith('\n')) return { regex: plain, hidden: text, broken: false }
    if (text.includes(innerBreak)) throw new SyntaxError('the text has the character U+FDD0, which is none')
    const other = translate(source, flags, true)
    atLastBreak ??= compile(other.pattern, other.flags)
    return { regex: atLastBreak, hidden: `${text.slice(0, -1).replaceAll('\n', innerBreak)}\n`, broken: true }
  }
  const search = (text: string, most: number): Found[] => {
    const { regex, hidden, broken } = prepare(text)
    const matcher = regex.matcher(hidden)
    const all: Found[] = []
    while (all.length < most && matcher.find()) {
      const [start, end] = [matcher.start(), matcher.end()]
      const groups = Array.from({ length: regex.groupCount() + 1 }, (_, group) =>
        matcher.start(group) < 0 ? undefined : text.slice(matcher.start(group), matcher.end(group)),
      )
      all.push({ start, end, groups, names })
      // Python goes on in the same place, but with what is not empty.
      if (start === end && most > 1 && !broken) {
        longest ??= compile(translated.pattern, translated.flags | RE2JS.LONGEST_MATCH)
        const other = longest.matcher(hidden)
        if (other.find(start) && other.start() === start && other.end() > start)
          throw new SyntaxError('it would rather find nothing than something, which means something else to RE2')
      }
    }
    return all
  }
  return {
    size: plain.programSize(),
    groupCount: plain.groupCount(),
    names,
    search: text => search(text, 1)[0],
    match(text) {
      const { regex, hidden } = prepare(text)
      return regex.matcher(hidden).lookingAt()
    },
    findAll: search,
  }
}

function compile(pattern: string, flags: number): RE2JS {
  try {
    return RE2JS.compile(pattern, flags)
  } catch (error) {
    const [reason = ''] = String((error as Error).message).split(': `')
    throw new SyntaxError(`RE2 does not read it (${reason.replace('error parsing regexp: ', '')})`)
  }
}

const escapes: Readonly<Record<string, string>> = {
  '\\': '\\',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}

/** The text that a replacement like `\1-\g<name>` gives for a place. Throws `SyntaxError` for a group that is not there. */
export function expandReplacement(replacement: string, { groups, names }: Found): string {
  return replacement.replace(
    /\\(?:g<([^>]*)>|(0[0-7]{0,2}|[0-3][0-7]{2})|(\d\d?)|(.?))/gs,
    (whole, name: string | undefined, octal: string | undefined, number: string | undefined, single: string) => {
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8))
      const group = name ?? number
      if (group !== undefined) {
        const index = /^\d+$/.test(group) ? Number(group) : Object.hasOwn(names, group) ? names[group]! : groups.length
        if (index >= groups.length) throw new SyntaxError(`the pattern has no group "${group}"`)
        return groups[index] ?? ''
      }
      if (/^[A-Za-z]?$/.test(single) && !Object.hasOwn(escapes, single))
        throw new SyntaxError(`the escape "${whole}" is none`)
      return escapes[single] ?? whole
    },
  )
}
