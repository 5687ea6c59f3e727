// What steps print, in files that do not grow without end.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import fc from 'fast-check'
import { fileNameOf } from '../../../lib/run/folder/file-name.ts'
import { openOutputFiles, outputFile } from '../../../lib/run/printed/output-files.ts'
import { tries } from '../../_fuzz.ts'
import { temporaryFolder } from '../../_temporary.ts'

const of = { step: 'a', host: 'h1' }
const place = () => {
  const folder = temporaryFolder('output')
  return { folder, path: outputFile(folder, 1, 'Some play', of) }
}
const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `line ${from + index}`)
const keep = 10_000

/** Prints lines as one part of a run, in turns of the event loop between which something may be written. */
async function print(folder: string, path: string, lines: readonly string[], { turns = 10, isKilled = false } = {}) {
  const cuts: string[] = []
  const failures: Error[] = []
  const outputs = openOutputFiles(folder, keep, { cut: one => cuts.push(one), failed: error => failures.push(error) })
  for (let turn = 0; turn < turns; turn++) {
    const size = Math.ceil(lines.length / turns)
    for (const line of lines.slice(turn * size, (turn + 1) * size)) outputs.add(path, line, of)
    outputs.write()
    await delay(turn % 3)
  }
  if (!isKilled) outputs.end(path)
  await (isKilled ? untilWritten(outputs) : outputs.close())
  return { cuts, failures }
}

test('what is short is kept whole, for its owner only', async t => {
  const { folder, path } = place()
  const { cuts } = await print(folder, path, numbered(0, 500))
  t.is(readFileSync(path, 'utf8'), `${numbered(0, 500).join('\n')}\n`)
  t.deepEqual(cuts, [])
  t.deepEqual([statSync(path).mode & 0o777, statSync(dirname(path)).mode & 0o777], [0o600, 0o700])
})

test('what is a little longer than the beginning is kept whole, too', async t => {
  const { folder, path } = place()
  await print(folder, path, numbered(0, 900))
  t.is(readFileSync(path, 'utf8'), `${numbered(0, 900).join('\n')}\n`)
  t.deepEqual(readdirSync(dirname(path)), ['h1.log'])
})

/** Whatever was being written is written, and what came meanwhile. */
async function untilWritten(outputs: ReturnType<typeof openOutputFiles>): Promise<void> {
  for (let round = 0; round < 10; round++) {
    outputs.write()
    await delay(10)
  }
}

/** Throws unless a file is the first of the lines and the last of them, and says what is between. */
function isHeadAndTail(path: string, last: number): string {
  const text = readFileSync(path, 'utf8')
  const lines = text.trimEnd().split('\n')
  const cut = lines.findLastIndex(line => line.startsWith('[rekey: '))
  const numbers = (some: readonly string[]) => some.map(line => Number(/^line (\d+)$/.exec(line)?.[1] ?? Number.NaN))
  const [head, tail] = [numbers(lines.slice(0, cut)), numbers(lines.slice(cut + 1))]
  if (cut < 0 || head.length < 300 || tail.length < 150) return `${head.length} and ${tail.length} lines`
  if (!head.every((one, index) => one === index)) return 'the head is not the first lines'
  if (!tail.toReversed().every((one, index) => one === last - 1 - index)) return 'the tail is not the last lines'
  return text.length <= keep + 300 ? '' : `${text.length} bytes`
}

test('of what is long the beginning and the end are kept, and the place between says so', async t => {
  const { folder, path } = place()
  const { cuts } = await print(folder, path, numbered(0, 20_000))
  t.is(isHeadAndTail(path, 20_000), '')
  t.deepEqual(cuts, [path])
  t.regex(readFileSync(path, 'utf8'), /\n\[rekey: .* are kept, 9\.8 KB \(--keep-output\)\]\n/)
  t.deepEqual(readdirSync(dirname(path)), ['h1.log'])
})

test('what one call adds is more than may wait: it is written at once, and in order', async t => {
  const { folder, path } = place()
  const lines = numbered(0, 400_000)
  await print(folder, path, lines, { turns: 2 })
  t.is(isHeadAndTail(path, 400_000), '')
})

test('a run that is killed leaves the end beside the beginning, and whoever goes on puts it there', async t => {
  const { folder, path } = place()
  await print(folder, path, numbered(0, 20_000), { isKilled: true })
  t.true(readdirSync(dirname(path)).length > 1)
  t.true(statSync(path).size <= keep / 2)
  await print(folder, path, numbered(20_000, 20_010))
  t.is(isHeadAndTail(path, 20_010), '')
  t.deepEqual(readdirSync(dirname(path)), ['h1.log'])
})

test('a step that is done again and again never has more than its share', async t => {
  const { folder, path } = place()
  for (let round = 0; round < 5; round++) await print(folder, path, numbered(round * 2_000, (round + 1) * 2_000))
  t.is(isHeadAndTail(path, 10_000), '')
})

test('a line without an end is kept as others are', async t => {
  const { folder, path } = place()
  await print(folder, path, [`first${'x'.repeat(50_000)}last`])
  const text = readFileSync(path, 'utf8')
  t.regex(text, /^firstx{4000,}\n\[rekey: .*\]\nx{2000,}last\n$/)
})

test('where nothing can be written that is told once, and nothing else happens', async t => {
  const { folder, path } = place()
  writeFileSync(join(folder, 'output'), '')
  const { failures } = await print(folder, path, numbered(0, 100_000))
  t.is(failures.length, 1)
  t.regex(failures[0]?.message ?? '', /ENOTDIR/)
})

test('a name of a host or a step is a name of a file, and no two have the same', t => {
  const odd = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      '..',
      '.',
      '',
      'a/b',
      'a_b',
      '../../x',
      'nul\0x',
      'a%2Fb',
      'x'.repeat(300),
      `${'x'.repeat(299)}y`,
      'é'.repeat(200),
      '\ud800',
      '\ud801',
    ),
  )
  fc.assert(
    fc.property(odd, odd, (one, other) => {
      const name = fileNameOf(one)
      if (name.includes('/') || name.includes('\0') || name.startsWith('.') || name === '') return false
      return Buffer.byteLength(name) <= 200 && (name === fileNameOf(other)) === (one === other)
    }),
    tries(500),
  )
  for (const usual of ['h1', 'node-7.example.com', '::1', 'müller', 'install-the-certificates', 'a_b@c+d,e=f~g'])
    t.is(fileNameOf(usual), usual)
  const { folder } = place()
  const path = outputFile(folder, 2, '../../x/../y', { step: '../../../z', host: '..' })
  t.true(path.startsWith(join(folder, 'output', '02-')), path)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, '')
  t.true(existsSync(path) && basename(path).endsWith('.log'))
})
