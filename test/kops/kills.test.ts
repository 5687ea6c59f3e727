// rekey killed before and after every step that changes something (SIGKILL, by its id): from each of these points it is undone, and gone on with.
import test, { type ExecutionContext } from 'ava'
import { type Bench, openCluster } from './_cluster.ts'
import { backThroughKills, throughKills } from './_kills.ts'

/** Goes through a stage with its kills. */
const throughStage = (t: ExecutionContext, bench: Bench, until: string, before: readonly string[]) =>
  throughKills(
    t,
    bench,
    () => bench.run('rotate-kops', '-e', `until=${until}`),
    where => t.deepEqual(bench.trusted(), [...before], where),
  )

test('while new key pairs are staged', async t => {
  const bench = await openCluster(t)
  // Of the export of before, two key pairs, the update, the rolling update and what is handed out: before and after each.
  t.is(await throughStage(t, bench, 'staged', ['1*']), 12)
  t.deepEqual(bench.trusted(), ['1*', '2'])
  t.is(bench.trusted('service-account').length, 2)
})

test('while they are promoted', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  t.is(await throughStage(t, bench, 'promoted', ['1*', '2']), 14)
  t.deepEqual(bench.trusted(), ['1', '2*'])
})

test('while the old ones are distrusted', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  t.is(await throughStage(t, bench, 'distrusted', ['1', '2*']), 12)
  t.deepEqual(bench.trusted(), ['2*'])
})

test('while it is undone: the rollback is asked for again, and comes to its end', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops')).code, 0)
  const kills = await backThroughKills(t, bench)
  t.true(kills >= 24, String(kills))
  t.deepEqual(bench.trusted(), ['1*'])
})
