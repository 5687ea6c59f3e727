// A run that is killed (SIGKILL, by its id) before and after every call and request that changes something: undone from there, put back as it was, and
// gone on with. And a rollback that is killed like that, and asked for again.
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type Bench, type Called, settled } from './_cluster.ts'

/** Whether kills come. */
export const killing = (bench: Bench, on: boolean) =>
  bench.change(state => {
    state.killing = on
    state.killed ??= []
  })

/**
 * Undoes the last run by a rollback that is killed, and asked for again until it comes to its end.
 * @returns how many kills there were
 */
export async function backThroughKills(t: ExecutionContext, bench: Bench): Promise<number> {
  bench.change(state => {
    // On the way there some of its calls were the same.
    Object.assign(state, { killing: true, killed: [] })
  })
  let called = await bench.rekey('rollback', 'last')
  let kills = 0
  for (; called.code !== 0 && kills < 60; kills++) {
    t.is(called.code, null, `it was killed, and no more: ${called.out}`)
    called = await bench.rekey('rollback', 'last')
  }
  killing(bench, false)
  settled(t, bench)
  return kills
}

/**
 * Goes through a run with its kills.
 * @param begin starts it
 * @param asBefore judges what was undone
 * @returns how many kills there were
 */
export async function throughKills(
  t: ExecutionContext,
  bench: Bench,
  begin: () => Promise<Called>,
  asBefore: (where?: string) => void,
): Promise<number> {
  const copy = `${bench.kept}-copy`
  t.teardown(() => rmSync(copy, { recursive: true, force: true }))
  killing(bench, true)
  let called = await begin()
  let kills = 0
  for (; called.code !== 0 && kills < 40; kills++) {
    t.is(called.code, null, `it was killed, and no more: ${called.out}`)
    rmSync(copy, { recursive: true, force: true })
    cpSync(bench.kept, copy, { recursive: true, preserveTimestamps: true })
    killing(bench, false)
    const undone = await bench.rekey('rollback', 'last')
    const where = bench.state().killed?.at(-1)
    t.is(undone.code, 0, `${where}\n${undone.out}`)
    asBefore(where)
    settled(t, bench)
    for (const part of ['store', 'state']) {
      rmSync(join(bench.kept, part), { recursive: true })
      cpSync(join(copy, part), join(bench.kept, part), { recursive: true, preserveTimestamps: true })
    }
    called = await bench.rekey('resume', 'last')
  }
  killing(bench, false)
  settled(t, bench)
  t.deepEqual(bench.stored('rekey/test.k8s.local'), ['audit'])
  return kills
}
