// A fleet that is kept on this machine, without a server: killed, gone on with, halted by a cluster that fails, and seen through.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { overlaps, simulate, soon } from './_simulated.ts'

const fleet = `playbook: ./steps.ts
max_parallel: 2
waves:
  - { name: lab, labels: { tier: lab } }
  - { name: rest, soak: 1ms }`

test('killed in the middle, gone on with, halted before the next wave, mended and ended', async t => {
  const { start, rekey, log, runs, touch, folder } = simulate({ clusters: 3, fleet, takes: 0.3 })
  touch('fails-c2')
  touch('holds-c1')
  const first = start(['run'])
  t.teardown(() => first.child.kill('SIGKILL'))
  t.true(await soon(() => log('c1').length > 0), `a step of c1: ${first.said()}`)
  const second = await rekey(['run'])
  t.is(second.code, 1, second.said)
  t.regex(second.said, /the fleet simulated is worked on: .*process \d+.*\nHint: .*--database/)
  first.child.kill('SIGKILL')
  await first.ended
  rmSync(join(folder, 'holds-c1'))

  const again = await rekey(['run'])
  t.is(again.code, 2, again.said)
  t.regex(again.said, /c1: taken over by/)
  // It may have done so before the kill.
  t.regex(first.said() + again.said, /c2: failed: /)
  t.regex(again.said, /Halted: c2 of wave lab did not come through, and none may fail\. See/)
  t.deepEqual(log('c3'), [], 'the next wave has not begun')
  const status = await rekey(['status', '--json'])
  const { fleet: shown, clusters } = JSON.parse(status.said) as {
    fleet: { state: string }
    clusters: { state: string }[]
  }
  t.is(shown.state, 'halted')
  t.deepEqual(
    clusters.map(({ state }) => state),
    ['done', 'failed', 'waiting'],
  )

  t.regex((await rekey(['run', 'rotate-keysets'])).said, /is not through with steps\.ts: rotate-keysets can't be begun/)
  t.regex((await rekey(['run', '--anew'])).said, /c2 is in the middle of steps\.ts: the fleet can't be given up now/)
  t.deepEqual(log('c3'), [], 'nothing was begun')

  rmSync(join(folder, 'fails-c2'))
  const mended = await rekey(['go-on'])
  t.is(mended.code, 0, mended.said)
  t.regex(mended.said, /The fleet goes on: once more with c2\./)
  t.regex((await rekey(['status'])).said, /^Fleet simulated: done$/m)
  for (const name of ['c1', 'c2', 'c3']) {
    t.deepEqual(overlaps(log(name)), [], name)
    t.is(runs(name).length, 1, `${name} was done by one run, gone on with`)
    // What was cut off in the middle is done again, by whoever goes on.
    for (const step of [0, 1, 2])
      t.true(
        log(name).some(line => line.startsWith(`end ${step} `)),
        `${name}, step ${step}`,
      )
  }
})
