// rekey killed before and after every step that changes something (SIGKILL, by its id): from each of these points it is undone, and gone on with.
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Bench, type Called, openCluster, settled } from './_cluster.ts'

const killing = (bench: Bench, on: boolean) =>
  bench.change(state => {
    state.killing = on
    state.killed ??= []
  })

/** Goes through a stage with a kill at each step; from each it is undone, put back as it was, and gone on with. */
async function throughKills(
  t: ExecutionContext,
  bench: Bench,
  until: string,
  before: readonly string[],
): Promise<number> {
  const copy = `${bench.kept}-copy`
  t.teardown(() => rmSync(copy, { recursive: true, force: true }))
  killing(bench, true)
  let called: Called = await bench.run('rotate-kops', '-e', `until=${until}`)
  let kills = 0
  for (; called.code !== 0 && kills < 40; kills++) {
    t.is(called.code, null, `it was killed, and no more: ${called.out}`)
    rmSync(copy, { recursive: true, force: true })
    cpSync(bench.kept, copy, { recursive: true, preserveTimestamps: true })
    killing(bench, false)
    const undone = await bench.rekey('rollback', 'last')
    const where = bench.state().killed?.at(-1)
    t.is(undone.code, 0, `${where}\n${undone.out}`)
    t.deepEqual(bench.trusted(), before, where)
    settled(t, bench)
    for (const part of ['store', 'state']) {
      rmSync(join(bench.kept, part), { recursive: true })
      cpSync(join(copy, part), join(bench.kept, part), { recursive: true, preserveTimestamps: true })
    }
    called = await bench.rekey('resume', 'last')
  }
  settled(t, bench)
  t.deepEqual(bench.stored('rekey/test.k8s.local'), ['audit'])
  return kills
}

test('while new key pairs are staged', async t => {
  const bench = await openCluster(t)
  // Of the export of before, two key pairs, the update, the rolling update and what is handed out: before and after each.
  t.is(await throughKills(t, bench, 'staged', ['1*']), 12)
  t.deepEqual(bench.trusted(), ['1*', '2'])
  t.is(bench.trusted('service-account').length, 2)
})

test('while they are promoted', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  t.is(await throughKills(t, bench, 'promoted', ['1*', '2']), 14)
  t.deepEqual(bench.trusted(), ['1', '2*'])
})

test('while the old ones are distrusted', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  t.is(await throughKills(t, bench, 'distrusted', ['1', '2*']), 12)
  t.deepEqual(bench.trusted(), ['2*'])
})

test('while it is undone: the rollback is asked for again, and comes to its end', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops')).code, 0)
  killing(bench, true)
  let called = await bench.rekey('rollback', 'last')
  let kills = 0
  for (; called.code !== 0 && kills < 60; kills++) {
    t.is(called.code, null, called.out)
    called = await bench.rekey('rollback', 'last')
  }
  t.true(kills >= 24, String(kills))
  t.deepEqual(bench.trusted(), ['1*'])
  settled(t, bench)
})
