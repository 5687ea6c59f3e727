// What templates may do: whatever they ask for, reading a variable ends soon, in a value or in one error with file and line.
import test from 'ava'
import fc from 'fast-check'
import { RekeyError } from '../../../lib/errors.ts'
import { addHost, createInventoryData } from '../../../lib/inventory/groups.ts'
import type { Value } from '../../../lib/inventory/values.ts'
import { createLayers } from '../../../lib/inventory/variables/layers.ts'
import { createResolver } from '../../../lib/inventory/variables/resolve.ts'
import { tries } from '../../_fuzz.ts'
import { processorTime } from '../../_processor-time.ts'

const machine = {
  folder: import.meta.dirname,
  cwd: import.meta.dirname,
  environment: {},
  pipe: false,
  decrypt: (text: string) => text,
}

/** Reads the first of some variables. */
function read(variables: Readonly<Record<string, Value>>): unknown {
  const data = createInventoryData()
  const origin = { file: 'hosts.yml', line: 7 }
  const host = addHost({ data, source: '/inventory/hosts' }, 'h1', data.groups.get('ungrouped')!, undefined, origin)
  const extraVars = new Map(Object.entries(variables).map(([name, value]) => [name, { value, origin }]))
  const layers = createLayers({ data, inventoryFolders: [], extraVars })
  return createResolver({ data, layers, machine }).read(host, Object.keys(variables)[0]!)
}

/** A list that holds itself twice, forty times over: small, and endless to whoever goes through it. */
const doubled = (end: string) =>
  `{% set ns = namespace(o=[1]) %}{% for i in range(40) %}{% set ns.o = [ns.o, ns.o] %}{% endfor %}${end}`
const itself = (end: string) => `{% set o = [] %}{% set _ = o.append(o) %}${end}`
const many = (times: number, text: string) => text.repeat(times)

const tooMuch: Readonly<Record<string, string>> = {
  'a wide field of %': "{{ '%1000000000d' | format(1) }}",
  'a wide field of % as an operator': "{{ '%-999999999s' % 1 }}",
  'many digits of %': "{{ '%.1000000000f' % 1 }}",
  'a wide field of format': "{{ '{:1000000000}'.format(1) }}",
  'a wide field within a field of format': "{{ '{:{}}'.format(1, 1000000000) }}",
  'a wide indent': "{{ 'x' | indent(1000000000, true) }}",
  'a wide center': "{{ 'x' | center(1000000000) }}",
  'a wide ljust': "{{ 'x'.ljust(1000000000) }}",
  'a wide zfill': "{{ 'x'.zfill(1000000000) }}",
  'a text many times': "{{ 'x' * 1000000000 }}",
  'a list many times': '{{ [1] * 1000000000 }}',
  'a comment with many lines': "{{ 'x' | comment(prefix_count=1000000000) }}",
  'a list filled up': '{{ [1] | batch(1000000000, 1) }}',
  'many slices': '{{ [1] | slice(1000000000) }}',
  'a long range': '{{ range(10 ** 9) | list }}',
  'long ranges within each other': '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}',
  'a text that doubles':
    "{% set ns = namespace(x='xx') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
  'a text that doubles by replace':
    "{% set ns = namespace(x='xx') %}{% for i in range(100) %}{% set ns.x = ns.x | replace('x', 'xx') %}{% endfor %}",
  'a text that doubles by a regular expression':
    "{% set ns = namespace(x='xx') %}{% for i in range(100) %}{% set ns.x = ns.x | regex_replace('x', 'xx') %}{% endfor %}",
  'a list that doubles':
    '{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}',
  'long texts again and again': "{% for i in range(1000) %}{{ ('x' * 10000000) | length }}{% endfor %}",
  'a large number': '{{ 2 ** (10 ** 9) }}',
  'a number that grows':
    '{% set ns = namespace(x=10) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}',
  'a number too long to print': '{{ 10 ** 5000 }}{{ 1 }}',
  'round to many digits': '{{ 1.5 | round(1000000000) }}',
  'products of many lists': '{{ range(100) | product(range(100), range(100), range(100)) | list }}',
  'repeated products': '{{ [1, 2] | product(repeat=60) | list }}',
  permutations: '{{ range(20) | permutations | list }}',
  combinations: '{{ range(60) | combinations(30) | list }}',
  '5,000 parentheses': `{{ ${many(5000, '(')}1${many(5000, ')')} }}`,
  '5,000 brackets': `{{ ${many(5000, '[')}${many(5000, ']')} }}`,
  '5,000 open brackets': `{{ ${many(5000, '[')} }}`,
  '5,000 braces': `{{ ${many(5000, '{1:')}1${many(5000, '}')} }}`,
  '5,000 times not': `{{ ${many(5000, 'not ')}1 }}`,
  '5,000 signs': `{{ ${many(5000, '- ')}1 }}`,
  '5,000 conditions': `{{ ${many(5000, '1 if 1 else ')}1 }}`,
  '5,000 blocks': `${many(5000, '{% if 1 %}')}${many(5000, '{% endif %}')}`,
  '5,000 subscripts within each other': `{{ ${many(5000, 'm[')}1${many(5000, ']')} }}`,
  '200,000 operators': `{{ 1${many(200_000, ' + 1')} }}`,
  '200,000 attributes': `{{ m${many(200_000, '.a')} }}`,
  'a list in itself': itself('{{ o }}'),
  'a list in itself, printed': itself('{{ o }}{{ o }}'),
  'a list in itself, as JSON': itself('{{ o | to_json }}'),
  'a list in itself, as YAML': itself('{{ [o] | to_nice_yaml }}{{ o | map("to_json") | list }}'),
  'a list in itself, flattened': itself('{{ o | flatten }}'),
  'a list in itself, compared': `${itself('')}{% set p = [] %}{% set _ = p.append(p) %}{{ o == p }}`,
  'a list doubled': doubled('{{ ns.o }}'),
  'a list doubled, printed': doubled('x{{ ns.o }}'),
  'a list doubled, as JSON': doubled('{{ ns.o | to_json }}'),
  'a list doubled, flattened': doubled('{{ ns.o | flatten }}'),
  'two lists doubled, compared': `${doubled('{% set a = ns.o %}')}${doubled('{{ a == ns.o }}')}`,
  'a macro that calls itself': '{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}',
  'a macro that calls itself twice':
    '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}',
  'a loop in itself': '{% set o = [] %}{% set _ = o.append(o) %}{% for i in o recursive %}{{ loop(i) }}{% endfor %}',
  'many lists, each looked for in the others':
    '{% set ns = namespace(x=[]) %}{% for i in range(20000) %}{% set _ = ns.x.append([i]) %}{% endfor %}{{ ns.x | unique | length }}',
  'a regular expression with too many repeats': "{{ 'x' | regex_search('((x{1,1000}){1,1000}){1,1000}') }}",
  'a regular expression that looks ahead': "{{ 'x' | regex_search('x(?!y)') }}",
  'a regular expression that looks behind': "{{ 'x' | regex_search('(?<!y)x') }}",
  'a regular expression that refers back': "{{ 'xx' | regex_search('(x)\\1') }}",
  'a regular expression of 5,000 brackets': `{{ 'x' | regex_search('${many(5000, '(')}${many(5000, ')')}') }}`,
  'a random number of none': '{{ 0 | random(seed="x") }}',
}

for (const [what, template] of Object.entries(tooMuch)) {
  test.serial(`${what} is one error with file and line, and soon`, t => {
    // The longest of them takes 2 s.
    const taken = processorTime(() => {
      const error = t.throws(() => read({ asked: template, m: {} as never }), { instanceOf: RekeyError })
      t.regex(error.message, /^hosts\.yml:7: the variable "asked" of h1: /)
      t.true(error.message.length < 12_000)
    })
    t.true(taken < 20_000, `${taken} ms`)
  })
}

test.serial('patterns that make other engines stand still take no time here', t => {
  const text = `${'a'.repeat(50_000)}!`
  t.is(read({ asked: "{{ text | regex_replace('(a+)+$', 'x') | length }}", text }), 50_001)
  t.is(read({ asked: "{{ text is match('(a|aa)+$') }}", text }), false)
  t.is(read({ asked: "{{ text | regex_search('(a*)*b') }}", text }), null)
  t.is(
    read({ asked: "{{ text.strip('a') }}{{ (text ~ nl) | trim | length }}", text, nl: '\n'.repeat(50_000) }),
    '!50001',
  )
  t.is(
    read({ asked: '{{ slashes | dirname | length }}', slashes: `${'/'.repeat(50_000)}x/${'/'.repeat(50_000)}y` }),
    50_001,
  )
})

test.serial('variables that need each other go 100 deep, and no further', t => {
  const chain = (length: number): Record<string, string> =>
    Object.fromEntries(
      Array.from({ length }, (_, index) => [`v${index}`, index === length - 1 ? 'end' : `{{ v${index + 1} }}`]),
    )
  t.is(read(chain(90)), 'end')
  t.throws(() => read(chain(5000)), { message: /^hosts\.yml:7: .*more than 100 variables are within each other/ })
})

test.serial('what a value takes is counted for each value anew', t => {
  const counting = '{{ range(1000000) | list | length }}'
  for (let count = 0; count < 6; count++) t.is(read({ asked: counting }), 1_000_000)
})

test.serial('any text at all is a value, or one error with file and line', t => {
  const piece = fc.oneof(
    fc.constantFrom(
      '{{',
      '}}',
      '{%',
      '%}',
      '{#',
      '#}',
      '-',
      '+',
      '|',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      ',',
      ':',
      '.',
      '*',
      '**',
      '%',
    ),
    fc.constantFrom(
      ' if ',
      ' else ',
      ' for x in ',
      ' endfor ',
      ' endif ',
      ' set x = ',
      ' raw ',
      ' endraw ',
      ' is ',
      ' not ',
      ' in ',
    ),
    fc.constantFrom(
      ' 1 ',
      ' 99999999999 ',
      ' "a" ',
      " 'b' ",
      ' x ',
      ' nope ',
      ' loop ',
      ' range ',
      ' dict ',
      ' namespace ',
      ' lookup ',
    ),
    fc.constantFrom(
      'map',
      'list',
      'join',
      'to_nice_yaml',
      'from_yaml',
      'regex_replace',
      'default',
      'batch',
      'format',
      'groupby',
      'sort',
    ),
    fc.constantFrom('#jinja2: trim_blocks: False\n', 'constructor', '__proto__', 'toString', '\n', '"', "'", '\\'),
    fc.string({ maxLength: 4 }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), pieces => {
      const template = `{{ ${pieces.join('')} }}`
      for (const source of [template, pieces.join('')]) {
        try {
          read({ asked: source, x: ['a', { b: 1 } as never] })
        } catch (error) {
          if (!(error instanceof RekeyError)) throw error
          if (!error.message.startsWith('hosts.yml:7: ')) throw error
        }
      }
    }),
    tries(1500),
  )
  t.pass()
})
