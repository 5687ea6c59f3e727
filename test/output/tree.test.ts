// The tree while a run goes on, on a screen that somebody makes larger and smaller.
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { openView } from '../../lib/output/open-view.ts'
import { recorded } from './_scenarios.ts'
import { screen, screenStream } from './_screen.ts'

const hosts = Array.from({ length: 100 }, (_, index) => `h${String(index + 1).padStart(3, '0')}`)
const environment = { LANG: 'C.UTF-8', TERM: 'xterm', NO_COLOR: '1' }

test.serial('a hundred hosts on 80 × 24: never taller, and nothing of an earlier picture is left behind', async t => {
  const on = screen(80, 24)
  const out = screenStream(on)
  const view = await openView({ output: 'tree' }, out, environment)
  const now = Date.now()
  const events = recorded({ hosts, went: host => ({ output: [`${host} says 漢字 ${'and more '.repeat(20)}`] }) })
  for (const [index, event] of events.entries()) {
    view.event({ ...event, at: now })
    if (index % 100 !== 99) continue
    const drawn = on.lines().join('\n')
    await until(() => on.lines().join('\n') !== drawn)
    const lines = on.lines()
    // Where hosts take long, which a busy machine has them do, the picture fills the screen, and the head of the run makes room for it.
    const gone = on.everything().slice(0, -lines.length)
    t.deepEqual(gone, ['two: Two steps', 'Run R1', ''].slice(0, gone.length), 'nothing of a picture has scrolled away')
    t.is(lines.filter(line => line.startsWith('❯ Both') || line.startsWith('✔ Both')).length, 1, lines.join('\n'))
  }
  await view.close()
  t.regex(
    on.everything().join('\n'),
    /^two: Two steps\nRun R1\n\n✔ Both {2}100 hosts.*\n◻ 1 play not begun\n\ntwo done/,
  )
})

test.serial('another size of the screen is used from the next picture on', async t => {
  const on = screen(80, 24)
  const out = screenStream(on)
  const view = await openView({ output: 'tree' }, out, environment)
  for (const event of recorded({ hosts }).filter(({ kind }) => kind.endsWith('.started'))) view.event(event)
  await until(() => /more at work/.test(on.lines().join('\n')))
  const tall = on.lines().filter(line => line.includes('h0')).length
  Object.assign(out, { rows: 12 })
  out.emit('resize')
  const low = on.lines().filter(line => line.includes('h0')).length
  t.true(low > 0 && low < tall, `${tall}, ${low}`)
  t.is(on.lines().filter(line => line.startsWith('❯ Both')).length, 1)
  await view.close()
})

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the tree was not drawn')
    await delay(20)
  }
}
