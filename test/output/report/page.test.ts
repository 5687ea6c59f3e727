// What the HTML report says of runs: how they came to an end, what waited for what, what was found, and nothing that is secret or would run.
import { ok } from 'node:assert'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { reportCommand } from '../../../lib/cli/reading/report.ts'
import { RekeyError } from '../../../lib/errors.ts'
import { curves } from '../../../lib/output/report/curves.ts'
import { escaped, html } from '../../../lib/output/report/html.ts'
import { htmlReport } from '../../../lib/output/report/index.ts'
import type { Part, Waits } from '../../../lib/output/report/story/model.ts'
import { partsOf } from '../../../lib/output/report/story/parts.ts'
import type { RunEvent, RunEventBody } from '../../../lib/run/events.ts'
import { searched } from '../../../lib/run/journal/event-text.ts'
import { tries } from '../../_fuzz.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { began, madeRun } from '../../report/_made.ts'
import { recorded } from '../_scenarios.ts'

const folderOf = (events: readonly object[], more: Readonly<Record<string, string>> = {}) => {
  const folder = temporaryFolder('report')
  const files = { 'events.jsonl': events.map(one => `${JSON.stringify(one)}\n`).join(''), ...more }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}
const pageOf = async (folder: string, against?: string) => await htmlReport({ folder, against, now: began })
/** What people read of it. */
const textOf = (page: string) =>
  page
    .replace(/^[\s\S]*<body>/, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll('&#39;', "'")
    .replace(/\s+/g, ' ')
const later = (events: readonly RunEvent[], by: number) => events.map(one => ({ ...one, at: one.at + by }))
const failed = recorded({
  outcome: 'failed',
  stopsAfter: 'Second',
  went: (host, step) =>
    host === 'h2' && step === 'Second'
      ? { outcome: 'failed', error: { message: 'no room', code: 'x.y', hint: 'Make room.' } }
      : {},
  error: { message: 'no room', hint: 'Make room.' },
})

const madeEvents = readFileSync(
  join(madeRun({ hosts: ['h1', 'h2'], steps: 6, gaps: [9], failing: ['h1'] }), 'events.jsonl'),
  'utf8',
)
  .trim()
  .split('\n')
  .map(one => JSON.parse(one) as RunEvent)

test('text becomes no markup, in text and in attributes, and shows nothing but signs', t => {
  t.is(escaped(`<a href='x' onclick="y">&`), '&lt;a href=&#39;x&#39; onclick=&quot;y&quot;&gt;&amp;')
  t.is(escaped('a\u001b[31mb\u202ec\u0000\ud800'), 'abc\ufffd')
  t.is(
    html`<p title="${'"'}">${['<b>', html`<i>${1}</i>`, undefined, false]}</p>`.text,
    '<p title="&quot;">&lt;b&gt;<i>1</i></p>',
  )
})

test('it may load nothing and run nothing, whatever stands in it', async t => {
  const page = await pageOf(folderOf(failed))
  t.regex(
    page,
    /<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-[\w+/]+=*'; base-uri 'none'; form-action 'none'">/,
  )
  t.notRegex(page, /<script|\son\w+=|\sstyle=|(src|href)="(?!#)/)
})

test('a run that failed says so first, with its error, what to do, and what its step printed last', async t => {
  const output = Array.from({ length: 2_000 }, (_, index) => `line ${index}`).join('\n')
  const folder = folderOf(failed, { 'output/00-both/second/h2.log': `${output}\n` })
  const text = textOf(await pageOf(folder))
  t.regex(text, / 1 did not end well/)
  t.regex(textOf(await pageOf(folderOf(recorded({ stopsAfter: 'First', outcome: 'interrupted' })))), / 0 failed /)
  t.regex(text, /✖ Failed after 4\.0 s no room Make room\./)
  t.regex(
    text,
    /What did not end well ✖ failed Second on h2 Both · 03:04:07, after 2\.0 s · x\.y no room Make room\. What it printed last on h2 \[\d+ bytes before that are left out\] line \d+/,
  )
  t.regex(text, /line 1999 /)
  t.notRegex(text, /line 7 /)
  t.regex(text, /Not begun: Later/)
})

test('what an older journal has of output among its events is shown as well', async t => {
  const at = failed.findIndex(({ kind }) => kind === 'run.finished')
  const printed = {
    kind: 'step.output',
    play: 0,
    step: 'second',
    host: 'h2',
    stream: 'stderr',
    line: 'disk full',
    at: began,
  }
  t.regex(
    textOf(await pageOf(folderOf(failed.toSpliced(at, 0, printed as RunEvent)))),
    /What it printed last on h2 disk full/,
  )
})

test('events of a version that said less are enough for a report', async t => {
  const [started, ...rest] = recorded()
  const {
    mode: _mode,
    commit: _commit,
    playbookFile: _file,
    playbookHash: _hash,
    process: _process,
    selection: _selection,
    ...less
  } = started as never as Record<string, unknown>
  const text = textOf(await pageOf(folderOf([less, ...rest.filter(({ kind }) => kind !== 'play.started')])))
  t.regex(text, /✔ Done after/)
  t.regex(text, /rekey unknown/)
  t.regex(text, /an unknown machine/)
})

test('a run that was killed tells at what, one that was gone on with what was done before, one that was undone both ways', async t => {
  const begun = recorded({ stopsAfter: 'First' }).filter(({ kind }) => kind !== 'run.finished')
  const open = { kind: 'step.started', play: 0, step: 'second', host: 'h1', at: begun.at(-1)!.at } as RunEvent
  const killed = [...begun, open]
  t.regex(textOf(await pageOf(folderOf(killed))), /Where it stopped Second: begun on h1, its end is not known/)
  const resumed = later(
    recorded({ mode: 'resume', went: (_, step) => (step === 'First' ? { earlier: true, outcome: 'ok' } : {}) }),
    60_000,
  )
  const text = textOf(await pageOf(folderOf([...killed, ...resumed])))
  t.regex(text, /✔ Done after/)
  t.regex(text, /at work, in 2 parts/)
  t.regex(text, /What went wrong on the way \? its end is not known Second on h1 .* ✔ done later/)
  t.regex(text, /Gone on with, 2026-01-02 03:05:05 UTC/)
  t.regex(text, /run 2026-01-02 03:04:05 UTC .* \? did not end ann/)
  const undone = later(recorded({ mode: 'rollback' }), 120_000)
  const back = textOf(await pageOf(folderOf([...killed, ...resumed, ...undone])))
  t.regex(back, /↺ Undone after/)
  t.regex(back, /Undone, 2026-01-02 03:06:05 UTC/)
})

test('a damaged journal is told of, and what can be read is shown', async t => {
  const folder = folderOf([...recorded(), { kind: 'step.finished', play: 'x' }])
  const text = textOf(await pageOf(folder))
  t.regex(text, /The journal is damaged: this page lacks what it lost/)
  t.regex(text, /events\.jsonl:\d+ is no whole 'step\.finished'/)
  for (const sections of [
    7,
    [{ title: 'x' }],
    [{ title: 1, rows: [] }],
    [{ title: 'x', rows: [], curves: [{ label: 'y', gaps: 3 }] }],
  ])
    await t.notThrowsAsync(
      pageOf(
        folderOf([
          ...recorded(),
          { kind: 'run.report', sections, at: began },
          { kind: 'notice', at: 'x' },
          { kind: 'play.started', play: -1 },
        ]),
      ),
    )
})

test('whatever is done to a journal, there is a page of it or one error', async t => {
  const whole = [...madeEvents, ...failed]
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(-1, 1e300, '', '__proto__', 'h1', [], {}, null))
  const line = fc.oneof(
    fc.constantFrom(...whole),
    fc
      .tuple(fc.constantFrom(...whole), fc.constantFrom(...new Set(whole.flatMap(one => Object.keys(one)))), value)
      .map(([event, key, given]) => ({ ...event, [key]: given })),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 40 }), async lines => {
      const folder = folderOf([failed[0]!, ...lines])
      try {
        const page = await pageOf(folder)
        ok(
          !/\[object Object\]|undefined|<script/.test(
            page.replace(/<style>[\s\S]*<\/style>|received undefined/g, ''),
          ) || JSON.stringify(lines).match(/object Object|undefined|script/),
        )
      } catch (error) {
        ok(error instanceof RekeyError, (error as Error).stack)
      }
    }),
    tries(20),
  )
  t.pass()
})

test('who waited is told for whom, by the step that took the most of that time', t => {
  const hosts = ['h1', 'h2', 'h3']
  const [started] = recorded({ hosts })
  const event = (kind: 'step.started' | 'step.finished', step: string, host: string, at: number): RunEvent => ({
    ...({ kind, play: 0, step, host, outcome: 'ok', milliseconds: 0 } as RunEventBody),
    at: began + at,
  })
  const ended = { h1: 1_000, h2: 9_000, h3: 2_000 }
  const [part] = partsOf([
    started!,
    ...hosts.map(host => event('step.started', 'first', host, 0)),
    ...Object.entries(ended).map(([host, at]) => event('step.finished', 'first', host, at)),
    ...hosts.map(host => event('step.started', 'second', host, 9_003)),
    ...hosts.map(host => event('step.finished', 'second', host, 9_050)),
  ])
  t.is(part?.waits.length, 1)
  const [{ of, hosts: waited, longest, total }] = part!.waits as [Waits]
  t.deepEqual([of.host, of.step, waited, longest, total], ['h2', 'first', 2, 8_003, 15_006])
})

test('secrets of the folder are hidden everywhere, also where they were printed before anybody knew of them', async t => {
  const secret = 'correct-horse-battery-staple'
  const said = recorded({
    went: () => ({ outcome: 'failed', error: { message: `refused: ${secret}` } }),
    outcome: 'failed',
    stopsAfter: 'First',
  })
  const folder = folderOf(said, {
    'output/00-both/first/h1.log': `token=${secret}\n`,
    'registered.jsonl': `${JSON.stringify({ step: 'first', host: 'h1', format: 2, value: { a: { $secret: 'first.h1.1' } } })}\n`,
    'secrets/first.h1.1': JSON.stringify({ text: secret, parts: [secret] }),
  })
  const page = await pageOf(folder)
  t.false(page.includes(secret))
  t.regex(textOf(page), /refused: «redacted»/)
  t.regex(textOf(page), /What it printed last on h1 token=«redacted»/)
})

const registered = (...values: readonly unknown[]) =>
  values.map(value => `${JSON.stringify({ step: 'first', host: 'h1', format: 2, value })}\n`).join('')
const secretFiles = (secret: string) => ({
  'registered.jsonl': registered({ a: { $secret: 'first.h1.1' } }),
  'secrets/first.h1.1': JSON.stringify({ text: secret, parts: [secret] }),
})
const failedFirst = () =>
  recorded({ outcome: 'failed', stopsAfter: 'First', went: host => ({ outcome: host === 'h1' ? 'failed' : 'ok' }) })
const printedIn = (page: string) => /What it printed last on h1<\/p><pre>([^<]*)/.exec(page)?.[1]

test('what was printed is cut once it is without secrets: nothing is left of one, and what is long is not left out', async t => {
  const secret = 'alpha-Qw8Zx2Lm9Vb4Nc7Rt1'
  const older = Array.from({ length: 200 }, (_, index) => {
    const line = `${index} ${'x'.repeat(index === 0 ? 0 : 99)} ${secret}`
    return { kind: 'step.output', play: 0, step: 'first', host: 'h1', stream: 'stdout', line, at: began }
  })
  const events = failedFirst()
  const folder = folderOf([...events.slice(0, -1), ...older, ...events.slice(-1)], secretFiles(secret))
  for (const against of [undefined, folder]) {
    const page = await pageOf(folder, against)
    t.false(/[^>\s«]Lm9Vb4Nc7Rt1|Vb4Nc7Rt1/.test(page))
    const printed = printedIn(page) ?? ''
    t.true(printed.length > 15_000 && printed.length < 17_000, String(printed.length))
    t.regex(printed, /^\[\d+ bytes before that are left out\]\n\d+ x/)
    t.regex(printed, /\n199 x+ «redacted»$/)
  }
  for (const [line, told] of [
    ['y'.repeat(20_000), /^\[\d+ bytes before that are left out\]\ny{16000,}$/],
    [`${secret}${'z'.repeat(16_300 + 60_000)}`, /\nz{16000,}$/],
  ] as const)
    t.regex(printedIn(await pageOf(folderOf(events, { 'output/00-both/first/h1.log': `${line}\n` }))) ?? '', told)
})

test('no link is followed out of a folder, wherever on the way it is', async t => {
  const victim = temporaryFolder('victim')
  mkdirSync(join(victim, 'first'))
  writeFileSync(join(victim, 'first/h1.log'), 'somebody else’s line\n')
  const folder = folderOf(failedFirst(), { 'output/x': '' })
  symlinkSync(victim, join(folder, 'output/00-both'))
  t.is(printedIn(await pageOf(folder)), undefined)
  const linked = temporaryFolder('linked')
  symlinkSync(join(folder, 'events.jsonl'), join(linked, 'events.jsonl'))
  await t.throwsAsync(pageOf(linked), { message: /is a link, and rekey makes none/ })
})

test('what was done again is told with what it returned that time, and with what it printed at all of them', async t => {
  const again = later(recorded({ mode: 'resume' }), 60_000)
  const events = [...failedFirst(), ...again].map(one => {
    if (one.kind === 'run.started') return { ...one, plays: one.plays.map(play => ({ ...play, tags: ['gate'] })) }
    if (one.kind === 'step.finished' && one.step === 'first') return { ...one, outcome: 'ok', returned: true }
    return one
  })
  const files = { 'registered.jsonl': registered(-3, 13), 'output/00-both/first/h1.log': 'no\nyes\n' }
  const text = textOf(await pageOf(folderOf(events, files)))
  const gate = (value: string) => `First ✔ 2 ok h1 [at the 2 times that it was done] no yes ${value}Second`
  t.true(text.includes(gate('-3 ')), text)
  t.true(text.includes(gate('13 ')))
  // How many values tries left that failed, nobody knows.
  const tried = events.map((one, index) => (index < 6 && one.kind === 'step.finished' ? { ...one, tries: 2 } : one))
  const told = textOf(await pageOf(folderOf(tried, files)))
  t.true(told.includes(gate('')) && told.includes(gate('13 ')) && !told.includes(gate('-3 ')), told)
})

test('what is secret in one of two runs is so in both; curves that can’t be drawn are told of, and leave the rest', async t => {
  const secret = 'correct-horse-battery-stapler'
  const curve = { label: 'x', from: 0, every: 0, asked: [1], failed: [1], gaps: [] }
  const sections = [{ title: 'Important', rows: [['said', secret]], curves: [curve] }]
  const told = folderOf([...recorded(), { kind: 'run.report', sections, at: began }])
  const page = await pageOf(told, folderOf(recorded(), secretFiles(secret)))
  t.false(page.includes(secret))
  t.regex(textOf(page), /Important said «redacted»/)
  const journal = readFileSync(join(told, 'events.jsonl'))
  const sha256 = createHash('sha256').update(journal).digest('hex')
  t.true(
    textOf(page).includes(
      `${sha256} , of the ${journal.length} bytes that were read Damage of the journal 1 curves can't be used`,
    ),
  )
})

test('gates tell what they found, the same on several hosts once', async t => {
  const folder = madeRun({
    ...{ hosts: ['h1', 'h2', 'h3'], steps: 7 },
    registered: ['h1', 'h2', 'h3'].map(host => ({
      step: 'step-1',
      host,
      format: 2,
      value: { behind: host === 'h3' ? ['kubelet'] : [] },
    })),
  })
  t.regex(
    textOf(await pageOf(folder)),
    /May it begin\? ✔ passed .* Back up keys and configuration \(2\) [^A-Z]* h1, h2: behind: nothing h3: behind: - kubelet/,
  )
})

test('a gate is passed only if each of its steps was asked on every host', async t => {
  const verdictOf = async (shape: Parameters<typeof recorded>[0], cut?: (event: RunEvent) => boolean) => {
    const [started, ...rest] = recorded(shape).filter(one => cut?.(one) ?? true)
    const { plays, ...told } = started as Extract<RunEvent, { kind: 'run.started' }>
    const tagged = plays.map((play, index) => (index === 0 ? { ...play, tags: ['gate'] } : play))
    const page = textOf(await pageOf(folderOf([{ ...told, plays: tagged }, ...rest])))
    return /found Both (.*?) What was looked at/.exec(page)?.[1]
  }
  const all = (went: object) => ({ went: () => went })
  t.is(await verdictOf({}), '✔ passed')
  t.is(await verdictOf(all({ outcome: 'skipped' })), '? not asked')
  t.is(await verdictOf({ went: (_, step) => (step === 'First' ? { outcome: 'skipped' } : {}) }), '✔ passed')
  t.is(await verdictOf({ check: true, ...all({ outcome: 'skipped', predicted: 'run' }) }), '? not asked')
  t.is(await verdictOf({ stopsAfter: 'First', outcome: 'interrupted' }), '? not ended')
  t.is(await verdictOf({}, one => !('host' in one && one.host === 'h2' && one.step === 'second')), '? not ended')
  t.is(await verdictOf({ went: (_, step) => (step === 'First' ? { earlier: true, outcome: 'ok' } : {}) }), '✔ passed')
  t.is(await verdictOf({ went: host => ({ outcome: host === 'h2' ? 'failed' : 'ok' }) }), '✖ not passed')
})

test('it is not written over what is no file, such as a pipe or a device', async t => {
  const folder = temporaryFolder('report')
  execFileSync('mkfifo', [join(folder, 'pipe')])
  symlinkSync('/dev/null', join(folder, 'null'))
  for (const name of ['pipe', 'null'])
    await t.throwsAsync(reportCommand().parseAsync([folderOf(failed), '-o', join(folder, name)], { from: 'user' }), {
      code: 'cli.file',
      message: /is no regular file$/,
    })
  t.true(lstatSync(join(folder, 'pipe')).isFIFO())
  t.true(lstatSync(join(folder, 'null')).isSymbolicLink())
})

test('the reason of a gap is free text, and searched for secrets as all of it', t => {
  const gaps = [{ from: 0, to: 1, failed: 1, reason: 'token s3cret' }]
  const curves = [{ label: 's3cret: reads', from: 0, every: 1, asked: [1], failed: [1], gaps }]
  const event = searched(
    { kind: 'run.report', sections: [{ title: 'x', rows: [], curves }] },
    { text: text => text.replaceAll('s3cret', '*'), line: (_, line) => line, ended: () => {} },
  )
  t.notRegex(JSON.stringify(event), /s3cret/)
  t.regex(JSON.stringify(event), /"label":"\*: reads".*"asked":\[1\].*"reason":"token \*"/)
})

test('every gap is told with what was done then', async t => {
  // It came before the first change, in the middle.
  const later = textOf(await pageOf(madeRun({ hosts: ['h1', 'h2'], steps: 7, gaps: [1_500] })))
  t.regex(later, / none longest gap of a probe from the first change on/)
  const text = textOf(await pageOf(madeRun({ hosts: ['h1', 'h2'], steps: 6, gaps: [1_500] })))
  t.regex(text, /1\.5 s longest gap of a probe (?!from)/)
  t.regex(text, /m1: reads ✖ 1 gap, the longest 1\.5 s/)
  t.regex(text, /Every gap: 2, the longest first From .* \d\d:\d\d:\d\d m1: reads 1\.5 s 3 2 ECONNREFUSED, 1 503 \w+/)
  t.regex(text, /m2: reads no gap/)
})

test('of what was done in a gap, changes come first, then what was done then and little before or after', t => {
  const span = (step: string, from: number, to: number, outcome: 'ok' | 'changed') => ({
    step,
    host: 'h1',
    from,
    to,
    outcome,
  })
  const spans = [
    span('A', 0, 100, 'ok'),
    span('B', 50, 51, 'ok'),
    span('C', 40, 60, 'ok'),
    span('D', 50, 60, 'changed'),
  ]
  const steps = spans.map(one => ({ id: one.step, title: one.step, runOnce: false, spans: [one], earlier: [] }))
  const [part] = partsOf(recorded()) as [Part]
  const play = { index: 0, title: 'x', tags: [], hosts: ['h1'], steps }
  const curve = { label: 'x', from: 0, every: 1, asked: [1], failed: [1] }
  const gap = { from: 40, to: 60, failed: 1, reason: 'none' }
  const section = { title: 'x', rows: [], curves: [{ ...curve, gaps: [gap] }] }
  t.regex(textOf(html`${curves(section, { ...part, plays: [play] })}`.text), /D \(h1\) C \(h1\) A \(h1\) and 1 more/)
})

test('beside each other, none of something differs from some of it, and figures that differ are shown', async t => {
  const run = (left: string, keys: string) => {
    const rows = [
      ['left', left],
      ['keys', keys],
      ['same', 'as it was'],
    ]
    return folderOf([...recorded(), { kind: 'run.report', sections: [{ title: 'Old key', rows }], at: began }])
  }
  const [some, none] = [run('318 values left', '3 of 7'), run('0 values left', '4 of 7')]
  const text = textOf(await pageOf(none, some))
  t.regex(text, /differently Where This run The other Old key · left 0 values left 318 values left 1 finding alike/)
  t.regex(
    text,
    /but for figures, hashes and times Where This run The other Old key · keys 4 of 7 3 of 7 1 findings are the same/,
  )
  t.regex(textOf(await pageOf(some, run('7 values left', '3 of 7'))), /✔ Nothing but for figures, hashes and times/)
  t.regex(textOf(await pageOf(some, some)), /differently ✔ Nothing 3 findings are the same/)
})

test('a rehearsal stands beside production: steps by their ids, what ended otherwise, what was found differently', async t => {
  const registered = (found: string) => [{ step: 'step-1', host: 'm1', format: 2, value: [found] }]
  const production = madeRun({
    hosts: ['m1', 'm2'],
    steps: 7,
    slowness: 3,
    failing: ['m2'],
    registered: registered('etcd is behind'),
  })
  const staging = madeRun({ hosts: ['s1'], steps: 6, inventory: 'staging' })
  const text = textOf(await pageOf(production, staging))
  t.regex(text, /Beside 20260102-030405-replace-staging-0001/)
  t.regex(text, /This run: production The other: staging/)
  t.regex(text, /Ended failed done \? differs/)
  t.regex(text, /See what is presented \(7\) Back up the hosts \? differs ✖ 1 failed, 1 \w+ [\d.]+ m?s no such step/)
  t.regex(
    text,
    /What was found differently .* May it begin\? · Back up keys and configuration \(2\) - etcd is behind nothing/,
  )
})
