// What steps return and a resumed run reads back: as it was, whatever a host answered, and whatever became of the files.
import { deepStrictEqual, ok } from 'node:assert/strict'
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { ProcessOutput } from 'zx/core'
import { Secret } from '../../../lib/connection/shell.ts'
import { openRegistered, type RegisteredFile } from '../../../lib/run/registered/registered.ts'
import { tellSecret } from '../../../lib/secrets/index.ts'
import { tries } from '../../_fuzz.ts'
import { temporaryFolder } from '../../_temporary.ts'

const isSecret = (text: string) => text.includes('s3cr3t')
const open = (folder: string, returned?: ReadonlyMap<string, ReadonlySet<string>>) =>
  openRegistered(folder, { isSecret, returned })

/** What a resumed run gets of values that steps returned, and what was written for them. */
async function kept(values: readonly unknown[]) {
  const folder = temporaryFolder('registered')
  const before = open(folder)
  await Promise.all(values.map((value, index) => before.save('step', `h${index}`, value)))
  const now = values.map((_, index) => before.get('step', `h${index}`))
  before.close()
  const after = open(folder)
  const then = values.map((_, index) => after.get('step', `h${index}`))
  after.close()
  return { folder, now, then, damage: after.damage, text: readFileSync(join(folder, 'registered.jsonl'), 'utf8') }
}

const marks = fc.constantFrom(
  '$secret',
  '$text',
  '$date',
  '$map',
  '$set',
  '$bytes',
  '$number',
  '$output',
  '$cut',
  '$object',
  '$',
)
/** Data as hosts answer it, with what looks like marks of ours, and with secrets in it. */
const hostile = fc.letrec<{ any: unknown }>(tie => ({
  any: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    fc.jsonValue(),
    fc.double(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('../../../../etc/passwd', 'command.json', 'the s3cr3t', 's3cr3t \ud800', '__proto__', 5, ''),
    fc.array(tie('any'), { maxLength: 3 }),
    fc.tuple(marks, tie('any')).map(([mark, value]) => ({ [mark]: value })),
    fc.tuple(marks, tie('any'), tie('any')).map(([mark, one, other]) => ({ [mark]: one, exitCode: other })),
    fc
      .tuple(fc.constantFrom('a', '__proto__', 'the s3cr3t', 'constructor', ''), tie('any'))
      .map(entry => Object.fromEntries([entry])),
  ),
})).any

test('any data comes back as it was, in the run and in one that is gone on with; secrets stand in files of their own', async t => {
  await fc.assert(
    fc.asyncProperty(fc.array(hostile, { minLength: 1, maxLength: 20 }), async values => {
      const { folder, now, then, text, damage } = await kept(values)
      deepStrictEqual(now, values)
      deepStrictEqual(then, values)
      deepStrictEqual(damage, [])
      ok(!text.includes('s3cr3t'))
      rmSync(folder, { recursive: true })
    }),
    tries(25),
  )
  t.pass()
})

test('secrets, maps, sets, dates, bytes and what commands printed come back as what they were', async t => {
  const output = new ProcessOutput(3, null, 'said\n', 'complained', 'said\ncomplained')
  const values = [
    new Secret('top-s3cr3t'),
    new Map<unknown, unknown>([[{ a: new Secret('x') }, new Set([1])]]),
    new Date(1e12),
    Buffer.from([0, 255]),
    { output, gone: undefined, also: () => {} },
    null,
  ]
  const { then, text } = await kept(values)
  const [secret, map, date, bytes, object, nothing] = then as [
    Secret,
    Map<{ a: Secret }, unknown>,
    Date,
    Buffer,
    { output: ProcessOutput },
    null,
  ]
  t.is(secret.reveal(), 'top-s3cr3t')
  const [[key, set] = []] = map
  t.is(key?.a.reveal(), 'x')
  t.deepEqual(set, new Set([1]))
  t.deepEqual(date, new Date(1e12))
  t.deepEqual(bytes, Buffer.from([0, 255]))
  t.deepEqual(Object.keys(object), ['output'])
  t.deepEqual(
    [object.output.stdout, object.output.stderr, object.output.exitCode, object.output.ok],
    ['said\n', 'complained', 3, false],
  )
  t.is(nothing, null)
  t.false(text.includes('top-'))
})

for (const [what, value, why] of [
  [
    'itself',
    () => Object.assign([] as unknown[], { 0: { a: 1 } }).concat() && cyclic(),
    /value\.list\.1 is what it is in/,
  ],
  ['a BigInt', () => ({ x: [10n] }), /value\.x\.0 is a BigInt/],
  ['data that is nested 20,000 deep', () => nested(20_000), /is nested more than 1000 deep/],
  ['a date that is none', () => new Date(Number.NaN), /value can't be read: Invalid time value/],
  [
    'what throws when it is looked at',
    () => ({
      get x() {
        throw new Error('no')
      },
    }),
    /value\.x can't be read: no/,
  ],
  [
    'what throws something odd',
    () => ({
      get x() {
        throw Object.create(null)
      },
    }),
    /value\.x can't be read: what it threw is no error/,
  ],
  [
    'a proxy that refuses',
    () =>
      new Proxy(
        {},
        {
          ownKeys: () => {
            throw new Error('trap')
          },
        },
      ),
    /value can't be read: trap/,
  ],
  ['200 MB', () => ['x'.repeat(200e6)], /value\.0 is more than 16 MB/],
  [
    'a list without an end',
    () => ({
      *[Symbol.iterator]() {
        for (;;) yield undefined
      },
      __proto__: Set.prototype,
    }),
    /can't be read|more than/,
  ],
  ['what grows as it is looked at', () => doubling(40), /is more than 16 MB/],
] as const) {
  test(`a step that returns ${what} fails with one error that says where, and nothing of it is kept`, async t => {
    const folder = temporaryFolder('registered')
    const registered = open(folder)
    const error = await t.throwsAsync(registered.save('give', 'h1', value()), { name: 'RekeyError' })
    t.regex(error?.message ?? '', /^what 'give' returned on h1 can't be kept: /)
    t.regex(error?.message ?? '', why)
    t.false(registered.has('give', 'h1'))
    t.is(statSync(join(folder, 'registered.jsonl')).size, 0)
  })
}

function cyclic() {
  const value: { list: unknown[] } = { list: [1] }
  value.list.push(value)
  return value
}

function nested(depth: number) {
  let value: unknown = 1
  for (let count = 0; count < depth; count++) value = count % 2 ? [value] : { value }
  return value
}

function doubling(depth: number) {
  let value: unknown = 1
  for (let count = 0; count < depth; count++) value = [value, value]
  return value
}

test('what of a secret is secret by itself is kept with it; of a text with secrets in it, those', async t => {
  tellSecret('whisper-it-softly')
  const folder = temporaryFolder('registered')
  const registered = openRegistered(folder, { isSecret: text => text.includes('whisper') })
  await registered.save('a', 'h1', new Secret('kind: Config\ntoken: abcdefgh', ['abcdefgh']))
  await registered.save('a', 'h2', 'kind: Config\nand whisper-it-softly too')
  t.deepEqual((registered.get('a', 'h1') as Secret).parts(), ['abcdefgh'])
  const files = readdirSync(join(folder, 'secrets')).map(name => readFileSync(join(folder, 'secrets', name), 'utf8'))
  t.true(
    files.some(text => text.endsWith('"parts":["whisper-it-softly"]}')),
    files.join('\n'),
  )
})

test('of a command that printed more than is kept only who reads it is told, with what it ended', async t => {
  const long = 'x'.repeat(9 * 1024 * 1024)
  const { now, then } = await kept([new ProcessOutput(0, null, long, '', long)])
  for (const [value] of [now, then] as [ProcessOutput][]) {
    t.is(value.exitCode, 0)
    t.throws(() => value.stdout, { message: /printed more than 8 MB/, code: 'connection.output-cut' })
    t.throws(() => value.text(), { code: 'connection.output-cut' })
  }
})

test('what a step returned is read from the disk where there is no room for it', async t => {
  const folder = temporaryFolder('registered')
  const values = Array.from({ length: 12 }, (_, index) => [String(index).repeat(3_000_000)])
  const registered = open(folder)
  for (const [index, value] of values.entries()) await registered.save('big', `h${index}`, value)
  globalThis.gc?.()
  for (let round = 0; round < 2; round++)
    for (const [index, value] of values.entries())
      t.true((registered.get('big', `h${index}`) as string[])[0] === value[0])
  t.is(registered.get('big', 'h1'), registered.get('big', 'h1'), 'what was asked for just now is at hand')
})

test('a step that returns nothing when it is done again leaves nothing of what it returned before', async t => {
  const folder = temporaryFolder('registered')
  const first = open(folder)
  await first.save('a', 'h1', 1)
  await first.save('a', 'h2', 2)
  await first.save('a', 'h1', undefined)
  for (const registered of [first, open(folder)]) {
    t.false(registered.has('a', 'h1'))
    t.is(registered.get('a', 'h1'), undefined)
    t.is(registered.get('a'), 2)
  }
})

const returned = new Map([['facts', new Set(['h1', 'h2'])]])

test('of a file that is damaged all that can be read is there; what is lost is told, and whoever needs it', async t => {
  const folder = temporaryFolder('registered')
  const before = open(folder)
  await before.save('facts', 'h1', { a: 1 })
  await before.save('facts', 'h2', { a: 2 })
  before.close()
  const path = join(folder, 'registered.jsonl')
  const [first = ''] = readFileSync(path, 'utf8').split('\n')
  for (const damage of [
    'garbage',
    'null',
    '{}',
    '\0\0\0\0',
    '{"step":"facts","host":"h2","format":2,"value":{"$map":5}}',
    '{"step":"facts","host":"h2","format":2,"value":{"$new":5}}',
    '{"step":"facts","host":"h2","format":2,"value":{"$date":"now","x":1}}',
    '{"step":"facts","host":"h2","format":2,"value":{"$text":"../registered.jsonl"}}',
    '{"step":"facts","host":"h2","format":2,"value":{"$secret":".."}}',
    '{"step":"facts","host":"h2","format":2,"value":{"$secret":"gone"}}',
    `{"step":"facts","host":"h2","format":2,"value":${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
  ]) {
    writeFileSync(path, `${first}\n${damage}\n`)
    const registered = open(folder, returned)
    t.is(registered.damage.length, 1, damage.slice(0, 80))
    t.regex(registered.damage[0] ?? '', /registered\.jsonl:2/)
    t.deepEqual(registered.get('facts', 'h1'), { a: 1 })
    t.true(registered.has('facts', 'h2'))
    t.throws(() => registered.get('facts', 'h2'), { code: 'run.registered-lost' }, damage.slice(0, 80))
    await registered.save('facts', 'h2', 'looked at again')
    t.is(registered.get('facts', 'h2'), 'looked at again')
    registered.close()
  }
  // Cut in the middle, the line was being written when its writer was killed: the next one begins where it began.
  writeFileSync(path, `${first}\n{"step":"fac`)
  const cut = open(folder)
  t.deepEqual(cut.damage, [])
  await cut.save('facts', 'h2', 3)
  t.is(open(folder).get('facts', 'h2'), 3)
})

test('no name of a secret leads out of the folder, be it by a link', async t => {
  const folder = temporaryFolder('registered')
  const outside = join(temporaryFolder('outside'), 'theirs')
  writeFileSync(outside, '"of this machine"')
  const before = open(folder)
  await before.save('a', 'h1', new Secret('mine'))
  before.close()
  const [name = ''] = readdirSync(join(folder, 'secrets'))
  rmSync(join(folder, 'secrets', name))
  symlinkSync(outside, join(folder, 'secrets', name))
  const after = open(folder)
  t.regex(after.damage.join(), /what 'a' returned on h1 is lost: .*can't be read/)
  t.throws(() => after.get('a', 'h1'), { code: 'run.registered-lost' })
})

test('what was registered before data was told from marks is still read; of what a host may have answered only data', async t => {
  const folder = temporaryFolder('registered')
  mkdirSync(join(folder, 'secrets'))
  writeFileSync(join(folder, 'secrets', 'make.h_1.0123abcd'), 'as it was\n')
  writeFileSync(join(folder, 'secrets', 'command.json'), 'no business of a host')
  writeFileSync(join(folder, 'control'), 'of this machine')
  const old = (value: unknown) => `${JSON.stringify({ step: 'make', host: 'h/1', value })}\n`
  const read = (value: unknown): unknown => {
    writeFileSync(join(folder, 'registered.jsonl'), old(value))
    const registered: RegisteredFile = open(folder)
    t.deepEqual(registered.damage, [])
    registered.close()
    return registered.get('make', 'h/1')
  }
  t.is((read({ $secret: 'make.h_1.0123abcd' }) as Secret).reveal(), 'as it was\n')
  t.is(read({ $text: 'make.h_1.0123abcd' }), 'as it was\n')
  t.deepEqual(read({ at: { $date: '2026-01-01T00:00:00.000Z' } }), { at: new Date('2026-01-01') })
  t.deepEqual(read({ $map: [['a', 1]] }), new Map([['a', 1]]))
  t.throws(() => (read({ $cut: 'may be missing', exitCode: 0 }) as ProcessOutput).stdout, { message: 'may be missing' })
  for (const data of [
    { $text: '../control' },
    { $text: 'command.json' },
    { $secret: 'nope' },
    { $map: 5 },
    { $map: [[1, 2, 3]] },
    { $date: 'now' },
    { $cut: 1 },
    { $cut: 'x', exitCode: 'y' },
    { $object: [['a', 1]] },
    { $text: ['make.h_1.0123abcd'] },
  ]) {
    t.deepEqual(read(data), data as unknown)
  }
  appendFileSync(
    join(folder, 'registered.jsonl'),
    `${JSON.stringify({ step: 'make', host: 'h2', format: 2, value: 1 })}\n`,
  )
  t.is(open(folder).get('make', 'h2'), 1)
})
