// Go's regular expressions (RE2) on Go's bytes. A search takes time in proportion to the text, whatever the pattern:
// both may come from people who would like rekey to stand still.
import { RE2JS } from 're2js'
import { toBytes, toText } from './values.ts'

/** Where a pattern was found: offsets in bytes, and what each group holds, the whole first. */
interface Found {
  readonly start: number
  readonly end: number
  readonly groups: readonly string[]
  readonly names: Readonly<Record<string, number>>
}

/** Whether a pattern is found in a text. Throws an Error for what is no pattern in Go. */
export function regexMatches(pattern: string, text: string): boolean {
  return compile(pattern).test(Buffer.from(text, 'latin1'))
}

/** The first `most` places where it is found, as Go's `FindAllString` has them. Throws as `regexMatches` does. */
export function regexFindAll(pattern: string, text: string, most = Infinity): string[] {
  return findAll(pattern, text, most).map(({ groups }) => groups[0]!)
}

/**
 * Replace whatever is found. In `replacement`, `$1`, `${1}`, `$name` and `${name}` are groups, as Go expands them; not so where it is
 * taken literally. Throws as `regexMatches` does.
 */
export function regexReplaceAll(
  pattern: string,
  text: string,
  replacement: string,
  { literally = false } = {},
): string {
  const pieces: string[] = []
  let end = 0
  for (const found of findAll(pattern, text)) {
    pieces.push(text.slice(end, found.start), literally ? replacement : expand(replacement, found))
    end = found.end
  }
  return pieces.join('') + text.slice(end)
}

/** What stands between, `most` pieces, as Go's `Split` has them. Throws as `regexMatches` does. */
export function regexSplit(pattern: string, text: string, most = Infinity): string[] {
  const found = findAll(pattern, text, most)
  if (most === 0) return []
  if (text === '' && pattern !== '') return ['']
  const pieces: string[] = []
  let [from, to] = [0, 0]
  for (const { start, end } of found) {
    if (pieces.length === most - 1) break
    to = start
    if (end !== 0) pieces.push(text.slice(from, to))
    from = end
  }
  return to === text.length ? pieces : [...pieces, text.slice(from)]
}

function compile(pattern: string): RE2JS {
  try {
    return RE2JS.compile(toText(pattern))
  } catch (error) {
    // What follows quotes the pattern, which may be a secret.
    const [reason] = String((error as Error).message).split(': `')
    throw new Error(`the regular expression can not be parsed (${reason!.replace('error parsing regexp: ', '')})`)
  }
}

function findAll(pattern: string, text: string, most = Infinity): Found[] {
  const regex = compile(pattern)
  const names = regex.namedGroups()
  const matcher = regex.matcher(Buffer.from(text, 'latin1'))
  const all: Found[] = []
  let last = -1
  while (all.length < most && matcher.find()) {
    const [start, end] = [matcher.start(), matcher.end()]
    // In Go nothing is found right behind what was found before.
    if (start === end && start === last) continue
    const groups = Array.from({ length: regex.groupCount() + 1 }, (_, group) =>
      matcher.start(group) < 0 ? '' : text.slice(matcher.start(group), matcher.end(group)),
    )
    all.push({ start, end, groups, names })
    last = end
  }
  return all
}

/** A name is as long as it can be, and one that is not there is empty. */
function expand(replacement: string, { groups, names }: Found): string {
  const named = /\$(?:\$|\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+))/gu
  const pieces: string[] = []
  let end = 0
  const text = toText(replacement)
  for (const found of text.matchAll(named)) {
    const name = found[1] ?? found[2]
    const group = name === undefined || /^(0|[1-9]\d*)$/.test(name) ? Number(name) : names[name]
    pieces.push(toBytes(text.slice(end, found.index)), name === undefined ? '$' : (groups[group!] ?? ''))
    end = found.index + found[0].length
  }
  return pieces.join('') + toBytes(text.slice(end))
}
