// What processes of a fleet have left that were killed: folders with secrets, and orders that nobody waits for any more.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { hearOrders, type Store } from '../../../lib/cli/fleet/store.ts'
import { removeLeft } from '../../../lib/fleet/work/worker.ts'
import { thisProcess } from '../../../lib/process-identity.ts'
import { temporaryFolder } from '../../_temporary.ts'

test('the folder of a worker that is gone is removed; that of one that lives, or was there a moment ago, stays', t => {
  const folder = temporaryFolder('work')
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  const long = new Date(Date.now() - 61_000)
  for (const [name, owner, seen] of [
    ['gone', { ...thisProcess(), pid }, long],
    ['just-gone', { ...thisProcess(), pid }, new Date()],
    ['lives', thisProcess(), long],
    ['elsewhere', { ...thisProcess(), pid, scope: 'another machine' }, long],
  ] as const) {
    mkdirSync(join(folder, name, 'secrets'), { recursive: true })
    const file = join(folder, name, 'worker.json')
    writeFileSync(file, JSON.stringify(owner))
    utimesSync(file, seen, seen)
  }
  removeLeft(folder)
  t.deepEqual(readdirSync(folder).sort(), ['elsewhere', 'just-gone', 'lives'])
  t.notThrows(() => removeLeft(join(folder, 'none')))
})

test('an order is obeyed once, and while somebody waits for it', async t => {
  const folder = temporaryFolder('orders')
  const orders = join(folder, 'orders')
  mkdirSync(orders)
  const asked: string[] = []
  const database = {
    query: async () => {
      asked.push(readdirSync(orders).sort().join(' '))
      throw new Error('no fleet')
    },
  }
  const order = { kind: 'halt', why: 'a storm', operator: 'ada' }
  writeFileSync(join(orders, '1.json'), JSON.stringify({ order, at: Date.now() - 61_000 }))
  writeFileSync(join(orders, '2.json'), JSON.stringify({ order, at: Date.now() }))
  await hearOrders({ folder, database, file: { name: 'x' } } as unknown as Store)
  t.deepEqual(asked, ['2.taken'], 'it is nobody’s to take any more while it is obeyed')
  t.deepEqual(readdirSync(orders), ['2.said'])
  t.deepEqual(JSON.parse(readFileSync(join(orders, '2.said'), 'utf8')), { error: 'no fleet' })
  const long = new Date(Date.now() - 61_000)
  utimesSync(join(orders, '2.said'), long, long)
  await hearOrders({ folder, database, file: { name: 'x' } } as unknown as Store)
  t.false(existsSync(join(orders, '2.said')))
  t.is(asked.length, 1)
})
