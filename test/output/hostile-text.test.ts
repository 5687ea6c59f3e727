// Nothing that a host, an inventory or a journal says moves the cursor, sets the title or fills the clipboard of whoever reads it.
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { historyLines, runRow } from '../../lib/output/history.ts'
import { type OutputKind, openView } from '../../lib/output/open-view.ts'
import { say } from '../../lib/output/print.ts'
import { terminalOf } from '../../lib/output/terminal.ts'
import { visible, visibleJson } from '../../lib/output/text.ts'
import type { RunEvent } from '../../lib/run/events.ts'
import { tries } from '../_fuzz.ts'
import { processorTime } from '../_processor-time.ts'
import { root } from '../cli/_rekey.ts'
import { screen, screenStream } from './_screen.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-hostile-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const error = { message: 'message', code: 'code', hint: 'hint' }
const step = { id: 'a', title: 'A', runOnce: true, section: 'rescue', block: 'B' } as const
const selection = { limit: ['l'], tags: ['t'], skipTags: ['s'], startAtStep: 'a', forks: 5, to: 'a', extraVars: ['e'] }
const on = { at: 5, play: 0, step: 'a', host: 'h1' } as const
/** One of each kind, with all the fields that it may have. */
const samples: { readonly [Kind in RunEvent['kind']]: Extract<RunEvent, { kind: Kind }> } = {
  'run.started': {
    ...{
      kind: 'run.started',
      at: 1,
      mode: 'resume',
      run: 'r',
      folder: 'f',
      playbook: 'p',
      summary: 's',
      inventory: ['i'],
    },
    ...{ operator: 'o', check: true, selection, commit: 'c', playbookFile: 'f', playbookHash: 'h' },
    ...{ inventoryHashes: { h1: 'x' }, process: { machine: 'm', pid: 1, started: 's' } },
    plays: [{ title: 'P', hosts: ['h1', 'h2'], steps: [step, { id: 'b', title: 'C', runOnce: false }] }],
  },
  'play.started': { kind: 'play.started', at: 2, play: 0 },
  'step.started': { kind: 'step.started', ...on, again: true },
  'step.output': { kind: 'step.output', ...on, stream: 'log', line: 'line' },
  'step.diff': { kind: 'step.diff', ...on, path: '/p', diff: ['--- a', '+b'] },
  'step.finished': {
    ...{ kind: 'step.finished', ...on, outcome: 'failed', milliseconds: 5, delegate: 'h2', tries: 3, error },
    ...{ notified: { handlers: ['h'], hosts: ['h1'] }, would: ['would'], predicted: 'change' },
  },
  'play.finished': { kind: 'play.finished', at: 6, play: 0, milliseconds: 9 },
  milestone: { kind: 'milestone', at: 6, name: 'm' },
  notice: { kind: 'notice', at: 7, text: 'text' },
  'run.report': { kind: 'run.report', at: 8, sections: [{ title: 'T', rows: [['label', 'value']] }] },
  'run.finished': {
    ...{ kind: 'run.finished', at: 9, outcome: 'failed', exitCode: 2, milliseconds: 9, tally: { h1: { failed: 1 } } },
    ...{ failures: [{ host: 'h1', step: 'A', outcome: 'failed', error }], state: ['state'], error },
  },
}
/** In the order of a run; the second host is still at work when the picture is drawn. */
const order = Object.values(samples).toSpliced(
  5,
  0,
  { kind: 'step.started', ...on, host: 'h2' },
  { ...samples['step.output'], host: 'h2' },
)

/** What is no text of anybody: views choose by it. */
const words = new Set(['kind', 'mode', 'outcome', 'stream', 'section', 'predicted', 'handled'])

/** An event with something in each of its texts and names of hosts. */
function infected<T>(value: T, say: (text: string) => string): T {
  if (typeof value === 'string') return say(value) as T
  if (Array.isArray(value)) return value.map(one => infected(one, say)) as T
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value).map(([key, one]) => [
    // Of the maps only those by host have names of somebody.
    key === 'h1' ? say(key) : key,
    words.has(key) ? one : infected(one, say),
  ])
  return Object.fromEntries(entries) as T
}

const weapons = [
  ...['\x1b]0;PWNED\x07', '\x1b]52;c;PWNED\x1b\\', '\x1b]8;;http://PWNED\x1b\\', '\x1b]52;c;cHduZWQ='],
  ...[
    '\x1b[2J',
    '\x1b[1;1H',
    '\x1b[8m',
    '\x1b[31',
    '\x9b2J',
    '\x9d52;c;PWNED\x9c',
    '\x1bc',
    '\x1bPq#PWNED\x1b\\',
    '\x1b',
  ],
  ...[
    '\r',
    '\x07',
    '\x00',
    '\x08\x08',
    '\x0e',
    '\x7f',
    '\x85',
    '\u202eesrever',
    '\u2066',
    '\u2028',
    '\u200f',
    '\t',
    '\n',
    '\ud800',
  ],
]
/** What may not come out: all control characters but the end of a line, what turns text, and what weapons carried. */
const forbidden = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|PWNED/

/** What the renderer of the tree itself writes. */
const drawing = /\x1b\[(?:\?25[lh]|\?2026[lh]|2K|1A|K|G|0?J|\d+[ABG])/g

let reports = 0
async function show(kind: OutputKind, events: readonly RunEvent[], locale: string) {
  const environment = { LANG: locale, TERM: 'xterm', NO_COLOR: '1' }
  let raw = ''
  const out = screenStream(screen(100, 24))
  out.write = (text: string | Uint8Array) => {
    raw += text
    return true
  }
  const junit = join(folder, `${++reports}.xml`)
  const view = await openView({ output: kind, verbose: true, junit }, out, environment)
  for (const event of events) view.event(event)
  await view.close()
  return { raw: raw.replace(drawing, ''), report: readFileSync(junit, 'utf8') }
}

for (const [kind, locale] of [
  ['tree', 'C.UTF-8'],
  ['tree', 'C'],
  ['plain', 'C.UTF-8'],
  ['plain', 'C'],
  ['json', 'C'],
] as const) {
  test.serial(`no field of any event gets a control character through: ${kind}, ${locale}`, async t => {
    for (const weapon of weapons) {
      const { raw, report } = await show(
        kind,
        infected(order, text => `${weapon}${text}${weapon}x`),
        locale,
      )
      // JSON says what it was, in signs.
      const left = (kind === 'json' ? raw.replaceAll('PWNED', '') : raw).match(forbidden)
      t.is(left, null, `${JSON.stringify(weapon)}: ${JSON.stringify(left?.input?.slice(left.index ?? 0))}`)
      t.notRegex(report, forbidden, JSON.stringify(weapon))
    }
  })
}

test.serial('whatever is said, in whatever field, views show signs alone', async t => {
  const said = fc.array(fc.oneof(fc.constantFrom(...weapons), fc.string({ unit: 'binary', maxLength: 8 })), {
    maxLength: 4,
  })
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('tree', 'plain', 'json'), said, async (kind, parts) => {
      const { raw, report } = await show(
        kind,
        infected(order, text => text + parts.join('')),
        'C.UTF-8',
      )
      const harmless = kind === 'json' ? raw.replaceAll('PWNED', '') : raw
      if (/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]/.test(harmless + report))
        throw new Error(JSON.stringify(harmless))
    }),
    tries(25),
  )
  t.pass()
})

test.serial('commands speak through the door alone, and it lets signs through', t => {
  for (const file of globSync('lib/cli/**/*.ts', { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8')
    const own = text.match(/console\.\w+\(|(?:stdout|stderr)\.write\(.*/g) ?? []
    // The progress of a lab draws its one line anew.
    t.deepEqual(
      own.filter(
        one => !one.startsWith("stdout.write('\\r\\x1b[K')") && !one.startsWith('stdout.write(`\\r\\x1b[K${line'),
      ),
      [],
      file,
    )
  }
  const { write } = process.stdout
  const written: string[] = []
  process.stdout.write = ((text: string) => written.push(text) > 0) as typeof write
  try {
    for (const weapon of weapons) say(`a${weapon}b\nc`)
  } finally {
    process.stdout.write = write
  }
  for (const text of written) t.notRegex(text, forbidden)
  t.is(written.length, weapons.length)
})

test.serial('what a journal says is shown as signs, too', t => {
  const started = infected(samples['run.started'], text => `\x1b]0;PWNED\x07${text}`)
  const none = new Map()
  const history = {
    ...{ run: started.run, folder: started.folder, first: started, latest: started, milestones: none },
    ...{
      progress: new Map([[started.plays[0]!.steps[0]!.id, new Map([['\x1b[2Jh1', 'begun' as const]])]]),
      failures: none,
    },
    ...{ touched: none, undone: none, damage: [], returned: new Map(), lostBeginning: false },
  }
  const { text } = terminalOf({ write: () => true, isTTY: true }, { LANG: 'C.UTF-8', TERM: 'xterm' })
  for (const line of [...historyLines(history), ...runRow(history)]) t.notRegex(text(line), forbidden)
})

test.serial('sequences are taken out in time that grows with the text', t => {
  for (const unit of [
    '\x1b',
    '\x1b[',
    '\x1b]',
    '\x90',
    '\x1b[0;',
    '\x1b]a',
    '\x9d;',
    '\x1b ',
    '\x1bP\x1b\\',
    '\x1b];#',
    'a\x9b',
  ]) {
    const took = processorTime(() => {
      visible(unit.repeat(200_000))
      visibleJson(unit.repeat(200_000))
    })
    t.true(took < 3_000, `${JSON.stringify(unit)} took ${took} ms`)
  }
  t.is(visible('\x1b]0;not ended, and read on'), ']0;not ended, and read on')
  t.is(JSON.parse(visibleJson('\x9b\u202e\x7f"')), '\x9b\u202e\x7f"')
})
