// The picture of a run that goes on: what stands on a screen of which size.
import { WriteStream } from 'node:tty'
import test from 'ava'
import { finalFrame, liveFrame } from '../../lib/output/frame.ts'
import { cleaned } from '../../lib/output/open-view.ts'
import { followRun } from '../../lib/output/progress.ts'
import { terminalOf } from '../../lib/output/terminal.ts'
import { cut, visible, widthOf, wrapped } from '../../lib/output/text.ts'
import type { RunEvent } from '../../lib/run/events.ts'
import { begun, recorded } from './_scenarios.ts'

/** A terminal; how many colours it has, Node says of a real one in the same way. */
const out = { write: () => true, isTTY: true, getColorDepth: WriteStream.prototype.getColorDepth }
const terminal = terminalOf(out, { LANG: 'C.UTF-8', TERM: 'xterm', NO_COLOR: '1' })
const hundred = Array.from({ length: 100 }, (_, index) => `h${String(index + 1).padStart(3, '0')}`)

/** A run as it stands after those of its events that `until` lets through. */
function standing(events: readonly RunEvent[], until: (event: RunEvent) => boolean = () => true) {
  const { progress, take } = followRun()
  for (const event of events) if (until(event)) take(event)
  return progress
}

const now = begun + 9_000
const live = (run: ReturnType<typeof standing>, columns = 80, rows = 24) =>
  liveFrame(run, { terminal, columns, rows, now, tick: 0 })

const late = (event: RunEvent) => 'host' in event && event.host > 'h060'

test.serial(
  'of a hundred hosts those that failed come first, then those that take long, and the others are counted',
  t => {
    const events = recorded({
      hosts: hundred,
      went: host =>
        /^h0[12]5$/.test(host) ? { outcome: 'failed', error: { message: 'no\nspace left' } } : { output: ['…'] },
    })
    const run = standing(
      events,
      event =>
        event.kind !== 'run.finished' &&
        event.kind !== 'play.finished' &&
        !(event.kind === 'step.finished' && (late(event) || event.step === 'second')) &&
        !(event.kind === 'step.started' && event.step === 'second'),
    )
    const lines = live(run)
    t.true(lines.length < 24)
    const text = lines.join('\n')
    t.regex(
      text,
      /^❯ Both {2}100 hosts · 9 s\n {2}⠋ First {2}60\/100 · changed=58 failed=2 · 9 s\n {6}✖ h015 failed: no space left\n {6}✖ h025 failed/,
    )
    t.regex(text, /· h061 {2}9 s {2}…\n {6}· h062/)
    t.regex(text, / {6}… \d+ more at work\n {2}◻ Second\n◻ Later\nPlay 1 of 2 · 9 s/)
  },
)

test.serial('of a hundred hosts at work none is named as long as it says nothing and takes no time', t => {
  const run = standing(
    recorded({ hosts: hundred }),
    event => event.kind.endsWith('.started') && !('step' in event && event.step === 'second'),
  )
  const soon = liveFrame(run, { terminal, columns: 80, rows: 24, now: begun + 1_000, tick: 0 }).join('\n')
  t.regex(soon, /First {2}0\/100 · 1 s\n {6}… 100 at work\n/)
  t.regex(live(run).join('\n'), /· h001 {2}9 s\n/)
})

test.serial('a hundred hosts that all fail leave room for one that still works', t => {
  const events = recorded({ hosts: hundred, went: () => ({ outcome: 'failed', error: { message: 'full' } }) })
  const run = standing(
    events,
    event =>
      event.kind !== 'run.finished' &&
      event.kind !== 'play.finished' &&
      !('step' in event && event.step === 'second') &&
      !(event.kind === 'step.finished' && event.host === 'h077'),
  )
  const text = live(run).join('\n')
  t.regex(text, /h077 {2}9 s\n {6}… \d+ more failed\n/)
})

for (const [columns, rows] of [
  [80, 24],
  [40, 10],
  [20, 5],
  [200, 60],
  [10, 3],
  [80, 2],
  [1, 24],
] as const) {
  test.serial(`no picture is larger than a screen of ${columns} × ${rows}`, t => {
    const steps = Array.from({ length: 30 }, (_, index) => `Step ${index}`)
    const events = recorded({
      hosts: hundred,
      steps,
      went: host => ({ output: [`${host} 漢字 👩‍👩‍👧 ${'x'.repeat(300)}`] }),
    })
    const { progress, take } = followRun()
    for (const [index, event] of events.entries()) {
      take(event)
      if (index % 37 !== 0) continue
      const lines = live(progress, columns, rows)
      t.true(lines.length <= Math.max(0, rows - 1), `${lines.length} lines`)
      for (const line of lines) t.true(widthOf(line) < Math.max(2, columns), line)
    }
  })
}

test.serial('a step that runs batch by batch says how far it is', t => {
  const events = recorded({ hosts: ['h1', 'h2', 'h3'] })
  const run = standing(
    events,
    event =>
      event.kind.startsWith('run.started') || event.kind === 'play.started' || ('host' in event && event.host === 'h1'),
  )
  t.regex(live(run).join('\n'), /First {2}1\/3 · changed=1 · 2\.0 s\n.*Second {2}1\/3/)
})

test.serial('what stays of a run that is done is a line a play', t => {
  const lines = finalFrame(standing(recorded({ hosts: hundred })), { terminal, columns: 80, rows: 24, now, tick: 0 })
  t.deepEqual(lines, ['✔ Both  100 hosts · 4.0 s', '◻ 1 play not begun'])
})

test.serial('without Unicode there is ASCII alone, also of what hosts print', t => {
  const plain = terminalOf(out, { LANG: 'C', TERM: 'xterm', NO_COLOR: '1' })
  const events = recorded({ went: () => ({ output: ['größer … 漢'] }) }).map(event => cleaned(event, plain.text))
  const run = standing(events, event => !(event.kind === 'step.finished' || event.kind.endsWith('.finished')))
  const lines = [
    ...liveFrame(run, { terminal: plain, columns: 80, rows: 24, now, tick: 0 }),
    ...finalFrame(run, { terminal: plain, columns: 80, rows: 24, now, tick: 0 }),
  ]
  t.regex(lines.join('\n'), /^> Both {2}2 hosts - 9 s\n/)
  t.regex(lines.join('\n'), /gr\?\?er \.\.\. \?/)
  for (const line of lines) t.regex(line, /^[\x20-\x7e]*$/)
})

const capabilities: readonly (readonly [
  string,
  object,
  NodeJS.ProcessEnv,
  { screen: boolean; watched: boolean; unicode: boolean; color: boolean },
])[] = [
  [
    'a terminal',
    out,
    { LANG: 'en_US.UTF-8', TERM: 'xterm' },
    { screen: true, watched: true, unicode: true, color: true },
  ],
  [
    'a pipe',
    { write: out.write },
    { LANG: 'en_US.UTF-8', TERM: 'xterm' },
    { screen: false, watched: false, unicode: true, color: false },
  ],
  [
    'a pipe with FORCE_COLOR',
    { write: out.write },
    { FORCE_COLOR: '1' },
    { screen: false, watched: false, unicode: false, color: true },
  ],
  [
    'TERM=dumb',
    out,
    { LANG: 'en_US.UTF-8', TERM: 'dumb' },
    { screen: false, watched: false, unicode: false, color: false },
  ],
  ['LANG=C', out, { LANG: 'C', TERM: 'xterm' }, { screen: true, watched: true, unicode: false, color: true }],
  [
    'LC_ALL over LANG',
    out,
    { LC_ALL: 'POSIX', LANG: 'en_US.UTF-8', TERM: 'xterm' },
    { screen: true, watched: true, unicode: false, color: true },
  ],
  [
    'NO_COLOR',
    out,
    { LANG: 'C.utf8', TERM: 'xterm', NO_COLOR: '1' },
    { screen: true, watched: true, unicode: true, color: false },
  ],
  [
    'an empty NO_COLOR',
    out,
    { TERM: 'xterm', NO_COLOR: '' },
    { screen: true, watched: true, unicode: false, color: true },
  ],
  [
    'FORCE_COLOR=0',
    out,
    { TERM: 'xterm', FORCE_COLOR: '0' },
    { screen: true, watched: true, unicode: false, color: false },
  ],
  [
    'a terminal of a CI',
    out,
    { LANG: 'C.UTF-8', TERM: 'xterm', CI: 'true' },
    { screen: true, watched: false, unicode: true, color: true },
  ],
]
for (const [name, stream, environment, expected] of capabilities) {
  test.serial(`what ${name} can show`, t => {
    const found = terminalOf(stream as typeof out, environment)
    const unicode = found.signs.done === '✔'
    const color = found.paint('bad', 'x') !== 'x'
    t.deepEqual({ screen: found.screen, watched: found.watched, unicode, color }, expected)
  })
}

test.serial('text is cut by the columns that it takes, and nothing in it moves the cursor', t => {
  t.is(cut('plain', 5, '…'), 'plain')
  t.is(cut('plain text', 6, '…'), 'plain…')
  t.is(cut('漢字漢字', 6, '…'), '漢字…')
  t.is(cut('漢字漢字', 8, '…'), '漢字漢字')
  t.is(cut('👩‍👩‍👧👩‍👩‍👧', 3, '…'), '👩‍👩‍👧…')
  t.is(cut('e\u0301e\u0301e\u0301', 2, '…'), 'e\u0301…')
  t.is(cut('anything', 2, '...'), '..')
  t.is(visible('\x1b[2J\x1b[1;31mred\x1b[0m \x1b]0;title\x07done\x08'), 'red done')
  t.deepEqual(wrapped('  Stop: ended on h1, h2, h3, h4', 20), ['  Stop: ended on h1,', '    h2, h3, h4'])
  t.deepEqual(wrapped('a  b', 20), ['a  b'])
  // A row of a table keeps its columns.
  t.deepEqual(wrapped('  m1     reads 1 of 2, 3 of 4', 20), ['  m1     reads 1 of', '    2, 3 of 4'])
  t.is(visible(' 10%\r 20%\r'), ' 20%')
})

test.serial('five thousand lines a second, from five hundred hosts, take little of that second', t => {
  const hosts = Array.from({ length: 500 }, (_, index) => `h${index}`)
  const { progress, take } = followRun()
  for (const event of recorded({ hosts, steps: ['First'] })) if (event.kind.endsWith('started')) take(event)
  const started = process.cpuUsage()
  for (let line = 0; line < 5_000; line++) {
    take({
      kind: 'step.output',
      at: begun,
      play: 0,
      step: 'first',
      host: `h${line % 500}`,
      stream: 'stdout',
      line: `line ${line} 漢字`,
    })
    if (line % 625 === 0) live(progress)
  }
  const { user, system } = process.cpuUsage(started)
  t.true(user + system < 500_000, `${user + system} µs`)
})
