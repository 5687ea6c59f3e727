// The picture of a fleet: it fits the screen, and what matters most is in it.
import test from 'ava'
import { fleetFrame } from '../../../lib/fleet/told/frame.ts'
import { statusLines } from '../../../lib/fleet/told/status.ts'
import { terminalOf } from '../../../lib/output/terminal.ts'
import { widthOf } from '../../../lib/output/text.ts'
import { cluster, noon, sixty, wave } from './_status.ts'

const terminal = terminalOf({ write: () => true, isTTY: true }, { TERM: 'xterm', LANG: 'C.UTF-8', NO_COLOR: '1' })
const drawn = (status = sixty(), columns = 120, rows = 24, trouble?: string) =>
  fleetFrame(status, {
    columns,
    rows,
    terminal,
    now: noon + 5_000,
    tick: 0,
    ...(trouble === undefined ? {} : { trouble }),
  })

test('it is never taller nor wider than the screen, whatever the size', t => {
  for (const columns of [20, 80, 200])
    for (const rows of [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 40, 60, 100]) {
      const lines = drawn(sixty({ fleet: { state: 'halted', why: 'x'.repeat(300) } }), columns, rows)
      t.true(lines.length < rows, `${columns} × ${rows}: ${lines.length} lines`)
      for (const line of lines) t.true(widthOf(line) < columns, `${columns} × ${rows}: ${line}`)
    }
})

test('80 columns and 24 rows show what goes on, since when, and what failed', t => {
  const text = drawn(sixty(), 80).join('\n')
  t.regex(text, /^production · rotate-keysets · running · 4 h 00 m · begun by ada$/m)
  t.regex(text, /^⠋ rest {4}running {2}3 h 20 m {2}7 done, 10 failed, 1 unknown, 5 running, 2 queued…$/m)
  t.regex(text, /^\? cluster-21.example.com {2}25 s {2}unknown/m)
  t.regex(text, /^✖ cluster-11\.example\.com failed 10 m 05 s ago: step "Start the API server/m)
  t.regex(text, /^… \d+ more that did not come through$/m)
  t.regex(text, /Ctrl-C ends the watching, and not the fleet$/)
})

test('a screen that is tall enough shows all of it, once each', t => {
  const text = drawn(sixty(), 200, 100).join('\n')
  for (const { name, state } of sixty().clusters) {
    const times = text.split(name).length - 1
    // Errors name their hosts.
    t.is(times, state === 'failed' ? 2 : ['unknown', 'running', 'queued'].includes(state) ? 1 : 0, `${name} ${state}`)
  }
  t.notRegex(text, / more /)
})

test('what is waited for is told with until when: approvals, soaks, windows', t => {
  const approval = sixty({ waves: [wave(0, 'lab'), wave(1, 'rest', { state: 'approval', began: null, ended: null })] })
  t.regex(drawn(approval).join('\n'), /^❯ wave rest waits for somebody to approve it: rekey fleet go-on$/m)
  const soaking = wave(1, 'canary', { state: 'soaking', ended: null, soakUntil: noon + 65_000 })
  t.regex(
    drawn(sixty({ waves: [soaking] })).join('\n'),
    /^❯ wave canary soaks: 1 m 00 s more, until 2026-11-30 12:01:05 UTC$/m,
  )
  const closed = [2, 1].map(hours => ({ name: `c${hours}`, opens: noon + hours * 3_600_000 }))
  const windows = /2 clusters wait for a window: c1 may begin at 2026-11-30 13:00:00 UTC/
  t.regex(drawn(sixty({ closed })).join('\n'), windows)
  t.regex(statusLines(sixty({ closed })).join('\n'), windows)
})

test('a fleet that is halted says why; one that is not heard of any more since when', t => {
  t.regex(
    drawn(sixty({ fleet: { state: 'halted', why: 'c1 of wave\nlab did not come through' } })).join('\n'),
    /^◼ c1 of wave lab did not come through$/m,
  )
  t.regex(
    drawn(sixty(), 120, 24, 'the database does not answer').join('\n'),
    /^as it was 5 s ago: the database does not answer$/m,
  )
})

test('names and errors of others move no cursor and break no line', t => {
  const hostile = cluster(0, { name: 'c1', state: 'failed', error: 'one\ntwo\x1b[2J\rthree' })
  for (const lines of [drawn(sixty({ clusters: [hostile] })), statusLines(sixty({ clusters: [hostile] }))]) {
    t.notRegex(lines.join(''), /[\x00-\x1f]/)
    t.regex(lines.join('\n'), /one three/)
  }
})

test('one that was put back in the middle of its run is told of, before others that wait', t => {
  const { clusters } = sixty()
  const half = sixty({ clusters: [...clusters.slice(0, 59), cluster(59, { run: 'r', worker: 'w1' })] })
  t.regex(drawn(half, 120, 60).join('\n'), /^◻ cluster-60\.example\.com {2}30 m 05 s {2}half-way\n◻ cluster-28/m)
  t.regex(statusLines(half).join('\n'), /^cluster-60\.example\.com {2}waiting {2}30 m 00 s {2}half-way/m)
})
