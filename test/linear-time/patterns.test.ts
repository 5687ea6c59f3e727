// Every regular expression that may see text from hosts takes time that grows with the text, and not with its square: each is given what
// it is made of, over and over.
import { globSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { tokenizer } from 'acorn'
import test from 'ava'
import { processorTime } from '../_processor-time.ts'

const root = join(import.meta.dirname, '..', '..')
/** All files but those of lib/inventory and lib/template, which have tests of their own, and of lib/lab, whose hosts are ours. */
const isRead = (file: string) => !/^lib\/(inventory|template|lab)\//.test(file)

/** What is given only short text, or text that was found to be well-formed before. */
const bounded: Readonly<Record<string, string>> = {
  '(\\d+(?:\\.\\d+)?)(ms|s|m|h|d)': 'of what is known to be a duration',
  '(\\d+(?:\\.\\d+)?)(ms|[smhd])': 'of what is known to be a duration',
  '[\\s_.-]*\\(?(\\d[\\dtz:.-]*|[gv]\\d+|[0-9a-f]{8,})\\)?$': 'of 256 characters',
  '[\\s_-]*ca$': 'of 256 characters',
  '[ \\t]+$': 'of 80 characters',
}

const size = 16_000
/** Milliseconds of the processor that are no reason to look closer, and those that are too many in any case. */
const [little, most] = [2, 40]

interface Pattern {
  readonly where: string
  readonly pattern: string
  readonly flags: string
}

function patternsIn(file: string): Pattern[] {
  const source = stripTypeScriptTypes(readFileSync(join(root, file), 'utf8'))
  const found: Pattern[] = []
  for (const token of tokenizer(source, { ecmaVersion: 'latest', sourceType: 'module', locations: true })) {
    if (token.type.label !== 'regexp') continue
    const { value, loc } = token as unknown as { value: Omit<Pattern, 'where'>; loc: { start: { line: number } } }
    found.push({ where: `${file}:${loc.start.line}`, pattern: value.pattern, flags: value.flags })
  }
  return found
}

const usual = [' ', '\t', '\n', 'a', '0', '=', '-', '.', '/', ':', ',', '"', '\\', '0a', 'a ', 'a.', 'a=']

/** What a pattern says to the letter, piece by piece; of a class, two of its signs. */
function piecesOf(pattern: string): string[] {
  const pieces: string[] = []
  const tokens =
    pattern.match(/\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\.|\[\^?(?:\\.|[^\]\\])+\]|\(\?<?[:=!]|\{[\d,]+\}|[\s\S]/gi) ?? []
  let piece = ''
  const end = () => {
    if (piece !== '') pieces.push(piece)
    piece = ''
  }
  for (const token of tokens) {
    if (/^[\w\s"'/=<>:;,%!~@#&«-]$/.test(token)) piece += token
    else if (/^\\[^a-z0-9]$/i.test(token)) piece += token[1]
    else if (/^\\[nrt]$/.test(token)) piece += JSON.parse(`"${token}"`)
    else {
      end()
      if (token.startsWith('[') && token.length > 1)
        pieces.push(...(token.match(/(?<!\\)[^\w\\[\]^]|[a-z0-9](?=-)/gi) ?? []).slice(-2))
    }
  }
  end()
  return [...new Set(pieces)]
}

/** What to give a pattern: each piece over and over, two of them, several in a row, and what is in all text. */
function pumpsFor(pattern: string): Set<string> {
  const pieces = piecesOf(pattern).slice(0, 5)
  const pairs = pieces.flatMap(one => [' ', 'a', '0', '\n', ...pieces].map(two => one + two))
  const runs = pieces.flatMap((_, from) => pieces.slice(from + 1).map((_, to) => pieces.slice(from, from + to + 2)))
  const joined = runs.flatMap(run => ['', 'a', ' '].map(between => run.join(between)))
  return new Set([...usual, ...pieces, ...pairs, ...joined].filter(Boolean))
}

const milliseconds = (expression: RegExp, text: string) =>
  processorTime(() => {
    if (expression.global) for (const _ of text.matchAll(expression));
    else expression.test(text)
  })

/** How many times as long four times as much takes: 4, or 16 and more. What lies between is the doing of whatever else goes on, and is measured again. */
function timesAsLong(once: () => number, fourTimes: () => number): number {
  let times = fourTimes() / once()
  for (let tries = 0; tries < 5 && times > 5 && times < 12; tries++) times = fourTimes() / once()
  return times
}

/** The text that takes a pattern too long: more than eight times as long for four times as much. */
function slowText({ pattern, flags }: Pattern): string | undefined {
  const expression = new RegExp(pattern, flags)
  const [first = ''] = piecesOf(pattern)
  for (const pump of pumpsFor(pattern)) {
    for (const start of usual.includes(pump) ? ['', first] : ['']) {
      const textOf = (length: number) => `${start}${pump.repeat(Math.ceil(length / pump.length))}\u0001`
      /** What else goes on takes time, too. */
      const least = (text: string) => Math.min(...[0, 1, 2].map(() => milliseconds(expression, text)))
      // What takes the third power of the size is seen with less of it.
      const part = textOf(size / 16)
      if (milliseconds(expression, part) > most && least(part) > most) return `${start}${pump}…`
      const text = textOf(size)
      if (milliseconds(expression, text) <= little) continue
      const once = least(text)
      if (
        once > most ||
        (once > little &&
          timesAsLong(
            () => least(text),
            () => least(textOf(4 * size)),
          ) > 8)
      )
        return `${start}${pump}…`
    }
  }
  return undefined
}

test('the regular expressions of rooms that read what hosts say take linear time', t => {
  const patterns = globSync('lib/**/*.ts', { cwd: root }).filter(isRead).sort().flatMap(patternsIn)
  t.true(patterns.length > 150)
  const slow = patterns
    .filter(({ pattern }) => !Object.hasOwn(bounded, pattern))
    .flatMap(one => {
      const text = slowText(one)
      return text === undefined ? [] : `${one.where}: /${one.pattern}/${one.flags} on ${JSON.stringify(text)}`
    })
  t.deepEqual(slow, [])
  const known = new Set(patterns.map(({ pattern }) => pattern))
  t.deepEqual(
    Object.keys(bounded).filter(one => !known.has(one)),
    [],
    'no longer there',
  )
})

test('a pattern that takes the square of the size is found', t => {
  for (const pattern of [
    '\\beyJ[\\w-]{8,}\\.eyJ',
    'BEGIN ([A-Z]+)-[\\s\\S]*?END',
    '\\s+$',
    '(\\d+)s',
    'passphrase for (.+?):$',
  ])
    t.not(slowText({ where: '', pattern, flags: '' }), undefined, pattern)
  for (const pattern of ['^\\s*$', '\\s', 'a{1,5}b', '[a-z]+:'.replace('+', '{1,9}')])
    t.is(slowText({ where: '', pattern, flags: '' }), undefined, pattern)
})
