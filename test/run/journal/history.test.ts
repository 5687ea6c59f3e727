// What a journal says of its run, also one that is damaged, of another rekey, or somebody's idea of a joke.
import { ok } from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { RekeyError } from '../../../lib/errors.ts'
import { historyLines, runHeads, runRow, unfinished } from '../../../lib/output/history.ts'
import { endingOf, type RunHistory, readHistory, runFolders } from '../../../lib/run/journal/history.ts'
import { tries } from '../../_fuzz.ts'
import { temporaryFolder } from '../../_temporary.ts'

const folder = temporaryFolder('history')
const hosts = ['h1', 'h2']
const plays = [
  { title: 'Connect', hosts, steps: [{ id: 'connect', title: 'Connect', runOnce: false }] },
  { title: 'Work', hosts, steps: ['a', 'b', 'c'].map(id => ({ id, title: id.toUpperCase(), runOnce: false })) },
]
const started = (more: object = {}) => ({
  ...{ kind: 'run.started', mode: 'run', run: '20260101-000000-work-0000', folder, playbook: 'work', summary: 'Works' },
  ...{ inventory: ['/x'], operator: 'me', check: false, selection: {}, plays, at: 1e12, commit: 'c' },
  ...{ playbookFile: '/p.ts', playbookHash: 'f'.repeat(64), inventoryHashes: {} },
  ...{ process: { machine: 'elsewhere', pid: 1, started: '1' }, ...more },
})
const begin = (step: string, host: string) => ({ kind: 'step.started', play: 1, step, host, at: 1e12 })
const end = (step: string, host: string, more: object = {}) => ({
  ...{ kind: 'step.finished', play: 1, step, host, outcome: 'changed', milliseconds: 1, at: 1e12, ...more },
})
const did = (step: string, host: string, more?: object) => [begin(step, host), end(step, host, more)]
const finished = {
  kind: 'run.finished',
  outcome: 'failed',
  exitCode: 2,
  milliseconds: 5,
  tally: {},
  failures: [],
  at: 1e12,
}
const whole = [
  started(),
  ...hosts.flatMap(host => did('a', host)),
  { kind: 'notice', text: 'so it is', at: 1e12 },
  ...hosts.flatMap(host => did('b', host)),
  { kind: 'milestone', name: 'm', at: 1e12 },
  begin('c', 'h1'),
  end('c', 'h1', { outcome: 'failed', error: { message: 'no', code: 'x', hint: 'y' } }),
  finished,
]
const write = (lines: readonly unknown[], tail = '') =>
  writeFileSync(
    join(folder, 'events.jsonl'),
    lines.map(line => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join('') + tail,
  )
const read = (lines: readonly unknown[], tail?: string) => {
  write(lines, tail)
  return readHistory(folder)
}
const touchedBy = ({ touched }: RunHistory) =>
  [...touched].flatMap(([step, on]) => [...on].map(host => `${step} ${host}`)).sort()

test.serial('a journal that is whole is told whole', t => {
  const history = read(whole)
  t.deepEqual(history.damage, [])
  t.false(history.lostBeginning)
  t.deepEqual(touchedBy(history), ['a h1', 'a h2', 'b h1', 'b h2', 'c h1'])
  t.is(endingOf(history), 'failed')
})

for (const [what, line, said] of [
  ['null', 'null', 'is no event of a run'],
  ['garbage', 'garbage', "can't be read"],
  ['zeros, as a power failure leaves them', '\0\0\0', "can't be read"],
  ['a line that was cut', '{"kind":"step.fin', "can't be read"],
  [
    'an event of another rekey',
    '{"kind":"step.dreamt","at":1}',
    'is of a kind that this rekey does not know: "step.dreamt"',
  ],
  ['a beginning without anything in it', '{"kind":"run.started"}', "is no whole 'run.started': at: "],
  ['a step without a host', '{"kind":"step.started","play":1,"step":"a","at":1}', "is no whole 'step.started': host: "],
  [
    'an end that nobody knows',
    JSON.stringify(end('c', 'h1', { outcome: 'fine' })),
    "is no whole 'step.finished': outcome: ",
  ],
  ['a time without a date', JSON.stringify({ ...finished, at: 9e15 }), "is no whole 'run.finished': at: "],
] as const) {
  test.serial(`${what} in a journal is told by its line, and everything else is known`, t => {
    const history = read([...whole.slice(0, -1), line, finished])
    t.is(history.damage.length, 1)
    t.true(history.damage[0]?.includes(`events.jsonl:${whole.length} ${said}`), history.damage[0])
    t.deepEqual(touchedBy(history), touchedBy(read(whole)))
    t.is(endingOf(history), 'failed')
    t.true(historyLines(read([...whole.slice(0, -1), line, finished])).some(one => one.includes(said)))
  })
}

test.serial('a journal that ends in the middle of a line ends before it, and says so', t => {
  const history = read(whole.slice(0, -2), JSON.stringify(whole.at(-2)).slice(0, 40))
  t.regex(history.damage.join(), /events\.jsonl:\d+ ends in the middle$/)
  t.deepEqual(unfinished(history), ['C: begun on h1, its end is not known'])
  t.is(endingOf(history), 'not ended')
  t.deepEqual(touchedBy(history), touchedBy(read(whole)), 'what was begun is undone')
})

test.serial('a step of which the journal has lost everything was begun, since what comes after it was', t => {
  const isLost = (line: object) => 'step' in line && line.step === 'b' && 'host' in line && line.host === 'h1'
  const history = read(whole.map(line => (isLost(line) ? 'x' : line)))
  t.is(history.damage.length, 2)
  t.deepEqual(touchedBy(history), touchedBy(read(whole)))
  t.deepEqual(unfinished(history), ['B: begun on h1, its end is not known'])
  // In a journal that is whole, a step that is not there was not done.
  t.deepEqual(touchedBy(read(whole.filter(line => !isLost(line)))), ['a h1', 'a h2', 'b h2', 'c h1'])
})

test.serial('the rest of a block that failed is not taken for lost', t => {
  const steps = [
    { id: 'a', title: 'A', runOnce: false, block: 'B' },
    { id: 'b', title: 'B', runOnce: false, block: 'B' },
    { id: 'fix', title: 'Fix', runOnce: false, block: 'B', section: 'rescue' },
    { id: 'c', title: 'C', runOnce: false },
  ]
  const blocks = [plays[0], { title: 'Work', hosts: ['h1'], steps }]
  const lines = [
    started({ plays: blocks }),
    ...did('a', 'h1', { outcome: 'failed', handled: 'rescued' }),
    ...did('fix', 'h1'),
  ]
  t.deepEqual(touchedBy(read([...lines, 'x', ...did('c', 'h1')])), ['a h1', 'c h1', 'fix h1'])
})

test.serial('a rollback whose beginning is lost is not taken for the run itself', t => {
  const undo = { title: 'Undo: Work', hosts, steps: [{ id: 'undo-b', title: 'B', runOnce: false }] }
  const back = [started({ mode: 'rollback', plays: [plays[0], undo] }), ...did('undo-b', 'h1')]
  t.false(read([...whole, ...back]).lostBeginning)
  t.true(read([...whole, 'x', ...back.slice(1)]).lostBeginning)
})

test.serial('a journal of before, with output in it and an error of 40 MB, is told in a few lines', t => {
  const printed = '{"kind":"step.output","play":1,"step":"c","host":"h1","stream":"stdout","line":"y","at":1}'
  const error = { message: 'x'.repeat(40e6), code: 'command.failed' }
  const lines = [
    ...whole.slice(0, -2),
    ...Array.from({ length: 1_000 }, () => printed),
    end('c', 'h1', { outcome: 'failed', error }),
  ]
  const history = read([
    ...lines,
    { ...finished, error, failures: [{ host: 'h1', step: 'C', outcome: 'failed', error }] },
  ])
  t.deepEqual(history.damage, [])
  t.is(endingOf(history), 'failed')
  const told = historyLines(history).join('\n')
  t.true(told.length < 10_000, String(told.length))
  t.regex(told, /Error: x+ … \(\d+ more characters, in .*events\.jsonl\)/)
})

test.serial('without a beginning there is no run; what is wrong is said', t => {
  for (const lines of [[], ['x'], whole.slice(1)])
    t.throws(() => read(lines), { instanceOf: RekeyError, message: /holds no journal of a run/ })
  t.throws(() => read(['x']), { message: /events\.jsonl:1 can't be read/ })
})

test.serial('of many damaged lines a few are told, and how many more there are', t => {
  const { damage } = read([...whole, ...Array.from({ length: 1_000 }, () => 'x')])
  t.is(damage.length, 6)
  t.regex(damage.at(-1) ?? '', /995 more lines like that/)
})

test.serial('whatever is done to a journal, it is told or refused in one error, in bounded time', t => {
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(-1, 1e300, '', '__proto__', 'h1', [], {}, null))
  const line = fc.oneof(
    fc.constantFrom(...whole),
    fc
      .tuple(
        fc.constantFrom(...whole),
        fc.constantFrom(
          'kind',
          ...Object.keys(started()),
          ...Object.keys(end('a', 'h1', { error: 1, notified: 1, declined: true })),
        ),
        value,
      )
      .map(([event, key, given]) => ({ ...event, [key]: given })),
    fc.string(),
    value.map(one => JSON.stringify(one)),
  )
  fc.assert(
    fc.property(fc.array(line, { maxLength: 30 }), fc.string(), (lines, tail) => {
      write(lines, tail)
      let history: RunHistory
      try {
        history = readHistory(folder)
      } catch (error) {
        return ok(error instanceof RekeyError, String(error))
      }
      ok(historyLines(history).length > 0 && runRow(history).length === runHeads.length)
    }),
    tries(400),
  )
  t.pass()
})

test.serial('a folder that can not be read is one of the folders all the same', t => {
  const parent = temporaryFolder('runs')
  for (const name of ['a', 'b']) mkdirSync(join(parent, name))
  writeFileSync(join(parent, 'a', 'events.jsonl'), 'x\n')
  writeFileSync(join(parent, 'b', 'events.jsonl'), 'x\n')
  mkdirSync(join(parent, 'c', 'events.jsonl'), { recursive: true })
  chmodSync(join(parent, 'b'), 0)
  t.deepEqual(
    runFolders(parent),
    ['a', 'b', 'c'].map(name => join(parent, name)),
  )
  t.throws(() => readHistory(join(parent, 'c')), {
    instanceOf: RekeyError,
    message: /events\.jsonl can't be read: .* is no file/,
  })
  chmodSync(join(parent, 'b'), 0o700)
})
