// Files of lines, of any size and with anything in them.
import { spawnSync } from 'node:child_process'
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { readLines } from '../../../lib/run/folder/line-reader.ts'
import { processorTime } from '../../_processor-time.ts'
import { temporaryFolder } from '../../_temporary.ts'

const file = join(temporaryFolder('lines'), 'file')
const lines = (text: string | Buffer, options?: Parameters<typeof readLines>[1]) => {
  writeFileSync(file, text)
  return [...readLines(file, options)]
}

test('lines come whole, with where they stand, whatever is in them and wherever a chunk ends', t => {
  const line = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.nat(150_000).map(size => 'é'.repeat(size)),
  )
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), fc.boolean(), (texts, isBroken) => {
      const clean = texts.map(text => text.replaceAll('\n', ' ').toWellFormed())
      const whole = clean.join('\n') + (isBroken ? '' : '\n')
      const bytes = Buffer.from(whole)
      const found = lines(bytes)
      const expected = clean.flatMap((text, index) => (text === '' ? [] : [{ text, number: index + 1 }]))
      t.deepEqual(found.map(({ text, number }) => ({ text, number })) as unknown, expected)
      for (const { at, text = '' } of found) t.is(bytes.subarray(at, at + Buffer.byteLength(text)).toString(), text)
      const last = clean.at(-1) ?? ''
      t.is(found.at(-1)?.broken === true, isBroken && last !== '')
    }),
    { numRuns: 15 },
  )
})

test('lines that begin as nobody wants them are passed over, and counted', t => {
  t.deepEqual(
    lines('no 1\nyes\nno 2\n\nyes too', { without: 'no' }).map(({ number, text }) => [number, text]),
    [
      [2, 'yes'],
      [5, 'yes too'],
    ],
  )
  const long = `no ${'x'.repeat(600_000)}\n`
  t.deepEqual(lines(long + long, { without: 'no' }), [])
})

test('of a line that is longer than may be read it is known that it is there', t => {
  const found = lines(`short\n${'x'.repeat(2_000)}\nlast\n`, { longest: 1_000 })
  t.deepEqual(
    found.map(({ number, text }) => [number, text]),
    [
      [1, 'short'],
      [2, undefined],
      [3, 'last'],
    ],
  )
})

test('texts in lines that are too long are cut, and what stands around them is as it was', t => {
  const texts = fc.array(fc.oneof(fc.constantFrom('"', '\\', '\n', '\u0000', 'é', '😀', 'x'), fc.string()), {
    maxLength: 40,
  })
  fc.assert(
    fc.property(texts, fc.nat(200_000), (parts, size) => {
      const long = (parts.join('') || 'y').repeat(1 + Math.floor(size / 4)).slice(0, 900_000)
      const event = { kind: 'a', error: { message: `${long}1`, code: 'x' }, more: [`${long}2`], at: 5 }
      const json = JSON.stringify(event)
      const [found] = lines(`${json}\n`, { shorten: true, longest: 1_100_000 })
      const read = JSON.parse(found?.text ?? '') as typeof event
      t.is(read.at, 5)
      t.is(read.error.code, 'x')
      if (Buffer.byteLength(json) < 1024 * 1024) return t.deepEqual(read, JSON.parse(json))
      const kept = read.error.message.replace(/\ufffd+$/, '')
      t.true(event.error.message.startsWith(kept) && kept.length > 1_000 && kept.length < 20_000, String(kept.length))
    }),
    { numRuns: 10 },
  )
})

test('what is no file is not waited for', t => {
  const pipe = join(temporaryFolder('pipe'), 'pipe')
  t.is(spawnSync('mkfifo', [pipe]).status, 0)
  t.throws(() => [...readLines(pipe)], { message: /is no file/ })
  t.throws(() => [...readLines('/dev/zero')], { message: /is no file/ })
  t.throws(() => [...readLines('/')])
  t.deepEqual([...readLines(join(pipe, '..', 'absent'))], [])
})

test('a journal of before, with a hundred thousand lines of output, is read in a moment', t => {
  writeFileSync(file, '')
  const line = `{"kind":"step.output","play":1,"step":"a","host":"m1","stream":"stdout","line":"y","at":1}\n`
  for (let count = 0; count < 20; count++) appendFileSync(file, line.repeat(10_000))
  const taken = processorTime(() => {
    t.deepEqual([...readLines(file, { without: '{"kind":"step.output"' })], [])
  })
  // 18 MB: 30 ms where nothing else goes on.
  t.true(taken < 3_000, `${taken} ms`)
})
