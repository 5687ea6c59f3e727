// The way back under each stage, by ids.
import test from 'ava'
import { openCluster, settled } from './_cluster.ts'

test('back from what was staged: what was made is distrusted by id, and the instances are replaced', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*'])
  t.is(bench.trusted('service-account').length, 1)
  t.true(bench.calls().includes('distrust keypair kubernetes-ca 7713272286921922551637815766'))
  t.regex(out, /to be handed out again: .*before\.conf/)
  settled(t, bench)
})

test('back from the promotion: the old one signs by its id, and the abandoned one is distrusted by its own, which "all" would leave', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*'])
  const verbs = bench.calls().filter(call => /^(promote|distrust) keypair kubernetes-ca/.test(call))
  t.deepEqual(verbs.slice(1), [
    'promote keypair kubernetes-ca 7713272286921921551637815766',
    'distrust keypair kubernetes-ca 7713272286921922551637815766',
  ])
  settled(t, bench)
  // With a run of its own for each stage, each goes back to where it began.
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  const half = await bench.rekey('rollback', 'last')
  t.is(half.code, 0, half.out)
  t.deepEqual(bench.trusted(), ['1*', '3'])
  settled(t, bench)
})

test('back from the end: what was distrusted is trusted by id, all instances are replaced by force, and then it goes back all the way', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops')).code, 0)
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*'])
  t.true(bench.calls().includes('trust keypair kubernetes-ca 7713272286921921551637815766'))
  t.true(bench.calls().includes('rolling-update cluster --force --yes'))
  settled(t, bench)
  // A run of the last stage alone goes back to the promotion.
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  t.is((await bench.run('rotate-kops')).code, 0)
  const half = await bench.rekey('rollback', 'last')
  t.is(half.code, 0, half.out)
  t.deepEqual(bench.trusted(), ['1', '3*'])
  settled(t, bench)
})

test('a stage whose gate does not hold stays where it is, and goes back', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  bench.change(state => {
    // Well before the first change, sick after the promotion.
    state.knobs['sickWhenPromoted'] = true
  })
  const failed = await bench.run('rotate-kops')
  t.is(failed.code, 2, failed.out)
  t.regex(failed.out, /wait time exceeded during validation/)
  t.deepEqual(bench.trusted(), ['1', '2*'])
  bench.change(state => {
    state.knobs = {}
  })
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*', '2'])
  settled(t, bench)
})

test('back when the admin credentials of the run have ended: others are exported', async t => {
  const bench = await openCluster(t, ['kubernetes-ca'])
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  await bench.endCredentials()
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*'])
  settled(t, bench)
})

test('back where kops sees no instance behind: it stops before the key pair that signs is distrusted, until every instance is another one', async t => {
  const bench = await openCluster(t, ['kubernetes-ca'])
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  bench.change(state => {
    state.knobs['blind'] = true
  })
  // Once more, too: nobody forgets what had to be replaced.
  for (const _ of [1, 2]) {
    const { code, out } = await bench.rekey('rollback', 'last')
    t.is(code, 2, out)
    t.regex(out, /no instance needs an update after key pairs that were promoted were taken back: i-made-\d/)
    t.deepEqual(bench.trusted(), ['1*', '2'])
  }
  // As the hint has it, by hand.
  bench.change(state => {
    state.instances = state.instances.map(one => ({
      ...{ ...one, id: `${one.id}-anew` },
      hash: state.applied[one.role] ?? '',
    }))
    state.live = state.told!
    state.knobs = {}
  })
  const { code, out } = await bench.rekey('rollback', 'last')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['1*'])
  settled(t, bench)
})
