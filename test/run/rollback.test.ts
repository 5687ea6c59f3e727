// What is undone of a run, and what is left.
import test from 'ava'
import { z } from 'zod'
import { play, playbook, type Step, step } from '../../lib/index.ts'
import { planRollback } from '../../lib/run/rollback.ts'

const book = playbook({
  ...{ name: 'x', summary: 'x', vars: z.object({}) },
  plays: [
    play('P', { hosts: 'all' }, [
      step('Look', { readOnly: true, run: () => {} }),
      step('Swap', { run: () => {}, rollback: () => {} }),
      step('Keep', { run: () => {}, irreversible: 'a backup stays' }),
    ]),
  ],
})
const plan = (touched: Record<string, string[]>, hosts = ['h1', 'h2']) =>
  planRollback(book as never, new Map(Object.entries(touched).map(([id, on]) => [id, new Set(on)])), new Set(hosts))

test('what was only looked at, or never came to more than connecting, leaves nothing', t => {
  t.deepEqual(plan({ connect: ['h1'], look: ['h2'] }), { plays: [], left: [] })
})

test('what was done is undone, or told: on hosts that are gone, and by steps that the playbook has no more', t => {
  const { plays, left } = plan({ swap: ['h1', '«redacted»-m1'], keep: ['h1'], 'swap-«redacted»': ['h2'] })
  t.deepEqual(
    plays.map(({ title, hosts }) => [title, hosts]),
    [['Undo: P', 'h1']],
  )
  t.deepEqual(left, [
    { title: 'Keep', hosts: ['h1'], why: 'a backup stays' },
    { title: 'Swap', hosts: ['«redacted»-m1'], why: 'not in the inventory any more' },
    { title: 'swap-«redacted»', hosts: ['h2'], why: 'no step of the playbook has this id any more' },
  ])
})

test('a look that says so begins the way back, whatever comes of it, and none that has nothing to undo', t => {
  const looked = step('Look', { id: 'look', readOnly: true, beginsRollback: true, runOnce: true, run: () => {} })
  const plays = [
    play('First', { hosts: 'all' }, [step('Swap', { run: () => {}, rollback: () => {} })]),
    play('Looking', { hosts: 'masters' }, [looked]),
    play('Later', { hosts: 'all' }, [step('Read', { readOnly: true, run: () => {} })]),
  ]
  const undone = (touched: readonly string[]) =>
    planRollback(
      playbook({ ...{ name: 'x', summary: 'x', vars: z.object({}) }, plays }) as never,
      new Map(touched.map(id => [id, new Set(['h1'])])),
      new Set(['h1']),
    ).plays
  t.deepEqual(undone(['look', 'read']), [])
  const [first, second] = undone(['swap'])
  t.deepEqual([first?.title, first?.hosts, second?.title], ['Looking', 'masters', 'Undo: First'])
  const { id, readOnly, runOnce, ignoreErrors, ignoreUnreachable } = (first?.steps[0] ?? {}) as Step
  t.deepEqual([id, readOnly, runOnce, ignoreErrors, ignoreUnreachable], ['undo-look', true, true, true, true])
})
