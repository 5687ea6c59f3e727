// Plain lines while nothing happens: what is being waited for, and not every two seconds that it is the same still.
import { mock } from 'node:test'
import test from 'ava'
import { plainView } from '../../lib/output/plain.ts'
import { terminalOf } from '../../lib/output/terminal.ts'
import { begun, recorded } from './_scenarios.ts'

test.serial(
  'what takes its time is told soon, and once more after ten seconds, or where there is something new',
  async t => {
    mock.timers.enable({ apis: ['setInterval'] })
    t.teardown(() => mock.timers.reset())
    let at = begun
    const lines: string[] = []
    const terminal = terminalOf({ isTTY: false, write: () => true } as never, { LANG: 'en_US.UTF-8' })
    const view = plainView(line => void (line.includes('…') && lines.push(line)), {
      verbose: false,
      terminal,
      now: () => at,
    })
    const pass = (seconds: number) => {
      for (let half = 0; half < seconds * 2; half++) {
        at += 500
        mock.timers.tick(500)
      }
    }
    for (const event of recorded().slice(0, 3)) view.event(event)
    lines.length = 0
    pass(60)
    t.is(lines.length, 6, lines.join('\n'))
    t.regex(lines[0] ?? '', /… First \(h1\), 2\.0 s$/)
    t.regex(lines[1] ?? '', /, 12(\.0)? s$/)
    view.event({ kind: 'step.output', play: 0, step: 'first', host: 'h1', stream: 'stdout', line: 'half of it', at })
    lines.length = 0
    pass(4)
    t.is(lines.length, 1, lines.join('\n'))
    t.regex(lines[0] ?? '', /half of it$/)
    await view.close()
  },
)
