// Work that many ask for at once: who shares a turn, and who needs the next one.
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import { inTurns } from '../../../lib/run/folder/turns.ts'

/** Work that ends when it is told to. */
function bench(isCovered?: () => boolean) {
  const ends: ((error?: Error) => void)[] = []
  let [under, most] = [0, 0]
  const work = () => {
    most = Math.max(most, ++under)
    return new Promise<void>((resolve, reject) => {
      ends.push(error => {
        under--
        if (error) reject(error)
        else resolve()
      })
    })
  }
  return { ends, most: () => most, ask: inTurns(work, isCovered) }
}

test('calls that come while it is done share the next turn, also where this one fails', async t => {
  const { ends, ask } = bench()
  const first = ask()
  const others = [ask(), ask()]
  t.is(ends.length, 1)
  ends[0]!(new Error('no disk'))
  await t.throwsAsync(first, { message: 'no disk' })
  await turn()
  t.is(ends.length, 2)
  ends[1]!()
  await Promise.all(others)
  const last = ask()
  t.is(ends.length, 3)
  ends[2]!()
  await last
})

test('a call that comes between two turns shares the one that begins: never are there two', async t => {
  const { ends, ask, most } = bench()
  const between = ask().then(ask)
  const next = ask()
  ends[0]!()
  await turn()
  t.is(ends.length, 2)
  t.is(most(), 1)
  ends[1]!()
  await Promise.all([between, next])
})

test('what the turn under way does all the same needs no other one', async t => {
  let isCovered = true
  const { ends, ask } = bench(() => isCovered)
  const shared = [ask(), ask()]
  isCovered = false
  const next = ask()
  ends[0]!()
  await Promise.all(shared)
  await turn()
  t.is(ends.length, 2)
  ends[1]!()
  await next
})
