// Random YAML: words and marks in any order, and files with a few of their characters changed.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'

const pieces = [
  ...['a', 'b: ', 'c:', 'd', '- ', '-', '? ', '?', ': ', ':', '{', '}', '[', ']', ', ', ',', '"', '"x"', "'", "'y'"],
  ...['\n', '\n', '\n', '\n ', '\n  ', '\n    ', '\n  ', '\n\n', '\n\n  ', ' ', '  ', '\t', '\n\t', '#', '# c', ' # c'],
  ...[
    '|',
    '>',
    '|-',
    '|+',
    '>2',
    '|1',
    '&a ',
    '&b ',
    '*a',
    '*b ',
    '!t ',
    '! ',
    '!',
    '!!str ',
    '!!int ',
    '!!float ',
    '!!null ',
  ],
  ...[
    '!vault ',
    '!unsafe ',
    '!<tag:yaml.org,2002:str> ',
    '!%41 ',
    '!e!x ',
    '%YAML 1.1\n',
    '%TAG !e! tag:yaml.org,2002:\n',
  ],
  ...['---', '...', '--- ', '\n---\n', '\n...\n', '%', '@', '`', '\\', '\\n', '\\x41', '\\u00e9', '\\/', '\\q', 'x y'],
  ...['<<: ', '<<: *a\n', '=', '~', 'é', '😀', '\r\n', '\r', '\u0085', '\u2028', '\ufeff', '\u00a0', '\x07', '{{ x }}'],
  ...[
    '{a: 1}',
    '[1, 2]',
    'k: v\n',
    'key:\n',
    '- i\n',
    '"q\n',
    '"\n',
    "''",
    '"a\\\n b"',
    '1',
    '-1',
    '0x1F',
    '010',
    '1:30',
  ],
  ...['1.5', '1e3', '1_0', '.inf', 'yes', 'No', 'null', 'true', '2001-12-14', '2001-12-14 1:02:03', 'NaN'],
]

const files = join(import.meta.dirname, '..', 'cases')
const wholeFiles = readdirSync(files, { recursive: true, encoding: 'utf8' })
  .filter(name => /\.(ya?ml|json)$/.test(name) && !name.endsWith('case.json'))
  .sort()
  .map(name => readFileSync(join(files, name), 'utf8'))
  .filter(text => text.length < 2000)

const soup = fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 14 }).map(parts => parts.join(''))

const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  away: fc.nat(4),
  piece: fc.oneof(fc.constant(''), fc.constantFrom(...pieces)),
})
const changed = fc
  .tuple(fc.constantFrom(...wholeFiles), fc.array(change, { minLength: 1, maxLength: 3 }))
  .map(([text, changes]) =>
    changes.reduce((now, { at, away, piece }) => {
      const from = Math.floor(at * now.length)
      return now.slice(0, from) + piece + now.slice(from + away)
    }, text),
  )

/** A text that may be YAML. */
export const randomYaml: fc.Arbitrary<string> = fc.oneof(soup, soup, changed).map(text => text.toWellFormed())
