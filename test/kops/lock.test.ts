// The lock of a cluster in its state store, which kOps does not have.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { fileStore } from '../../lib/kops/store/file-store.ts'
import { lockCluster } from '../../lib/kops/store/lock.ts'
import type { StateStore } from '../../lib/kops/store/store.ts'
import { thisProcess } from '../../lib/process-identity.ts'
import { eventually } from '../_eventually.ts'
import { temporaryFolder } from '../_temporary.ts'
import { openCluster } from './_cluster.ts'

const asked = { cluster: 'c', take: false, notice: () => {} }

test('of two who come at once one has it; who has ended gives it back', async t => {
  const store = fileStore(temporaryFolder('kops-lock'))
  const both = await Promise.allSettled(['a', 'b'].map(run => lockCluster(store, { ...asked, run })))
  const [held] = both.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []))
  const [refused] = both.flatMap(one => (one.status === 'rejected' ? [one.reason as Error & { hint: string }] : []))
  t.regex(refused?.message ?? '', /^c is locked in its state store by run [ab] of .*, last heard of /)
  t.regex(refused?.hint ?? '', /Wait until it has ended/)
  await held?.release()
  await (await lockCluster(store, { ...asked, run: 'c' })).release()
  t.is(await store.get('rekey/c/lock.json'), undefined)
})

test('from a dead run it is taken where that is said, or by whoever goes on with that run', async t => {
  const folder = temporaryFolder('kops-lock')
  const store = fileStore(folder)
  mkdirSync(join(folder, 'rekey/c'), { recursive: true })
  const dead = {
    run: 'a',
    operator: 'o',
    process: { ...thisProcess(), pid: 2 ** 22 },
    since: 'x',
    beat: new Date().toISOString(),
  }
  const left = () => writeFileSync(join(folder, 'rekey/c/lock.json'), JSON.stringify(dead))
  left()
  await t.throwsAsync(lockCluster(store, { ...asked, run: 'b' }), { message: /by run a of o .*: it is dead/ })
  const said: string[] = []
  await (await lockCluster(store, { ...asked, run: 'b', take: true, notice: text => said.push(text) })).release()
  t.regex(said[0] ?? '', /the lock of run a of o/)
  left()
  await (await lockCluster(store, { ...asked, run: 'a' })).release()
  // Of another machine nobody knows, but by its silence.
  const elsewhere = { ...dead, process: { ...dead.process, scope: 'other' } }
  let beats = 0
  // Its clock is hours behind; what tells is that it writes.
  const beat = () =>
    writeFileSync(
      join(folder, 'rekey/c/lock.json'),
      JSON.stringify({ ...elsewhere, beat: `2026-01-01T00:00:00.00${beats++}Z` }),
    )
  beat()
  await t.throwsAsync(lockCluster(store, { ...asked, run: 'b' }), { message: /last heard of/ })
  for (const run of ['a', 'b']) {
    const watching = lockCluster(store, { ...asked, run, take: run === 'b', silence: 60_000, notice: beat })
    await t.throwsAsync(watching, { message: /last heard of at 2026-01-01.* by its own clock$/ })
  }
  await (await lockCluster(store, { ...asked, run: 'b', take: true, silence: 50 })).release()
})

test('a second run is refused while one works, and a store that takes no lock must be accepted', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.knobs['hangs'] = 'validate cluster'
  })
  const first = bench.run('rotate-kops', '-e', 'until=staged')
  await bench.called('validate cluster')
  const second = await bench.run('rotate-kops')
  t.is(second.code, 2)
  t.regex(second.out, /test\.k8s\.local is locked in its state store by run .*-rotate-kops-/)
  bench.change(state => {
    state.knobs = {}
  })
  const { code, out } = await first
  t.is(code, 0, out)
  const gs = await bench.rekey(
    'run',
    'rotate-kops',
    '-e',
    'cluster=a',
    '-e',
    'state=gs://b',
    '-e',
    `rekey_directory=${bench.kept}/host`,
  )
  t.regex(gs.out, /rekey can't put a lock into gs:\/\/b/)
  t.regex(gs.out, /without_lock=true/)
})

test('a lock that somebody takes is lost: it is known by the next heartbeat, and theirs stays', async t => {
  const folder = temporaryFolder('kops-lock')
  const store = fileStore(folder)
  const lock = await lockCluster(store, { ...asked, run: 'a', every: 20 })
  const file = join(folder, 'rekey/c/lock.json')
  const first = readFileSync(file, 'utf8')
  await eventually(() => readFileSync(file, 'utf8') !== first, 'a heartbeat')
  t.is(lock.lost, undefined)
  // A heartbeat that comes between is written over by the next try.
  await eventually(() => {
    writeFileSync(file, JSON.stringify({ run: 'b' }))
    return lock.lost !== undefined
  }, 'the loss of the lock')
  t.regex(lock.lost?.message ?? '', /^the lock of c was taken by somebody else$/)
  await lock.release()
  t.is(readFileSync(file, 'utf8'), JSON.stringify({ run: 'b' }))
})

test('a write that arrived, and whose answer was lost, is known as our own', async t => {
  const folder = temporaryFolder('kops-lock')
  const real = fileStore(folder)
  let replaced = 0
  const store: StateStore = {
    ...real,
    create: async (path, text) => {
      await real.create(path, text)
      return undefined
    },
    replace: async (path, text, tag) => {
      const written = await real.replace(path, text, tag)
      replaced++
      if (written !== undefined) throw new Error('no answer')
      return undefined
    },
  }
  const lock = await lockCluster(store, { ...asked, run: 'a', every: 10 })
  await eventually(() => replaced >= 1, 'a heartbeat')
  const first = replaced
  await eventually(() => replaced >= first + 2, 'more heartbeats')
  t.is(lock.lost, undefined)
  await lock.release()
  t.is(await real.get('rekey/c/lock.json'), undefined)
  await t.notThrowsAsync((await lockCluster(real, { ...asked, run: 'b' })).release())
})
